"""The prompts of tuned_lm: templates with fields in braces. An answer follows at their end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from string import Formatter
from typing import Any

from omegaconf import MISSING

from llm4rec_cli.config.schema import PromptTable, as_dataclass
from llm4rec_cli.errors import UsageError

NOUN, HISTORY, TITLE, LIKED, DISLIKED = "noun", "history", "title", "liked", "disliked"


@dataclass
class Prompts:
    noun: str = MISSING  # what an item is called
    next: str = MISSING  # the question for the next title; fields: {history}, titles that each end with `separator`
    separator: str = MISSING  # ends a title of `next`, and an answer
    click: str = MISSING  # the question whether the user chooses {title} after {history}, a list of quoted titles
    like: str = MISSING  # the question whether the user will like {title}, by {liked} and {disliked} titles
    yes: str = MISSING  # the answers to `click` and `like`
    no: str = MISSING


FIELDS = {"next": (HISTORY,), "click": (HISTORY, TITLE), "like": (LIKED, DISLIKED, TITLE)}


def parts(template: str) -> list[tuple[str, str | None]]:
    """Return pairs of a literal text and the field after it, None at the end.

    Raises:
        ValueError: a brace is unmatched.
    """
    return [(literal, name) for literal, name, _, _ in Formatter().parse(template)]


def problems_in(prompts: Prompts) -> Iterator[UsageError]:
    for name, needed in FIELDS.items():
        where = f"the prompt `{name}`"
        try:
            found = parts(getattr(prompts, name))
        except ValueError:
            yield UsageError(f"{where}: unmatched brace", "write a literal brace as {{ or }}")
            continue
        fields = [field for _, field in found if field is not None]
        for field in sorted({*fields} - {*needed, NOUN}):
            yield UsageError(f"{where}: no field {{{field}}}", f"choose from {', '.join(sorted((*needed, NOUN)))}")
        for field in needed:
            if fields.count(field) != 1:
                yield UsageError(f"{where} has {{{field}}} {fields.count(field)} times", "use it exactly once")
        if found and not found[0][0].strip() and found[0][1] in needed:
            yield UsageError(f"{where} begins with a field", "begin with a text")
    if not prompts.separator:
        yield UsageError("prompt.separator is empty, and would end no title", 'prompt.separator="\\n"')
    if not prompts.yes or not prompts.no or prompts.yes == prompts.no:
        yield UsageError("prompt.yes and prompt.no are not two different answers", 'yes: " Yes"')


def asks_last(prompts: Prompts) -> Iterator[UsageError]:
    """Yield a problem if text follows the history of `next`, as then only the last title can be an answer."""
    if not prompts.next.endswith(f"{{{HISTORY}}}"):
        yield UsageError(
            "model.targets=every makes each title of a history an answer, but the prompt `next` goes on after it",
            "model.targets=last, or end the prompt with {history}",
        )


def prompt_table(node: Any) -> PromptTable:
    """Return what `llm4rec list prompts` shows of a composed file of prompts."""
    return PromptTable(
        ["part", "text"], [[name, str(text)] for name, text in vars(as_dataclass(Prompts, node)).items()]
    )
