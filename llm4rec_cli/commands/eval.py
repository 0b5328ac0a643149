"""`llm4rec eval`: evaluate a trained model on another task, split or protocol, without further training.

The run is `run=PATH`, or the newest one that matches the overrides.
"""

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
    """Evaluate one trained run, in a run folder of its own that names it; a model without training is run."""
    spec = RunSpec.resolve_unchecked(composed, "eval")
    if not spec.model.trainable:
        outcome, metrics = run_with_floors(RunSpec.resolve(composed, "train"))
        show_next(spec, outcome.folder, show(metrics, outcome.folder))
        return outcome
    source = processes.from_first(lambda: trained.find(spec))
    if source.spec.task.question is not Question.all:
        outcome, metrics = evaluate.evaluate_run(source)
        show_next(source.spec, outcome.folder, show(metrics, outcome.folder))
        return outcome
    outcomes = []
    for outcome, metrics in evaluate.evaluate_all_tasks(source):
        comparison = show(metrics, outcome.folder)
        outcomes.append(outcome)
    show_next(source.spec, outcome.folder, comparison)
    return Outcome("done" if any(o.status == "done" for o in outcomes) else "skipped", source.folder)
