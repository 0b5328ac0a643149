"""Templates as tokens of a backbone, and the problems with a template that are reported before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from string import Formatter
from typing import TYPE_CHECKING

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.errors import Llm4RecError, UsageError, problems_raised_by
from llm4rec_cli.text.backbone import TOKENIZER, backbone_folder, load_tokenizer, problems_of_bert
from llm4rec_cli.text.weights import find_local_folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

USER, CANDIDATE, MASK, SEP = "user", "candidate", "mask", "sep"  # fields of a template
CLS, SEPARATOR, MASK_TOKEN, UNKNOWN = "[CLS]", "[SEP]", "[MASK]", "[UNK]"  # BERT's
NEWS_SEPARATOR = "[NSEP]"  # precedes every title of a history (code); a new token
MAX_VIRTUAL = 100
FIELDS = "fields are {user}, {candidate}, {mask}, {sep}, and virtual tokens with names in capitals, as {P:3}"


@dataclass
class TemplateConfig:
    """One template: a text with {user}, {candidate} and one {mask}, and the two answer words that may fill the mask.
    {sep} separates segments, {P:3} are three virtual tokens named P."""

    name: str = MISSING  # in tables
    text: str = MISSING  # with its fields in braces
    positive: str = MISSING  # the answer word for clicked
    negative: str = MISSING  # the answer word for not clicked
    epochs: int = ranges.number(at_least=1)  # as published


@dataclass(frozen=True)
class Segment:
    """A part of a template: literal text, a field, or `n_virtual` virtual tokens named `field`."""

    text: str = ""
    field: str = ""
    n_virtual: int = 0

    @property
    def is_virtual(self) -> bool:
        return not self.text and self.field not in (USER, CANDIDATE, MASK, SEP)


@dataclass(frozen=True)
class TemplateTokens:
    """A template as tokens of a backbone.

    Attributes:
        parts: from [CLS] to [SEP]: token ids, USER, CANDIDATE, or MASK.
        n_words: size of the backbone's vocabulary.
        new_tokens: names of the new tokens, with consecutive ids. The first, [NSEP], has id `n_words`.
        answers: token ids of the negative and the positive answer word.
        mask_token: token id of [MASK].
    """

    parts: tuple[list[int] | str, ...]
    n_words: int
    new_tokens: tuple[str, ...]
    answers: tuple[int, int]
    mask_token: int

    @property
    def overhead(self) -> int:
        return self.n_tokens(self.parts)

    @property
    def sides(self) -> tuple[bool, tuple[list[int] | str, ...], tuple[list[int] | str, ...]]:
        """Whether the user's part comes before the candidate; the parts from it outwards, away from the candidate; and
        the other parts."""
        user = self.parts.index(USER)
        if user < self.parts.index(CANDIDATE):
            return True, self.parts[: user + 1], self.parts[user + 1 :]
        return False, self.parts[user:], self.parts[:user]

    @staticmethod
    def n_tokens(parts: Sequence[list[int] | str]) -> int:
        """Return the number of tokens of some parts, without the user's and the candidate's."""
        return sum(1 if part == MASK else len(part) for part in parts if part not in (USER, CANDIDATE))


def segments(text: str) -> list[Segment]:
    """Split a template's text at its fields.

    Raises:
        ValueError: a brace is unmatched, or a number of virtual tokens is not a number.
    """
    parts = []
    for literal, name, count, _ in Formatter().parse(text):
        if literal.strip():
            parts.append(Segment(text=literal))
        if name in (USER, CANDIDATE, MASK, SEP):
            parts.append(Segment(field=name))
        elif name is not None:
            parts.append(Segment(field=name, n_virtual=int(count or 1)))
    return parts


def history_comes_first(text: str) -> bool:
    fields = [segment.field for segment in segments(text)]
    return fields.index(USER) < fields.index(CANDIDATE)


def problems(
    template: TemplateConfig, backbone: str, shares_histories: bool, prompt_only: bool
) -> Iterator[Llm4RecError]:
    """Yield problems with a template and how it is used; with its answer words only where the backbone is present."""
    of_template = list(problems_of_template(template))
    yield from of_template
    if shares_histories and not of_template:
        fields = [segment.field for segment in segments(template.text)]
        user, candidate, mask = (fields.index(field) for field in (USER, CANDIDATE, MASK))
        if (user < candidate) == (mask < user):
            yield UsageError(
                f"template '{template.name}' has {{mask}} on the history's side, where it does not see the candidate "
                "with model.attention=shared",
                "model.attention=full, or {mask} on the candidate's side of {user}",
            )
    folder = find_local_folder(backbone)
    if folder and (folder / TOKENIZER).exists() and template.negative != template.positive:
        tokenizer, words = load_tokenizer(folder), (template.negative, template.positive)
        unknown = [p for word in words for p in problems_raised_by(partial(_answer_token, word, template, tokenizer))]
        yield from unknown or problems_raised_by(partial(answer_tokens, template, tokenizer))
    if prompt_only and not of_template and not any(segment.is_virtual for segment in segments(template.text)):
        yield UsageError(
            f"model.prompt_only=true trains virtual tokens, and template '{template.name}' has none",
            "prompt=prompt4nr/continuous_utility, or another continuous or hybrid one",
        )


def problems_of_template(template: TemplateConfig) -> Iterator[UsageError]:
    """Yield the problems of a template that do not depend on the backbone."""
    name = template.name
    try:
        parts = segments(template.text)
    except ValueError as error:
        yield UsageError(
            f"template '{name}' cannot be read: {error}", f"{FIELDS}; write a literal brace as {{{{ or }}}}"
        )
        return
    fields = [segment.field for segment in parts]
    for field in (USER, CANDIDATE, MASK):
        if fields.count(field) != 1:
            yield UsageError(f"template '{name}' has {{{field}}} {fields.count(field)} times", "use it exactly once")
    for token in (CLS, SEPARATOR, MASK_TOKEN, NEWS_SEPARATOR):
        if token in template.text:
            yield UsageError(f"template '{name}' has {token} in its text", FIELDS)
    virtual = [segment for segment in parts if segment.is_virtual]
    for segment in virtual:
        if not (segment.field.isupper() and segment.field.isalpha()):
            yield UsageError(f"template '{name}' has an unknown field {{{segment.field}}}", FIELDS)
        elif not 0 < segment.n_virtual <= MAX_VIRTUAL:
            yield UsageError(
                f"template '{name}' has {segment.n_virtual} virtual tokens {segment.field}",
                f"use 1 to {MAX_VIRTUAL}, as in {{{segment.field}:3}}",
            )
    if len({segment.field for segment in virtual}) < len(virtual):
        yield UsageError(
            f"template '{name}' gives two groups of virtual tokens the same name", "rename one: {P:3} … {Q:3}"
        )
    if template.positive == template.negative:
        yield UsageError(f"template '{name}' has the same answer word for both answers", "choose two different words")
    for word in (template.negative, template.positive):
        if word in ("True", "False"):
            yield UsageError(
                f"answer word '{word}' of template '{name}': YAML reads yes and no as truth values",
                'write it in quotes: positive: "yes"',
            )


def problems_of_backbone(
    template: TemplateConfig, backbone: str, max_length: int, candidate_words: int
) -> Iterator[Llm4RecError]:
    """Yield what does not fit the backbone: it is not a BERT, an answer word is not one of its tokens, or a template
    leaves no room for a history.

    Raises:
        UsageError: the backbone does not exist.
    """
    of_bert = list(problems_of_bert(backbone, max_length, "prompt4nr"))
    yield from of_bert
    if of_bert:
        return
    tokenize = partial(tokenize_template, template, load_tokenizer(backbone_folder(backbone)))
    unknown_words = list(problems_raised_by(tokenize))
    yield from unknown_words
    if unknown_words:
        return
    longest = tokenize().overhead + 3 * candidate_words  # a word of a title seldom has more than three tokens
    if longest >= max_length:
        yield UsageError(
            f"template '{template.name}' and a candidate of {candidate_words} words leave no room for a history in "
            f"model.max_length={max_length}",
            f"model.max_length={longest + 100}, or fewer model.candidate_words",
        )


def answer_tokens(template: TemplateConfig, tokenizer: Tokenizer) -> tuple[int, int]:
    """Return the token ids of the negative and the positive answer word.

    Raises:
        UsageError: one is not one token of the backbone, or both are the same.
    """
    negative, positive = (_answer_token(word, template, tokenizer) for word in (template.negative, template.positive))
    if negative == positive:
        raise UsageError(
            f"template '{template.name}': '{template.negative}' and '{template.positive}' are the same token",
            "choose two different words",
        )
    return negative, positive


def _answer_token(word: str, template: TemplateConfig, tokenizer: Tokenizer) -> int:
    encoding = tokenizer.encode(word, add_special_tokens=False)
    if len(encoding.tokens) != 1 or encoding.tokens == [UNKNOWN]:
        raise UsageError(
            f"answer word '{word}' of template '{template.name}' is not one token of the backbone: "
            f"{' '.join(encoding.tokens)}",
            "choose a word of its vocabulary",
        )
    return int(encoding.ids[0])


def tokenize_template(template: TemplateConfig, tokenizer: Tokenizer) -> TemplateTokens:
    """Return a template as tokens of a backbone.

    Raises:
        UsageError: an answer word is not one token of the backbone, or both are the same.
    """
    ids = tokenizer.get_vocab(with_added_tokens=True)
    answers = answer_tokens(template, tokenizer)
    n_words, new_tokens, parts = max(ids.values()) + 1, [NEWS_SEPARATOR], list[list[int] | str]([[ids[CLS]]])
    for segment in segments(template.text):
        if segment.is_virtual:
            parts.append([n_words + len(new_tokens) + i for i in range(segment.n_virtual)])
            new_tokens += [f"[{segment.field}{i}]" for i in range(1, segment.n_virtual + 1)]
        elif segment.field == SEP:
            parts.append([ids[SEPARATOR]])
        elif segment.field:
            parts.append(segment.field)
        else:
            parts.append(tokenizer.encode(segment.text, add_special_tokens=False).ids)
    parts.append([ids[SEPARATOR]])
    return TemplateTokens(tuple(parts), n_words, tuple(new_tokens), answers, ids[MASK_TOKEN])


def has_head(backbone: str) -> bool:
    """Return whether a backbone has a trained masked-language-model head."""
    from safetensors import safe_open

    for file in backbone_folder(backbone).glob("*.safetensors"):
        with safe_open(file, framework="numpy") as weights:
            if any(name.startswith("cls.predictions.transform") for name in weights.keys()):  # noqa: SIM118
                return True
    return False
