"""`llm4rec train`: train a model, evaluate it and the floors of its task, write and print the metrics."""

from __future__ import annotations

from llm4rec_cli.config.compose import Composed
from llm4rec_cli.results.summary import show
from llm4rec_cli.run.execute import run_all
from llm4rec_cli.run.folder import Outcome
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.next import show_next


def run(composed: Composed) -> Outcome:
    """Run one composed config, from raw files to a printed table. A finished run is shown again, not repeated."""
    job = Job.resolve(composed, "train")
    outcomes = []
    for outcome in run_all(job):
        comparison = show(outcome.results)
        outcomes.append(outcome)
    show_next(job, outcome.result, comparison)
    return outcomes[0]
