"""Export a blind sheet: sample examples that finished runs share, shuffle their texts, and write sheet and key."""

from __future__ import annotations

import hashlib
import html
import re
import string
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pandas as pd

from llm4rec_cli.config.schema import SplitName, Written
from llm4rec_cli.data import store
from llm4rec_cli.data.split import split_dataset
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError, UsageError, raise_first
from llm4rec_cli.files import write_json
from llm4rec_cli.paths import cache_folder
from llm4rec_cli.results.describe import shown_as
from llm4rec_cli.results.pairing import problems_of_protocols
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.results import named_results
from llm4rec_studies.human.sheets import COLUMNS, JUDGE_COLUMN, KEY_FILE, SCALE, SHEET, Key, write_sheet

REFERENCE = "reference"  # the system name of the users' own texts
LETTERS = string.ascii_uppercase  # the ends of the codes of an example's texts
NO_TEXT = "(no text)"  # an empty answer is judged like any other
EXAMPLE_COLUMNS = ["user_id", "target", "reference"]  # identify an example in predictions.parquet


def export(
    runs: Sequence[str],
    out: Path,
    *,
    n_examples: int,
    seed: int,
    criteria: Sequence[str],
    with_reference: bool,
    outputs: Path,
    cache: str | None,
) -> None:
    """Write sheet.csv and key.json to `out`.

    Args:
        runs: run folders, or ends of their paths under `outputs`.
        seed: random seed for sampling and for the order of texts.

    Raises:
        UsageError: `out` holds a sheet, a criterion is unusable, or the runs are not comparable.
        RunError: a run is not finished, or has no predictions.
        DataError: the dataset is not in the cache.
    """
    if (out / KEY_FILE).exists():
        raise UsageError(f"{out} already holds a sheet that raters may be filling", "choose another --out folder")
    named = named_results(runs, outputs)
    raise_first(_problems(criteria, named))
    first, names = named[0], [shown_as(run) for run in named]
    if len({*names, REFERENCE}) <= len(names):
        names = [run.name for run in named]
    columns = {name: str(i) for i, name in enumerate(names)} | ({REFERENCE: REFERENCE} if with_reference else {})
    systems = list(columns)
    if not 2 <= len(systems) <= len(LETTERS):
        remedy = f"name runs so that there are 2 to {len(LETTERS)}, including the users' own texts"
        raise UsageError(f"{len(systems)} texts per example cannot be compared", remedy)
    examples = _examples(named, _context(first, cache))
    chosen = examples.iloc[stream(seed, "human: examples").permutation(len(examples))[:n_examples]]
    content = repr((seed, systems, criteria, chosen.to_numpy().tolist()))
    sheet = hashlib.sha256(content.encode()).hexdigest()[:6]  # no code is on two sheets
    rows, codes = [], {}
    for i, example in enumerate(chosen.to_dict("records")):
        about = [normalised(example[name]) for name in ("item", "stars", "review")]
        for letter, j in zip(LETTERS, stream(seed, "human: labels", i).permutation(len(systems)), strict=False):
            code, text = f"{sheet}-{i + 1}-{letter}", normalised(example[columns[systems[j]]]) or NO_TEXT
            codes[code] = systems[j]
            rows.append(dict(zip(COLUMNS, (code, *about, text, SCALE), strict=True)) | dict.fromkeys(criteria, ""))
    write_sheet(out / SHEET, rows)
    folders = {name: str(run.folder) for name, run in zip(names, named, strict=True)}
    synthetic = "synthetic" in first.labels
    key = Key(column=first.protocol, synthetic=synthetic, criteria=list(criteria), runs=folders, codes=codes)
    write_json(out / KEY_FILE, msgspec.to_builtins(key))
    print(f"exported {len(chosen):,} of {len(examples):,} shared examples")
    print(f"give raters {out / SHEET}; do not give them {out / KEY_FILE}")
    print(f"next: llm4rec human score {out} ann.csv ben.csv …")


def normalised(text: str) -> str:
    """Return a text with HTML entities resolved and white space collapsed: both would reveal its source."""
    return " ".join(html.unescape(text).split())


def _problems(criteria: Sequence[str], runs: Sequence[Result]) -> Iterator[UsageError]:
    reserved = (*COLUMNS, JUDGE_COLUMN)
    for name in criteria:
        if not re.fullmatch(r"[\w-]+", name) or [*reserved, *criteria].count(name) > 1:
            remedy = f"use distinct words, separated by commas; not {', '.join(reserved)}"
            yield UsageError(f"'{name}' cannot be a criterion", remedy)
    for run in runs:
        if run.protocol not in [column.value for column in Written]:
            problem = f"{run.folder} has no texts: its task is {run.task}"
            yield UsageError(problem, "name runs of explanation or review_summary")
    if len({run.name for run in runs}) < len(runs):
        yield UsageError("a run is named twice", "name each run once")
    for run in runs[1:]:
        yield from problems_of_protocols([runs[0], run])


def _examples(runs: Sequence[Result], context: pd.DataFrame) -> pd.DataFrame:
    """Return the examples that all runs share, with their context, and the text of run i in column i."""
    shared = None
    for i, run in enumerate(runs):
        texts = run.answers()[[*EXAMPLE_COLUMNS, "prediction"]].rename(columns={"prediction": str(i)})
        texts["occurrence"] = texts.groupby(EXAMPLE_COLUMNS).cumcount()  # a user may have the same item twice
        shared = texts if shared is None else shared.merge(texts, on=[*EXAMPLE_COLUMNS, "occurrence"])
    assert shared is not None
    if shared.empty:
        raise UsageError("the runs have no examples in common", "use the same task.max_examples for all")
    return shared.merge(context.drop_duplicates(EXAMPLE_COLUMNS, keep="last"), on=EXAMPLE_COLUMNS, how="left")


def _context(run: Result, cache: str | None) -> pd.DataFrame:
    """Return what a sheet may show of each held-out interaction: item, stars and review, by EXAMPLE_COLUMNS.

    The review is shown to those who judge titles of it. An explanation is a sentence of the review, which would give it
    away.
    """
    folder = store.dataset_folder(cache_folder(cache), run.dataset, run.dataset_fingerprint)
    if not folder.exists():
        remedy = f"run llm4rec prepare dataset={run.dataset}, or name its cache with --cache PATH"
        raise DataError(f"the dataset of these runs is not in the cache: {folder}", remedy)
    dataset = store.load(folder)
    rows = dataset.interactions.iloc[split_dataset(dataset).examples(SplitName[run.split]).row]
    items = dataset.items.iloc[rows["item"]].set_index(rows.index)
    return pd.DataFrame(
        {
            "user_id": dataset.user_ids[rows["user"]],
            "target": items["item_id"],
            "reference": rows[run.protocol].fillna(""),
            "item": items.get("title", items["item_id"]).fillna(items["item_id"]),
            "stars": rows["rating"].map("{:g}".format, na_action="ignore").fillna("") if "rating" in rows else "",
            "review": rows["review_text"].fillna("") if run.protocol == Written.review_title.value else "",
        }
    )
