from types import SimpleNamespace

import bench_p5_inference as bench
import pytest

from llm4rec_cli.config.schema import Question, SplitName, Written
from tests.models.p5_data import shop

EXAMPLES = shop().examples(SplitName.test)


class Answers:
    """Takes down which users were answered by which method."""

    def __init__(self):
        self.users = {}

    def score(self, examples):
        self.users.setdefault("score", []).extend(examples.user.tolist())

    def rate(self, examples):
        self.users.setdefault("rate", []).extend(examples.user.tolist())

    def write(self, examples, written):
        self.users.setdefault(written.name, []).extend(examples.user.tolist())


@pytest.mark.parametrize(
    ("question", "method"), [(Question.rank, "score"), (Question.rate, "rate"), (Question.write, "explanation")]
)
def test_every_example_is_answered_once_by_the_method_of_its_task(question, method):
    task = SimpleNamespace(question=question, written=Written.explanation)
    model = Answers()
    assert bench.answer(model, SimpleNamespace(task=task), EXAMPLES, 4) == len(EXAMPLES)  # 25: the last batch is short
    assert model.users == {method: EXAMPLES.user.tolist()}
