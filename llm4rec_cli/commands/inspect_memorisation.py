"""`llm4rec inspect memorisation`: whether a chat model knows a dataset by heart."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm4rec_cli.commands import at_least
from llm4rec_cli.config.compose import Composed

if TYPE_CHECKING:
    from llm4rec_cli.llm.requests import Completion, Request


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options that `inspect memorisation` has besides overrides."""
    options = argparse.ArgumentParser("llm4rec inspect memorisation", add_help=False, allow_abbrev=False)
    options.add_argument("--json", action="store_true", help="one JSON object")
    options.add_argument("--records", type=at_least(1), default=200, help="records per probe (default: 200)")
    return options


def run(composed: Composed, options: argparse.Namespace) -> None:
    """Score the probes that the dataset has columns for, keep the scores for the rows of its runs, and print them."""
    from dataclasses import asdict
    from pathlib import Path

    from llm4rec_cli.config.schema import Backend, PromptLogprobs
    from llm4rec_cli.data.prepare import prepare
    from llm4rec_cli.errors import DataError, raise_first
    from llm4rec_cli.llm import completions, memorisation
    from llm4rec_cli.llm.memorisation import VERBATIM
    from llm4rec_cli.llm.store import Store
    from llm4rec_cli.reporting.tables import Content, json_text, say, show
    from llm4rec_cli.runs import marks, rules, stages
    from llm4rec_cli.runs.spec import RunSpec

    spec = RunSpec.resolve_unchecked(composed, "prepare")
    raise_first(rules.problems_of_llm(spec.llm))
    dataset = prepare(spec.config.dataset, spec.cache)
    probes = memorisation.requests(dataset, options.records, spec.config.dataset.seed)
    if not probes:
        raise DataError(f"dataset {dataset.manifest['name']} has too few records to probe", "llm4rec list datasets")
    backend, usage = stages.chat_backend(spec, spec.config.dataset.seed), completions.Usage()
    has_likelihoods = spec.llm.backend is Backend.local or spec.llm.prompt_logprobs is not PromptLogprobs.none
    scores = {}
    with Store(completions.store_path(spec.llm, spec.cache)) as store:

        def answers(requests: Sequence[Request], name: str) -> list[Completion]:
            description = f"querying {Path(spec.llm.model).name}, {name}"
            return completions.complete(requests, backend, spec.llm, store, description, usage)

        for name, requests in probes.items():
            if has_likelihoods:
                scores[name] = memorisation.score(requests, answers(requests, name))
            written = answers(memorisation.to_be_written(requests), name + VERBATIM)
            scores[name + VERBATIM] = memorisation.score_verbatim(requests, written)
    marks.save_memorisation(spec, dataset, {name: asdict(score) for name, score in scores.items()})
    if options.json:
        print(json_text({name: asdict(score) for name, score in scores.items()}, indent=2))
        return
    rows = [
        [name, f"{s.share:.4f}", f"{s.low:.4f}–{s.high:.4f}", f"{s.chance:.4f}", f"{s.n:,}"]
        for name, s in scores.items()
    ]
    title = f"{Path(spec.llm.model).name} on records of {dataset.manifest['name']}: share with the true end"
    likeliest = "the true end is the likeliest of several; " if has_likelihoods else ""
    notes = [
        f"{likeliest}verbatim: the true end is written",
        *(f"{name}: {memorisation.PROBES[name]}" for name in probes),
    ]
    show(Content(title, ("probe", "share", "interval", "chance", "records"), rows, notes))
    known = [name for name, s in scores.items() if s.above_chance and not name.startswith("titles")]
    say(
        f"Above chance: {', '.join(known)}: a sign that the model has read these data; a number of it can be memory."
        if known
        else "No probe is above chance (titles are not counted): no sign that the model has read these data."
    )
    say(
        "Titles also follow from knowledge of the language and the world. Chance: always the most frequent end; of "
        "written ends, the same answers with the ends swapped among the records."
    )
