"""`llm4rec train`: train a model, evaluate it and the floors of its task, write and print the metrics."""

from __future__ import annotations

from llm4rec_cli.config.compose import Composed
from llm4rec_cli.results.summary import show
from llm4rec_cli.run.execute import run_all
from llm4rec_cli.run.folder import Outcome
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.next import next_command


def run(composed: Composed) -> Outcome:
    """Run one composed config, from raw files to a printed table. A finished run is shown again, not repeated."""
    return run_and_show(Job.resolve(composed, "train"))


def run_and_show(job: Job) -> Outcome:
    """Run a job, print the table of each of its results, and return all of them, with what to run next."""
    outcomes = []
    for outcome in run_all(job):
        comparison = show(outcome.results)
        outcomes.append(outcome)
    return Outcome(
        "done" if any(outcome.status == "done" for outcome in outcomes) else "skipped",
        outcomes[0].folder,
        tuple(result for outcome in outcomes for result in outcome.results),
        next_command(job, outcome.result, comparison),
    )
