"""Templates: a text with blanks becomes tokens; what can be said against one before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING

from llm4rec_cli.errors import Llm4RecError, UsageError, refusals
from llm4rec_cli.text.weights import BACKBONE, find_local_folder, locate_weights

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from llm4rec_cli.models.prompt4nr.config import Prompt4NRConfig, TemplateConfig

USER, CANDIDATE, MASK, SEP = "user", "candidate", "mask", "sep"
CLS, SEPARATOR, BLANK, UNKNOWN = "[CLS]", "[SEP]", "[MASK]", "[UNK]"  # BERT's
TOKENIZER = "tokenizer.json"
NEWS = "[NSEP]"  # stands before every title of a history (code); a new token
MOST_VIRTUAL = 100
FIELDS = "{user}, {candidate}, {mask}, {sep}; virtual tokens have names in capitals, as {P:3}"


@dataclass(frozen=True)
class Segment:
    """A piece of a template: words, a field, or a number of virtual tokens of one name."""

    words: str = ""
    field: str = ""
    virtual: int = 0

    @property
    def is_virtual(self) -> bool:
        return not self.words and self.field not in (USER, CANDIDATE, MASK, SEP)


@dataclass(frozen=True)
class Pieces:
    """A template as tokens.

    Attributes:
        parts: what stands between [CLS] and [SEP], these included: token numbers, USER, CANDIDATE, or MASK.
        n_words: of the backbone.
        new: the names of its new tokens; the first, [NSEP], is number `n_words`, the next one more.
        overhead: how many tokens it has besides those of the user and the candidate.
        answers: the token numbers of the negative and the positive answer word.
        blank: the token number of [MASK].
    """

    parts: tuple[list[int] | str, ...]
    n_words: int
    new: tuple[str, ...]
    overhead: int
    answers: tuple[int, int]
    blank: int


def segments(text: str) -> list[Segment]:
    """A template's text, parted at its fields.

    Raises:
        ValueError: a brace lacks its other, or a number of virtual tokens is none.
    """
    found = []
    for words, name, count, _ in Formatter().parse(text):
        if words.strip():
            found.append(Segment(words=words))
        if name in (USER, CANDIDATE, MASK, SEP):
            found.append(Segment(field=name))
        elif name is not None:
            found.append(Segment(field=name, virtual=int(count or 1)))
    return found


def faults(config: Prompt4NRConfig) -> Iterator[UsageError]:
    """What is wrong with the template and what is asked of it; with its answer words where the backbone is at hand."""
    template = config.prompts
    wrong = list(faults_in(template))
    yield from wrong
    found_in = find_local_folder(config.backbone)
    if found_in and (found_in / TOKENIZER).exists():
        for word in (template.negative, template.positive):
            try:
                answer(word, template, tokenizer(found_in))
            except UsageError as error:
                yield error
    if config.prompt_only and not wrong and not any(segment.is_virtual for segment in segments(template.text)):
        yield UsageError(
            f"model.prompt_only=true trains virtual tokens, and template '{template.name}' has none",
            "prompt=prompt4nr/continuous_utility, or another continuous or hybrid one",
        )


def faults_in(template: TemplateConfig) -> Iterator[UsageError]:
    """What is wrong with a template, whatever the backbone."""
    try:
        found = segments(template.text)
    except ValueError as error:
        yield UsageError(
            f"template '{template.name}' cannot be read: {error}", f"{FIELDS}; a brace of the text is {{{{ or }}}}"
        )
        return
    named = [segment.field for segment in found]
    for name in (USER, CANDIDATE, MASK):
        if named.count(name) != 1:
            yield UsageError(f"template '{template.name}' has {{{name}}} {named.count(name)} times", "it needs it once")
    for word in (CLS, SEPARATOR, BLANK, NEWS):
        if word in template.text:
            yield UsageError(f"template '{template.name}' has {word} among its words", FIELDS)
    virtual = [segment for segment in found if segment.is_virtual]
    for segment in virtual:
        if not (segment.field.isupper() and segment.field.isalpha()):
            yield UsageError(f"template '{template.name}' has a field {{{segment.field}}}, which means nothing", FIELDS)
        elif not 0 < segment.virtual <= MOST_VIRTUAL:
            yield UsageError(
                f"template '{template.name}' has {segment.virtual} virtual tokens {segment.field}",
                f"1 to {MOST_VIRTUAL}, as {{{segment.field}:3}}",
            )
    if len({segment.field for segment in virtual}) < len(virtual):
        yield UsageError(f"template '{template.name}' names two groups of virtual tokens alike", "{P:3} … {Q:3}")
    if template.positive == template.negative:
        yield UsageError(f"template '{template.name}' has one answer word for both answers", "two different ones")
    for word in (template.negative, template.positive):
        if word in ("True", "False"):
            yield UsageError(
                f"answer word '{word}' of template '{template.name}': YAML reads yes and no as truth values",
                'write it in quotes: positive: "yes"',
            )


def problems_of_backbone(config: Prompt4NRConfig) -> Iterator[Llm4RecError]:
    """What does not fit the backbone: it is no BERT, an answer word is not one of its tokens, or a template leaves no
    room for a history.

    Raises:
        UsageError: there is no such backbone.
    """
    found_in = Path(locate_weights(config.backbone, BACKBONE)[0])
    settings = json.loads((found_in / "config.json").read_text())
    if (kind := settings.get("model_type")) != "bert":
        yield UsageError(
            f"model.backbone={config.backbone} is a {kind}, and model 'prompt4nr' asks a BERT",
            "model.backbone=bert-base-uncased, or minilm",
        )
        return
    if config.max_length > settings["max_position_embeddings"]:
        yield UsageError(
            f"model.max_length={config.max_length}, and {config.backbone} takes {settings['max_position_embeddings']} "
            "tokens at most",
            f"model.max_length={settings['max_position_embeddings']}",
        )
    n_words = tokenizer(found_in).get_vocab_size(with_added_tokens=True)
    if n_words != settings["vocab_size"]:
        yield UsageError(
            f"model.backbone={config.backbone} has {settings['vocab_size']:,} embeddings for {n_words:,} tokens",
            "give it as many: model.resize_token_embeddings(len(tokenizer)), and save it",
        )
    unfit = list(refusals(partial(pieces, config.prompts, tokenizer(found_in))))
    yield from unfit
    if unfit:
        return
    found = pieces(config.prompts, tokenizer(found_in))
    longest = found.overhead + 3 * config.candidate_words  # a word of a title has seldom more than three pieces
    if longest >= config.max_length:
        yield UsageError(
            f"template '{config.prompts.name}' and a candidate of {config.candidate_words} words leave no room for a "
            f"history in model.max_length={config.max_length}",
            f"model.max_length={longest + 100}, or fewer model.candidate_words",
        )


def answer(word: str, template: TemplateConfig, tokenizer: Tokenizer) -> int:
    """The token number of an answer word.

    Raises:
        UsageError: it is not one token of the backbone.
    """
    found = tokenizer.encode(word, add_special_tokens=False)
    if len(found.tokens) != 1 or found.tokens == [UNKNOWN]:
        raise UsageError(
            f"answer word '{word}' of template '{template.name}' is not one token of the backbone: "
            f"{' '.join(found.tokens)}",
            "choose a word that its vocabulary has",
        )
    return int(found.ids[0])


def pieces(template: TemplateConfig, tokenizer: Tokenizer) -> Pieces:
    """A template as tokens of a backbone.

    Raises:
        UsageError: an answer word is not one token of the backbone.
    """
    number = tokenizer.get_vocab(with_added_tokens=True)
    answers = answer(template.negative, template, tokenizer), answer(template.positive, template, tokenizer)
    n_words, new, parts = max(number.values()) + 1, [NEWS], list[list[int] | str]([[number[CLS]]])
    for segment in segments(template.text):
        if segment.is_virtual:
            parts.append([n_words + len(new) + i for i in range(segment.virtual)])
            new += [f"[{segment.field}{i}]" for i in range(1, segment.virtual + 1)]
        elif segment.field == SEP:
            parts.append([number[SEPARATOR]])
        elif segment.field:
            parts.append(segment.field)
        else:
            parts.append(tokenizer.encode(segment.words, add_special_tokens=False).ids)
    parts.append([number[SEPARATOR]])
    overhead = sum(1 if part == MASK else len(part) for part in parts if part not in (USER, CANDIDATE))
    return Pieces(tuple(parts), n_words, tuple(new), overhead, answers, number[BLANK])


def tokenizer(folder: Path) -> Tokenizer:
    """A backbone's tokenizer, which cuts and pads nothing by itself."""
    from tokenizers import Tokenizer

    if (folder / TOKENIZER).exists():
        found = Tokenizer.from_file(str(folder / TOKENIZER))
    else:
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(str(folder), use_fast=True).backend_tokenizer
    found.no_truncation()
    found.no_padding()
    return found


def has_head(backbone: str) -> bool:
    """Whether a backbone comes with the trained head that fills a blank."""
    from safetensors import safe_open

    for file in folder(backbone).glob("*.safetensors"):
        with safe_open(file, framework="numpy") as weights:
            if any(name.startswith("cls.predictions.transform") for name in weights.keys()):  # noqa: SIM118
                return True
    return False


def folder(backbone: str) -> Path:
    """Where a backbone's files lie; `check` has seen to it that they are whole.

    Raises:
        UsageError: there is no such backbone.
    """
    return find_local_folder(backbone) or Path(locate_weights(backbone, BACKBONE)[0])
