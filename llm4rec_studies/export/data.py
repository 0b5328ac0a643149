"""Export a dataset as it is split, with candidates and histories, in files that other programs read."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.data import frames
from llm4rec_cli.data.examples import Examples, Impressions, IntArray, slices
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.statistics import has_dates
from llm4rec_cli.errors import DataError, UsageError, did_you_mean, raise_first
from llm4rec_cli.files import fill_new, write_text
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.tasks.modules import protocol
from llm4rec_studies.export.formats import FORMATS, HISTORY, LIBRARIES, TABLES, Format
from llm4rec_studies.export.readme import readme

if TYPE_CHECKING:
    from numpy.typing import NDArray

README = "README.md"
ROWS_AT_ONCE = 20_000  # examples whose histories and candidates are in memory
UNREADABLE = re.compile(r'[\s"\0]')  # in ids and titles of files without quotes
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
        DataError: as for a training; or ids hold what a chosen format cannot.
    """
    raise_first(_problems_of_formats(formats or ()))
    split, parts = stages.load_examples(job)
    is_log = split.impression_assignment is not None
    available = TABLES if is_log else FORMATS
    if is_log and (others := [name for name in formats or () if name not in TABLES]):
        raise UsageError(
            f"dataset '{job.config.dataset.name}' is a click log, which {others[0]} has no format for",
            f"--format {','.join(TABLES)}",
        )
    chosen = [name for name in available if name in (formats or available)]
    if not is_log:
        raise_first(_problems_of_ids(split, [name for name in chosen if name in LIBRARIES]))
    return fill_new(out or Path("exports") / job.config.dataset.name, partial(_write, job, split, parts, chosen))


def _write(job: Job, split: Split, parts: Parts, chosen: Sequence[str], folder: Path) -> None:
    for name in TABLES:
        if name in chosen:
            (folder / name).mkdir()
            for table, content in _tables(split, parts):
                _WRITERS[name](content, folder / name / f"{table}.{name}")
    if split.impression_assignment is None:
        _write_libraries(folder, split, parts, job.config.dataset.name, chosen)
    write_text(folder / README, readme(job, split, _facts(job, split, parts, chosen)))


def _problems_of_formats(names: Sequence[str]) -> Iterator[UsageError]:
    for name in names:
        if name not in FORMATS:
            yield UsageError(f"unknown format '{name}'", did_you_mean(name, FORMATS))


def _problems_of_ids(split: Split, names: Sequence[str]) -> Iterator[DataError]:
    """Yield a problem if an id has white space or quotes, and a format none that could hold them."""
    if not (plain := [name for name in names if LIBRARIES[name].plain_ids]):
        return
    for kind, ids in (("user", split.dataset.user_ids), ("item", split.dataset.items["item_id"])):
        if bad := next((text for text in map(str, ids) if UNREADABLE.search(text)), None):
            others = [name for name in FORMATS if name not in LIBRARIES or not LIBRARIES[name].plain_ids]
            yield DataError(
                f"{kind} id {bad!r} has white space or quotes, which files of {', '.join(plain)} cannot hold",
                f"--format {','.join(others)}",
            )


# --- every table, as CSV or Parquet


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
    table.insert(2, "order", _order(split)[rows])
    return table


def _order(split: Split) -> IntArray:
    """Return (n_interactions,) the place of each interaction in its user's history, from 0."""
    offsets = split.dataset.offsets
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))


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


def _write_csv(content: Frames, path: Path) -> None:
    """Texts are quoted, so that line breaks and quotes survive; NUL, which readers of CSV refuse, becomes a space."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for i, frame in enumerate(content):
            texts = {str(name): frame[name].str.replace("\0", " ") for name in frame if _is_text(frame[name])}
            frame.assign(**texts).to_csv(file, index=False, header=i == 0, quoting=csv.QUOTE_NONNUMERIC)


def _is_text(column: pd.Series) -> bool:
    return bool(pd.api.types.is_string_dtype(column))


def _write_parquet(content: Frames, path: Path) -> None:
    writer = None
    for frame in content:
        table = pa.Table.from_pandas(frame, schema=writer.schema if writer else None, preserve_index=False)
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()


_WRITERS = {"csv": _write_csv, "parquet": _write_parquet}


# --- files of libraries


def _write_libraries(folder: Path, split: Split, parts: Any, name: str, chosen: Sequence[str]) -> None:
    rows = {"train": _training(split), **{part: examples.row for part, examples in parts.items()}}
    columns = _interactions(split)
    for library in (LIBRARIES[own] for own in chosen if own in LIBRARIES):
        for part in PART_FILES:
            content: Frames = [pd.DataFrame({own: columns[ours][rows[part]] for own, ours in library.columns.items()})]
            if "history" in library.columns.values():
                content = _with_history(split, None if part == "train" else parts[part], library)
            path = folder / library.file.format(name=name, part=part)
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_interactions(content, library, path)
        if library.file.endswith(".inter"):
            _write_titles(split, folder / library.file.format(name=name, part="").replace("..inter", ".item"))


def _interactions(split: Split) -> dict[str, Any]:
    """Return the columns of all interactions, by our names; a rating that is missing is 1."""
    dataset = split.dataset
    n = len(dataset.interactions)
    rating = dataset.interactions["rating"].fillna(1.0) if "rating" in dataset.interactions else pd.Series(np.ones(n))
    seconds, date = _times(split)
    return {
        "user_id": dataset.user_ids[dataset.interactions["user"]],
        "item_id": frames.item_ids(split, dataset.sequence),
        "rating": rating.to_numpy(),
        "time": seconds,
        "date": date,
        "history": np.zeros(n),  # replaced
    }


def has_times(split: Split) -> bool:
    """Return whether all interactions have times that are seconds since 1970."""
    times = split.dataset.interactions.get("timestamp")
    return times is not None and not times.isna().any() and has_dates(split.dataset.manifest)


def _times(split: Split) -> tuple[IntArray, NDArray[np.datetime64]]:
    """Return (n_interactions,) times in seconds, and dates that put each user's interactions into our order.

    Libraries sort by date: the second of two interactions at one time is a microsecond later, and so on. Without times,
    the place in the history counts seconds.
    """
    order = _order(split)
    if not has_times(split):
        return order, (order * 1_000_000).astype("datetime64[us]")
    time = split.dataset.interactions["timestamp"].to_numpy(dtype=np.float64)
    begins = np.ones(len(time), dtype=bool)
    begins[1:] = (order[1:] == 0) | (time[1:] != time[:-1])
    at = np.arange(len(time))
    since = at - np.maximum.accumulate(np.where(begins, at, 0))
    microseconds = np.round(time * 1e6).astype(np.int64) + since
    return time.astype(np.int64), microseconds.astype("datetime64[us]")


def _with_history(split: Split, examples: Examples | None, library: Format) -> Iterator[pd.DataFrame]:
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
        columns = {
            "user_id": split.dataset.user_ids[user[piece]],
            "item_id": frames.item_ids(split, target[piece]),
            "history": [" ".join(ids[low:high]) for low, high in pairwise(bounds)],
        }
        yield pd.DataFrame({own: columns[ours] for own, ours in library.columns.items()})


def _write_interactions(content: Frames, library: Format, path: Path) -> None:
    if library.file.endswith(".parquet"):
        _write_parquet(content, path)
        return
    if library.file.endswith(".csv"):
        _write_csv(content, path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        for i, frame in enumerate(content):
            header = library.header and i == 0
            frame.to_csv(file, sep="\t", index=False, header=header, quoting=csv.QUOTE_NONE)


def _write_titles(split: Split, path: Path) -> None:
    """Write RecBole's item file; white space and quotes in titles are single spaces."""
    items = split.dataset.items
    columns = {"item_id:token": items["item_id"]}
    for name in ("title", "categories"):
        if name in items:
            columns[f"{name}:token_seq"] = items[name].fillna("").map(_one_line)
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_NONE, encoding="utf-8")


def _one_line(text: str) -> str:
    return " ".join(UNREADABLE.sub(" ", text).split())


# --- what it is


def _facts(job: Job, split: Split, parts: Any, chosen: Sequence[str]) -> dict[str, Any]:
    manifest, config = split.dataset.manifest, job.config
    training = _training(split)
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
            "train": len(training),
            **{part: len(examples) for part, examples in parts.items()},
        },
        "has_times": has_times(split) if split.impression_assignment is None else True,
        "formats": list(chosen),
    }
