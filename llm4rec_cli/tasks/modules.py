"""Which module asks a task's question: one of this package, or of an installed one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llm4rec_cli.config.questions import offered_module
from llm4rec_cli.config.schema import Config, Question, SplitName, TaskConfig
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
        """Ask the model, and score its answers."""
        ...

    def validation_score(self, model: Any, split: Split, examples: Any, config: Config) -> float:
        """Return the metric `task.selection` on these examples; higher is better."""
        ...

    def protocol(self, task: TaskConfig) -> str:
        """Return how runs that may stand in one table are evaluated; in an installed package, its question."""
        ...


def task_module(task: TaskConfig) -> Any:
    """Return the task's module, a `Task`. A pre-training task is validated by ranking."""
    if module := offered_module(task.question):
        return module
    names = {Question.rate: "rating", Question.write: "text", Question.all: "loss"}
    name = "impressions" if ranks_impressions(task) else names.get(Question(task.question), "ranking")
    return importlib.import_module(f"{__package__}.{name}")
