"""Recorded results: finished runs without their folders, in a few tables that a repository can hold.

A folder of records has a file DATASET.jsonl for each dataset with one run a line: its address, when it ended, its
metrics.json and its settings. Its `ranks` have a Parquet table for each data, task and protocol: one row an example,
what the example is, and for each run the places of the target, or the predicted rating. scripts/record_runs.py writes
both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from llm4rec_cli.errors import DataError, RunError
from llm4rec_cli.results.result import Result, readable
from llm4rec_cli.results.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

RECORDS, RANKS = "*.jsonl", "ranks"
OWN = ("n_better", "n_tied", "prediction")  # columns of answers that a table of ranks has for each run
NULLABLE = {"Int64": "int64", "Float64": "float64", "boolean": "bool"}  # where other runs have other examples
WITHOUT_RANKS = "recorded without ranks"


@dataclass(frozen=True, kw_only=True)
class Recorded(Result):
    """A recorded run. Its folder is where it would be; nothing is there."""

    finished: int = 0  # when it ended, in seconds since 1970
    config: Mapping[str, Any] = field(default_factory=dict)  # its settings

    @cached_property
    def settings(self) -> Settings:
        return Settings(self.model, self.config)

    @property
    def ranks(self) -> Path:
        """The table of its ranks, which may not exist, or not have it."""
        return self.outputs / RANKS / ranks_name(self)

    @cached_property
    def columns(self) -> frozenset[str]:
        stored = _columns(self.ranks) if self.ranks.exists() else ()
        own = {name: name.rpartition("/") for name in stored if name.rpartition("/")[2] in OWN and name.count("/") > 2}
        of_run = {column for prefix, _, column in own.values() if prefix == self.address.as_posix()}
        return frozenset({*(set(stored) - own.keys()), *of_run}) if of_run else frozenset()

    def answers(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        import pandas as pd

        if not self.columns:
            raise RunError(f"{self.name} is {WITHOUT_RANKS}", f"run it again, as its line of {self.dataset}.jsonl says")
        own_names = {f"{self.address.as_posix()}/{name}": name for name in OWN}
        in_order = {own_names.get(stored, stored): stored for stored in _columns(self.ranks)}
        stored = {name: in_order[name] for name in columns or filter(self.columns.__contains__, in_order)}
        with readable(self.ranks):
            table = pd.read_parquet(self.ranks, columns=[*stored.values()]).set_axis([*stored], axis=1)
        own = table.dropna(subset=[name for name in OWN if name in table])
        return own.astype({name: NULLABLE[kind] for name, kind in own.dtypes.astype(str).items() if kind in NULLABLE})


@cache
def _columns(file: Path) -> Sequence[str]:
    import pyarrow.parquet

    with readable(file):
        return list(pyarrow.parquet.read_schema(file).names)


def recorded(folder: Path) -> Recorded | None:
    """Return the recorded run of this folder; None if it was not recorded."""
    return _by_folder(folder.parents[3]).get(folder) if len(folder.parents) > 3 else None


@cache
def _by_folder(outputs: Path) -> Mapping[Path, Recorded]:
    return {run.folder: run for run in read_records(outputs)}


def ranks_name(result: Result) -> str:
    """Return the name of the table with the ranks of runs on the same examples."""
    mask = result.mask_history
    masked = ("-masked" if mask else "") if isinstance(mask, bool) else f"-{mask}"
    return f"{result.dataset}-{result.dataset_fingerprint[:8]}-{result.task}-{result.protocol}{masked}.parquet"


def read_records(folder: Path) -> Iterator[Recorded]:
    """Yield the recorded runs in a folder. Raises DataError if a line is not a record."""
    for file in sorted(folder.glob(RECORDS)):
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    record = json.loads(line)
                    facts = {"finished": record["finished"], "config": record["config"]}
                    run = msgspec.convert({**record["metrics"], **facts}, Recorded)
                except (ValueError, TypeError, KeyError) as error:
                    raise DataError(
                        f"{file}:{number}: not a recorded run ({error})",
                        "restore the file, or move it out of this folder",
                    ) from error
                yield replace(run, folder=folder / run.address)
