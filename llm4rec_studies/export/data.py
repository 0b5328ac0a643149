"""Export a dataset as it is split, with candidates and histories, in files that other programs read.

`parquet` has every table of the split. `recbole` has RecBole's benchmark files: NAME-pairs for models without
sequences, and NAME-sequential with one row per prefix.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.data import frames
from llm4rec_cli.data.examples import Examples, Impressions, IntArray, slices
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.errors import DataError, UsageError, did_you_mean, raise_first
from llm4rec_cli.files import fill_new, write_text
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.tasks.modules import protocol
from llm4rec_studies.export.readme import HISTORY, readme

FORMATS = ("parquet", "recbole")
README = "README.md"
ROWS_AT_ONCE = 20_000  # examples whose histories and candidates are in memory
UNREADABLE = re.compile(r'[\s"\0]')  # in ids and titles of RecBole's files, which have no quotes
PART_FILES = {"train": "train", "valid": "validation", "test": "test"}

Parts = dict[str, Examples] | dict[str, Impressions]
Frames = Iterable[pd.DataFrame]


def export_data(job: Job, out: Path | None = None, formats: Sequence[str] | None = None) -> Path:
    """Write the split of a dataset to a folder and return it.

    Args:
        job: unchecked, of a config with the dataset and the task.
        out: None = `exports/DATASET`.
        formats: of FORMATS; None = all that can hold the data.

    Raises:
        UsageError: a format is unknown, or the folder exists.
        DataError: as for a training; or ids hold what RecBole's files cannot.
    """
    raise_first(
        UsageError(f"unknown format '{name}'", did_you_mean(name, FORMATS)) for name in set(formats or ()) - {*FORMATS}
    )
    split, parts = stages.load_examples(job)
    name = job.config.dataset.name
    if split.impression_assignment is not None:
        if "recbole" in (formats or ()):
            raise UsageError(f"dataset '{name}' is a click log, which recbole has no format for", "--format parquet")
        formats = ["parquet"]
    chosen = [own for own in FORMATS if own in (formats or FORMATS)]
    if "recbole" in chosen:
        raise_first(_problems_of_ids(split))
    return fill_new(out or Path("exports") / name, partial(_write, job, split, parts, chosen))


def _problems_of_ids(split: Split) -> Iterator[DataError]:
    for kind, ids in (("user", split.dataset.user_ids), ("item", split.dataset.items["item_id"])):
        if bad := next((text for text in map(str, ids) if UNREADABLE.search(text)), None):
            yield DataError(
                f"{kind} id {bad!r} has white space or quotes, which files of recbole cannot hold", "--format parquet"
            )


def _write(job: Job, split: Split, parts: Parts, chosen: Sequence[str], folder: Path) -> None:
    if "parquet" in chosen:
        (folder / "parquet").mkdir()
        for table, content in _tables(split, parts):
            _write_parquet(content, folder / f"parquet/{table}.parquet")
    if "recbole" in chosen:
        _write_recbole(folder / "recbole", split, parts, job.config.dataset.name)
    write_text(folder / README, readme(job, split, _facts(job, split, parts, chosen)))


# --- every table, as Parquet


def _tables(split: Split, parts: Parts) -> Iterator[tuple[str, Frames]]:
    """Yield name and content of each table; those that grow with the histories in pieces."""
    dataset = split.dataset
    numbers = np.arange(split.n_users)
    yield "users", [pd.DataFrame({"user": numbers, "user_id": dataset.user_ids})]
    items = dataset.items.reset_index(drop=True)
    yield "items", [pd.concat([pd.Series(np.arange(split.n_items), name="item"), items], axis=1)]
    of_part = {"train": _training(split), **parts}
    for part, name in PART_FILES.items():
        yield name, [_part_frame(split, of_part[part])]
    with_history = of_part if split.impression_assignment is not None else parts
    yield "histories", _long(split, with_history, _history)
    if split.impression_assignment is not None:
        yield "shown", _long(split, of_part, _shown)
    elif all(examples.candidates is not None for examples in parts.values()):  # type: ignore[union-attr]
        yield "candidates", _long(split, parts, _candidates)


def _training(split: Split) -> Any:
    """Return the rows of the training interactions; of a click log, its training impressions."""
    if split.impression_assignment is not None:
        return split.impressions(TRAIN)
    return np.flatnonzero(split.assignment == TRAIN)


def _part_frame(split: Split, content: Any) -> pd.DataFrame:
    if isinstance(content, Impressions):
        ids = split.dataset.user_ids[content.user]
        return pd.DataFrame({"impression_id": content.id, "user_id": ids, "timestamp": content.time})
    rows = content.row if isinstance(content, Examples) else content
    table = frames.interactions_frame(split, rows)
    offsets = split.dataset.offsets
    order = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))  # in the user's history, from 0
    table.insert(2, "order", order[rows])
    return table


def _long(split: Split, parts: Any, columns_of: Any) -> Iterator[pd.DataFrame]:
    """Yield one row per item that belongs to an example; `example` is its row in the part's table."""
    for part, examples in parts.items():
        for start in range(0, len(examples), ROWS_AT_ONCE):
            chosen = examples[start : start + ROWS_AT_ONCE]
            lengths, columns = columns_of(split, chosen)
            user_id = split.dataset.user_ids[np.repeat(chosen.user, lengths)]
            example = start + np.repeat(np.arange(len(chosen)), lengths)
            yield pd.DataFrame({"split": part, "example": example, "user_id": user_id, **columns})


def _history(split: Split, examples: Any) -> tuple[IntArray, dict[str, Any]]:
    items, offsets = examples.histories()
    return np.diff(offsets), {"item_id": frames.item_ids(split, items)}


def _candidates(split: Split, examples: Examples) -> tuple[IntArray, dict[str, Any]]:
    assert examples.candidates is not None
    n, width = examples.candidates.shape
    return np.full(n, width), {"item_id": frames.item_ids(split, examples.candidates.ravel())}


def _shown(split: Split, impressions: Impressions) -> tuple[IntArray, dict[str, Any]]:
    items, offsets = impressions.shown()
    return np.diff(offsets), {"item_id": frames.item_ids(split, items), "clicked": impressions.clicked()}


def _write_parquet(content: Frames, path: Path) -> None:
    writer = None
    for frame in content:
        table = pa.Table.from_pandas(frame, schema=writer.schema if writer else None, preserve_index=False)
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()


# --- RecBole's files


def _write_recbole(folder: Path, split: Split, parts: Any, name: str) -> None:
    pairs, sequential = folder / f"{name}-pairs", folder / f"{name}-sequential"  # it has a file of its own for ml-100k
    pairs.mkdir(parents=True)
    sequential.mkdir()
    rows = {"train": _training(split), **{part: examples.row for part, examples in parts.items()}}
    for part, own in rows.items():
        _write_tabs([_pairs(split, own)], pairs / f"{pairs.name}.{part}.inter")
        prefixes = _with_history(split, None if part == "train" else parts[part])
        _write_tabs(prefixes, sequential / f"{sequential.name}.{part}.inter")
    for place in (pairs, sequential):
        _write_tabs([_titles(split)], place / f"{place.name}.item")


def _pairs(split: Split, rows: IntArray) -> pd.DataFrame:
    """Return interactions as RecBole names them. A missing rating is 1; data without times have the place in the
    history."""
    table = _part_frame(split, rows)
    timed = split.dataset.interactions.get("timestamp")
    no_rating = pd.Series(np.nan, index=table.index)
    return pd.DataFrame(
        {
            "user_id:token": table["user_id"],
            "item_id:token": table["item_id"],
            "rating:float": table.get("rating", no_rating).fillna(1.0).astype(float),
            "timestamp:float": table["order"]
            if timed is None or timed.isna().any()
            else table["timestamp"].astype(int),
        }
    )


def _with_history(split: Split, examples: Examples | None) -> Iterator[pd.DataFrame]:
    """Yield the examples with their last items as text; for training (None) each interaction that has a history there.

    Examples without a history are left out: the format has no empty lists.
    """
    user: IntArray
    end: IntArray
    if examples is None:
        flat, offsets = split.train_sequences()
        user = np.repeat(np.arange(split.n_users), np.diff(offsets))
        end = np.flatnonzero(np.arange(len(flat)) > offsets[user])
        user = user[end]
        start, target = offsets[user], flat[end]
    else:
        chosen = examples[np.flatnonzero(examples.history_length > 0)]
        flat, user, target, start, end = chosen.sequence, chosen.user, chosen.target, chosen.start, chosen.end
    start = np.maximum(start, end - HISTORY)
    for first in range(0, max(1, len(end)), ROWS_AT_ONCE):
        piece = slice(first, first + ROWS_AT_ONCE)
        items, bounds = slices(flat, start[piece], end[piece])
        ids = frames.item_ids(split, items)
        yield pd.DataFrame(
            {
                "user_id:token": split.dataset.user_ids[user[piece]],
                "item_id_list:token_seq": [" ".join(ids[low:high]) for low, high in pairwise(bounds)],
                "item_id:token": frames.item_ids(split, target[piece]),
            }
        )


def _titles(split: Split) -> pd.DataFrame:
    """Return RecBole's item file; white space and quotes in titles are single spaces."""
    items = split.dataset.items
    columns = {"item_id:token": items["item_id"]}
    for name in ("title", "categories"):
        if name in items:
            columns[f"{name}:token_seq"] = items[name].fillna("").map(_one_line)
    return pd.DataFrame(columns)


def _one_line(text: str) -> str:
    return " ".join(UNREADABLE.sub(" ", text).split())


def _write_tabs(content: Frames, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for i, frame in enumerate(content):
            frame.to_csv(file, sep="\t", index=False, header=i == 0, quoting=csv.QUOTE_NONE)


# --- what it is


def _facts(job: Job, split: Split, parts: Any, chosen: Sequence[str]) -> dict[str, Any]:
    manifest, config = split.dataset.manifest, job.config
    return {
        "dataset": config.dataset.name,
        "fingerprint": split.dataset.fingerprint,
        "task": config.task.name,
        "protocol": protocol(config.task),
        "mask_history": bool(config.task.mask_history),
        "split_rule": manifest["split"]["rule"],
        "dataset_seed": config.dataset.seed,
        "overrides": [typed for typed in job.typed if key_typed(typed) not in ("dataset.raw_dir", "force")],
        "licence": config.dataset.licence,
        "counts": {
            "users": split.n_users,
            "items": split.n_items,
            "train": len(_training(split)),
            **{part: len(examples) for part, examples in parts.items()},
        },
        "formats": list(chosen),
    }
