from functools import partial

import pytest
from fresh_process import measure, measure_in_fresh_process, peak_mb

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


def test_the_peak_of_a_child_does_not_start_at_its_parent_s():
    parent_bytes = b"x" * (300 * MIB)
    assert measure_in_fresh_process(allocate, 1, 1).peak_mb < 300
    del parent_bytes


def test_setting_up_is_not_timed():
    def slow():
        time.sleep(0.2)
        return lambda: None

    import time

    assert measure(slow).seconds < 0.1
