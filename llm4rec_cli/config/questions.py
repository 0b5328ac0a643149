"""The questions that tasks ask: ours, and those of installed packages: `plugins`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType

from llm4rec_cli.config.plugins import Offers, offers
from llm4rec_cli.config.schema import Question
from llm4rec_cli.errors import UsageError, did_you_mean

NEEDS = ("COLUMN", "FACTS", "METRICS", "examples", "evaluate", "validation_score")


def offered() -> Offers:
    """Return the tasks of installed packages by their questions. What each module defines: `tasks.modules.Task`."""
    return offers("tasks", frozenset(Question), needs=NEEDS, wrong=_wrong)


def _wrong(module: ModuleType) -> str | None:
    """Return what is wrong with the metrics of a module; None if nothing is."""
    others = [metric for metric in module.METRICS if not hasattr(metric, "headline")]
    return f"METRICS has {others[0]!r}, which is no Metric of llm4rec_cli.evaluation.metrics" if others else None


def offered_modules() -> Mapping[str, ModuleType]:
    """Return the module of each question of an installed package."""
    return {name: plugin.load() for name, plugin in offered().plugins.items()}


def offered_module(question: str) -> ModuleType | None:
    """Return the module of an installed package's question; None for one of ours.

    Raises:
        UsageError: there is no such question.
    """
    if question in Question.__members__:
        return None
    for problem in problems(question):
        raise problem
    return offered().plugins[question].load()


def problems(question: str) -> Iterator[UsageError]:
    """Yield why there is no such question."""
    if question not in Question.__members__ and question not in offered().plugins:
        remedy = did_you_mean(question, [*Question, *offered().plugins])
        yield offered().problems.get(question) or UsageError(f"unknown question '{question}'", remedy)
