"""`llm4rec train`: train a model, evaluate it and the floors of its task, write and print the metrics."""

from __future__ import annotations

from llm4rec_cli import processes
from llm4rec_cli.config.compose import Composed
from llm4rec_cli.config.schema import Question
from llm4rec_cli.reporting.runs import show
from llm4rec_cli.runs.folder import Outcome
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.training import ask, trained
from llm4rec_cli.training.run import run as run_with_floors


def run(composed: Composed) -> Outcome:
    """Run one composed config, from raw files to a printed table. A finished run is shown again, not repeated."""
    spec = RunSpec.resolve(composed, "train")
    origin = processes.from_first(lambda: trained.origin(spec))  # problems are raised before anything is computed
    outcome, metrics = run_with_floors(spec, origin)
    show(metrics, outcome.folder)
    if spec.task.question is Question.all:
        for task_outcome, metrics in ask.each_task(processes.from_first(lambda: trained.at(outcome.folder, spec))):
            show(metrics, task_outcome.folder)
    return outcome
