import json

import bench_growth as bench
import pytest
from fresh_process import measure


def test_an_exponent_is_that_between_the_two_largest_sizes():
    points = [(n, {"seconds": 2 * n**1.1}) for n in (10, 100, 1000)]
    assert bench.exponent([(1, {"seconds": 50.0}), *points]) == pytest.approx(1.1)


@pytest.mark.slow
def test_each_cell_is_measured_once_and_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure_in_fresh_process", measure)
    monkeypatch.setattr(bench, "STEPS", 1)
    monkeypatch.setattr(bench, "USERS", 20)
    numbers = tmp_path / "growth.json"
    sizes = [str(numbers), "--reviews", "1500", "3000", "--items", "50", "--impressions", "60"]
    bench.main([*sizes, "--only", "prepare/*", "click log/*"])
    first = json.loads(numbers.read_text())
    assert list(first) == ["click log/60/50", "prepare/1500/50", "prepare/3000/50"]
    assert not list((tmp_path / "growth").iterdir()), "data are deleted when their cells are measured"
    bench.main(sizes)
    records = json.loads(numbers.read_text())
    assert {name: records[name] for name in first} == first
    assert len(records) == 1 + 2 * len(bench.WORKS)
    assert all(record["seconds"] > 0 for record in records.values())
    of_step = records["sasrec/3000/50"]
    assert (of_step["steps"], of_step["epoch"]) == (1, 2)
    capsys.readouterr()
    monkeypatch.setattr(bench, "measured", lambda *cell: pytest.fail("a cell is measured again"))
    bench.main(sizes)
    table = capsys.readouterr().out
    assert all(f"| {work} |" in table for work in bench.WORKS)
    assert "### reviews grow, 50 items" in table and "extrapolated from 1/1 steps" in table
    assert "click log of 60 + 10 impressions, 50 news" in table
