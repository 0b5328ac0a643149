import bench_growth as bench
import pytest
from alone import Measured, measured

TINY = bench.Sizes(interactions=300, items=30, catalogues=(50, 100), users=4)
DIM = 64


def took(seconds: float = 1.0, peak_mb: float = 500.0) -> Measured:
    return Measured(seconds, 400.0, peak_mb)


@pytest.mark.parametrize(("power", "holds"), [(0.5, True), (1.0, True), (1.1, True), (1.3, False), (2.0, False)])
def test_time_is_linear_up_to_an_exponent_of_about_one(power, holds):
    verdict = bench.linear("work", "items", {n: took(3 * n**power) for n in (10, 40, 160)})
    assert verdict.holds == holds
    assert f"items^{power:.2f}" in verdict.words


def test_memory_is_counted_in_vectors_an_item():
    vector = DIM * 4 / 2**20
    series = {n: took(peak_mb=500 + 4 * n * vector) for n in (10, 1_000, 100_000)}
    verdict = bench.items_by_dim("work", series, DIM)
    assert verdict.holds
    assert "4.0 fp32 vectors an item" in verdict.words
    assert not bench.items_by_dim("work", {n: took(peak_mb=5 * m.peak_mb) for n, m in series.items()}, DIM).holds


def test_a_larger_batch_must_not_add_its_scores():
    product = 3 * 64 * 1_000_000 * 4 / 2**20  # 732 MiB
    narrow = took(peak_mb=1_000)
    assert bench.flat_in_batch("work", narrow, took(peak_mb=1_000 + 0.04 * product), 64, 1_000_000).holds
    assert not bench.flat_in_batch("work", narrow, took(peak_mb=1_000 + product), 64, 1_000_000).holds


def test_a_verdict_says_whether_it_holds():
    assert str(bench.Verdict(True, "a")) == "holds: a"
    assert str(bench.Verdict(False, "a")) == "DOES NOT HOLD: a"


def test_a_quick_run_measures_everything_and_ends_by_its_verdicts(capsys, monkeypatch):
    monkeypatch.setattr(bench, "QUICK", TINY)
    monkeypatch.setattr(bench, "alone", measured)
    status = bench.main(["--quick"])
    printed = capsys.readouterr().out
    for name in (*bench.BY_INTERACTIONS, *bench.BY_ITEMS):
        assert name in printed
    for size in ("300 interactions", "4,800 interactions", "50 items", "100 items"):
        assert size in printed
    verdicts = [line for line in printed.splitlines() if line.startswith(("holds: ", "DOES NOT HOLD: "))]
    assert len(verdicts) == 3 + 2 * 3
    assert status == any(line.startswith("DOES NOT HOLD") for line in verdicts)
