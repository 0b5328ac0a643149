"""Which module asks a task's question: one of this package, or of an installed one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llm4rec_cli.config.questions import offered_module
from llm4rec_cli.config.schema import Config, Question, SplitName, TaskConfig
from llm4rec_cli.errors import UsageError
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.tasks.base import Evaluation, ranks_impressions

if TYPE_CHECKING:
    from llm4rec_cli.data.split import Split
    from llm4rec_cli.evaluation.metrics import Metric


class Task(Protocol):
    """What the module of a question defines; those in capitals only in an installed package.

    A module may also define `training_rows(split, config)`, which models find as `Context.rows`; `problems(config)`,
    which yields why a config does not fit the task; and `per_example(model, split, examples, config)`, the values of
    each metric that is a mean over examples, which a chat model's controls need.

    Attributes:
        METRICS: its metrics, the first of them first in tables.
        COLUMN: the column of the interactions that answers are compared with, which an example needs; or None.
        FACTS: columns of its predictions that belong to the example, with their name in words: two runs that are
            paired must agree in them.
    """

    METRICS: Sequence[Metric]
    COLUMN: str | None
    FACTS: Mapping[str, str]

    def examples(self, split: Split, split_name: SplitName, config: Config, cache: Path) -> Any:
        """Return the examples of one split, at most `task.max_examples`, with `dataset.control` applied."""
        ...

    def evaluate(self, model: Any, split: Split, examples: Any, config: Config) -> Evaluation:
        """Ask the model, and score its answers.

        Predictions have a column of each metric with an interval, with its value of each example, and those of FACTS.
        """
        ...

    def validation_score(self, model: Any, split: Split, examples: Any, config: Config) -> float:
        """Return the metric `task.selection` on these examples; higher is better."""
        ...


def protocol(task: TaskConfig) -> str:
    """Return how runs that may stand in one table are evaluated; of an installed package's question, the question."""
    return str(task_module(task).protocol(task)) if task.question in Question.__members__ else task.question


def problems_of_evaluation(task: TaskConfig, evaluation: Evaluation) -> Iterator[UsageError]:
    """Yield what the module of an installed package's question has left out of an evaluation."""
    if (module := offered_module(task.question)) is None:
        return
    for metric in module.METRICS:
        if metric.lower != (direction(metric.name) < 0):
            better = "higher" if metric.lower else "lower"
            problem = (
                f"task '{task.name}' has a metric '{metric.name}', which llm4rec has too: it is better when {better}"
            )
            yield UsageError(problem, f"give it another name in {module.__file__}")
    metrics = {metric.name for metric in module.METRICS if metric.for_all}
    means = {name for name in evaluation.intervals if "/" not in name}
    for lacking, what in (
        (metrics - evaluation.metrics.keys(), "metric"),
        ((means | module.FACTS.keys()) - {*evaluation.predictions.columns}, "column of the predictions"),
    ):
        if lacking:
            problem = f"the evaluation of task '{task.name}' has no {what} '{min(lacking)}'"
            yield UsageError(problem, f"evaluate of {module.__file__} must return it")


def task_module(task: TaskConfig) -> Any:
    """Return the task's module, a `Task`. A pre-training task is validated by ranking."""
    if module := offered_module(task.question):
        return module
    names = {Question.rate: "rating", Question.write: "text", Question.all: "loss"}
    name = "impressions" if ranks_impressions(task) else names.get(Question(task.question), "ranking")
    return importlib.import_module(f"{__package__}.{name}")
