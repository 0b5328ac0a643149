"""`llm4rec train`: train a model, evaluate it and the floors of its task, write and print the metrics."""

from __future__ import annotations

from llm4rec_cli.config.compose import Composed
from llm4rec_cli.results.summary import show, show_next
from llm4rec_cli.runs.folder import Outcome
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.training.evaluate import train_and_evaluate


def run(composed: Composed) -> Outcome:
    """Run one composed config, from raw files to a printed table. A finished run is shown again, not repeated."""
    spec = RunSpec.resolve(composed, "train")
    outcomes = []
    for evaluation in train_and_evaluate(spec):
        comparison = show(evaluation.results)
        outcomes.append(evaluation.outcome)
    show_next(spec, outcomes[0].folder, comparison)
    return outcomes[0]
