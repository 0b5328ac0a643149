"""Errors shown to users: one line says what is wrong, the next what to do."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Iterable, Iterator, Sequence


class Llm4RecError(Exception):
    """Base of all errors shown to users.

    Args:
        problem: one line: what is wrong, with file and line if known.
        remedy: one line: what to do about it.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[Llm4RecError], tuple[str, str]]:
        return type(self), (self.problem, self.remedy)  # parallel launchers pickle errors


class UsageError(Llm4RecError):
    """Raised when the command line or a config is wrong; nothing was computed."""

    exit_code = 2


class DataError(Llm4RecError):
    """Raised when a raw file is missing or malformed, or a dataset lacks what a model or task needs."""


class RunError(Llm4RecError):
    """Raised when a run cannot continue: another process locks its folder, or a file it needs is gone."""


class DryRun(Llm4RecError):
    """Raised to end a dry run once it has shown what it would do; not a failure."""

    exit_code = 0


# Messages for a full disk of Python and pyarrow, quotas, safetensors, torch (twice), numpy and SQLite.
_FULL_DISK = (
    "No space left",
    *("Disk quota exceeded", "Disc quota exceeded"),  # Linux, macOS
    "os error 28",
    "PytorchStreamWriter failed writing",
    ". unexpected pos ",
    "requested and 0 written",
    "database or disk is full",
)

# Messages for a lack of memory of torch, on the CPU and on accelerators.
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory")

# Control characters, marks and overrides of direction, and invisible ones other than those that join letters.
_UNPRINTABLE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)

_UNUSABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
)


def as_environment_error(error: BaseException) -> RunError | None:
    """Return a RunError if the machine rather than the code caused the error: a full disk, an inaccessible path, too
    little memory."""
    return as_full_disk(error) or as_unusable_path(error) or as_out_of_memory(error)


def as_full_disk(error: BaseException | None) -> RunError | None:
    """Return a RunError if the error, or an error that caused it, says that the disk is full."""
    while error is not None:
        if any(words in str(error) for words in _FULL_DISK):
            return RunError(
                f"the disk is full: {str(error).splitlines()[0]}",
                "free some space (llm4rec list runs) and run the same command again: it resumes from what is complete",
            )
        error = error.__cause__ or error.__context__
    return None


def as_unusable_path(error: BaseException) -> RunError | None:
    """Return a RunError if the error says that a path is not accessible, or is a folder or file by mistake."""
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return RunError("a path begins with ~NAME, and this machine has no user NAME", "write the path from / on")
    if not isinstance(error, OSError) or error.errno not in _UNUSABLE or error.filename is None:
        return None
    return RunError(
        f"{error.filename}: {str(error.strerror).lower()}",
        "check the path and its permissions; paths.outputs=PATH and paths.cache=PATH set where files are written",
    )


def as_out_of_memory(error: BaseException) -> RunError | None:
    """Return a RunError if the error says that memory is exhausted, of this machine or its accelerator."""
    text = str(error)
    is_torch = isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)
    if not is_torch and not isinstance(error, MemoryError):  # Python's, numpy's and pyarrow's
        return None
    return RunError(
        f"out of memory: {text.splitlines()[0] if text else type(error).__name__}",
        "lower trainer.batch_size, trainer.eval_batch_size or llm.batch_tokens; the same command resumes from the last "
        "checkpoint",
    )


def printable(text: str) -> str:
    """Escape what would act on a terminal or reorder its text: titles, ids and reviews are untrusted."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def raise_first(problems: Iterable[Llm4RecError]) -> None:
    for problem in problems:
        raise problem


def problems_raised_by(call: Callable[[], object]) -> Iterator[Llm4RecError]:
    """Yield the error that `call()` raises, if any."""
    try:
        call()
    except Llm4RecError as error:
        yield error


def listed(names: Sequence[str], most: int) -> str:
    """Return the names for a message; of more than `most`, the first and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def closest(name: str, known: Iterable[str]) -> list[str]:
    """Return known names that a name may mean: a close spelling; otherwise names that contain it or that it abbreviates
    (`lr` of `learning_rate`); otherwise a distant spelling."""
    lower = {candidate.lower(): candidate for candidate in sorted(known)}
    like = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    if like and difflib.SequenceMatcher(None, name.lower(), like[0]).ratio() >= 0.8:
        return [lower[like[0]]]
    containing = [candidate for text, candidate in lower.items() if len(name) > 1 and name.lower() in text]
    initials = {text: "".join(word[:1] for word in text.split("_")) for text in lower if "_" in text}
    abbreviated = [lower[text] for text, letters in initials.items() if letters == name.lower()]
    return containing or abbreviated or [lower[text] for text in like]


def meant(names: Sequence[str]) -> str:
    """Return a remedy that names what may have been meant."""
    return f"did you mean '{names[0]}'?" if len(names) == 1 else f"did you mean one of {listed(names, 8)}?"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a remedy that names the closest known names, or all of them if none is close."""
    known = sorted(known)
    if close := closest(name, known):
        return meant(close)
    return f"known: {', '.join(known)}" if known else ""
