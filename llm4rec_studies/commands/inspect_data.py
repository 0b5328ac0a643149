"""`llm4rec inspect data`: what a dataset rewards besides taste.

llm4rec inspect data dataset=amazon2014-beauty dataset.raw_dir=PATH
llm4rec inspect data dataset=ml-100k dataset.split=temporal --json

It shows raw files and filters, how the order of interactions comes about, near-duplicates, popularity, and what rules
without training reach on each slice of the test targets. It ends with sentences that say what this means.
"""

from __future__ import annotations

import argparse

from llm4rec_cli.config.compose import Composed


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options that `inspect data` has besides overrides."""
    options = argparse.ArgumentParser("llm4rec inspect data", add_help=False, allow_abbrev=False)
    options.add_argument("--json", action="store_true", help="one JSON object")
    return options


def run(composed: Composed, options: argparse.Namespace) -> None:
    """Prepare the dataset, unless it is cached, and print facts, scores of rules on slices, and verdicts."""
    from llm4rec_cli.data.prepare import prepare
    from llm4rec_cli.data.split import split_dataset
    from llm4rec_cli.data.statistics import remarks
    from llm4rec_cli.results.dataset_tables import source_table, statistics_tables
    from llm4rec_cli.results.tables import json_text, say, show
    from llm4rec_cli.run import stages
    from llm4rec_cli.run.job import Job
    from llm4rec_studies.inspection.scrutiny import scrutinise, tables, verdicts

    job = Job.unchecked(composed, "prepare").floor("popularity")
    dataset = prepare(job.config.dataset, job.cache)
    if dataset.impressions is None:
        job = job.checked()  # that the task ranks items
        split = stages.split_dataset(job, stages.load(job))
    else:
        split = split_dataset(dataset)
    scrutiny = scrutinise(job, split)
    if options.json:
        print(json_text(scrutiny.as_json(), indent=2))
        return
    show(source_table(dataset.manifest), *statistics_tables(dataset.manifest, job.config.dataset.paper))
    say(*remarks(dataset.manifest, job.config.dataset.paper))
    show(*tables(scrutiny))
    say("What this means for a result on it:", *(f"- {verdict}" for verdict in verdicts(scrutiny)))
