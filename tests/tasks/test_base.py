"""What all tasks share: eligible examples, subsets, and answers in batches."""

import numpy as np
import pytest

from llm4rec_cli.config.schema import Candidates, Question, SplitName, TaskConfig, Written
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.errors import DataError, raise_first
from llm4rec_cli.tasks import base, impressions, ranking, rating, text
from llm4rec_cli.tasks.modules import task_module

RATE = TaskConfig("rating", Question.rate)
EXPLAIN = TaskConfig("explanation", Question.write, written=Written.explanation)
SUMMARISE = TaskConfig("review_summary", Question.write, written=Written.review_title)
EXAMPLES = leave_one_out(tiny_dataset([[0, 1, 2, 3]] * 20)).examples(SplitName.test)


@pytest.mark.parametrize(
    ("question", "module"), [("rank", ranking), ("pretrain", ranking), ("rate", rating), ("write", text)]
)
def test_a_question_has_a_module(question, module):
    assert task_module(TaskConfig("any", Question[question])) is module


def test_the_impression_task_has_its_own_module_and_metrics():
    task = TaskConfig("direct", Question.rank, Candidates.impression, cutoffs=[5, 10])
    assert task_module(task) is impressions
    assert base.metric_names(task) == {"auc", "mrr", "ndcg@5", "ndcg@10"}


@pytest.mark.parametrize("module", [impressions, ranking, rating, text])
def test_modules_offer_the_same(module):
    assert all(callable(getattr(module, name)) for name in ("examples", "evaluate", "validation_score", "protocol"))


def test_metrics_to_select_by():
    assert base.metric_names(TaskConfig("any", Question.rank, cutoffs=[1, 5])) == {
        *("hr@1", "recall@1", "hr@5", "recall@5", "ndcg@5", "mrr", "auc")
    }
    assert "rmse" in base.metric_names(RATE)
    assert {"bleu4", "rouge1", "distinct2"} <= base.metric_names(EXPLAIN)


@pytest.mark.parametrize(
    ("task", "columns", "missing"),
    [
        (RATE, {}, "rating"),
        (RATE, {"rating": [np.nan] * 4}, "rating"),
        (EXPLAIN, {"explanation": [" ", "", None, None]}, "explanation"),
        (SUMMARISE, {"review_text": ["so"] * 4}, "review_title"),
        (SUMMARISE, {"review_title": ["so"] * 4}, "review_text"),
    ],
)
def test_data_without_a_needed_column_are_refused_naming_datasets_that_have_it(task, columns, missing):
    with pytest.raises(DataError, match=f"needs interactions with '{missing}', and dataset 'tiny'") as refused:
        raise_first(base.problems_with_dataset(task, tiny_dataset([[0, 1, 2, 3]], **columns)))
    assert "demo" in refused.value.remedy


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        (TaskConfig("sequential", Question.rank), {}),
        (RATE, {"rating": [np.nan, 3.0, np.nan, np.nan]}),
        (EXPLAIN, {"explanation": [None, "soft", None, None]}),
        (SUMMARISE, {"review_title": ["so"] * 4, "review_text": ["so"] * 4}),
    ],
)
def test_data_with_some_values_in_the_column_are_accepted(task, columns):
    raise_first(base.problems_with_dataset(task, tiny_dataset([[0, 1, 2, 3]], **columns)))


def test_a_subset_is_drawn_by_seed_and_name_and_keeps_the_order():
    some = base.subset(EXAMPLES, 5, 0, "valid_examples")
    assert len(some) == 5
    assert (np.diff(some.row) > 0).all()
    assert np.array_equal(some.row, base.subset(EXAMPLES, 5, 0, "valid_examples").row)
    others = [base.subset(EXAMPLES, 5, 1, "valid_examples"), base.subset(EXAMPLES, 5, 0, "max_examples")]
    assert not any(np.array_equal(some.row, other.row) for other in others)
    assert all(len(base.subset(EXAMPLES, n, 0, "any")) == 20 for n in (None, 20, 100))


@pytest.mark.parametrize("batch_size", [1, 3, 20, 100])
def test_answers_come_in_the_order_of_the_examples(batch_size):
    sizes = []

    def answer(batch):
        sizes.append(len(batch))
        return batch.row.tolist()

    answers = base.answer_in_batches(None, EXAMPLES, batch_size, answer, "answering")
    assert [row for batch in answers for row in batch] == EXAMPLES.row.tolist()
    assert max(sizes) == min(batch_size, 20)


def test_several_processes_answer_a_share_each(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(base.processes, "gathered", lambda value: [value])
    shares = []
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(base.answer_in_batches(None, EXAMPLES, 3, lambda batch: batch.row.tolist(), "answering"))
    assert [row for share in shares for batch in share for row in batch] == EXAMPLES.row.tolist()
