"""`llm4rec inspect ids`: what the ids of items share."""

from __future__ import annotations

import argparse

from llm4rec_cli.commands import at_least
from llm4rec_cli.config.compose import Composed


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options that `inspect ids` has besides overrides."""
    options = argparse.ArgumentParser("llm4rec inspect ids", add_help=False, allow_abbrev=False)
    options.add_argument("--json", action="store_true", help="one JSON object")
    options.add_argument("--seeds", type=at_least(1), default=2, help="seeds of the ids to compare (default: 2)")
    return options


def run(composed: Composed, options: argparse.Namespace) -> None:
    """Make the ids of the model's settings, unless they are cached, and print what they share."""
    from dataclasses import asdict

    from llm4rec_cli.results.tables import json_text, say, show
    from llm4rec_cli.run.job import Job
    from llm4rec_cli.studies.inspection.ids import inspected, sentences, tables

    report = inspected(Job.resolve(composed, "train"), options.seeds)
    if options.json:
        print(json_text(asdict(report), indent=2))
        return
    show(*tables(report))
    say(*(f"- {sentence}" for sentence in sentences(report)))
