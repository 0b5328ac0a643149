"""The tables of runs and of a report, the sentence below a run's, and the command to run next."""

import statistics
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from llm4rec_cli.config.walk import plain
from llm4rec_cli.results.describe import unconverged_after
from llm4rec_cli.results.report import (
    cold_table,
    compare_with_floor,
    mean_and_deviation,
    paper_comparisons,
    print_results,
    ranges,
    related_work,
    results,
    results_table,
)
from llm4rec_cli.results.variants import variants
from llm4rec_cli.run.next import next_command
from tests.results.finished_runs import group, metrics_json, rankings, run, write_run
from tests.support.driver import job_of

INTERVAL = {"ndcg@10": [0.0, 1.0]}
SCIENTIFIC = {"dataset": "amazon2018-scientific", "metrics": {"hr@10": 0.105}, "intervals": {"hr@10": [0.10, 0.11]}}


def ranked(tmp_path, model, hits, users=100, **facts):
    """A run whose first `hits` users have their target in first place, and the others none."""
    n_better = [0] * hits + [50] * (users - hits)
    metrics = metrics_json(hits / users, model=model, config_hash=model, intervals=INTERVAL, **facts)
    return write_run(
        tmp_path / model / "shop/sequential" / f"seed{metrics['seed']}-{model}", metrics, rankings(n_better)
    )


def rated(tmp_path, model, errors):
    """A run that predicts ratings with these errors."""
    rmse = float(np.sqrt(np.mean(np.square(errors))))
    facts = {"protocol": "rating", "metrics": {"rmse": rmse}, "intervals": {"rmse": [0.0, 2.0]}}
    users = [f"u{i}" for i in range(len(errors))]
    rows = pd.DataFrame({"user_id": users, "target": "i", "rating": 3.0, "prediction": 3.0 + np.array(errors)})
    return write_run(tmp_path / model, metrics_json(model=model, **facts), rows)


def test_the_interval_is_that_of_paired_differences(tmp_path):
    run, floor = ranked(tmp_path, "unisrec", 30), ranked(tmp_path, "popularity", 10)
    comparison = compare_with_floor(run, [floor])
    differences = np.array([0.0] * 10 + [1.0] * 20 + [0.0] * 70)
    low, high = stats.t.interval(0.95, 99, differences.mean(), stats.sem(differences))
    assert comparison.interval == pytest.approx((low, high))
    interval = f"(95 % CI {low:.4f} to {high:.4f}, over users)"
    said = f"unisrec is better than popularity, the strongest floor, by 0.2000 NDCG@10 {interval}."
    assert comparison.in_words() == said


def test_a_worse_run_and_one_that_cannot_be_told_from_the_floor(tmp_path):
    floor = ranked(tmp_path, "popularity", 30)
    worse = compare_with_floor(ranked(tmp_path, "unisrec", 10), [floor]).in_words()
    assert worse.startswith("unisrec is worse than popularity, the strongest floor, by 0.2000 NDCG@10 (95 % CI 0.")
    close = compare_with_floor(ranked(tmp_path, "unisrec", 31), [floor]).in_words()
    assert close.startswith("unisrec is not distinguishable from popularity, the strongest floor, on NDCG@10 (")
    assert "(0.0100 better, 95 % CI 0.0098 worse to 0.0298 better, over users)" in close


def test_the_strongest_of_several_floors_counts(tmp_path):
    floors = [ranked(tmp_path, model, hits) for model, hits in (("random", 1), ("popularity", 20), ("next_id", 5))]
    run = ranked(tmp_path, "unisrec", 30)
    assert compare_with_floor(run, floors).floor is floors[1]
    assert compare_with_floor(run, []) is None


def test_of_errors_the_lower_is_better_and_the_interval_is_that_of_rmse(tmp_path):
    ours, theirs = np.tile([0.5, -1.0, 0.2, 0.9], 25), np.tile([1.0, -1.2, 0.8, 0.9], 25)
    run, floors = (
        rated(tmp_path, "p5", ours),
        [rated(tmp_path, "mean", theirs), rated(tmp_path, "majority", theirs + 1)],
    )
    comparison = compare_with_floor(run, floors)
    assert comparison.floor is floors[0]
    roots = [np.sqrt(np.mean(np.square(errors))) for errors in (theirs, ours)]
    assert comparison.gain == pytest.approx(roots[0] - roots[1])
    # By the delta method: the derivative of a root is 1 / (2 root).
    parts = [np.square(errors) / (2 * root) for errors, root in zip((theirs, ours), roots, strict=True)]
    half = stats.t.ppf(0.975, 99) * stats.sem(parts[0] - parts[1])
    assert comparison.interval == pytest.approx((comparison.gain - half, comparison.gain + half))
    assert comparison.in_words().startswith("p5 is better than mean, the strongest floor, by 0.2")


def test_runs_on_other_examples_have_a_difference_without_an_interval(tmp_path):
    comparison = compare_with_floor(ranked(tmp_path, "unisrec", 30), [ranked(tmp_path, "popularity", 10, users=90)])
    assert comparison.interval is None
    assert comparison.in_words().startswith("unisrec is better than popularity, the strongest floor, by 0.18")
    assert "no interval: these runs are not paired" in comparison.in_words()


def test_of_fewer_than_four_users_there_is_no_interval(tmp_path, capsys):
    run, floor = ranked(tmp_path, "unisrec", 3, users=3), ranked(tmp_path, "popularity", 0, users=3)
    comparison = compare_with_floor(run, [floor])
    assert comparison.interval is None and not comparison.beaten
    assert (
        "by 1.0000 NDCG@10 (no interval: an interval over users needs at least 4 users, but these"
        in comparison.in_words()
    )
    print_results([replace(floor, n_examples=3), replace(run, n_examples=3)])
    assert "within" not in capsys.readouterr().out
    enough = compare_with_floor(ranked(tmp_path, "sasrec", 3, users=4), [ranked(tmp_path, "mean", 0, users=4)])
    assert enough.interval is not None


def next_of(tmp_path, seeds, *overrides, beaten=True, model="sasrec", **facts):
    """The next command after runs of a variant with these seeds."""
    run, *_ = [ranked(tmp_path, model, 30, seed=seed, **facts) for seed in seeds]
    comparison = compare_with_floor(run, [ranked(tmp_path, "popularity", 10 if beaten else 50)])
    return next_command(job_of(f"model={model}", *overrides), run, comparison)


def test_next_come_more_seeds_then_what_uses_them_and_a_control_of_a_gain_from_texts(tmp_path, monkeypatch):
    monkeypatch.setattr("llm4rec_cli.run.next.commands", lambda: {"compare", "inspect-result"})
    said = next_of(tmp_path, [1], "seed=1", "trainer.epochs=3", "force=true")
    assert said.endswith(": llm4rec train -m model=sasrec trainer.epochs=3 seed=0,1,2")
    said = next_of(tmp_path, [0, 1, 2])
    assert "llm4rec compare popularity/shop/sequential/seed0-popularity sasrec/shop/sequential/seed" in said
    assert said.endswith(f" --seeds --outputs {tmp_path}")
    assert "llm4rec inspect result sasrec" in next_of(tmp_path, [0, 1, 2], breakdown={"slice": {}})
    control = "llm4rec train model=frozen_text dataset.control=shuffle_text"
    assert next_of(tmp_path, [0], model="frozen_text").endswith(control)
    no_gain = next_of(tmp_path, [0], model="frozen_text", beaten=False)
    assert no_gain.endswith(f"llm4rec report dataset=demo task=sequential --outputs {tmp_path}")


def test_no_command_that_is_not_installed_comes_next(tmp_path, monkeypatch):
    monkeypatch.setattr("llm4rec_cli.run.next.commands", lambda: {"train", "report"})
    for facts in ({}, {"breakdown": {"slice": {}}}):
        assert next_of(tmp_path, [0, 1, 2], **facts).startswith("next, all results on this task: llm4rec report ")


def test_a_chat_model_of_which_nothing_could_be_read_is_compared_with_nothing(tmp_path, capsys):
    rows = rankings([50] * 3).assign(answer=["Sorry, I cannot\nhelp.", "", "no"], status="invalid")
    facts = {"n_examples": 3, "intervals": INTERVAL, "model": "chatgptrec"}
    metrics = metrics_json(0.0, **facts) | {"metrics": {"ndcg@10": 0.0, "answers/invalid": 1.0}}
    run = write_run(tmp_path / "chatgptrec/shop/sequential/seed0-c", metrics, rows)
    assert print_results([ranked(tmp_path, "popularity", 10), run]) is None
    said = " ".join(capsys.readouterr().out.split())
    assert "none of 3 answers could be read" in said
    assert "the first: 'Sorry, I cannot help.'" in said
    assert "popularity, the strongest floor" not in said


def test_few_users_or_one_difference_for_all_call_nothing_better(tmp_path):
    few = compare_with_floor(
        ranked(tmp_path, "unisrec", 9, users=10, n_examples=10),
        [ranked(tmp_path, "popularity", 0, users=10, n_examples=10)],
    )
    assert few.interval[0] > 0
    assert "not distinguishable from popularity" in few.in_words()
    assert "over users, of whom 10 are too few" in few.in_words()
    shifted = replace(few.run, n_examples=100), replace(few.floor, n_examples=100)
    same = replace(few, run=shifted[0], floor=shifted[1], gain=0.001, interval=(0.001, 0.001))
    assert "is not distinguishable from" in same.in_words(), "as of ties without a hit"


def test_a_training_that_probably_failed_is_not_compared(tmp_path):
    run, floor = ranked(tmp_path, "unisrec", 10, labels=["not-above-popularity"]), ranked(tmp_path, "popularity", 30)
    said = "unisrec is not compared with popularity: its training probably failed (not-above-popularity)."
    assert compare_with_floor(run, [floor]).in_words() == said
    job = job_of("model=unisrec", "dataset=demo", "trainer.epochs=1", "task.mask_history=true", "seed=1")
    command = "llm4rec tune model=unisrec dataset=demo task.mask_history=true"
    assert next_command(job, run, None) == f"next, settings with which it learns: {command}"


def cold_run(model, metrics=("hr@10", "ndcg@10", "mrr"), **hits):
    """Return a run with a hit rate of targets that are `cold`, `warm` or either."""

    def means(n, hit):
        values = {"hr@10": hit, "ndcg@10": hit / 2, "mrr": hit / 4}
        return {"n": n} | {name: values[name] for name in metrics}

    groups = {group: means({"cold": 20, "warm": 1500}[group], hit) for group, hit in hits.items()}
    breakdown = {"target_is_cold": groups, "chance": {group: means(1, 0.01) for group in groups}}
    return run(model=model, breakdown=breakdown)


def test_cold_and_warm_targets_have_columns_and_chance_a_row():
    shown = cold_table([cold_run("popularity", cold=0.0, warm=0.1), cold_run("unisrec", cold=0.2, warm=0.3)])
    assert list(shown.columns) == ["model", "cold hr@10", "cold ndcg@10", "warm hr@10", "warm ndcg@10"]
    assert list(map(tuple, shown.rows)) == [
        ("popularity", "0.0000", "0.0000", "0.1000", "0.0500"),
        ("unisrec", "0.2000", "0.1000", "0.3000", "0.1500"),
        ("chance", "0.0100", "0.0050", "0.0100", "0.0050"),
    ]
    assert shown.notes == ["20 cold and 1,500 warm"]


def test_a_group_without_targets_has_no_columns_and_other_cutoffs_show_mrr():
    assert list(cold_table([cold_run("unisrec", cold=0.2)]).columns) == ["model", "cold hr@10", "cold ndcg@10"]
    other = cold_run("unisrec", metrics=["mrr"], cold=0.2, warm=0.3)
    assert list(cold_table([other]).columns) == ["model", "cold mrr", "warm mrr"]


def test_a_label_of_all_rows_is_noted_once():
    runs = [
        run(model="popularity", labels=["subset", "synthetic"]),
        run(model="unisrec", labels=["synthetic", "subset", "floor-not-beaten"]),
    ]
    assert results_table(runs).notes == [
        "100 users",
        "all rows: subset",
        "unisrec: floor-not-beaten",
        "synthetic data: these numbers settle no claim",
    ]


@pytest.mark.parametrize(("keep", "best", "unconverged"), [("best", 5.0, 5), ("best", 4.0, None), ("last", 5.0, None)])
def test_a_training_whose_best_epoch_is_the_last_says_so(tmp_path, keep, best, unconverged):
    config = plain(job_of("model=sasrec", f"trainer.keep={keep}").config)
    training = {"epochs": 5.0, "best_epoch": best, "rows": 10}
    result = write_run(tmp_path / "sasrec", metrics_json(training=training), config=config)
    assert unconverged_after(result) == unconverged
    said = "sasrec: the best of 5 epochs is the last: try trainer.epochs=10"
    assert (said in results_table([result]).notes) == (unconverged is not None)


def over_seeds(values, model="sasrec"):
    """Return a variant with one run per value."""
    (variant,) = variants(run(value, model=model, seed=seed) for seed, value in enumerate(values))
    return variant


def rows(content):
    return [dict(zip(content.columns, row, strict=True)) for row in content.rows]


@pytest.mark.parametrize(
    ("model", "values", "cell"),
    [
        ("sasrec", [0.1, 0.2, 0.4], f"0.2333 ± {statistics.stdev([0.1, 0.2, 0.4]):.4f}"),  # of a sample
        ("sasrec", [0.5], "0.5000"),
        ("sasrec", [0.5, 0.5], "0.5000 ± 0.0000"),
        ("random", [0.5, 0.5], "0.5000 ± 0.0000"),
        ("popularity", [0.5, 0.5], "0.5000"),  # a rule without a seed
        ("popularity", [0.4, 0.6], "0.5000 ± 0.1414"),  # which its declaration rules out: it must be seen
    ],
)
def test_a_cell_has_the_mean_and_deviation_over_seeds(model, values, cell):
    assert mean_and_deviation(over_seeds(values, model), "ndcg@10") == cell
    assert mean_and_deviation(over_seeds(values, model), "rmse") == ""


def test_a_row_says_what_the_search_for_its_settings_cost():
    search = {"trials": 8, "minutes": 31.4, "metric": "ndcg@10", "score": 0.1}
    elsewhere = run(model="unisrec", tuning=search | {"dataset": "other", "expected_best": [0.1, 0.25]})
    shown = results(group(run(), elsewhere))
    assert [row["tuning"] for row in rows(shown)] == ["none stated", "8 trials, 31 min on other"]
    expected = "unisrec: expected best ndcg@10 of n trials on validation, n = 1, 2, …: 0.1000 0.2500"
    assert expected in shown.notes


@pytest.mark.parametrize(("numbers", "cell"), [([1, 2, 4, 5], "1–2 4–5"), ([1, 3, 5], "1 3 5"), ([], ""), ([2], "2")])
def test_consecutive_numbers_are_shown_as_a_range(numbers, cell):
    assert ranges(numbers) == cell


def test_different_data_of_one_name_are_marked_and_noted():
    shown = results(group(run(dataset_fingerprint="1234567890"), run(0.2, dataset_fingerprint="abcdefghijk")))
    assert [row["data"] for row in rows(shown)] == ["12345678", "abcdefgh"]
    assert any("compare only equal ones" in note for note in shown.notes)


def test_a_comparison_is_a_row_with_letters_for_differences():
    content = paper_comparisons(group(run(**SCIENTIFIC, labels=["subset"])))
    (row,) = rows(content)
    assert (row["ours"], row["n"], row["95 % interval"]) == ("0.1050", "1", "0.1000–0.1100")
    assert (row["paper"], row["inside"], row["differences"]) == ("0.1080", "", "a")
    assert (row["of"], row["source"]) == ("SASRec, UniSRec", "arXiv 2206.05941 Table 2")
    assert content.notes[1:] == ["a: examples: a sample is ours"]
    (row,) = rows(paper_comparisons(group(run(**SCIENTIFIC))))
    assert (row["inside"], row["differences"]) == ("yes", "")
    assert paper_comparisons(group(run())) is None, "no paper has the dataset"


def test_related_work_is_listed_best_first_and_never_for_synthetic_data():
    content = related_work(group(run(**SCIENTIFIC)))
    assert {row["of"].split(",")[0].split(" (")[0] for row in rows(content)} == {"VQ-Rec", "MISSRec"}
    values = [float(row["value"]) for row in rows(content)]
    assert values == sorted(values, reverse=True)
    assert related_work(group(run(**SCIENTIFIC, labels=["synthetic"]))) is None
    assert related_work(group(run())) is None
