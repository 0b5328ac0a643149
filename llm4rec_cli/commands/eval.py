"""`llm4rec eval`: evaluate a trained model on another task, split or protocol, without further training.

The run is `run=PATH`, PATH being its folder or the end of its path, or of those that match the overrides the one that
was trained with the fewest other settings.
"""

from __future__ import annotations

from llm4rec_cli import processes
from llm4rec_cli.config.compose import Composed
from llm4rec_cli.run.choose import evaluation
from llm4rec_cli.run.execute import run_and_show
from llm4rec_cli.run.folder import Outcome
from llm4rec_cli.run.job import Job


def run(composed: Composed) -> Outcome:
    """Evaluate one trained run, in a run folder of its own that names it; a model without training is run."""
    return run_and_show(processes.from_first(lambda: evaluation(Job.unchecked(composed, "eval"))))
