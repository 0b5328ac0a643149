from functools import partial

import bench_common as common
import pytest
from bench_common import Timing

MIB = 2**20


def test_contenders_take_turns_and_the_first_round_does_not_count(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr(common.time, "perf_counter", lambda: now[0])
    seconds = {"a": iter([100, 1, 2, 4]), "b": iter([100, 10, 10, 10])}

    def work(name):
        calls.append(name)
        now[0] += next(seconds[name])
        return 8

    monkeypatch.setattr(common, "ROUNDS", 3)
    timings = common.time_in_turns({name: lambda name=name: work(name) for name in seconds})
    assert calls == ["a", "b"] * 4
    assert timings == {"a": Timing(4, 2, 8), "b": Timing(0.8, 0.8, 0.8)}


def test_speed_is_relative_to_the_first_contender():
    timings = {"reference": Timing(10, 9, 11), "fp32": Timing(100, 90, 110), "bf16": Timing(200, 1, 300)}
    rows = common.speed_rows("by", "text", timings)
    assert [row["speed-up"] for row in rows] == ["1.00", "10.0", "20.0"]
    assert rows[1]["texts/s: median (min–max)"] == "100 (90.0–110)"


def allocate(kept: int, used: int):
    """Allocate `kept` MiB and return work that uses `used` MiB more for a while."""
    kept_bytes = b"x" * (kept * MIB)
    return partial(lambda _: len(b"x" * (used * MIB)), kept_bytes)


def test_a_fresh_process_has_its_own_peak():
    before = common.peak_mb()
    assert common.measure_in_fresh_process(allocate, 50, 200).added_mb == pytest.approx(200, abs=10)
    assert common.peak_mb() - before < 50
