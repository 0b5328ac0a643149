import bench_growth as bench
import pytest
from fresh_process import Measurement, measure

TINY = bench.Sizes(interactions=300, items=30, catalogues=(50, 100), users=4)
DIM = 64


def measurement(seconds: float = 1.0, peak_mb: float = 500.0) -> Measurement:
    return Measurement(seconds, 400.0, peak_mb)


@pytest.mark.parametrize(("power", "holds"), [(0.5, True), (1.0, True), (1.1, True), (1.3, False), (2.0, False)])
def test_time_is_linear_up_to_an_exponent_of_about_one(power, holds):
    verdict = bench.linear("work", "items", {n: measurement(3 * n**power) for n in (10, 40, 160)})
    assert verdict.passed == holds
    assert f"items^{power:.2f}" in verdict.details


def test_memory_is_counted_in_vectors_per_item():
    vector = DIM * 4 / 2**20
    series = {n: measurement(peak_mb=500 + 4 * n * vector) for n in (10, 1_000, 100_000)}
    verdict = bench.items_by_dim("work", series, DIM)
    assert verdict.passed
    assert "4.0 fp32 vectors per item" in verdict.details
    assert not bench.items_by_dim(
        "work", {n: measurement(peak_mb=5 * m.peak_mb) for n, m in series.items()}, DIM
    ).passed


def test_a_larger_batch_must_not_add_its_scores():
    product = 3 * 64 * 1_000_000 * 4 / 2**20  # 732 MiB
    narrow = measurement(peak_mb=1_000)
    assert bench.flat_in_batch("work", narrow, measurement(peak_mb=1_000 + 0.04 * product), 64, 1_000_000).passed
    assert not bench.flat_in_batch("work", narrow, measurement(peak_mb=1_000 + product), 64, 1_000_000).passed


def test_a_quick_run_measures_everything_and_exits_with_its_verdicts(capsys, monkeypatch):
    monkeypatch.setattr(bench, "QUICK", TINY)
    monkeypatch.setattr(bench, "measure_in_fresh_process", measure)
    status = bench.main(["--quick"])
    printed = capsys.readouterr().out
    for name in (*bench.BY_INTERACTIONS, *bench.BY_ITEMS):
        assert name in printed
    for size in ("300 interactions", "4,800 interactions", "50 items", "100 items"):
        assert size in printed
    verdicts = [line for line in printed.splitlines() if line.startswith(("pass: ", "FAIL: "))]
    assert len(verdicts) == 3 + 2 * 3
    assert status == any(line.startswith("FAIL") for line in verdicts)
