"""`llm4rec train`: train a model, evaluate it and its floors, and print the metrics table.

llm4rec train model=unisrec                                   train on the built-in demo, print the table
llm4rec train model=sasrec dataset=amazon2018-scientific dataset.raw_dir=PATH
llm4rec train -m model=unisrec,sasrec seed=0,1,2              a sweep; finished runs are skipped
llm4rec train +experiment=p5/demo seed=0                      the settings of an experiment
"""

from __future__ import annotations

from llm4rec_cli.config.compose import Composed
from llm4rec_cli.run.execute import run_and_show
from llm4rec_cli.run.folder import Outcome
from llm4rec_cli.run.job import Job


def run(composed: Composed) -> Outcome:
    """Run one composed config, from raw files to a printed table. A finished run is shown again, not repeated."""
    return run_and_show(Job.resolve(composed, "train"))
