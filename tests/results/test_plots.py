"""The charts of a group: what each shows, in proportion and in words, and when there is nothing to show."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pandas as pd
import pytest

from llm4rec_cli.results.plots import _log as training_log
from llm4rec_cli.results.plots import (
    by_frequency,
    by_model,
    calibration,
    learning_curves,
    plots,
    quality_against_seconds,
)
from tests.results.finished_runs import PRINTED, group, metrics_json, rankings, run, write_run


def ranked(**means):
    """Runs of these models with these means, each within ± 0.02."""
    return [run(mean, model=m, intervals={"ndcg@10": [mean - 0.02, mean + 0.02]}) for m, mean in means.items()]


def marks(plot, class_):
    return [float(use.get("x")) for use in ET.fromstring(plot.svg).iter("use") if use.get("class") == class_]


def paths(plot, class_):
    return [path.get("d") for path in ET.fromstring(plot.svg).iter("path") if path.get("class") == class_]


def words(plot):
    return ET.fromstring(plot.svg).get("aria-label")


def keys(plot):
    return [key for _, key in plot.keys]


def ratings(folder, predictions, stars, **facts):
    """A finished run of a rating model with these predictions."""
    facts = {"model": "mf", "task": "rating", "protocol": "rating", "metrics": {"rmse": 1.0}} | facts
    metrics = metrics_json(intervals={"rmse": [0.9, 1.1]}, **facts)
    return write_run(folder, metrics, pd.DataFrame({"prediction": predictions, "rating": stars}))


def trained(folder, log, metric="ndcg@10", **facts):
    training = {"epochs": len(log), f"valid_{metric}": 0.0}
    folder.mkdir()
    entries = [{"step": i, "epoch": i, "loss": loss, "valid": valid} for i, (loss, valid) in enumerate(log, start=1)]
    (folder / "train_log.jsonl").write_text("\n".join(map(json.dumps, entries)))
    return run(folder=folder, intervals={"ndcg@10": [0.05, 0.15]}, training=training, **facts)


def test_models_are_sorted_by_value_and_marks_are_in_proportion_to_it():
    plot = by_model(group(*ranked(sasrec=0.1, unisrec=0.4, bpr_mf=0.2)))
    assert words(plot) == (
        "3 unisrec 0.4000 (0.3800 to 0.4200); 1 bpr_mf 0.2000 (0.1800 to 0.2200); 2 sasrec 0.1000 (0.0800 to 0.1200)"
    )
    best, second, worst = marks(plot, "c0")
    assert (best - worst) / (second - worst) == pytest.approx(3, abs=0.02)


def test_models_are_sorted_upwards_where_lower_is_better(tmp_path):
    runs = [ratings(tmp_path / m, [4], [4], model=m, metrics={"rmse": x}) for m, x in {"mf": 1.2, "mlp": 1.0}.items()]
    assert words(by_model(group(*runs))).startswith("2 mlp 1.0")


def test_the_strongest_floor_is_a_line_and_floors_are_grey():
    plot = by_model(group(*ranked(sasrec=0.1, popularity=0.2, random=0.01)))
    (line,) = paths(plot, "floor")
    assert float(line[1:].split()[0]) == max(marks(plot, "quiet"))
    assert len(marks(plot, "quiet")) == 2
    assert keys(plot) == ["strongest floor: popularity"]
    assert keys(by_model(group(*ranked(sasrec=0.1, unisrec=0.2)))) == []


def test_no_floor_is_drawn_for_rows_on_different_data():
    model, floor = ranked(sasrec=0.1, popularity=0.2)
    assert keys(by_model(group(replace(model, dataset_fingerprint="other"), floor))) == []


def test_results_on_fewer_examples_are_hollow_and_no_floor():
    few = run(0.9, model="popularity", n_examples=20, intervals={"ndcg@10": [0.8, 1.0]})
    many = group(few, *ranked(sasrec=0.1, random=0.05))
    plot = by_model(many)
    assert len(marks(plot, "partial quiet")) == 1
    assert keys(plot) == ["strongest floor: random", "on fewer examples, not comparable"]
    assert len(marks(quality_against_seconds(many), "partial c0")) == 1


def test_a_label_that_all_rows_share_is_not_repeated():
    runs = [run(0.1, model=m, overrides=["trainer.epochs=3"], intervals={"ndcg@10": [0, 1]}) for m in ("mf", "mlp")]
    assert "trainer" not in words(by_model(group(*runs)))


def test_published_numbers_of_the_user_are_drawn(tmp_path):
    own = tmp_path / "mine.csv"
    own.write_text(f"{PRINTED}mine,sasrec,,shop,sequential,,ndcg@10,0.3,fraction,leave_one_out,full,no,my lab,yes\n")
    one = group(*ranked(sasrec=0.1))
    assert by_model(one) is None
    plot = by_model(one, own)
    assert len(marks(plot, "c1")) == 1
    assert "sasrec, mine for row 1: 0.3000" in words(plot)
    assert keys(plot) == ["a published number"]


def test_time_is_logarithmic_and_labels_that_would_overlap_share_one():
    seconds = {"bpr_mf": 1.0, "mf": 10.0, "mlp": 100.0, "sasrec": 101.0}
    runs = [run(model=m, seconds={"train": s}, intervals={"ndcg@10": [0, 1]}) for m, s in seconds.items()]
    plot = quality_against_seconds(group(*runs))
    first, second, third, _ = sorted(marks(plot, "c0"))
    assert third - second == pytest.approx(second - first, abs=0.2)
    assert {"1", "2", "3, 4"} <= {text.text for text in ET.fromstring(plot.svg).iter("text")}


def test_an_evaluation_has_the_time_of_its_training_where_that_is_known():
    models = {"bpr_mf": 100.0, "mf": None}
    of_evaluations = [
        run(model=m, trained_run="x", training_seconds=s, seconds={"evaluate": 1.0}, intervals={"ndcg@10": [0, 1]})
        for m, s in models.items()
    ]
    trained = run(model="sasrec", seconds={"train": 10.0}, intervals={"ndcg@10": [0, 1]})
    plot = quality_against_seconds(group(*of_evaluations, trained))
    assert "bpr_mf: 0.1000 in 101 s" in words(plot) and "mf: 0.1000 in 1" not in words(plot).replace("bpr_mf", "")
    assert len(marks(plot, "c0")) == 2


def test_frequency_groups_are_in_order_and_averaged_over_seeds(tmp_path):
    runs = []
    for seed, late in enumerate((0.3, 0.5)):
        counts = {"20+": {"n": 9, "ndcg@10": late}, "0": {"n": 5, "ndcg@10": 0.1}}
        facts = metrics_json(seed=seed, intervals={"ndcg@10": [0, 1]}, breakdown={"target_train_count": counts})
        runs.append(write_run(tmp_path / str(seed), facts, rankings([0, 5, 20, 70])))
    plot = by_frequency(group(*runs))
    assert words(plot) == "1 sasrec: 0.4000 at 20+, 0.1000 at 0"
    late, early = marks(plot, "c0")
    assert early < late


def test_the_strongest_floor_is_among_the_lines_even_if_many_models_are_better():
    counts = {"target_train_count": {"0": {"n": 9, "ndcg@10": 0.3}, "1-4": {"n": 9, "ndcg@10": 0.3}}}
    facts = {"intervals": {"ndcg@10": [0, 1]}, "breakdown": counts}
    models = [run(0.2 + i / 100, overrides=[f"model.layers={i}"], variant=str(i), **facts) for i in range(9)]
    plot = by_frequency(group(*models, run(0.1, model="popularity", **facts)))
    assert len(keys(plot)) == 8
    assert keys(plot)[-1] == "10 popularity"
    assert plot.caption.endswith("; 8 of 10 variants")


def test_learning_curves_show_errors_as_positive_and_mark_the_best_epoch(tmp_path):
    log = [(3.0, -1.5), (2.0, -1.0), (1.0, -1.2)]
    plot = learning_curves(group(trained(tmp_path / "a", log, metric="rmse")))
    assert words(plot) == "1 sasrec: loss 3 to 1 in 3 epochs, best validation 1.0000 in epoch 2"
    assert "validation rmse (lower is better)" in plot.svg
    loss, valid = paths(plot, "line c0")
    assert loss.count("L") == valid.count("L") == 2
    xs, ys = zip(*(map(float, point.split()) for point in valid[1:].split("L")), strict=True)
    assert ys[1] == max(ys)  # the least error is lowest
    assert marks(plot, "c0") == [xs[1], xs[1]]


def test_curves_need_no_interval(tmp_path):
    run = trained(tmp_path / "a", [(3.0, -1.0), (2.0, -0.5)], metric="loss")
    (plot,) = plots(group(replace(run, intervals={})))
    assert "validation loss (lower is better)" in plot.svg


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
    assert words(plot).endswith("1 mf: 1.50 where 2.50, 4.00 where 4.50")


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
