"""Runs in words: models, variants and protocols."""

import pytest

from llm4rec_cli.config.walk import plain
from llm4rec_cli.evaluation.metrics import table_metrics
from llm4rec_cli.results.describe import count_in_words, headline_metric, shown_as, variant_in_words
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


def test_impressions_have_metrics_of_their_own_and_are_counted_as_such():
    assert table_metrics("impression") == ("auc", "mrr", "ndcg@5", "ndcg@10")
    assert table_metrics("full") == table_metrics("rating")
    assert count_in_words(run(protocol="impression"), 1000) == "1,000 impressions"
    assert [headline_metric(name, ["auc", "ndcg@10"]) for name in ("impression", "full")] == ["auc", "ndcg@10"]


def test_a_name_is_that_of_the_settings_and_not_of_the_version_that_made_the_run(tmp_path):
    config = plain(job_of("model=sasrec", "model.tokens=true", "dataset.text=enriched").config)
    result = write_run(tmp_path, metrics_json(), config={"model": config["model"]})
    assert (result.shown_as, shown_as(result)) == ("sasrec", "sasrec + tokens")
    older = write_run(tmp_path / "older", metrics_json(), config={"model": {"name": "sasrec"}})
    assert shown_as(older) == "sasrec"  # without its settings
