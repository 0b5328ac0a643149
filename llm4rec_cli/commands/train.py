"""`llm4rec train`: train a model, evaluate it and the floors of its task, write and print the metrics."""

from __future__ import annotations

from llm4rec_cli import processes
from llm4rec_cli.config.compose import Composed
from llm4rec_cli.config.schema import Question
from llm4rec_cli.reporting.summary import show, show_next
from llm4rec_cli.runs.folder import Outcome
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.training import evaluate, trained
from llm4rec_cli.training.run import run as run_with_floors


def run(composed: Composed) -> Outcome:
    """Run one composed config, from raw files to a printed table. A finished run is shown again, not repeated."""
    spec = RunSpec.resolve(composed, "train")
    # Problems are raised before anything is computed.
    origin = processes.from_first(lambda: trained.find_init_run(spec))
    outcome, metrics = run_with_floors(spec, origin)
    comparison = show(metrics, outcome.folder)
    if spec.task.question is Question.all:
        source = processes.from_first(lambda: trained.open_run(outcome.folder, spec))
        for task_outcome, metrics in evaluate.evaluate_all_tasks(source):
            comparison = show(metrics, task_outcome.folder)
    show_next(spec, outcome.folder, comparison)
    return outcome
