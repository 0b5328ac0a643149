"""`llm4rec eval`: evaluate a trained model on another task, split or protocol, without further training.

The run is `run=PATH`, PATH being its folder or the end of its path, or of those that match the overrides the one that
was trained with the fewest other settings.
"""

from __future__ import annotations

from llm4rec_cli.config.compose import Composed
from llm4rec_cli.results.summary import show, show_next
from llm4rec_cli.runs.folder import Outcome
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.training.evaluate import evaluate_trained


def run(composed: Composed) -> Outcome:
    """Evaluate one trained run, in a run folder of its own that names it; a model without training is run."""
    spec = RunSpec.resolve_unchecked(composed, "eval")
    outcomes = []
    for evaluation in evaluate_trained(spec):
        comparison = show(evaluation.results)
        outcomes.append(evaluation.outcome)
    show_next(evaluation.spec, evaluation.outcome.folder, comparison)
    if len(outcomes) == 1:
        return outcomes[0]
    status = "done" if any(outcome.status == "done" for outcome in outcomes) else "skipped"
    return Outcome(status, spec.outputs / str(evaluation.results[-1].trained_run))
