from functools import partial

import pytest
from fresh_process import measure_in_fresh_process, peak_mb

MIB = 2**20


def allocate(kept: int, used: int):
    """Allocate `kept` MiB and return work that uses `used` MiB more for a while."""
    kept_bytes = b"x" * (kept * MIB)
    return partial(lambda _: len(b"x" * (used * MIB)), kept_bytes)


def test_a_fresh_process_has_its_own_peak():
    before = peak_mb()
    measurement = measure_in_fresh_process(allocate, 50, 200)
    assert measurement.added_mb == pytest.approx(200, abs=10)
    assert measurement.before_mb > 50
    assert peak_mb() - before < 50
