"""Record finished runs for the documentation: their numbers and settings, without predictions, weights or paths.

python scripts/record_runs.py OUTPUTS      copies every finished run under OUTPUTS into docs/recorded/, what llm4rec
                                           reproduce has recorded of the papers' tables, and the trials of searches
python scripts/record_runs.py OUTPUTS --ranks      also the rank of each test target: docs/recorded/ranks/ has a table
                                           for each dataset and task, with two columns a run
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from llm4rec_cli.config.keys import keys_with_role
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.config.roles import NOT_HASHED
from llm4rec_cli.files import write_json, write_text
from llm4rec_cli.reporting.reproduction import RECORDS
from llm4rec_cli.reporting.variants import Variant, variants
from llm4rec_cli.results.result import CONFIG, METRICS, STATUS, IntervalsOverSeeds, Result
from llm4rec_cli.results.results import Results

RECORDED = Path(__file__).parents[1] / "docs/recorded"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outputs", type=Path)
    parser.add_argument("--ranks", action="store_true")
    arguments = parser.parse_args()
    record(arguments.outputs, RECORDED)
    if arguments.ranks:
        record_ranks(arguments.outputs, RECORDED / "ranks")


def record(outputs: Path, recorded: Path) -> None:
    """Write metrics.json, config.yaml and status.json of every finished run to the same place under another folder."""
    outputs = outputs.resolve()  # as members of ensembles are stored
    for variant in variants(Results.under(outputs)):
        for run in variant.runs:
            to = recorded / run.folder.relative_to(outputs)
            numbers = json.dumps(_numbers(run, variant).content()).replace(f"{outputs}/", "")
            write_json(to / METRICS, json.loads(numbers))
            settings = yaml.safe_dump(_without(run.settings.content, neutral_keys(), ""), sort_keys=False)
            write_text(to / CONFIG, settings.replace(f"{outputs}/", ""))  # members of an ensemble
            write_json(to / STATUS, {"status": "done"})
    for file in (outputs / RECORDS).glob("*/*.json"):
        write_json(recorded / file.relative_to(outputs), json.loads(file.read_text(encoding="utf-8")))
    for file in (outputs / "tune").glob("*/tuning.json"):
        search = json.loads(file.read_text(encoding="utf-8"))
        write_json(
            recorded / "searches" / f"{file.parent.name}.json",
            search | {"overrides": _without_neutral(search["overrides"])},
        )


def record_ranks(outputs: Path, ranks: Path) -> None:
    """Add `n_better` and `n_tied` of each test target of every finished ranking to the table of its data and task."""
    ranks.mkdir(parents=True, exist_ok=True)
    for run in Results.under(outputs.resolve()):
        if run.split != "test" or "n_tied" not in run.columns:
            continue
        targets = run.answers(["user_id", "target", "n_better", "n_tied"])
        file = ranks / f"{run.dataset}-{run.task}-{run.protocol}.parquet"
        table = pd.read_parquet(file) if file.exists() else targets[["user_id", "target"]]
        name = f"{run.model}/{run.folder.name}"
        named = targets.rename(columns={column: f"{name}/{column}" for column in ("n_better", "n_tied")})
        known = table.drop(columns=[column for column in named.columns[2:] if column in table])
        # Users who are not in both keep their rows: other filters of a dataset leave others.
        merged = known.merge(named, on=["user_id", "target"], how="outer", sort=True)
        merged.convert_dtypes().to_parquet(file, compression="zstd", index=False)


def neutral_keys() -> frozenset[str]:
    """Return the keys that change no number, such as paths and devices."""
    return keys_with_role(*NOT_HASHED)


def _numbers(run: Result, variant: Variant) -> Result:
    """Return a run without neutral overrides, and with what follows from the predictions of several seeds."""
    over_seeds = run.intervals_over_seeds
    if len(variant.runs) > 1:
        over_seeds = IntervalsOverSeeds(seeds=variant.seeds, intervals=variant.intervals)
    return replace(run, overrides=_without_neutral(run.overrides), intervals_over_seeds=over_seeds)


def _without_neutral(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that change numbers."""
    return [override for override in overrides if key_typed(override) not in neutral_keys()]


def _without(settings: Mapping[str, Any], keys: frozenset[str], above: str) -> dict[str, Any]:
    """Return nested settings without these keys."""
    return {
        name: _without(value, keys, f"{above}{name}.") if isinstance(value, dict) else value
        for name, value in settings.items()
        if f"{above}{name}" not in keys
    }


if __name__ == "__main__":
    main()
