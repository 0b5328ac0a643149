"""Export blind sheets: sample examples that finished runs share, and write sheets with all systems' texts and a key."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pandas as pd

from llm4rec_cli.config.schema import SplitName, Written
from llm4rec_cli.data import store
from llm4rec_cli.data.split import split_dataset
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError, RunError, UsageError, raise_first
from llm4rec_cli.files import write_json, write_text
from llm4rec_cli.paths import cache_folder
from llm4rec_cli.results.result import PREDICTIONS, Result
from llm4rec_cli.results.results import named_results
from llm4rec_cli.results.words import shown_as
from llm4rec_studies.human import sheets
from llm4rec_studies.human.agreement import MIN_EXAMPLES, Scale
from llm4rec_studies.human.sheets import KEY_FILE, PAGE, TABLE, Example, Key, SheetRun

REFERENCE = "reference"  # the system name of the users' own texts
MAX_TEXTS = 9  # per example: nobody keeps more apart, and the page enters values by one digit
NO_TEXT = "(no text)"  # an empty answer is judged like any other
# The keys of metrics.json that runs must share, besides the dataset; and those that the key records of each run.
PROTOCOL = ("task", "split", "protocol")
RUN_FACTS = ("model", "seed", "config_hash", "labels")
EXAMPLE_COLUMNS = ["user_id", "target", "reference"]  # identify an example in predictions.parquet


def export(
    runs: Sequence[str],
    out: Path,
    *,
    n_examples: int,
    seed: int,
    criteria: Sequence[str],
    scale: str,
    with_reference: bool,
    outputs: Path,
    cache: str | None,
) -> None:
    """Write sheet.html, sheet.csv and key.json to `out`.

    Args:
        runs: run folders, or ends of their paths under `outputs`.
        seed: random seed for sampling and label order.
        cache: the folder that holds the dataset; None = the default.

    Raises:
        UsageError: `out` holds sheets, a criterion is unusable, or the runs are not comparable.
        RunError: a run is not finished, or has no predictions.
        DataError: the dataset is not in the cache, or the texts never differ.
    """
    if (out / KEY_FILE).exists():
        raise UsageError(f"{out} already holds sheets that raters may be filling", "choose another --out folder")
    raise_first(_problems_of_criteria(criteria))
    named = named_results(runs, outputs)
    raise_first(_problems_of_runs(named))
    run_systems = _system_names(named)
    systems = [*run_systems, *([REFERENCE] if with_reference else [])]
    if not 2 <= len(systems) <= MAX_TEXTS:
        raise UsageError(
            f"{len(systems)} texts per example cannot be compared",
            f"name runs so that there are 2 to {MAX_TEXTS}, including the users' own texts",
        )
    first = named[0]
    shared = _shared_predictions(named)
    examples = _examples(shared, systems, _context(first, cache))
    chosen, n_identical = sample(examples, n_examples, seed)
    sheet, systems_by_label = sheets.blind(chosen, first.protocol, Scale(scale), criteria, seed)
    write_text(out / TABLE, sheets.to_csv(sheet))
    write_text(out / PAGE, sheets.to_html(sheet))
    key = Key(
        sheet=sheet.name,
        **{name: getattr(first, name) for name in ("dataset", "dataset_fingerprint", *PROTOCOL)},
        seed=seed,
        scale=sheet.scale,
        criteria=criteria,
        runs=[
            SheetRun(
                system=system,
                run=str(run.folder),
                **{name: getattr(run, name) for name in RUN_FACTS},
                chat_model=run.paper_method.get("chat model"),
            )
            for system, run in zip(run_systems, named, strict=True)
        ],
        systems=systems,
        examples=systems_by_label,
    )
    write_json(out / KEY_FILE, msgspec.to_builtins(key))
    counts = f"{len(chosen):,} of {len(shared):,} shared examples"
    print(f"exported {counts}; excluded because all texts are identical: {n_identical:,}")
    if len(chosen) < MIN_EXAMPLES:
        print(f"fewer than {MIN_EXAMPLES} examples: the results will not be conclusive")
    print(f"give raters {out / PAGE} or {out / TABLE}; do not give them {out / KEY_FILE}")
    print(f"next: llm4rec human score {out} ann.csv ben.csv …")


def _problems_of_criteria(criteria: Sequence[str]) -> Iterator[UsageError]:
    reserved = (*sheets.COLUMNS, sheets.JUDGE_COLUMN)
    for i, name in enumerate(criteria):
        if not re.fullmatch(r"[\w-]+", name) or name in reserved or name in criteria[:i]:
            yield UsageError(
                f"'{name}' cannot be a criterion", f"use distinct words, separated by commas; not {', '.join(reserved)}"
            )


def _problems_of_runs(runs: Sequence[Result]) -> Iterator[UsageError]:
    """Yield a problem if a run wrote no texts or is repeated, or if runs differ in data or protocol."""
    writing = [column.value for column in Written]
    for run in runs:
        if run.protocol not in writing:
            yield UsageError(
                f"{run.folder} has no texts: its task is {run.task}", "name runs of explanation or review_summary"
            )
    if len({run.folder.resolve() for run in runs}) < len(runs):
        yield UsageError("a run is named twice", "name each run once")
    first, *more = runs
    for run in more:
        facts = ((name, getattr(first, name), getattr(run, name)) for name in PROTOCOL)
        differences = [f"{name} is {ours} and {theirs}" for name, ours, theirs in facts if ours != theirs]
        if first.dataset_fingerprint != run.dataset_fingerprint:
            data = [f"{one.dataset} {one.dataset_fingerprint[:12]}" for one in (first, run)]
            differences.insert(0, f"dataset is {' and '.join(data)}")
        if differences:
            yield UsageError(
                f"{first.folder} and {run.folder} are not comparable: {'; '.join(differences)}",
                f"name runs with the same dataset, {', '.join(PROTOCOL)}",
            )


def _system_names(runs: Sequence[Result]) -> list[str]:
    """Return each run's name in tables, with its folder added where names would repeat."""
    models = [shown_as(run) for run in runs]
    with_folder = [f"{model} {run.folder.name}" for model, run in zip(models, runs, strict=True)]
    paths = [str(run.folder) for run in runs]
    return next(names for names in (models, with_folder, paths) if len({*names, REFERENCE}) == len(names) + 1)


def _shared_predictions(runs: Sequence[Result]) -> pd.DataFrame:
    """Return the examples that all runs share: EXAMPLE_COLUMNS, and the text of run i in column i."""
    shared = None
    for i, run in enumerate(runs):
        if not run.columns:
            raise RunError(f"{run.folder / PREDICTIONS} is missing", "repeat the run with force=true")
        texts = run.answers()[[*EXAMPLE_COLUMNS, "prediction"]].rename(columns={"prediction": str(i)})
        texts["occurrence"] = texts.groupby(EXAMPLE_COLUMNS).cumcount()  # a user may have the same item twice
        shared = texts if shared is None else shared.merge(texts, on=[*EXAMPLE_COLUMNS, "occurrence"])
    assert shared is not None
    if shared.empty:
        raise UsageError(
            "the runs have no examples in common", "use the same task.max_examples and dataset.seed for all"
        )
    return shared


def _context(run: Result, cache: str | None) -> pd.DataFrame:
    """Return what a sheet may show of each held-out interaction: item, stars and review, by user_id and target.

    The review is shown to those who judge titles of it. An explanation is a sentence of the review, which would give it
    away. Where the dataset has the users' own texts, they are in column `reference`: a user may review an item twice.
    """
    folder = store.dataset_folder(cache_folder(cache), run.dataset, run.dataset_fingerprint)
    if not folder.exists():
        raise DataError(
            f"the dataset of these runs is not in the cache: {folder}",
            f"run llm4rec prepare dataset={run.dataset}, or name its cache with --cache PATH",
        )
    dataset = store.load(folder)
    rows = dataset.interactions.iloc[split_dataset(dataset).examples(SplitName[run.split]).row]
    items = dataset.items.iloc[rows["item"]]
    empty = pd.Series("", index=rows.index)
    column = run.protocol
    context = pd.DataFrame(
        {
            "user_id": dataset.user_ids[rows["user"]],
            "target": items["item_id"].to_numpy(),
            "item": items.get("title", items["item_id"]).fillna(items["item_id"]).to_numpy(),
            "stars": rows["rating"].map("{:g}".format, na_action="ignore").fillna("") if "rating" in rows else empty,
            "review": rows["review_text"].fillna("") if column == Written.review_title.value else empty,
        }
    )
    return context.assign(reference=rows[column].fillna("")) if column in rows else context


def _examples(shared: pd.DataFrame, systems: Sequence[str], context: pd.DataFrame) -> list[Example]:
    columns = {name: "reference" if name == REFERENCE else str(i) for i, name in enumerate(systems)}
    on = [name for name in EXAMPLE_COLUMNS if name in context]
    rows = shared.merge(context.drop_duplicates(on, keep="last"), on=on, how="left").to_dict("records")
    return [
        Example(
            item=normalised(row["item"]),
            stars=row["stars"],
            review=row["review"] and normalised(row["review"]),
            texts={name: normalised(row[column]) for name, column in columns.items()},
        )
        for row in rows
    ]


def normalised(text: str) -> str:
    """Return a text with HTML entities resolved and white space collapsed: both would reveal its source."""
    return " ".join(html.unescape(text).split()) or NO_TEXT


def sample(examples: Sequence[Example], n: int, seed: int) -> tuple[list[Example], int]:
    """Return at most n examples in random order, and how many were left out because all their texts are identical.
    Raises DataError if none is left."""
    differing = [example for example in examples if len(set(example.texts.values())) > 1]
    if not differing:
        raise DataError(
            f"all {len(examples):,} examples that these runs share have identical texts", "name runs that differ"
        )
    order = stream(seed, "human: examples").permutation(len(differing))[:n]
    return [differing[i] for i in order], len(examples) - len(differing)
