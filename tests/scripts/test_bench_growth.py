import bench_growth as bench
import pytest
from bench_common import measure


def test_an_exponent_is_that_between_the_two_largest_sizes():
    points = [(n, 2 * n**1.1) for n in (10, 100, 1000)]
    assert bench.exponent([(1, 50.0), *points]) == pytest.approx(1.1)


@pytest.mark.slow
def test_each_work_is_measured_on_each_size(capsys, monkeypatch):
    small = {"measure_in_fresh_process": measure, "STEPS": 1, "USERS": 20, "REVIEWS": [1500, 3000], "ITEMS": 50}
    for name, value in small.items():
        monkeypatch.setattr(bench, name, value)
    bench.main()
    printed = capsys.readouterr().out
    assert "growth, 50 items" in printed
    assert [work for work in bench.WORKS if f"| {work} |" not in printed] == []
