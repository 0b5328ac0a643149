"""P5's prompts: what each asks, answers and needs of a dataset; what is wrong with them; which can be asked.

Prompts are data, in conf/prompt/p5/*.yaml. A template is literal text and fields in braces. Free of torch, as `llm4rec
validate` and `llm4rec list prompts` read them too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from llm4rec_cli.config.schema import Candidates, Index, Question
from llm4rec_cli.errors import DataError, Llm4RecError, UsageError, did_you_mean, problems_raised_by
from llm4rec_cli.models.p5.families import Family, PromptConfig

if TYPE_CHECKING:
    from llm4rec_cli.config.schema import TaskConfig
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.models.p5.config import P5Config


class Field(Enum):
    """What may stand in braces in a source."""

    user = "user"  # user_<number>
    user_name = "user_name"  # what the user is called; their raw id where the data have no name
    item = "item"  # item_<number>
    title = "title"
    brand = "brand"
    price = "price"
    star = "star"  # of the review that is asked about; in a yes/no question perhaps another number
    headline = "headline"
    review = "review"
    feature = "feature"
    history = "history"  # bare numbers, oldest first
    candidates = "candidates"  # 100 bare numbers, in an order that does not tell the target
    one = "one"  # a bare number: the target's, or a negative's


class Answer(Enum):
    """What a prompt is answered with: the forms that a target may have."""

    star = "{star}"
    yes_no = "{yes_no}"
    like = "{like}"  # like, from 4 stars on; otherwise dislike
    item = "{target}"  # a bare number
    explanation = "{explanation}"
    headline = "{headline}"
    star_and_explanation = "{star} , {explanation}"


# Columns of the dataset that a field, or an answer, is taken from. A user's name has a stand-in.
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

_WHO = {Field.user, Field.user_name}
_WHAT = {Field.item, Field.title, Field.brand, Field.price}
_REVIEW = {Field.star, Field.headline, Field.review, Field.feature}
_LISTS = {Field.history, Field.candidates, Field.one}
TAKES = {  # what an example of a family has
    Family.rating: _WHO | _WHAT | _REVIEW,
    Family.sequential: _WHO | _LISTS,
    Family.direct: _WHO | _WHAT | {Field.candidates},
    Family.explanation: _WHO | _WHAT | _REVIEW,
    Family.review_summary: _WHO | _WHAT | _REVIEW,
}
GIVES = {
    Family.rating: {Answer.star, Answer.yes_no, Answer.like},
    Family.sequential: {Answer.item, Answer.yes_no},
    Family.direct: {Answer.item, Answer.yes_no},
    Family.explanation: {Answer.explanation, Answer.star_and_explanation},
    Family.review_summary: {Answer.headline, Answer.star},
}
QUESTIONED = {  # one of these is what a yes/no question asks about
    Family.rating: {Field.star},
    Family.sequential: {Field.one},
    Family.direct: {Field.item, Field.title},
}
TELLS = {  # with one of these the answer stands in the question; an explanation is a sentence of the review
    Answer.star: {Field.star},
    Answer.like: {Field.star},
    Answer.item: _WHAT | {Field.one},
    Answer.explanation: {Field.review},
    Answer.headline: {Field.headline},
    Answer.star_and_explanation: {Field.star, Field.review},
}

N_CANDIDATES = 100
# How many pieces of a tokenizer a field takes, about; numbers of users and items aside.
PIECES = {
    Field.user_name: 8,
    Field.title: 32,
    Field.brand: 4,
    Field.price: 4,
    Field.star: 1,
    Field.headline: 16,
    Field.feature: 2,
}
PREFIX = 2  # pieces of `user_` or `item_`
LATEST_ITEMS = 5  # of a history, that must survive its cut
REVIEW_PIECES = 32


@dataclass(frozen=True)
class Prompt:
    """A prompt, read.

    Attributes:
        name: `1-1`, …
        family, trained: as in its YAML.
        segments: of its source: literal texts and fields, in their order.
        answer: what its target is.
    """

    name: str
    family: Family
    trained: bool
    segments: tuple[str | Field, ...]
    answer: Answer

    @property
    def fields(self) -> tuple[Field, ...]:
        """Those of its source, in their order."""
        return tuple(segment for segment in self.segments if isinstance(segment, Field))

    @property
    def columns(self) -> frozenset[str]:
        """The dataset's columns that it needs."""
        own = {FIELD_COLUMNS[field] for field in self.fields if field in FIELD_COLUMNS}
        return frozenset(own | set(ANSWER_COLUMNS[self.answer]))

    @property
    def oracle_input(self) -> tuple[Field, ...]:
        """What its source takes from the very review that it asks about, which nobody has beforehand.

        A question about stars that names some is one too: at evaluation they are the review's. The text of a review is
        none where its headline is asked for, which is what the task is about; where its stars are, it is.
        """
        given = _REVIEW - ({Field.review} if self.answer is Answer.headline else set())
        return tuple(field for field in self.fields if field in given)

    @property
    def task(self) -> Family | None:
        """The task that it can be asked for; None for yes or no about stars, which no task scores.

        Stars read off a review (the paper's review preference) are ratings.
        """
        if self.answer is Answer.star:
            return Family.rating
        return None if self.family is Family.rating and self.answer is Answer.yes_no else self.family

    @property
    def ranks_catalogue(self) -> bool:
        """Whether its answer may be any item."""
        return self.answer is Answer.item and Field.candidates not in self.fields

    def fixed_pieces(self, item_pieces: int, user_pieces: int) -> int:
        """How long its source is at least, in pieces of a tokenizer and with its end, about; nothing of it may be cut.

        Args:
            item_pieces, user_pieces: of a bare number.
        """
        own = {
            Field.user: PREFIX + user_pieces,
            Field.item: PREFIX + item_pieces,
            Field.one: item_pieces,
            Field.candidates: N_CANDIDATES * (item_pieces + 1) - 1,
            Field.history: LATEST_ITEMS * (item_pieces + 1) - 1,
            Field.review: REVIEW_PIECES,
        }
        words = sum(len(segment.split()) for segment in self.segments if isinstance(segment, str))
        return 1 + words + sum((own | PIECES)[field] for field in self.fields)


def read(name: str, prompt: PromptConfig) -> Prompt:
    """A prompt's templates taken apart.

    Raises:
        UsageError: the first fault in them.
    """
    for fault in _template_faults(name, prompt):
        raise fault
    parts = re.split(r"\{(\w+)\}", prompt.source)  # literal, field, literal, …
    segments = tuple(Field(part) if i % 2 else part for i, part in enumerate(parts) if part)
    return Prompt(name, prompt.family, prompt.trained, segments, Answer(prompt.target))


def _template_faults(name: str, prompt: PromptConfig) -> Iterator[UsageError]:
    """What keeps a prompt from being read."""
    known = [field.value for field in Field]
    if re.search(r"[{}]", re.sub(r"\{\w+\}", "", prompt.source)):
        yield UsageError(f"prompt '{name}': a brace is not closed, or holds no field", f"{{{'}, {'.join(known)}}}")
    named = re.findall(r"\{(\w+)\}", prompt.source)
    for field in dict.fromkeys(named):
        if field not in known:
            yield UsageError(f"prompt '{name}': unknown field {{{field}}}", did_you_mean(field, known))
        elif named.count(field) > 1:
            yield UsageError(f"prompt '{name}': {{{field}}} stands twice in its source", "name it once")
        elif not re.search(rf"(?<!\S)\{{{field}\}}(?!\S)", prompt.source):
            yield UsageError(
                f"prompt '{name}': {{{field}}} is no word of its own in its source",
                f"spaces around it, also before a full stop: `… {{{field}}} .`",
            )
    if not named:
        yield UsageError(f"prompt '{name}': its source holds no field, so it always asks the same", "{user}, …")
    forms = [answer.value for answer in Answer]
    if prompt.target not in forms:
        yield UsageError(
            f"prompt '{name}': {prompt.target!r} is no form of a target", did_you_mean(prompt.target, forms)
        )


# --- what is wrong with them


def faults(config: P5Config, item_pieces: int = 1, user_pieces: int = 1) -> Iterator[UsageError]:
    """All that is wrong with a config's prompts, whatever the dataset.

    Looked for: templates that cannot be read; fields and answers that their family has not; answers that stand in
    their question; questions that would not fit `max_source`; two of one wording; and prompts that a task, of those
    that some are trained for, is asked with but cannot be.

    Args:
        item_pieces, user_pieces: of a bare number; where the dataset is not known, the least.
    """
    prompts: dict[str, Prompt] = {}
    wordings: dict[str, str] = {}
    for name, prompt in config.prompts.items():
        told = list(_template_faults(name, prompt))
        yield from told
        if not told:
            prompts[name] = read(name, prompt)
            yield from _family_faults(prompts[name])
            yield from _length_faults(prompts[name], config.max_source, item_pieces, user_pieces)
        first = wordings.setdefault(" ".join(prompt.source.casefold().split()), name)
        if first != name:
            yield UsageError(f"prompt '{name}' is worded as '{first}' is", "word it anew, or leave it out")
    offered = {prompt.task for prompt in prompts.values() if prompt.trained}
    for task in Family:
        name = getattr(config.ask, task.name)
        if task in offered and name not in config.prompts.keys() - prompts.keys():  # the latter are told above
            try:
                _answering(prompts, task, name)
            except UsageError as error:
                yield error


def _family_faults(prompt: Prompt) -> Iterator[UsageError]:
    family, said = prompt.family, f"prompt '{prompt.name}', of family {prompt.family.name},"
    if prompt.answer not in GIVES[family]:
        forms = [answer.value for answer in Answer if answer in GIVES[family]]
        yield UsageError(f"{said} is answered with {prompt.answer.value}", f"target: {' or '.join(forms)}")
        return
    for field in prompt.fields:
        if field not in TAKES[family]:
            taken = [f"{{{known.value}}}" for known in Field if known in TAKES[family]]
            yield UsageError(
                f"{said} takes {{{field.value}}}, which its examples have not", f"they have {', '.join(taken)}"
            )
        elif field in TELLS.get(prompt.answer, ()):
            yield UsageError(
                f"{said} is told {{{field.value}}}, which tells its answer", f"leave {{{field.value}}} out"
            )
    if prompt.answer is Answer.yes_no and not QUESTIONED[family] & set(prompt.fields):
        wanted = " or ".join(f"{{{field.value}}}" for field in Field if field in QUESTIONED[family])
        yield UsageError(f"{said} asks yes or no about nothing", f"name {wanted}")


def _length_faults(prompt: Prompt, max_source: int, item_pieces: int, user_pieces: int) -> Iterator[UsageError]:
    needed = prompt.fixed_pieces(item_pieces, user_pieces)
    if needed > max_source:
        with_cut = f", with the {LATEST_ITEMS} latest items of its history" if Field.history in prompt.fields else ""
        yield UsageError(
            f"prompt '{prompt.name}' takes about {needed} tokens{with_cut}: model.max_source={max_source} would cut it",
            f"model.max_source={needed} or more, model.digits=2 or 3 for shorter numbers, or leave the prompt out",
        )


def _answering(prompts: Mapping[str, Prompt], task: Family, name: str) -> Prompt:
    """The prompt of a name, which a task can be asked with.

    Raises:
        UsageError: there is none, or it asks something else.
    """
    able = [prompt.name for prompt in prompts.values() if prompt.task is task]
    if name not in prompts:
        raise UsageError(f"model.ask.{task.name}={name}: there is no such prompt", did_you_mean(name, able))
    if prompts[name].task is not task:
        raise UsageError(
            f"model.ask.{task.name}={name}: that prompt, of family {prompts[name].family.name}, is answered with "
            f"{prompts[name].answer.value}",
            f"one that asks for what the task is about: {', '.join(able) or 'none is there'}",
        )
    return prompts[name]


# --- prompts and a dataset


def usable(prompts: Mapping[str, PromptConfig], dataset: RecDataset) -> dict[str, Prompt]:
    """The prompts whose fields and answers the dataset has; sorted, so that the order of files is of no account."""
    there = _columns(dataset)
    found = {name: read(name, prompts[name]) for name in sorted(prompts)}
    return {name: prompt for name, prompt in found.items() if prompt.columns <= there}


def left_out(prompts: Mapping[str, PromptConfig], dataset: RecDataset) -> list[str]:
    """In words, which prompts the dataset cannot fill, and why."""
    there = _columns(dataset)
    found: dict[str, list[str]] = {}
    for prompt in map(read, prompts, prompts.values()):
        if lacking := prompt.columns - there:
            found.setdefault(" or ".join(sorted(lacking)), []).append(prompt.name)
    return [f"the data have no {lacking}: left out {', '.join(names)}" for lacking, names in found.items()]


def faults_of_data(config: P5Config, dataset: RecDataset) -> Iterator[UsageError]:
    """Prompts that would not fit with the dataset's numbers."""
    item_pieces = 1  # at least, of a path of clusters
    if config.index in (Index.sequential, Index.random, Index.leaky_p5):
        item_pieces = _pieces(dataset.n_items, config.digits)
    yield from faults(config, item_pieces, _pieces(dataset.n_users, config.digits))


def trained(config: P5Config, family: Family, dataset: RecDataset) -> list[str]:
    """The names of the prompts that a family is trained with.

    Raises:
        DataError: the dataset lacks what every one of them needs.
    """
    of_family = {name: prompt for name, prompt in config.prompts.items() if prompt.family is family}
    found = [name for name, prompt in usable(of_family, dataset).items() if prompt.trained]
    if not found:
        raise DataError(
            f"no prompt of family {family.name} can be trained on these data",
            "; ".join(left_out(of_family, dataset)) or f"prompt=[…,p5/{family.name}]",
        )
    return found


def asked(config: P5Config, task: Family, dataset: RecDataset) -> Prompt:
    """The prompt that a task is asked with.

    Raises:
        UsageError: there is no such prompt, or it asks something else.
        DataError: the dataset lacks what it needs.
    """
    found = _answering(_all(config), task, getattr(config.ask, task.name))
    there = _columns(dataset)
    if "review_text" in there:
        there |= {"explanation", "feature"}  # they are found in reviews, once these are divided
    if lacking := sorted(found.columns - there):
        able = [prompt.name for prompt in usable(config.prompts, dataset).values() if prompt.task is task]
        raise DataError(
            f"prompt '{found.name}' needs {' and '.join(lacking)}, which the data have not",
            f"model.ask.{task.name}=… one of {', '.join(able)}" if able else "another dataset, or another task",
        )
    return found


def faults_of_asking(config: P5Config, task: TaskConfig) -> Iterator[Llm4RecError]:
    """A task that the prompt it is asked with cannot answer: there is no such prompt, it asks something else, or needs
    candidates where there are none; or every prompt of the task is held out."""
    if task.question is Question.all:
        return
    if task.name not in Family.__members__:
        yield UsageError(f"no prompt asks for task '{task.name}'", did_you_mean(task.name, Family.__members__))
        return
    unread = [
        fault for name, prompt in config.prompts.items() for fault in problems_raised_by(partial(read, name, prompt))
    ]
    if unread:
        return  # `faults` says so
    prompts, family = _all(config), Family[task.name]
    answering = partial(_answering, prompts, family, getattr(config.ask, family.name))
    none = list(problems_raised_by(answering))
    yield from none
    if none:
        return
    found = answering()
    if not any(prompt.trained for prompt in prompts.values() if prompt.family is family):
        yield UsageError(
            f"no prompt of family {family.name} is trained: each is held out, or there is none",
            f"prompt=[…,p5/{family.name}]",
        )
    if task.question is Question.rank and task.candidates is Candidates.full and not found.ranks_catalogue:
        able = [prompt.name for prompt in prompts.values() if prompt.task is family and prompt.ranks_catalogue]
        yield UsageError(
            f"model.ask.{family.name}={found.name} asks about given candidates, not about the whole catalogue",
            f"task.candidates=uniform, or model.ask.{family.name}=… one of {', '.join(able)}",
        )


def is_oracle(prompt: PromptConfig) -> bool:
    """Whether a prompt takes something from the review that it asks about."""
    return bool(read("", prompt).oracle_input)


def _all(config: P5Config) -> dict[str, Prompt]:
    return {name: read(name, prompt) for name, prompt in config.prompts.items()}


def _columns(dataset: RecDataset) -> set[str]:
    """Those that hold something, of items and interactions."""
    frames = (dataset.items, dataset.interactions)
    return {str(c) for frame in frames for c in frame if (frame[c].notna() & (frame[c] != "")).any()}


def _pieces(n: int, digits: int) -> int:
    """Of the numbers 1..n, all padded to one length."""
    return -(-len(str(n)) // digits)
