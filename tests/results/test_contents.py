"""The tables of a report: variants in rows, comparisons with the papers, labels and deviations."""

import statistics

import pytest

from llm4rec_cli.results.contents import (
    mean_and_deviation,
    numbers,
    paper_comparisons,
    related_work,
    results,
)
from llm4rec_cli.results.variants import variants
from tests.results.finished_runs import group, run

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


def test_a_row_says_what_the_search_for_its_settings_cost():
    search = {"trials": 8, "minutes": 31.4, "metric": "ndcg@10", "score": 0.1}
    elsewhere = run(model="unisrec", tuning=search | {"dataset": "other", "expected_best": [0.1, 0.25]})
    shown = results(group(run(), elsewhere))
    assert [row["tuning"] for row in rows(shown)] == ["none stated", "8 trials, 31 min on other"]
    expected = "unisrec: expected best ndcg@10 of n trials on validation, n = 1, 2, …: 0.1000 0.2500"
    assert expected in shown.notes


@pytest.mark.parametrize(("deviations", "cell"), [("abde", "1–2 4–5"), ("ace", "1 3 5"), ("", ""), ("b", "2")])
def test_consecutive_numbers_are_shown_as_a_range(deviations, cell):
    (variant,) = variants([run(deviations=list(deviations))])
    assert numbers(variant, list("abcde")) == cell


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
