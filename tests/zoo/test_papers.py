"""Runs of the zoo beside what papers print."""

from llm4rec_cli.results.papers import comparisons
from llm4rec_cli.results.variants import Variant
from tests.results.finished_runs import metrics_json, write_run


def tuned(folder, dataset, shots=None, **method):
    """A run of tuned_lm on the task like, learned from this many rows."""
    facts = {"method": "tuned_lm", "answer": "yes_no", "tuned": "LoRA 8", "loss": "answers", "weights": "smollm2"}
    like = {"task": "like", "protocol": "like", "split_rule": "given", "metrics": {"auc": 0.7, "uauc": 0.6}}
    metrics = metrics_json(**like, dataset=dataset, model="tuned_lm", paper_method=facts | method)
    return Variant([write_run(folder / f"{shots}", metrics, config={"task": {"shots": shots}})])


def test_a_tuned_language_model_joins_tallrec_by_its_number_of_labelled_rows(tmp_path):
    compared = comparisons(tuned(tmp_path, "tallrec-movie", 64))
    assert [(c.printed.value, c.printed.verified) for c in compared] == [(0.6748, True)]
    differences = ["weights: ours smollm2, the paper's llama-7b", "loss: ours answers, the paper's all tokens"]
    assert compared[0].differences == differences
    assert comparisons(tuned(tmp_path, "tallrec-movie", 1024)) == []
    assert comparisons(tuned(tmp_path, "tallrec-movie", 64, answer="title")) == []
