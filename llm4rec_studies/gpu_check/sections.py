"""What a section of the check reports, and the rules of FAIL and SLOW."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from unittest import mock

from llm4rec_cli import arithmetic
from llm4rec_cli.errors import Llm4RecError

OK, SLOW, FAIL, SKIPPED = "ok", "SLOW", "FAIL", "skipped"
WORST = (FAIL, SLOW, SKIPPED, OK)


@dataclass(frozen=True)
class Section:
    """The result of a section.

    Attributes:
        state: one of WORST.
        facts: what was measured, in numbers.
        why: why it fails, is slow or was skipped.
    """

    name: str
    state: str
    facts: Mapping[str, float | str] = field(default_factory=dict)
    why: str = ""


def judged(name: str, facts: Mapping[str, float | str], fails: Sequence[str], slow: Sequence[str] = ()) -> Section:
    """Return a section that FAILs for each of `fails`, else is SLOW for each of `slow`."""
    state = FAIL if fails else SLOW if slow else OK
    return Section(name, state, facts, "; ".join([*fails, *slow]))


def guarded(name: str, check: Callable[[], Section]) -> Section:
    """Return a section; an exception in it is a FAIL, and one of ours, such as a missing package, leaves it out."""
    try:
        return check()
    except Llm4RecError as error:
        return Section(name, SKIPPED, why=f"{error.problem} ({error.remedy})")
    except Exception as error:
        return Section(name, FAIL, why=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


@contextmanager
def paths_of_accelerator(device: str) -> Iterator[None]:
    """Let a CPU that stands in for an accelerator compute as on one: by other operators, which never wait."""
    with mock.patch.object(arithmetic, "CPU", "another") if device == "cpu" else nullcontext():
        yield


def report(device: str, shapes: str, date: str, sections: Sequence[Section]) -> dict[str, object]:
    """Return what the JSON file has."""
    listed = [{"name": s.name, "state": s.state, "why": s.why, "facts": dict(s.facts)} for s in sections]
    return {"schema": 1, "device": device, "shapes": shapes, "date": date, "sections": listed}


def markdown_row(device: str, date: str, sections: Sequence[Section]) -> str:
    """Return `| device | date | 5 ok, 1 SLOW: … |`: one row of a table of devices."""
    counts = [f"{n} {state}" for state in WORST if (n := sum(s.state == state for s in sections))]
    bad = [f"{s.name}: {s.why}" for s in sections if s.state in (FAIL, SLOW)]
    rates = next((s.facts for s in sections if "bf16 TFLOP/s" in s.facts), {})
    numbers = [f"{rates[key]:.3g}" if key in rates else "" for key in ("fp32 TFLOP/s", "bf16 TFLOP/s", "GB/s")]
    return f"| {' | '.join([device, date, *numbers, ', '.join(counts), '; '.join(bad)])} |"
