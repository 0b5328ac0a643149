"""Runs as rows: protocols and variants in words."""

import pytest

from llm4rec_cli.evaluation.metrics import table_metrics
from llm4rec_cli.reporting.runs import (
    cold_table,
    count_in_words,
    default_metrics,
    protocol_in_words,
    results_table,
    spare_metrics,
    variant_in_words,
)
from tests.reporting.finished_runs import metrics_json


def test_full_ranking_says_whether_the_history_is_masked():
    run = {"split": "test", "split_rule": "leave_one_out", "protocol": "full", "mask_history": False}
    descriptions = {
        protocol_in_words(run),
        protocol_in_words(run | {"mask_history": True}),
        protocol_in_words(run | {"split": "valid"}),
        protocol_in_words(run | {"split_rule": "temporal"}),
    }
    assert len(descriptions) == 4


def test_protocols_differ_in_words():
    protocols = ("full", "uniform-100", "popularity-100")
    run = {"split": "test", "split_rule": "leave_one_out", "mask_history": False}
    assert len({protocol_in_words(run | {"protocol": p}) for p in protocols}) == 3


def test_a_variant_is_named_by_experiment_and_overrides_of_model_and_control():
    overrides = ["seed=1", "model.layers=1", "dataset.control=shuffle_text", "device=cpu"]
    run = metrics_json(experiment="unisrec/paper", overrides=overrides)
    assert variant_in_words(run) == ["unisrec/paper", "model.layers=1", "dataset.control=shuffle_text"]


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("dataset.item_core=3", True),  # other data
        ("dataset.seed=2", True),
        ("~dataset.domains.shop", True),
        ("trainer=small", True),
        ("llm.temperature=1", True),
        ("prompt/p5@model.prompts=[rating]", True),
        ("model.beams=20", True),  # a question to one model only, which no column shows
        ("task.max_examples=20", True),
        ("model.gone=1", True),  # no longer a setting
        ("dataset=demo_news", False),
        ("dataset.raw_dir=raw", False),
        ("task.mask_history=true", False),
        ("task.stored_items=100", False),
        ("trainer.eval_batch_size=8", False),
        ("llm.timeout=3", False),
        ("hydra/launcher=joblib", False),
    ],
)
def test_overrides_that_move_numbers_unseen_in_other_columns_name_a_variant(typed, named):
    assert bool(variant_in_words(metrics_json(model="p5", overrides=[typed]))) == named


def test_a_default_run_has_no_variant_to_name():
    assert variant_in_words(metrics_json(overrides=["model=sasrec", "seed=0"])) == []


def cold_run(model, cold, warm):
    def means(n, value):
        return {"n": n, "hr@10": value, "ndcg@10": value / 2, "mrr": value / 4}

    groups = {"cold": means(20, cold), "warm": means(1500, warm)}
    breakdown = {"target_is_cold": groups, "chance": {group: means(1, 0.01) for group in groups}}
    return metrics_json(model=model, breakdown=breakdown)


def test_cold_and_warm_targets_have_columns_and_chance_a_row():
    shown = cold_table([cold_run("popularity", 0.0, 0.1), cold_run("unisrec", 0.2, 0.3)])
    assert list(shown.columns) == [*("model", "cold hr@10", "cold ndcg@10", "warm hr@10", "warm ndcg@10")]
    assert list(map(tuple, shown.rows)) == [
        ("popularity", "0.0000", "0.0000", "0.1000", "0.0500"),
        ("unisrec", "0.2000", "0.1000", "0.3000", "0.1500"),
        ("chance", "0.0100", "0.0050", "0.0100", "0.0050"),
    ]
    assert shown.notes == ["20 cold and 1,500 warm"]


def test_a_group_without_targets_has_no_columns():
    run = cold_run("unisrec", 0.2, 0.3)
    del run["breakdown"]["target_is_cold"]["warm"], run["breakdown"]["chance"]["warm"]
    assert list(cold_table([run]).columns) == ["model", "cold hr@10", "cold ndcg@10"]


def test_with_other_cutoffs_the_table_of_cold_targets_shows_mrr():
    run = cold_run("unisrec", 0.2, 0.3)
    for group in [*run["breakdown"]["target_is_cold"].values(), *run["breakdown"]["chance"].values()]:
        del group["hr@10"], group["ndcg@10"]
    assert list(cold_table([run]).columns) == ["model", "cold mrr", "warm mrr"]


def test_impressions_have_metrics_of_their_own_and_are_counted_as_such():
    assert default_metrics("impression") == ("auc", "mrr", "ndcg@5", "ndcg@10")
    assert default_metrics("full") == default_metrics("rating") == table_metrics(of_impressions=False)
    assert count_in_words({"protocol": "impression"}, 1000) == "1,000 impressions"


@pytest.mark.parametrize(
    ("protocol", "shown"),
    [("impression", ["model", "auc", "mrr", "ndcg@5", "ndcg@10"]), ("full", ["model", "ndcg@10", "mrr"])],
)
def test_a_training_ends_with_its_protocols_metrics(protocol, shown):
    metrics = {"ndcg@10": 0.4, "ndcg@5": 0.3, "auc": 0.6, "mrr": 0.3}
    table = results_table([metrics_json(protocol=protocol, metrics=metrics)])
    assert list(table.columns) == shown


def test_a_label_of_all_rows_is_noted_once():
    runs = [
        metrics_json(model="popularity", labels=["subset", "synthetic"]),
        metrics_json(model="unisrec", labels=["synthetic", "subset", "floor-not-beaten"]),
    ]
    assert results_table(runs).notes == [
        "100 users",
        "all rows: subset",
        "unisrec: floor-not-beaten",
        "synthetic data: these numbers settle no claim",
    ]


def test_a_narrow_table_keeps_the_headline_metric_and_those_of_its_cutoff_longest():
    assert spare_metrics(["hr@1", "hr@10", "ndcg@10", "hr@50", "mrr"], "ndcg@10") == ["mrr", "hr@50", "hr@1", "hr@10"]
