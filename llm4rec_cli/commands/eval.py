"""`llm4rec eval`: ask a trained model another question — another task, split or protocol — without training anew.

The run is `run=PATH`, or the newest one that matches what was typed.
"""

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
    """One evaluation, in a folder of its own that names the trained run."""
    spec = RunSpec.resolve_unchecked(composed, "eval")
    if not spec.model.trainable:  # there is nothing to train, so nothing to find
        outcome, runs = run_beside_floors(RunSpec.resolve(composed, "train"))
        show(runs, outcome.folder)
        return outcome
    source = processes.from_first(lambda: trained.find(spec))
    if source.spec.task.question is Question.all:
        outcomes = []
        for outcome, runs in evaluate.evaluate_all_tasks(source):
            show(runs, outcome.folder)
            outcomes.append(outcome)
        return Outcome("done" if any(o.status == "done" for o in outcomes) else "skipped", source.folder)
    outcome, runs = evaluate.evaluate_run(source)
    show(runs, outcome.folder)
    return outcome
