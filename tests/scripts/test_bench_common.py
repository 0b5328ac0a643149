import bench_common as common
import pytest
import torch
from bench_common import Timing


def test_contenders_take_turns_and_the_first_round_does_not_count(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr(common.time, "perf_counter", lambda: now[0])
    seconds = {"a": iter([100, 1, 2, 4]), "b": iter([100, 10, 10, 10])}

    def work(name):
        calls.append(name)
        now[0] += next(seconds[name])
        return 8

    timings = common.time_in_turns({name: lambda name=name: work(name) for name in seconds}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert timings == {"a": Timing(4, 2, 8), "b": Timing(0.8, 0.8, 0.8)}


def test_the_rate_is_that_of_the_best_product(monkeypatch):
    seconds = iter([2e-3, 1.5e-3, 4e-3, 3e-3, 1e-3, 2e-3])  # by one library, then by the other
    monkeypatch.setattr(common, "_seconds", lambda work: next(seconds))
    assert common.machine_rate("fp32", size=100, repeats=3) == pytest.approx(2e6 / 1e-3 / 1e9)


def test_operations_of_fused_attention_are_counted():
    query = torch.randn(2, 3, 5, 4)

    def work():
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
        return 2

    assert common.flops_per_unit(work) == 3 * 2 * (2 * 5 * 5 * 4)


def test_speed_is_relative_to_the_first_contender_and_to_the_machine_rate_in_the_same_precision():
    timings = {"reference": Timing(10, 9, 11), "fp32": Timing(100, 90, 110), "bf16": Timing(200, 1, 300)}
    executed = {"reference": 10e9, "fp32": 2e9, "bf16": 2e9}
    rates = {"reference": 400, "fp32": 400, "bf16": 800}
    rows = common.speed_rows("by", "text", timings, rates, executed)
    assert [row["speed-up"] for row in rows] == ["1.00", "10.0", "20.0"]
    assert [row["GFLOP/s"] for row in rows] == ["100", "200", "400"]
    assert [row["of machine rate"] for row in rows] == ["25 %", "50 %", "50 %"]
    assert rows[1]["GFLOP/text"] == "2.00"
    assert rows[1]["texts/s: median (min–max)"] == "100 (90.0–110)"
