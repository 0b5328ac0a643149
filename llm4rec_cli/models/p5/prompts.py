"""P5's prompts: what each reads, answers and needs of a dataset; problems with them; which ones a task can use.

Prompts are data, in conf/prompt/p5/*.yaml. A template is literal text with fields in braces. Free of torch, as `llm4rec
validate` and `llm4rec list prompts` read them too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from llm4rec_cli.config.schema import Candidates, Index, PromptTable, Question, as_dataclass
from llm4rec_cli.errors import DataError, Llm4RecError, UsageError, did_you_mean, problems_raised_by, raise_first
from llm4rec_cli.models.p5.settings import (
    EvaluationPrompts,
    Explained,
    Feature,
    PromptConfig,
    PromptFamily,
    SamplesConfig,
)

if TYPE_CHECKING:
    from llm4rec_cli.config.schema import TaskConfig
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.models.shared.usual_features import FeatureOwner


class Prompted(Protocol):
    """What prompts read of P5's config."""

    prompts: dict[str, PromptConfig]
    train_prompts: list[str] | None
    explained: Explained
    samples: SamplesConfig
    ask: EvaluationPrompts
    feature: Feature
    index: Index
    digits: int
    user_tokens: bool
    beams: int | None
    max_source: int
    max_target: int


class Field(Enum):
    """The fields that a source may have."""

    user = "user"  # user_<number>
    user_name = "user_name"  # the raw user id where the dataset has no names
    item = "item"  # item_<number>
    title = "title"
    brand = "brand"
    price = "price"
    star = "star"  # the rating of the review in question; for a yes/no target perhaps another number
    headline = "headline"
    review = "review"
    feature = "feature"
    history = "history"  # bare numbers, oldest first
    candidates = "candidates"  # 100 bare numbers, in an order that does not reveal the target
    one = "one"  # a bare number: the target's, or a negative's


class Answer(Enum):
    """The forms that a target may have."""

    star = "{star}"
    yes_no = "{yes_no}"
    like = "{like}"  # like, from 4 stars on; otherwise dislike
    item = "{target}"  # a bare number
    explanation = "{explanation}"
    headline = "{headline}"
    star_and_explanation = "{star} , {explanation}"


# The dataset columns that fields and answers are filled from. User names have a fallback.
FIELD_COLUMNS = {
    Field.title: "title",
    Field.brand: "brand",
    Field.price: "price",
    Field.star: "rating",
    Field.headline: "review_title",
    Field.review: "review_text",
    Field.feature: "feature",
}
ANSWER_COLUMNS = {
    Answer.star: ("rating",),
    Answer.yes_no: (),
    Answer.like: ("rating",),
    Answer.item: (),
    Answer.explanation: ("explanation",),
    Answer.headline: ("review_title",),
    Answer.star_and_explanation: ("rating", "explanation"),
}

_USER_FIELDS = {Field.user, Field.user_name}
_ITEM_FIELDS = {Field.item, Field.title, Field.brand, Field.price}
_REVIEW_FIELDS = {Field.star, Field.headline, Field.review, Field.feature}
_LIST_FIELDS = {Field.history, Field.candidates, Field.one}
FAMILY_FIELDS = {  # available in the examples of a family
    PromptFamily.rating: _USER_FIELDS | _ITEM_FIELDS | _REVIEW_FIELDS,
    PromptFamily.sequential: _USER_FIELDS | _LIST_FIELDS,
    PromptFamily.direct: _USER_FIELDS | _ITEM_FIELDS | {Field.candidates},
    PromptFamily.explanation: _USER_FIELDS | _ITEM_FIELDS | _REVIEW_FIELDS,
    PromptFamily.review_summary: _USER_FIELDS | _ITEM_FIELDS | _REVIEW_FIELDS,
}
FAMILY_ANSWERS = {
    PromptFamily.rating: {Answer.star, Answer.yes_no, Answer.like},
    PromptFamily.sequential: {Answer.item, Answer.yes_no},
    PromptFamily.direct: {Answer.item, Answer.yes_no},
    PromptFamily.explanation: {Answer.explanation, Answer.star_and_explanation},
    PromptFamily.review_summary: {Answer.headline, Answer.star},
}
YES_NO_FIELDS = {  # a yes/no prompt asks about one of these
    PromptFamily.rating: {Field.star},
    PromptFamily.sequential: {Field.one},
    PromptFamily.direct: {Field.item, Field.title},
}
LEAKING_FIELDS = {  # they reveal the answer; an explanation is a sentence of the review
    Answer.star: {Field.star},
    Answer.like: {Field.star},
    Answer.item: _ITEM_FIELDS | {Field.one},
    Answer.explanation: {Field.review},
    Answer.headline: {Field.headline},
    Answer.star_and_explanation: {Field.star, Field.review},
}

RANKINGS = (PromptFamily.sequential, PromptFamily.direct)
N_CANDIDATES = 100
# Approximate tokens per field; user and item numbers are counted separately.
FIELD_LENGTHS = {
    Field.user_name: 8,
    Field.title: 32,
    Field.brand: 4,
    Field.price: 4,
    Field.star: 1,
    Field.headline: 16,
    Field.feature: 2,
}
PREFIX_LENGTH = 2  # tokens of `user_` or `item_`
MIN_HISTORY_ITEMS = 5  # the latest, which must survive truncation
MIN_REVIEW_LENGTH = 32  # tokens


@dataclass(frozen=True)
class Prompt:
    """A parsed prompt. Its segments are the literal texts and fields of its source, in order."""

    name: str
    family: PromptFamily
    segments: tuple[str | Field, ...]
    answer: Answer

    @property
    def fields(self) -> tuple[Field, ...]:
        return tuple(segment for segment in self.segments if isinstance(segment, Field))

    @property
    def columns(self) -> frozenset[str]:
        own = {FIELD_COLUMNS[field] for field in self.fields if field in FIELD_COLUMNS}
        return frozenset(own | set(ANSWER_COLUMNS[self.answer]))

    @property
    def oracle_input(self) -> tuple[Field, ...]:
        """The fields filled from the very review to predict, which is not available beforehand.

        The stars of a yes/no prompt count: at evaluation they are the review's. The text of a review does not count
        where its headline is the target, as the task is to summarise it. Where its stars are the target, it does.
        """
        oracle = _REVIEW_FIELDS - ({Field.review} if self.answer is Answer.headline else set())
        return tuple(field for field in self.fields if field in oracle)

    @property
    def task(self) -> PromptFamily | None:
        """The task that it can be evaluated on; None for yes/no about stars, which no task scores.

        Stars predicted from a review (the paper's review preference) are ratings.
        """
        if self.answer is Answer.star:
            return PromptFamily.rating
        return None if self.family is PromptFamily.rating and self.answer is Answer.yes_no else self.family

    def answers(self, task: PromptFamily) -> bool:
        """Return whether it can be evaluated on a task: one whose answer may be any item serves both rankings."""
        return self.task is task or (self.ranks_catalogue and task in RANKINGS)

    @property
    def ranks_catalogue(self) -> bool:
        """Whether its answer may be any item."""
        return self.answer is Answer.item and Field.candidates not in self.fields

    def min_length(self, item_length: int, user_length: int, n_candidates: int) -> int:
        """Estimate the tokens of its source that must not be truncated, end token included, where a bare number of an
        item or user takes this many."""
        lengths = FIELD_LENGTHS | {
            Field.user: PREFIX_LENGTH + user_length,
            Field.item: PREFIX_LENGTH + item_length,
            Field.one: item_length,
            Field.candidates: n_candidates * (item_length + 1) - 1,
            Field.history: MIN_HISTORY_ITEMS * (item_length + 1) - 1,
            Field.review: MIN_REVIEW_LENGTH,
        }
        words = sum(len(segment.split()) for segment in self.segments if isinstance(segment, str))
        return 1 + words + sum(lengths[field] for field in self.fields)


def parse(name: str, prompt: PromptConfig) -> Prompt:
    """Parse the templates of a prompt.

    Raises:
        UsageError: the first problem with them.
    """
    raise_first(_problems_of_template(name, prompt))
    parts = re.split(r"\{(\w+)\}", prompt.source)  # literal, field, literal, …
    segments = tuple(Field(part) if i % 2 else part for i, part in enumerate(parts) if part.strip())
    return Prompt(name, prompt.family, segments, Answer(prompt.target))


def _problems_of_template(name: str, prompt: PromptConfig) -> Iterator[UsageError]:
    names = [field.value for field in Field]
    if re.search(r"[{}]", re.sub(r"\{\w+\}", "", prompt.source)):
        yield UsageError(
            f"prompt '{name}': its source has an unmatched or empty brace", f"the fields are {{{'}, {'.join(names)}}}"
        )
    fields = re.findall(r"\{(\w+)\}", prompt.source)
    for field in dict.fromkeys(fields):
        if field not in names:
            yield UsageError(f"prompt '{name}': unknown field {{{field}}}", did_you_mean(field, names))
        elif fields.count(field) > 1:
            yield UsageError(f"prompt '{name}': its source has {{{field}}} more than once", "use it once")
        elif not re.search(rf"(?<!\S)\{{{field}\}}(?!\S)", prompt.source):
            yield UsageError(
                f"prompt '{name}': {{{field}}} is not a separate word of its source",
                f"put spaces around it, also before a full stop: `… {{{field}}} .`",
            )
    if not fields:
        yield UsageError(f"prompt '{name}': its source has no field, so it is always the same text", "add {user}, …")
    forms = [answer.value for answer in Answer]
    if prompt.target not in forms:
        yield UsageError(
            f"prompt '{name}': {prompt.target!r} is not a form of target", did_you_mean(prompt.target, forms)
        )


def problems(config: Prompted) -> Iterator[Llm4RecError]:
    """Yield all problems with a config's prompts that do not depend on the dataset.

    Checked are: templates that cannot be parsed; fields and answers that the family does not have; sources that reveal
    the answer; sources that exceed `max_source` whatever the dataset; two prompts with the same wording; and, for tasks
    with prompts to train on, evaluation prompts that are missing or answer something else.
    """
    prompts: dict[str, Prompt] = {}
    wordings: dict[str, str] = {}
    for name, prompt in config.prompts.items():
        of_template = list(_problems_of_template(name, prompt))
        yield from of_template
        if not of_template:
            prompts[name] = parse(name, prompt)
            yield from _problems_of_family(prompts[name])
            yield from _problems_of_length(prompts[name], config.max_source)
        first = wordings.setdefault(" ".join(prompt.source.casefold().split()), name)
        if first != name:
            yield UsageError(f"prompt '{name}' has the same wording as '{first}'", "reword it, or leave it out")
    trainable = [name for name, prompt in config.prompts.items() if prompt.trained]
    for name in config.train_prompts or []:
        if name not in trainable:
            state = "is held out from training" if name in config.prompts else "does not exist"
            yield UsageError(f"model.train_prompts: prompt '{name}' {state}", did_you_mean(name, trainable))
    trained_tasks = {prompts[name].task for name in trained(config, prompts)}
    for task in PromptFamily:
        not_parsed = any(name in config.prompts and name not in prompts for name in evaluation_names(config, task))
        if task in trained_tasks and not not_parsed:  # those are reported above
            yield from problems_raised_by(partial(_prompts_for_task, prompts, task, evaluation_names(config, task)))


def _problems_of_family(prompt: Prompt) -> Iterator[UsageError]:
    family, subject = prompt.family, f"prompt '{prompt.name}', of family {prompt.family.name},"
    if prompt.answer not in FAMILY_ANSWERS[family]:
        forms = [answer.value for answer in Answer if answer in FAMILY_ANSWERS[family]]
        yield UsageError(f"{subject} cannot have the target {prompt.answer.value}", f"target: {' or '.join(forms)}")
        return
    for field in prompt.fields:
        if field not in FAMILY_FIELDS[family]:
            available = [f"{{{each.value}}}" for each in Field if each in FAMILY_FIELDS[family]]
            yield UsageError(f"{subject} cannot use {{{field.value}}}", f"its fields are {', '.join(available)}")
        elif field in LEAKING_FIELDS.get(prompt.answer, ()):
            yield UsageError(
                f"{subject} has {{{field.value}}} in its source, which reveals the target",
                f"leave {{{field.value}}} out",
            )
    if prompt.answer is Answer.yes_no and not YES_NO_FIELDS[family] & set(prompt.fields):
        subjects = " or ".join(f"{{{field.value}}}" for field in Field if field in YES_NO_FIELDS[family])
        yield UsageError(f"{subject} has a yes/no target, but no field to ask about", f"add {subjects}")
    if family in (PromptFamily.rating, PromptFamily.explanation) and not {Field.item, Field.title} & {*prompt.fields}:
        yield UsageError(f"{subject} does not name the item that it asks about", "add {item} or {title}")


def _problems_of_length(
    prompt: Prompt, max_source: int, item_length: int = 1, user_length: int = 1, n_candidates: int = N_CANDIDATES
) -> Iterator[UsageError]:
    needed = prompt.min_length(item_length, user_length, n_candidates)
    if needed > max_source:
        history = f", with a history of {MIN_HISTORY_ITEMS} items" if Field.history in prompt.fields else ""
        yield UsageError(
            f"prompt '{prompt.name}' needs about {needed} tokens{history}, more than model.max_source={max_source}",
            f"model.max_source={needed} or more, model.digits=2 or 3 for shorter numbers, or leave the prompt out",
        )


def evaluation_names(config: Prompted, task: PromptFamily) -> list[str]:
    """Return the names of the prompts that a task is evaluated with: one, or for a ranking several joined by +."""
    return getattr(config.ask, task.name).split("+")


def _prompts_for_task(prompts: Mapping[str, Prompt], task: PromptFamily, names: list[str]) -> list[Prompt]:
    """Return the prompts of these names, checked to answer the task.

    Raises:
        UsageError: the prompt is unknown, answers something else, or it cannot be used together with others.
    """
    fitting = [prompt.name for prompt in prompts.values() if prompt.answers(task)]
    setting = f"model.ask.{task.name}={'+'.join(names)}"
    for name in names:
        if name not in prompts:
            raise UsageError(f"{setting}: unknown prompt '{name}'", did_you_mean(name, fitting))
        if not prompts[name].answers(task):
            raise UsageError(
                f"{setting}: prompt '{name}', of family {prompts[name].family.name}, has the target "
                f"{prompts[name].answer.value}",
                f"choose a prompt for this task: {', '.join(fitting) or 'there is none'}",
            )
        if len(names) > 1 and not prompts[name].ranks_catalogue:
            ranking = [prompt.name for prompt in prompts.values() if prompt.ranks_catalogue]
            raise UsageError(
                f"{setting}: prompt '{name}' does not name one item of the catalogue, so its scores cannot be averaged",
                f"use it alone, or join some of {', '.join(ranking)}",
            )
    return [prompts[name] for name in names]


def usable(prompts: Mapping[str, PromptConfig], dataset: RecDataset) -> dict[str, Prompt]:
    """Return the prompts that the dataset can fill, sorted by name to be independent of the order of files."""
    available = _columns(dataset)
    parsed = {name: parse(name, prompts[name]) for name in sorted(prompts)}
    return {name: prompt for name, prompt in parsed.items() if prompt.columns <= available}


def describe_unusable(prompts: Mapping[str, PromptConfig], dataset: RecDataset) -> list[str]:
    """Return one line per missing column, with the prompts that cannot be filled without it."""
    available = _columns(dataset)
    by_missing: dict[str, list[str]] = {}
    for prompt in map(parse, prompts, prompts.values()):
        if missing := prompt.columns - available:
            by_missing.setdefault(" or ".join(sorted(missing)), []).append(prompt.name)
    return [f"the dataset has no {missing}: prompts left out: {', '.join(n)}" for missing, n in by_missing.items()]


def problems_with_dataset(config: Prompted, task: TaskConfig, dataset: RecDataset) -> Iterator[Llm4RecError]:
    """Yield sources and names of items that are too long for the numbers of the dataset or the candidates of a task,
    and columns that the evaluation prompt lacks."""
    if task.name in PromptFamily.__members__:
        yield from problems_raised_by(partial(evaluation_prompts, config, PromptFamily[task.name], dataset))
    item_length = 1  # the minimum, for a path of clusters
    if config.index.is_number:
        item_length = _number_length(dataset.n_items, config.digits)
    user_length = 1 if config.user_tokens else _number_length(dataset.n_users, config.digits)
    yield from problems_of_lengths(config, task.name, item_length, user_length)
    if task.question == Question.rank and task.candidates is not Candidates.full and task.negatives >= N_CANDIDATES:
        for prompt in evaluation_prompts(config, PromptFamily[task.name], dataset):
            yield from _problems_of_length(prompt, config.max_source, item_length, user_length, task.negatives + 1)


def problems_of_lengths(config: Prompted, task: str, item_length: int, user_length: int) -> Iterator[UsageError]:
    """Yield prompts whose sources do not fit `max_source`, and items' names that do not fit `max_target`, for a task
    that is trained and names of items and users of at most this many tokens."""
    for prompt in parse_all(config).values():
        yield from _problems_of_length(prompt, config.max_source, item_length, user_length)
    names_items = any(kind.endswith(("_item", "_candidates")) for kind in trained_kinds(config, task))
    if names_items and item_length + 1 > config.max_target:
        yield UsageError(
            f"item names have up to {item_length} tokens plus an end token, more than "
            f"model.max_target={config.max_target}",
            f"model.max_target={item_length + 1} or more",
        )


def trained(config: Prompted, names: Iterable[str]) -> list[str]:
    """Return the prompts to train with among some: neither held out nor left out by `train_prompts` or `explained`."""
    prompts = config.prompts
    allowed = [n for n in names if prompts[n].trained and (config.train_prompts is None or n in config.train_prompts)]
    by_feature = [name for name in allowed if "{feature}" in prompts[name].source]
    if config.explained is Explained.by_all or not by_feature:
        return allowed
    return [name for name in allowed if name in by_feature or prompts[name].family is not PromptFamily.explanation]


def trained_families(config: Prompted, task: str) -> list[PromptFamily]:
    """Return the families that a task is trained with: its own, and its evaluation prompts' families, which may differ,
    as a rating may be predicted from a review."""
    if task not in PromptFamily.__members__:
        return list(PromptFamily)
    family = PromptFamily(task)
    evaluated = [config.prompts[name].family for name in evaluation_names(config, family) if name in config.prompts]
    return list(dict.fromkeys([family, *evaluated]))


def trained_kinds(config: Prompted, task: str) -> set[str]:
    """Return the kinds of examples that a task is trained with, on data that can fill them."""
    families = trained_families(config, task)
    prompts = {name: prompt for name, prompt in parse_all(config).items() if prompt.family in families}
    kinds = {example_kind(prompts[name]) for name in trained(config, prompts)}
    return {kind for kind in kinds if getattr(config.samples, kind)}


def example_kind(prompt: Prompt) -> str:
    """Return the field of SamplesConfig that counts a prompt's examples."""
    family = prompt.family.value
    if prompt.family not in RANKINGS:
        return family
    if Field.candidates in prompt.fields:
        return f"{family}_candidates"
    return f"{family}_yes_no" if prompt.answer is Answer.yes_no else f"{family}_item"


def training_prompts(config: Prompted, family: PromptFamily, dataset: RecDataset) -> list[str]:
    """Return the names of the prompts that a family is trained with.

    Raises:
        DataError: the dataset can fill none of them.
    """
    of_family = {name: prompt for name, prompt in config.prompts.items() if prompt.family is family}
    names = trained(config, usable(of_family, dataset))
    if not names:
        raise DataError(
            f"no prompt of family {family.name} can be trained on this dataset",
            "; ".join(describe_unusable(of_family, dataset)) or f"prompt=[…,p5/{family.name}]",
        )
    return names


def evaluation_prompts(config: Prompted, task: PromptFamily, dataset: RecDataset) -> list[Prompt]:
    """Return the prompts that a task is evaluated with.

    Raises:
        UsageError: the prompt is unknown, or answers something else.
        DataError: the dataset lacks a column that one needs.
    """
    prompts = parse_all(config)
    evaluated = _prompts_for_task(prompts, task, evaluation_names(config, task))
    available = _columns(dataset)
    if "review_text" in available:
        available |= {"explanation", "feature"}  # extracted from reviews after the split
    for prompt in evaluated:
        if missing := sorted(prompt.columns - available):
            fitting = [name for name, other in prompts.items() if other.answers(task) and other.columns <= available]
            raise DataError(
                f"prompt '{prompt.name}' needs {' and '.join(missing)}, which the dataset does not have",
                f"set model.ask.{task.name} to one of {', '.join(fitting)}" if fitting else "another dataset or task",
            )
    return evaluated


def problems_of_task(config: Prompted, task: TaskConfig) -> Iterator[Llm4RecError]:
    """Yield why a task cannot be trained or evaluated: its evaluation prompt is missing, answers something else or
    needs candidates where there are none; or all prompts of the task are held out."""
    if task.question == Question.all:
        return
    if task.name not in PromptFamily.__members__:
        yield UsageError(f"P5 has no prompts for task '{task.name}'", did_you_mean(task.name, PromptFamily.__members__))
        return
    if any(next(_problems_of_template(name, prompt), None) for name, prompt in config.prompts.items()):
        return  # `problems` reports them
    prompts, family = parse_all(config), PromptFamily[task.name]
    find = partial(_prompts_for_task, prompts, family, evaluation_names(config, family))
    missing = list(problems_raised_by(find))
    yield from missing
    if missing:
        return
    evaluated = find()
    if not trained(config, [name for name, prompt in prompts.items() if prompt.family is family]):
        yield UsageError(
            f"no prompt of family {family.name} can be trained: there is none, or all are held out",
            f"prompt=[…,p5/{family.name}]" if config.train_prompts is None else "add one to model.train_prompts",
        )
    if task.question != Question.rank or task.candidates is not Candidates.full:
        return
    if config.beams and len(evaluated) > 1:
        yield UsageError(
            f"model.beams={config.beams} scores other items for each prompt, so their scores cannot be averaged",
            f"model.beams=null, or model.ask.{family.name}={evaluated[0].name}",
        )
    if listing := [prompt.name for prompt in evaluated if not prompt.ranks_catalogue]:
        fitting = [other.name for other in prompts.values() if other.ranks_catalogue]
        yield UsageError(
            f"model.ask.{family.name}={listing[0]} ranks listed candidates, not the whole catalogue",
            f"task.candidates=uniform, or set model.ask.{family.name} to one of {', '.join(fitting)}",
        )


def shown_feature_owner(config: Prompted, task: PromptFamily) -> FeatureOwner | None:
    """Return whose usual feature a task's evaluation prompts show, the user's or the item's; None for neither."""
    evaluated = [config.prompts[name] for name in evaluation_names(config, task) if name in config.prompts]
    shows_feature = any(Field.feature in parse("", prompt).fields for prompt in evaluated)
    return config.feature.owner if shows_feature else None


def parse_all(config: Prompted) -> dict[str, Prompt]:
    return {name: parse(name, prompt) for name, prompt in config.prompts.items()}


def _columns(dataset: RecDataset) -> set[str]:
    """Return the columns of items and interactions that are not empty."""
    frames = (dataset.items, dataset.interactions)
    return {str(c) for frame in frames for c in frame if (frame[c].notna() & (frame[c] != "")).any()}


def _number_length(n: int, digits: int) -> int:
    """Return the tokens of each of the numbers 1..n, zero-padded to the same length."""
    return -(-len(str(n)) // digits)


def prompt_table(node: Any) -> PromptTable:
    """Return what `llm4rec list prompts` shows of a composed file of prompts."""
    rows = []
    for name, entry in node.items():
        config = as_dataclass(PromptConfig, entry)
        prompt = parse(name, config)
        fields = ", ".join(f"{f.value}*" if f in prompt.oracle_input else f.value for f in prompt.fields)
        labels = ["held out"] * (not config.trained) + ["oracle_input"] * bool(prompt.oracle_input)
        rows.append([name, prompt.family.name, ", ".join(labels), fields, config.target, config.source])
    return PromptTable(["prompt", "family", "", "fields", "target", "source"], rows)
