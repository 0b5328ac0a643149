"""`llm4rec inspect memorisation`: whether a chat model knows a dataset by heart."""

from __future__ import annotations

import argparse

from llm4rec_cli.config.compose import Composed


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options that `inspect memorisation` has besides overrides."""
    options = argparse.ArgumentParser("llm4rec inspect memorisation", add_help=False, allow_abbrev=False)
    options.add_argument("--json", action="store_true", help="one JSON object")
    options.add_argument("--records", type=int, default=200, help="records per probe (default: 200)")
    return options


def run(composed: Composed, options: argparse.Namespace) -> None:
    """Score the probes that the dataset has columns for, keep the scores for the rows of its runs, and print them."""
    from dataclasses import asdict
    from pathlib import Path

    from llm4rec_cli.data.prepare import prepare
    from llm4rec_cli.errors import DataError, UsageError, raise_first
    from llm4rec_cli.llm import completions, memorisation
    from llm4rec_cli.llm.store import Store
    from llm4rec_cli.reporting.tables import Content, json_text, say, show
    from llm4rec_cli.runs import marks, rules, stages
    from llm4rec_cli.runs.spec import RunSpec

    if options.records < 1:
        raise UsageError(f"--records {options.records} is not positive", "--records 200")
    spec = RunSpec.resolve_unchecked(composed, "prepare")
    raise_first(rules.problems_of_llm(spec.llm))
    dataset = prepare(spec.config.dataset, spec.cache)
    probes = memorisation.requests(dataset, options.records, spec.config.dataset.seed)
    if not probes:
        raise DataError(f"dataset {dataset.manifest['name']} has too few records to probe", "llm4rec list datasets")
    backend, usage = stages.chat_backend(spec, spec.config.dataset.seed), completions.Usage()
    scores = {}
    with Store(completions.store_path(spec.llm, spec.cache)) as store:
        for name, requests in probes.items():
            description = f"querying {Path(spec.llm.model).name}, {name}"
            answers = completions.complete(requests, backend, spec.llm, store, description, usage)
            scores[name] = memorisation.score(requests, answers)
    marks.save_memorisation(spec, dataset, {name: asdict(score) for name, score in scores.items()})
    if options.json:
        print(json_text({name: asdict(score) for name, score in scores.items()}, indent=2))
        return
    rows = [
        [name, memorisation.PROBES[name], f"{s.share:.4f}", f"{s.low:.4f}–{s.high:.4f}", f"{s.chance:.4f}", f"{s.n:,}"]
        for name, s in scores.items()
    ]
    columns = ("probe", "completed", "share", "interval", "chance", "records")
    title = (
        f"{Path(spec.llm.model).name} on records of {dataset.manifest['name']}: share whose true end is the likeliest"
    )
    show(Content(title, columns, rows))
    known = [name for name, s in scores.items() if s.above_chance and name != "titles"]
    say(
        f"Above chance: {', '.join(known)}: a sign that the model has read these data; a number of it can be memory."
        if known
        else "No probe but titles is above chance: no sign that the model has read these data."
    )
    say("Titles also follow from knowledge of the language and the world. Chance: always the most frequent end.")
