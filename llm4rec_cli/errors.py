"""The errors a user may see: each says what is wrong in one line and what to do in the next."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Callable, Iterable, Iterator


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


class DryRun(Llm4RecError):
    """No failure: the command has shown what it would do, and ends there."""

    exit_code = 0


# How a full disk is told: by Python and pyarrow, by quotas, by safetensors, by torch (twice), by numpy, by SQLite.
_FULL_DISK = (
    "No space left",
    "quota exceeded",
    "os error 28",
    "PytorchStreamWriter failed writing",
    ". unexpected pos ",
    "requested and 0 written",
    "database or disk is full",
)


_UNUSABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
)


def as_full_disk(error: BaseException | None) -> RunError | None:
    """The same error in our words if it says, or comes of one that says, that the disk is full."""
    while error is not None:
        if any(words in str(error) for words in _FULL_DISK):
            return RunError(
                f"the disk is full: {str(error).splitlines()[0]}",
                "free some space (llm4rec prune) and give the same command again: it goes on from what is whole",
            )
        error = error.__cause__ or error.__context__
    return None


def as_unusable_path(error: BaseException) -> RunError | None:
    """The same error in our words if it says that a path may not be used, or not as what it should be."""
    if not isinstance(error, OSError) or error.errno not in _UNUSABLE or error.filename is None:
        return None
    return RunError(
        f"{error.filename}: {str(error.strerror).lower()}",
        "check that path and its permissions; paths.outputs=PATH and paths.cache=PATH say where things are written",
    )


def refuse(problems: Iterable[Llm4RecError]) -> None:
    """Raises the first problem, if there is one."""
    for problem in problems:
        raise problem


def refusals(call: Callable[[], object]) -> Iterator[Llm4RecError]:
    """What a call refuses, as a problem among others."""
    try:
        call()
    except Llm4RecError as refused:
        yield refused


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence naming the closest known names, and otherwise all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(known)}" if known else ""
