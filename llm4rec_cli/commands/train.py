"""`llm4rec train`: train a model, evaluate it and the floors of its task, write and print the metrics."""

from __future__ import annotations

from llm4rec_cli.config.compose import Composed
from llm4rec_cli.run.execute import run_and_show
from llm4rec_cli.run.folder import Outcome
from llm4rec_cli.run.job import Job


def run(composed: Composed) -> Outcome:
    """Run one composed config, from raw files to a printed table. A finished run is shown again, not repeated."""
    return run_and_show(Job.resolve(composed, "train"))
