"""The errors a user may see: each says what is wrong in one line and what to do in the next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Llm4RecError(Exception):
    """A failure with a remedy.

    Args:
        problem: one line, what is wrong (with file and line where there is one).
        remedy: one line, what to do about it.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[Llm4RecError], tuple[str, str]]:
        return type(self), (self.problem, self.remedy)  # parallel launchers send errors between processes


class UsageError(Llm4RecError):
    """The command line or a config is wrong: nothing was computed."""

    exit_code = 2


class DataError(Llm4RecError):
    """A raw file is missing or malformed, or a dataset lacks what was asked of it."""


class RunError(Llm4RecError):
    """A run cannot go on: its folder is held by another process, or what it needs is gone."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence naming the closest known names, and otherwise all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(known)}" if known else ""
