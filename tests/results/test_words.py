"""Runs as rows: protocols and variants in words."""

import pytest

from llm4rec_cli.config.walk import plain
from llm4rec_cli.evaluation.metrics import table_metrics
from llm4rec_cli.results.words import (
    cold_table,
    count_in_words,
    default_metrics,
    headline_metric,
    results_table,
    shown_as,
    unconverged_after,
    variant_in_words,
)
from tests.results.finished_runs import metrics_json, run, write_run
from tests.support.driver import job_of


def test_a_variant_is_named_by_experiment_and_overrides_of_model_and_control():
    overrides = ["seed=1", "model.layers=1", "dataset.control=shuffle_text", "device=cpu"]
    named = run(experiment="unisrec/paper", overrides=overrides)
    assert variant_in_words(named) == ["unisrec/paper", "model.layers=1", "dataset.control=shuffle_text"]
    assert variant_in_words(run(overrides=["model=sasrec", "seed=0"])) == []
    evaluated = ["task.mask_history=true", "trainer.scoring=bf16"]  # other columns show the first
    assert variant_in_words(run(overrides=evaluated)) == ["trainer.scoring=bf16"]


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("dataset.item_core=3", True),  # other data
        ("~dataset.domains.shop", True),
        ("prompt/p5@model.prompts=[rating]", True),
        ("model.beams=20", True),  # a question to one model only, which no column shows
        ("model.gone=1", True),  # no longer a setting
        ("dataset=demo_news", False),
        ("task.mask_history=true", False),
        ("task.stored_items=100", False),
        ("trainer.eval_batch_size=8", False),
        ("hydra/launcher=joblib", False),
    ],
)
def test_overrides_that_move_numbers_unseen_in_other_columns_name_a_variant(typed, named):
    assert bool(variant_in_words(run(model="p5", overrides=[typed]))) == named


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


def test_impressions_have_metrics_of_their_own_and_are_counted_as_such():
    assert default_metrics("impression") == ("auc", "mrr", "ndcg@5", "ndcg@10")
    assert default_metrics("full") == default_metrics("rating") == table_metrics("full")
    assert count_in_words(run(protocol="impression"), 1000) == "1,000 impressions"
    assert [headline_metric(name, ["auc", "ndcg@10"]) for name in ("impression", "full")] == ["auc", "ndcg@10"]


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


def test_a_name_is_that_of_the_settings_and_not_of_the_version_that_made_the_run(tmp_path):
    config = plain(job_of("model=sasrec", "model.tokens=true", "dataset.text=enriched").config)
    result = write_run(tmp_path, metrics_json(), config={"model": config["model"]})
    assert (result.shown_as, shown_as(result)) == ("sasrec", "sasrec + tokens")
    older = write_run(tmp_path / "older", metrics_json(), config={"model": {"name": "sasrec"}})
    assert shown_as(older) == "sasrec"  # without its settings


@pytest.mark.parametrize(("keep", "best", "unconverged"), [("best", 5.0, 5), ("best", 4.0, None), ("last", 5.0, None)])
def test_a_training_whose_best_epoch_is_the_last_says_so(tmp_path, keep, best, unconverged):
    config = plain(job_of("model=sasrec", f"trainer.keep={keep}").config)
    training = {"epochs": 5.0, "best_epoch": best, "rows": 10}
    result = write_run(tmp_path / "sasrec", metrics_json(training=training), config=config)
    assert unconverged_after(result) == unconverged
    said = "sasrec: the best of 5 epochs is the last: try trainer.epochs=10"
    assert (said in results_table([result]).notes) == (unconverged is not None)
