"""`llm4rec inspect ids`: what item ids share: collisions, use of codes, likeness of items.

llm4rec inspect ids model=rpg                                            on the built-in demo
llm4rec inspect ids model=tiger dataset=amazon2014-beauty dataset.raw_dir=PATH model.ids.kind=rq_vae
llm4rec inspect ids model=p5 task=sequential model.index=collaborative --seeds 3

Of a model that names items by codes: how many items have an id of their own, how evenly each level uses its codes,
whether items that share codes are alike in text and bought together, and whether another seed groups them alike.
"""

from __future__ import annotations

import argparse

from llm4rec_cli.commands import at_least
from llm4rec_cli.config.compose import Composed


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options that `inspect ids` has besides overrides."""
    options = argparse.ArgumentParser("llm4rec inspect ids", add_help=False, allow_abbrev=False)
    options.add_argument("--seeds", type=at_least(1), default=2, help="seeds of the ids to compare (default: 2)")
    return options


def run(composed: Composed, options: argparse.Namespace) -> None:
    """Make the ids of the model's settings, unless they are cached, and print what they share."""
    from llm4rec_cli.results.tables import say, show
    from llm4rec_cli.run.job import Job
    from llm4rec_studies.inspection.ids import inspected, sentences, tables

    report = inspected(Job.resolve(composed, "train"), options.seeds)
    show(*tables(report))
    say(*(f"- {sentence}" for sentence in sentences(report)))
