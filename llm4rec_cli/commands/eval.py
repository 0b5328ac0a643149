"""`llm4rec eval`: evaluate a trained model on another task, split or protocol, without further training.

The run is `run=PATH`, PATH being its folder or the end of its path, or of those that match the overrides the one that
was trained with the fewest other settings.
"""

from __future__ import annotations

from llm4rec_cli import processes
from llm4rec_cli.config.compose import Composed
from llm4rec_cli.results.summary import show
from llm4rec_cli.run.choose import evaluation
from llm4rec_cli.run.execute import run_all
from llm4rec_cli.run.folder import Outcome
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.next import show_next


def run(composed: Composed) -> Outcome:
    """Evaluate one trained run, in a run folder of its own that names it; a model without training is run."""
    job = processes.from_first(lambda: evaluation(Job.unchecked(composed, "eval")))
    outcomes = []
    for outcome in run_all(job):
        comparison = show(outcome.results)
        outcomes.append(outcome)
    show_next(job, outcome.result, comparison)
    if len(outcomes) == 1:
        return outcomes[0]
    status = "done" if any(outcome.status == "done" for outcome in outcomes) else "skipped"
    return Outcome(status, job.outputs / str(outcome.result.trained_run))
