"""One test over many cases, which reports all that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def hold_for_all(check: Callable[..., None], cases: Iterable[Any]) -> None:
    """Call `check(case)`, or `check(*case)` of a tuple, for each case, and fail with every case that fails."""
    failed = {}
    for case in cases:
        try:
            check(*(case if isinstance(case, tuple) else (case,)))
        except Exception as error:
            failed[str(case)] = f"{type(error).__name__}: {error}"
    assert not failed, "\n".join(f"{case}: {reason}" for case, reason in failed.items())
