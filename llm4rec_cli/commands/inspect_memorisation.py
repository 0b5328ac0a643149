"""`llm4rec inspect memorisation`: whether a chat model knows a dataset by heart."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llm4rec_cli.commands import at_least
from llm4rec_cli.config.compose import Composed

if TYPE_CHECKING:
    from llm4rec_cli.llm.requests import Completion, Request
    from llm4rec_cli.results.result import MemorisationScore


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options that `inspect memorisation` has besides overrides."""
    options = argparse.ArgumentParser("llm4rec inspect memorisation", add_help=False, allow_abbrev=False)
    options.add_argument("--json", action="store_true", help="one JSON object")
    options.add_argument("--records", type=at_least(2), default=200, help="records per probe (default: 200)")
    return options


def run(composed: Composed, options: argparse.Namespace) -> None:
    """Score the probes that the dataset has columns for, keep the scores for the rows of its runs, and print them."""
    from contextlib import suppress
    from dataclasses import asdict
    from pathlib import Path

    from llm4rec_cli.config.schema import Backend, PromptLogprobs
    from llm4rec_cli.data.prepare import prepare
    from llm4rec_cli.errors import DataError, DryRun, raise_first
    from llm4rec_cli.llm import completions
    from llm4rec_cli.llm.store import Store
    from llm4rec_cli.results.tables import json_text, say
    from llm4rec_cli.run import marks, rules, stages
    from llm4rec_cli.run.job import Job
    from llm4rec_cli.studies.inspection import memorisation

    spec = Job.unchecked(composed, "prepare")
    raise_first(rules.problems_of_llm(spec.llm))
    dataset = prepare(spec.config.dataset, spec.cache)
    probes = memorisation.probes(dataset, options.records, spec.config.dataset.seed)
    if not probes:
        raise DataError(f"dataset {dataset.manifest['name']} has too few records to probe", "llm4rec list datasets")
    backend, usage = stages.chat_backend(spec, spec.config.dataset.seed), completions.Usage()
    chat_model = Path(spec.llm.model).name
    has_likelihoods = spec.llm.backend is Backend.local or spec.llm.prompt_logprobs is not PromptLogprobs.none
    kinds = [memorisation.LIKELIEST, memorisation.WRITTEN] if has_likelihoods else [memorisation.WRITTEN]
    scores = {}
    with Store(completions.store_path(spec.llm, spec.cache)) as store:

        def complete(requests: Sequence[Request], name: str) -> list[Completion]:
            with suppress(DryRun):  # raised once all probes are shown
                return completions.complete(requests, backend, spec.llm, store, f"{chat_model}, {name}", usage)
            return []

        for probe_name, probe in probes.items():
            for suffix, posed, hits in kinds:
                label = probe_name + suffix
                copies = zip(probe, (label, f"{label}, made-up"), strict=True)
                answered = [(requests, complete(posed(requests), name)) for requests, name in copies if requests]
                if not spec.llm.dry_run:
                    scores[label] = memorisation.score(*(hits(*copy) for copy in answered))
    if spec.llm.dry_run:
        say(f"in all, as estimated: {usage.in_words()}")
        raise DryRun("dry run: requests were printed, none was sent")
    is_kept = marks.save_memorisation(spec.config, dataset, scores)
    if options.json:
        print(json_text({name: asdict(score) for name, score in scores.items()}, indent=2))
        return
    show_scores(f"{chat_model} on records of {dataset.manifest['name']}", scores, list(probes), has_likelihoods)
    say(f"answers: {usage.in_words()}")
    if not is_kept:
        say("Rows of this model keep the scores of more records that were measured before.")


def show_scores(
    title: str, scores: Mapping[str, MemorisationScore], probes: Sequence[str], has_likelihoods: bool
) -> None:
    """Print a table of scores, and what it says."""
    from llm4rec_cli.results.chat import MEMORISATION_COLUMNS, MEMORISATION_NOTES, memorisation_cells
    from llm4rec_cli.results.tables import Content, say, show
    from llm4rec_cli.studies.inspection import memorisation

    rows = [memorisation_cells(probe, score) for probe, score in scores.items()]
    likeliest = "the true end is the likeliest of several; " if has_likelihoods else ""
    notes = [
        f"{likeliest}verbatim: the true end is written",
        *(f"{name}: {memorisation.PROBES[name]}" for name in probes),
        *MEMORISATION_NOTES,
    ]
    show(Content(f"{title}: share with the true end", MEMORISATION_COLUMNS, rows, notes))
    remembered = [name for name, score in scores.items() if memorisation.is_memory(score)]
    say(
        f"Above chance and made-up records: {', '.join(remembered)}: a sign that the model has read these data; a "
        "number of it can be memory."
        if remembered
        else "No probe is above both chance and made-up records: no sign that the model has read these data."
    )
    say("Titles also follow from knowledge of the language and the world, so they are not counted.")
