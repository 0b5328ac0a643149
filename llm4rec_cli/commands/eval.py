"""`llm4rec eval`: evaluate a trained model on another task, split or protocol.

llm4rec eval task=direct model=unisrec                        ask a trained model another question
llm4rec eval model=sasrec split=valid                         on validation
llm4rec eval run=PATH task.mask_history=true                  a run by its folder, items of the history left out
llm4rec eval -m model=sasrec seed=0,1,2 task.mask_history=true

The run is `run=PATH`, PATH being its folder or the end of its path, or of those that match the overrides the one that
was trained with the fewest other settings.
"""

from __future__ import annotations

from llm4rec_cli import processes
from llm4rec_cli.config.compose import Composed
from llm4rec_cli.run.execute import run_and_show
from llm4rec_cli.run.folder import Outcome
from llm4rec_cli.run.job import Job, evaluation


def run(composed: Composed) -> Outcome:
    """Evaluate one trained run, in a run folder of its own that names it; a model without training is run."""
    return run_and_show(processes.from_first(lambda: evaluation(Job.unchecked(composed, "eval"))))
