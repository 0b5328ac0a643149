import csv
import json
from xml.etree import ElementTree

import bench_large as bench
import pytest
from fresh_process import measure
from synthetic import write_reviews


def test_reviews_are_made_in_the_format_of_the_official_files(tmp_path):
    write_reviews(tmp_path, 300, 40)
    reviews = [json.loads(line) for line in (tmp_path / "reviews.json").read_text().splitlines()]
    items = [json.loads(line) for line in (tmp_path / "metadata.json").read_text().splitlines()]
    assert len(reviews) == pytest.approx(300, rel=0.25)
    assert {review["asin"] for review in reviews} <= {item["asin"] for item in items}
    assert len(items) == 40
    assert [review["asin"] for review in reviews] == sorted(review["asin"] for review in reviews)
    assert all(len(review["reviewText"].split()) == 36 and 1 <= review["overall"] <= 5 for review in reviews)


def test_an_exponent_is_that_between_the_two_largest_sizes():
    points = [{"items": n, "seconds": 2 * n**1.1} for n in (100, 10, 1000)]
    assert bench.exponent(points, "items", "seconds") == pytest.approx(1.1)


@pytest.mark.slow
def test_each_work_is_measured_shown_and_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure_in_fresh_process", measure)
    monkeypatch.setattr(bench, "STEPS", {"sasrec": 1, "unisrec": 1})
    monkeypatch.setattr(bench, "FIXED", {"reviews": 1_500, "items": 50})
    monkeypatch.setattr(bench, "USERS", 20)
    numbers, drawing = tmp_path / "growth.csv", tmp_path / "growth.svg"
    bench.main(["--reviews", "1500", "3000", "--items", "--csv", str(numbers)])
    lines = [*csv.DictReader(numbers.open())]
    assert [line["work"] for line in lines] == 2 * [*bench.NAMES]
    assert all(float(line["seconds"]) > 0 for line in lines)
    shown = capsys.readouterr().out
    bench.main(["--show", str(numbers), "--svg", str(drawing)])
    table = capsys.readouterr().out
    assert table in shown
    assert all(f"| {work} |" in table for work in bench.NAMES)
    titles = [title.text for title in ElementTree.parse(drawing).iter() if title.tag.endswith("title")]
    assert titles == [*bench.NAMES]
