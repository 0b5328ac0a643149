"""`llm4rec train`: train a model, evaluate it beside the floors of its task, write and print the metrics."""

from __future__ import annotations

from llm4rec_cli import processes
from llm4rec_cli.config.compose import Composed
from llm4rec_cli.config.schema import Question
from llm4rec_cli.reporting.runs import show
from llm4rec_cli.runs.folder import Outcome
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.training import evaluate, trained
from llm4rec_cli.training.run import run as run_beside_floors


def run(composed: Composed) -> Outcome:
    """One composed config, from raw files to a printed table. A finished run is shown again, not repeated."""
    spec = RunSpec.resolve(composed, "train")
    origin = processes.from_first(lambda: trained.find_init_run(spec))  # refused before anything is computed
    outcome, runs = run_beside_floors(spec, origin)
    show(runs, outcome.folder)
    if spec.task.question is Question.all:
        for of_task, runs in evaluate.evaluate_all_tasks(
            processes.from_first(lambda: trained.open_run(outcome.folder, spec))
        ):
            show(runs, of_task.folder)
    return outcome
