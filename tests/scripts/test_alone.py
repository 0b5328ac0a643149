from functools import partial

import pytest
from alone import alone, measured, peak_mb

MIB = 2**20


def bytes_of(kept: int, used: int):
    """Sets up some MiB and returns work that takes some more for a while."""
    held = b"x" * (kept * MIB)
    return partial(lambda held: len(b"x" * (used * MIB)), held)


def test_a_process_of_its_own_has_its_own_peak():
    here = peak_mb()
    found = alone(bytes_of, 50, 200)
    assert found.peak_mb - found.before_mb == pytest.approx(200, abs=10)
    assert found.before_mb > 50
    assert peak_mb() - here < 50


def test_the_peak_of_a_child_does_not_begin_at_its_parent_s():
    held = b"x" * (300 * MIB)
    assert alone(bytes_of, 1, 1).peak_mb < 300
    del held


def test_setting_up_is_not_timed():
    def slow():
        time.sleep(0.2)
        return lambda: None

    import time

    assert measured(slow).seconds < 0.1
