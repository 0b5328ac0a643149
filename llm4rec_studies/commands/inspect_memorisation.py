"""`llm4rec inspect memorisation`: whether a chat model knows a dataset by heart.

llm4rec inspect memorisation dataset=ml-100k llm=local --records 100

The chat model chooses the end of records among those of other records, and writes it word for word: titles, an item's
title after its id, rating rows and a user's next item; and the same of made-up records. Rows of that model on that
dataset then show the scores.
"""

from __future__ import annotations

import argparse

from llm4rec_cli.commands import at_least
from llm4rec_cli.config.compose import Composed


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options that `inspect memorisation` has besides overrides."""
    options = argparse.ArgumentParser("llm4rec inspect memorisation", add_help=False, allow_abbrev=False)
    options.add_argument("--records", type=at_least(2), default=200, help="records per probe (default: 200)")
    options.add_argument("--text", action="store_true", help="records as a text to be continued; for base models")
    return options


def run(composed: Composed, options: argparse.Namespace) -> None:
    """Score the probes that the dataset has columns for, keep the scores for the rows of its runs, and print them."""
    from llm4rec_cli.config.schema import Backend
    from llm4rec_cli.data.prepare import prepare
    from llm4rec_cli.errors import DataError, UsageError, raise_first
    from llm4rec_cli.llm.completions import Usage
    from llm4rec_cli.results.tables import say, show
    from llm4rec_cli.run import rules
    from llm4rec_cli.run.job import Job
    from llm4rec_cli.run.memorisation import save
    from llm4rec_studies.inspection import memorisation

    job = Job.unchecked(composed, "prepare")
    raise_first(rules.problems_of_llm(job.llm))
    if options.text and job.llm.backend is not Backend.local:
        raise UsageError("--text has a local model continue a text, and an endpoint answers messages", "llm=local")
    dataset = prepare(job.config.dataset, job.cache)
    probes = memorisation.probes(dataset, options.records, job.config.dataset.seed, options.text)
    if not probes:
        raise DataError(f"dataset {dataset.manifest['name']} has too few records to probe", "llm4rec list datasets")
    usage = Usage()
    scores = memorisation.measure(job, probes, usage)
    is_kept = save(job.config, dataset, scores)
    show(memorisation.table(job, dataset.manifest["name"], scores))
    remembered = [name for name, score in scores.items() if memorisation.is_memory(score)]
    say(
        f"Above chance and made-up records: {', '.join(remembered)}: a sign that the model has read these data; a "
        "number of it can be memory."
        if remembered
        else "No probe is above both chance and made-up records: no sign that the model has read these data."
    )
    say("Titles also follow from knowledge of the language and the world, so they are not counted.")
    say(f"answers: {usage.in_words()}")
    if not is_kept:
        say("Rows of this model keep the scores of more records that were measured before.")
