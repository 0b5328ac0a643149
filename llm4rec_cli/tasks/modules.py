"""Which module of this package asks a task's question.

Each offers `examples`, `evaluate`, `validation_score` and `protocol`, with the same arguments, and those that a chat
model answers also `per_example`.
"""

from __future__ import annotations

import importlib
from typing import Any

from llm4rec_cli.config.schema import Question, TaskConfig
from llm4rec_cli.tasks.base import ranks_impressions


def task_module(task: TaskConfig) -> Any:
    """Return the task's module. A pre-training task is validated by ranking."""
    names = {Question.rate: "rating", Question.write: "text", Question.like: "like", Question.all: "loss"}
    name = "impressions" if ranks_impressions(task) else names.get(task.question, "ranking")
    return importlib.import_module(f"{__package__}.{name}")
