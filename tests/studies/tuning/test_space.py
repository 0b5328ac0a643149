"""Search spaces: what a file may say, and what is refused."""

import pytest

from llm4rec_cli.errors import UsageError
from llm4rec_studies.tuning.space import Interval, Values, problems_of_space, read_space

SPACE = """
model.dropout: {values: [0.1, 0.5]}
trainer.learning_rate: {low: 1e-3, high: 0.1, log: true}
trainer.weight_decay: {low: 0, high: 1}
model.layers: {low: 1, high: 4}
"""


@pytest.fixture
def file(tmp_path):
    """file(text): a search space of sasrec."""

    def write(text):
        path = tmp_path / "sasrec.yaml"
        path.write_text(text)
        return path

    return write


def test_a_space_has_values_and_intervals(file):
    assert read_space(file(SPACE)) == {
        "model.dropout": Values((0.1, 0.5)),
        "trainer.learning_rate": Interval(0.001, 0.1, log=True),
        "trainer.weight_decay": Interval(0, 1),
        "model.layers": Interval(1, 4, whole=True),
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no settings"),
        ("- a", "has no settings"),
        ("a: [", "invalid YAML"),
        ("dataset.split: {values: [1, 2]}", "'dataset.split' cannot be searched"),
        ("seed: {values: [1, 2]}", "'seed' cannot be searched"),
        ("model.drop: {values: [1, 2]}", "'model.drop' cannot be searched"),
        ("model.dropout: 0.1", "neither values nor an interval"),
        ("model.dropout: {values: [0.1]}", "at least two"),
        ("model.dropout: {values: [0.1, 0.2], low: 1}", "at least two, without other keys"),
        ("model.layers: {low: 1.5, high: 3}", "whole numbers"),
        ("model.dropout: {low: 0.1}", "low and high must be numbers"),
        ("model.dropout: {low: 0.5, high: 0.1}", "low=0.5 must be below high=0.1"),
        ("model.dropout: {low: 0, high: 0.1, log: true}", "above 0 as log is set"),
        ("model.dropout: {low: 0.1, high: 0.5, log: 'false'}", "log must be true or false, and is 'false'"),
        ("model.dropout: {low: 0, high: 0.1, steps: 3}", "unknown key 'steps'"),
    ],
)
def test_what_is_no_space_is_refused(file, text, problem):
    with pytest.raises(UsageError, match="sasrec") as refused:
        read_space(file(text))
    assert problem in refused.value.problem
    assert [p.problem for p in problems_of_space(file(text))]
