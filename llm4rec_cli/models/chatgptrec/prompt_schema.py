"""The parts of ChatGPTRec's prompts, and the fields that each may have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from string import Formatter

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.errors import UsageError

TASKS = ("rating", "sequential", "direct", "explanation", "review_summary")


@dataclass
class TaskPrompt:
    """The parts of one task's prompt, in order: templates with fields in braces. A part whose fields are all empty is
    omitted."""

    task: str = MISSING  # the question
    behaviour: str = MISSING  # what the user did
    candidates: str = MISSING  # the candidates to choose from
    shots: str = MISSING  # the text around few-shot examples from the user's own past
    shot: str = MISSING  # one few-shot example
    answer: str = MISSING  # the format of a generated answer
    max_tokens: int = ranges.number(at_least=1)  # of a generated answer; llm.max_tokens may lower it
    judged: str = MISSING  # replaces `answer` where likelihoods are computed


@dataclass
class Prompts:
    system: str | None = None  # the system message; null = none
    noun: str = MISSING  # what an item is called
    shots: int = ranges.number(at_least=0)  # few-shot examples of the user's training part; 0 = zero-shot
    shot_candidates: int = ranges.number(at_least=2)  # candidates of a few-shot example
    shuffles: int = ranges.number(at_least=1)  # orders of the candidates; each example is evaluated in all of them
    history_tokens: int = ranges.number(at_least=1)  # of histories, also in few-shot examples: the latest that fit
    review_tokens: int = ranges.number(at_least=1)  # of a review: its beginning
    listed: int = ranges.number(at_least=1)  # items of a generated list
    rating: TaskPrompt = field(default_factory=TaskPrompt)
    sequential: TaskPrompt = field(default_factory=TaskPrompt)
    direct: TaskPrompt = field(default_factory=TaskPrompt)
    explanation: TaskPrompt = field(default_factory=TaskPrompt)
    review_summary: TaskPrompt = field(default_factory=TaskPrompt)


# Fields of the target interaction that a task's question may use: none in rankings, where the target is the answer.
TARGET_FIELDS = {
    "rating": {"title", "category"},
    **{task: set[str]() for task in ("sequential", "direct")},
    **{task: {"title", "category", "stars", "review"} for task in ("explanation", "review_summary")},
}
# Of these, what tells which item is meant: a question must have one.
NAMING_FIELDS = {"rating": ["title"], "explanation": ["title", "review"], "review_summary": ["review", "title"]}
# Of these, what is unknown until the user has written the answer.
ORACLE_FIELDS = {"explanation": {"stars", "review"}, "review_summary": {"stars"}}
PART_FIELDS: dict[str, set[str]] = {
    **{"behaviour": {"history"}, "candidates": {"candidates"}, "shots": {"examples"}},
    **{"answer": set(), "judged": set()},
}
# Of a few-shot example: an earlier choice, or an interaction, whose rating is its answer.
CHOICE, INTERACTION = {"number", "history", "candidates", "answer"}, {"number", "title", "category", "stars", "review"}
SHOT_FIELDS = {
    "rating": INTERACTION,
    **dict.fromkeys(("sequential", "direct"), CHOICE),
    **{task: {*INTERACTION, "answer"} for task in ("explanation", "review_summary")},
}


def problems_in(prompts: Prompts) -> Iterator[UsageError]:
    """Yield the templates with an unmatched brace or a field that they may not have, and questions without the item."""
    yield from _problems_of_template("the system message", prompts.system, set())
    for task in TASKS:
        part_fields = {"task": TARGET_FIELDS[task], "shot": SHOT_FIELDS[task], **PART_FIELDS}
        for part, fields in part_fields.items():
            template = getattr(getattr(prompts, task), part)
            yield from _problems_of_template(f"the prompt of {task}, part `{part}`", template, fields)
    for task, naming in NAMING_FIELDS.items():
        template = getattr(prompts, task).task
        if not any(f"{{{name}}}" in template for name in naming):
            yield UsageError(
                f"the prompt of {task}, part `task`: it does not name the item that it asks about",
                f"add {' or '.join(f'{{{name}}}' for name in naming)}",
            )


def _problems_of_template(where: str, template: str | None, fields: set[str]) -> Iterator[UsageError]:
    allowed = fields | {"noun", "listed"}
    try:
        unknown = template_fields(template) - allowed
    except ValueError:
        yield UsageError(f"{where}: unmatched brace", "write a literal brace as {{ or }}")
        return
    for name in sorted(unknown):
        yield UsageError(f"{where}: no field {{{name}}}", f"choose from {', '.join(sorted(allowed))}")


def template_fields(template: str | None) -> set[str]:
    """Return the names of a template's fields; `{}` has an empty name.

    Raises:
        ValueError: a brace is unmatched.
    """
    return {name for _, name, _, _ in Formatter().parse(template or "") if name is not None}
