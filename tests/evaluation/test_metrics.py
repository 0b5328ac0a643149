"""The table of metrics: one row each, and what is read off it."""

from llm4rec_cli.evaluation import metrics
from llm4rec_cli.evaluation.metrics import METRICS, Kind


def test_one_can_select_by_what_every_model_has():
    assert metrics.selectable(Kind.ranking, [1, 5]) == {"hr@1", "hr@5", "recall@1", "recall@5", "ndcg@5", "mrr", "auc"}
    assert metrics.selectable(Kind.impression, [5]) == {"auc", "mrr", "ndcg@5"}
    assert metrics.selectable(Kind.loss, []) == {"loss"}
    assert "feature_match" not in metrics.selectable(Kind.text, [])


def test_what_is_of_all_answers_together_pairs_as_a_mean_over_examples():
    known = {metric.name for metric in METRICS if metric.paired_as is None}
    assert {metric.paired_as for metric in METRICS if metric.paired_as} <= known
    assert (metrics.paired_metric("bleu4"), metrics.paired_metric("ndcg@10")) == ("rouge1", None)


def test_errors_and_faults_are_better_when_lower_also_over_valid_answers_alone():
    names = ["hr@10", "rmse", "valid/rmse", "valid/hr@10", "answers/invalid", "listed/hallucinated", "loss"]
    assert metrics.lower_is_better(names) == ["rmse", "valid/rmse", "answers/invalid", "listed/hallucinated", "loss"]
    assert metrics.lower_is_better(["clarity", "milliseconds"]) == ["milliseconds"]


def test_the_leading_metric_of_each_question():
    assert metrics.headline_metrics("full") == ["ndcg@10", "rmse", "rouge1"]
    assert metrics.headline_metrics("impression") == ["auc"]
