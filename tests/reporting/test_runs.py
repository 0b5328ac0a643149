"""Runs as rows: means, deviations, protocols and variants in words."""

import statistics

import pytest

from llm4rec_cli.reporting.runs import mean_and_deviation, protocol_in_words, variant_in_words


def test_the_deviation_is_that_of_a_sample():
    values = [0.1, 0.2, 0.4]
    assert mean_and_deviation(values) == f"{sum(values) / 3:.4f} ± {statistics.stdev(values):.4f}"


@pytest.mark.parametrize(("values", "said"), [([0.5], "0.5000"), ([], ""), ([None], ""), ([0.1, None], "")])
def test_one_value_has_no_deviation_and_a_missing_one_no_mean(values, said):
    assert mean_and_deviation(values) == said


def test_full_ranking_says_whether_the_history_is_masked():
    run = {"split": "test", "split_rule": "leave_one_out", "protocol": "full", "mask_history": False}
    said = {
        protocol_in_words(run),
        protocol_in_words(run | {"mask_history": True}),
        protocol_in_words(run | {"split": "valid"}),
        protocol_in_words(run | {"split_rule": "temporal"}),
    }
    assert len(said) == 4


def test_protocols_differ_in_words():
    protocols = ("full", "uniform-100", "popularity-100")
    run = {"split": "test", "split_rule": "leave_one_out", "mask_history": False}
    assert len({protocol_in_words(run | {"protocol": p}) for p in protocols}) == 3


def test_a_variant_is_named_by_experiment_and_by_what_was_typed_of_the_model():
    run = {
        "experiment": "unisrec/paper",
        "overrides": ["seed=1", "model.layers=1", "dataset.control=shuffle_text", "device=cpu"],
    }
    words = variant_in_words(run)
    assert all(part in words for part in ("unisrec/paper", "model.layers=1", "dataset.control=shuffle_text"))
    assert "seed" not in words
    assert "device" not in words


def test_a_default_run_has_no_variant_to_name():
    assert variant_in_words({"experiment": None, "overrides": ["model=sasrec", "seed=0"]}) == ""
