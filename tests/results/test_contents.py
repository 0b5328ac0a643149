"""The tables of a report: variants in rows, comparisons with the papers, labels and deviations."""

import statistics
from dataclasses import replace

import pytest

from llm4rec_cli.results.contents import (
    costs,
    flat_papers,
    flat_results,
    mean_and_deviation,
    numbers,
    paper_comparisons,
    related_work,
    results,
    slices,
)
from llm4rec_cli.results.variants import groups, variants
from tests.results.finished_runs import group, metrics_json, rankings, run, started_from, write_run

SCIENTIFIC = {"dataset": "amazon2018-scientific", "metrics": {"hr@10": 0.105}, "intervals": {"hr@10": [0.10, 0.11]}}


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


def test_a_row_has_the_first_metrics_interval_labels_and_deviations_by_number():
    a = run(intervals={"ndcg@10": [0.05, 0.15]}, labels=["subset"], deviations=["one", "two", "three"])
    shown = results(group(a, run(model="unisrec", deviations=["two", "four"])))
    first, second = rows(shown)
    assert first["ndcg@10 95 %"] == "0.0500–0.1500"
    assert (first["labels"], first["dev."]) == ("subset", "1–3")
    assert second["dev."] == "2 4"
    assert shown.notes[-1] == "dev. 4: four"


def test_floors_and_then_controls_come_last_and_are_marked():
    runs = [
        run(0.1, model="popularity", variant="p"),
        run(0.2, model="sasrec", variant="c", labels=["control-shuffle_ties"]),
        run(0.3, model="sasrec", variant="s"),
    ]
    assert [row["model"] for row in rows(results(group(*runs)))] == ["sasrec", "popularity (floor)", "sasrec (control)"]


def test_a_row_says_what_the_search_for_its_settings_cost():
    search = {"trials": 8, "minutes": 31.4, "metric": "ndcg@10", "score": 0.1}
    tuned = run(model="unisrec", tuning=search)
    assert [row["tuning"] for row in rows(results(group(run(), tuned)))] == ["none stated", "8 trials, 31 min"]
    elsewhere = run(model="unisrec", tuning=search | {"dataset": "other", "expected_best": [0.1, 0.25]})
    (row,) = rows(results(group(elsewhere)))
    assert row["tuning"] == "8 trials, 31 min on other"
    expected = "unisrec: expected best ndcg@10 of n trials on validation, n = 1, 2, …: 0.1000 0.2500"
    assert expected in results(group(elsewhere)).notes
    assert "tuning" not in results(group(run())).columns


def test_labels_and_overrides_of_all_rows_are_noted_below_the_table():
    few = {"overrides": ["task.max_examples=20"], "labels": ["subset", "synthetic"]}
    other = {"overrides": ["model.layers=1", "task.max_examples=20"], "labels": ["subset", "leaky", "synthetic"]}
    shown = results(group(run(**few), run(model="unisrec", **other)))
    assert [row["variant"] for row in rows(shown)] == ["", "model.layers=1"]
    assert [row["labels"] for row in rows(shown)] == ["", "leaky"]
    assert shown.notes[1:] == ["all rows: task.max_examples=20 subset", "synthetic data: these numbers settle no claim"]


def test_the_initial_run_and_a_value_of_several_words_are_shown_in_full():
    mine, yours = ({"overrides": [f"llm.model='{owner} big llm'"]} for owner in ("my", "your"))
    changes = {"a": [], "b": ["~dataset.domains.food"]}
    initial = [{"init_from": started_from(name, overrides=typed)} for name, typed in changes.items()]
    shown = results(group(run(**mine | initial[0]), run(model="unisrec", **yours | initial[1])))
    assert [row["variant"] for row in rows(shown)] == [
        "from a llm.model='my big llm'",
        "from b ~dataset.domains.food llm.model='your big llm'",
    ]


def test_empty_columns_are_left_out_and_the_labels_of_a_single_row_are_in_it():
    assert results(group(run())).columns == ["model", "n", "ndcg@10"]
    (row,) = rows(results(group(run(labels=["subset"]))))
    assert row["labels"] == "subset"


@pytest.mark.parametrize(("deviations", "cell"), [("abde", "1–2 4–5"), ("ace", "1 3 5"), ("", ""), ("b", "2")])
def test_consecutive_numbers_are_shown_as_a_range(deviations, cell):
    (variant,) = variants([run(deviations=list(deviations))])
    assert numbers(variant, list("abcde")) == cell


def test_different_data_of_one_name_are_marked_and_noted():
    shown = results(group(run(dataset_fingerprint="1234567890"), run(0.2, dataset_fingerprint="abcdefghijk")))
    assert [row["data"] for row in rows(shown)] == ["12345678", "abcdefgh"]
    assert any("compare only equal ones" in note for note in shown.notes)


def test_the_number_of_examples_and_synthetic_data_are_noted():
    notes = results(group(run(n_examples=1995, labels=["synthetic"]), run(model="p5", n_examples=100))).notes
    assert notes[0].startswith("100 to 1,995 users; ")
    assert "synthetic data: these numbers settle no claim" in notes


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


def test_a_variant_not_compared_with_a_paper_has_a_reason_and_no_row():
    content = paper_comparisons(group(run(**SCIENTIFIC, labels=["control-shuffle_history", "leaky"])))
    assert content.rows == []
    assert content.notes == ["sasrec is not compared with a paper: control-shuffle_history"]


def test_related_work_is_listed_best_first_and_never_for_synthetic_data():
    content = related_work(group(run(**SCIENTIFIC)))
    assert {row["of"].split(",")[0].split(" (")[0] for row in rows(content)} == {"VQ-Rec", "MISSRec"}
    values = [float(row["value"]) for row in rows(content)]
    assert values == sorted(values, reverse=True)
    assert related_work(group(run(**SCIENTIFIC, labels=["synthetic"]))) is None
    assert related_work(group(run())) is None


def test_flat_results_hold_all_groups_with_both_ends_of_intervals():
    tables = groups(variants([run(intervals={"ndcg@10": [0.05, 0.15]}, deviations=["a", "b"]), run(task="direct")]))
    direct, sequential = rows(flat_results(tables))
    assert (sequential["ndcg@10 low"], sequential["ndcg@10 high"]) == ("0.050000", "0.150000")
    assert (direct["ndcg@10 low"], direct["task"]) == ("", "direct")
    assert sequential["deviations"] == "a | b"
    assert sequential["dataset_fingerprint"] == "f"


def test_flat_results_leave_metrics_that_a_group_does_not_show_empty():
    metrics = {"auc": 0.6, "ndcg@10": 0.4}
    tables = groups(variants([run(metrics=metrics, protocol="impression", task="direct"), run(metrics=metrics)]))
    assert [row["auc"] for row in rows(flat_results(tables))] == ["0.6000", ""]


def test_flat_papers_name_dataset_task_and_protocol():
    (row,) = rows(flat_papers([group(run(**SCIENTIFIC, deviations=["one pass"]))]))
    assert (row["dataset"], row["task"]) == ("amazon2018-scientific", "sequential")
    assert row["protocol"] == "test · full ranking · history not masked"
    assert row["deviations"] == "one pass"


def test_a_table_of_costs_has_minutes_memory_and_size():
    size = {"n_parameters": 3000, "n_trainable": 1000}
    trained = [
        run(seed=s, peak_rss_mb=900 + s, seconds={"train": 60.0 * (s + 1), "evaluate": 6.0}, **size) for s in (0, 1)
    ]
    masked = run(mask_history=True, trained_run="r", peak_rss_mb=500, seconds={"evaluate": 12.0}, **size)
    (row,) = rows(costs(group(*trained)))
    assert row["training, min"] == "1.5" and row["evaluation, min"] == "0.1"
    assert (row["MiB"], row["parameters"], row["trained"]) == ("901", "3,000", "1,000")
    (unknown,) = rows(costs(group(masked)))
    assert unknown["training, min"] == "" and unknown["evaluation, min"] == "0.2"
    (known,) = rows(costs(group(replace(masked, training_seconds=90.0))))
    assert known["training, min"] == "1.5"


def test_costs_have_those_of_a_chat_models_answers():
    usage = dict.fromkeys(("requests", "prompt_tokens", "answer_tokens", "seconds"), 1000) | {"cost": 0.5}
    asked = run(model="chatgptrec", llm=usage, n_examples=10)
    content = costs(group(run(model="popularity"), asked))
    columns = ("prompt tokens", "seconds a user", "cost")
    by_model = {row["model"]: row for row in rows(content)}
    assert [by_model["popularity"][name] for name in columns] == ["", "", ""]
    assert [by_model["chatgptrec"][name] for name in columns] == ["1,000", "100.0", "0.5000"]
    assert "cost" not in costs(group(run(model="popularity"))).columns


def test_a_table_of_slices_has_a_row_per_variant_averaged_over_seeds(tmp_path):
    def seed(number, same_day):
        means = {name: {"n": 2, "ndcg@10": same_day} for name in ("same_day", "ascending_id")}
        own = {"intervals": {"ndcg@10": [0.1, 0.3]}, "labels": ["leaky", "synthetic"]}
        facts = metrics_json(0.2, seed=number, breakdown={"slice": means}, **own)
        return write_run(tmp_path / str(number), facts, rankings([0, 5, 20, 70]))

    shown = slices(group(seed(0, 0.3), seed(1, 0.4), run(model="popularity")))
    (row,) = rows(shown)  # the other has no slices
    assert row == {"model": "sasrec", "variant": "", "all": "0.2000", "same_day": "0.3500", "labels": "leaky"}
    assert shown.notes == ["targets: 2 same_day", "synthetic data: these numbers settle no claim"]
    assert slices(group(run())) is None


def test_slices_without_an_interval_show_the_first_metric_that_they_have():
    def seed(number, ndcg):
        means = {"same_day": {"n": 2, "hr@10": 0.5, "ndcg@10": ndcg}}
        metrics = {"mrr": 0.1, "hr@10": 0.4, "ndcg@10": 0.2}
        return run(seed=number, metrics=metrics, intervals={}, breakdown={"slice": means})

    shown = slices(group(seed(0, 0.3), seed(1, 0.4)))
    assert rows(shown) == [{"model": "sasrec", "variant": "", "all": "0.4000", "same_day": "0.5000"}]
    assert "hr@10 on slices" in shown.title
