"""The charts of a group: what each shows, in proportion and in words, and when there is nothing to show."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib import rc_context

from llm4rec_cli.results.plots import (
    STYLE,
    by_frequency,
    by_model,
    calibration,
    learning_curves,
    quality_against_seconds,
)
from llm4rec_cli.results.plots import _log as training_log
from tests.results.finished_runs import PRINTED, group, metrics_json, run, write_run


def ranked(**means):
    """Runs of these models with these means, each within ± 0.02."""
    return [run(mean, model=m, intervals={"ndcg@10": [mean - 0.02, mean + 0.02]}) for m, mean in means.items()]


SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def style():
    with rc_context(STYLE):
        yield


def marks(plot, colour):
    return [float(use.get("x")) for use in ET.fromstring(plot.svg).iter(f"{SVG}use") if colour in use.get("style")]


def lines(plot, colour):
    """The points of each line, of which a path has one per row."""
    paths = [path.get("d") for path in ET.fromstring(plot.svg).iter(f"{SVG}path") if colour in path.get("style")]
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", d)] for d in paths if "C" not in d]


def words(plot):
    return ET.fromstring(plot.svg).get("aria-label")


def texts(plot):
    return [text.text for text in ET.fromstring(plot.svg).iter(f"{SVG}text")]


def ratings(folder, predictions, stars, **facts):
    """A finished run of a rating model with these predictions."""
    facts = {"model": "p5", "task": "rating", "protocol": "rating", "metrics": {"rmse": 1.0}} | facts
    metrics = metrics_json(intervals={"rmse": [0.9, 1.1]}, **facts)
    return write_run(folder, metrics, pd.DataFrame({"prediction": predictions, "rating": stars}))


def trained(folder, log, metric="ndcg@10", **facts):
    training = {"epochs": len(log), f"valid_{metric}": 0.0}
    folder.mkdir()
    entries = [{"step": i, "epoch": i, "loss": loss, "valid": valid} for i, (loss, valid) in enumerate(log, start=1)]
    (folder / "train_log.jsonl").write_text("\n".join(map(json.dumps, entries)))
    return run(folder=folder, intervals={"ndcg@10": [0.05, 0.15]}, training=training, **facts)


def test_no_floor_is_drawn_for_rows_on_different_data():
    model, floor = ranked(sasrec=0.1, popularity=0.2)
    assert "strongest floor: popularity" in texts(by_model(group(model, floor)))
    assert "strongest floor: popularity" not in texts(
        by_model(group(replace(model, dataset_fingerprint="other"), floor))
    )


def test_published_numbers_of_the_user_are_drawn(tmp_path):
    own = tmp_path / "mine.csv"
    own.write_text(f"{PRINTED}mine,sasrec,,shop,sequential,,ndcg@10,0.3,fraction,leave_one_out,full,no,my lab,yes\n")
    one = group(*ranked(sasrec=0.1))
    assert by_model(one) is None
    plot = by_model(one, own)
    assert marks(plot, "--c1")
    assert "sasrec, mine for row 1: 0.3000" in words(plot)
    assert "a published number" in texts(plot)


def test_an_evaluation_has_the_time_of_its_training_where_that_is_known():
    models = {"prompt4nr": 100.0, "p5": None}
    of_evaluations = [
        run(model=m, trained_run="x", training_seconds=s, seconds={"evaluate": 1.0}, intervals={"ndcg@10": [0, 1]})
        for m, s in models.items()
    ]
    trained = run(model="sasrec", seconds={"train": 10.0}, intervals={"ndcg@10": [0, 1]})
    plot = quality_against_seconds(group(*of_evaluations, trained))
    assert "prompt4nr: 0.1000 in 101 s" in words(plot) and "p5: 0.1000 in 1" not in words(plot)
    assert len(marks(plot, "--c0")) == 2


def test_learning_curves_show_errors_as_positive_and_mark_the_best_epoch(tmp_path):
    log = [(3.0, -1.5), (2.0, -1.0), (1.0, -1.2)]
    plot = learning_curves(group(trained(tmp_path / "a", log, metric="rmse")))
    assert words(plot) == "1 sasrec: loss 3 to 1 in 3 epochs, best validation 1.0000 in epoch 2"
    assert "validation rmse (lower is better)" in plot.svg
    loss, valid, _ = lines(plot, "fill: none; stroke: var(--c0)")  # and the line of the legend
    assert len(loss) == len(valid) == 3
    x, y = valid[1]
    assert y == max(y for _, y in valid)  # the least error is lowest
    assert marks(plot, "--c0")[:2] == [x, x]


def test_a_damaged_training_log_is_named_and_its_curve_left_out(tmp_path, caplog):
    run = trained(tmp_path / "a", [(3.0, 0.1), (2.0, 0.2)])
    with (run.folder / "train_log.jsonl").open("a") as file:
        file.write('\n{"step"')
    assert learning_curves(group(run)) is None
    assert f"{run.folder / 'train_log.jsonl'} is damaged" in caplog.text


def test_calibration_has_the_means_of_bins_of_equal_size(tmp_path):
    low, high = [2.0] * 10 + [3.0] * 10, [4.0] * 10 + [5.0] * 10
    stars = [1] * 10 + [2] * 10 + [4] * 20
    plot = calibration(group(ratings(tmp_path / "a", low + high, stars)))
    assert words(plot).endswith("1 p5: 1.50 where 2.50, 4.00 where 4.50")


def test_of_too_little_there_is_no_chart(tmp_path):
    (only,) = ranked(sasrec=0.1)
    one_frequency = {"target_train_count": {"0": {"n": 9, "ndcg@10": 0.3}}}
    assert by_model(group(only)) is quality_against_seconds(group(only)) is calibration(group(only)) is None
    assert by_frequency(group(replace(only, breakdown=one_frequency))) is None
    assert learning_curves(group(trained(tmp_path / "one epoch", [(3.0, 0.1)]))) is None
    assert calibration(group(ratings(tmp_path / "equal ratings", [4.0] * 40, [3] * 40))) is None


def test_a_line_that_is_twice_in_a_training_log_is_one_epoch(tmp_path):
    (tmp_path / "log").write_text('{"epoch": 1.0, "loss": 2.0, "valid": 0.1}\n' * 2)
    assert [entry["epoch"] for entry in training_log(tmp_path / "log")] == [1.0]
    (tmp_path / "log").write_text("[]\n")
    assert training_log(tmp_path / "log") == []


def test_a_chart_is_the_same_each_time_and_has_the_colours_of_the_page():
    first, second = (by_model(group(*ranked(sasrec=0.1, popularity=0.05))) for _ in range(2))
    assert first == second
    assert "#" not in first.svg.replace('href="#', "")
    assert "metadata" not in first.svg
