"""Record finished runs for the documentation: their numbers, settings and ranks, without weights, texts or paths.

python scripts/record_runs.py OUTPUTS      adds every finished run under OUTPUTS to docs/recorded/: a line of
                                           DATASET.jsonl; in ranks/ the place of each target, or the predicted rating;
                                           what llm4rec reproduce has recorded of the papers' tables; the trials of
                                           searches. A run that is recorded already is replaced, and one with the same
                                           settings at an earlier results version, unless another record names it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import pandas as pd

from llm4rec_cli.config.keys import keys_with_role
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.config.roles import NOT_HASHED
from llm4rec_cli.data.slices import SLICE
from llm4rec_cli.files import write_atomic, write_json, write_text
from llm4rec_cli.results.records import OWN, RANKS, Recorded, ranks_name, read_records
from llm4rec_cli.results.result import STATUS, Result
from llm4rec_cli.results.results import Results
from llm4rec_cli.results.variants import Variant, variants
from llm4rec_studies.paper_tables.reproduction import RECORDS

RECORDED = Path(__file__).parents[1] / "docs/recorded"
EXAMPLE = ["user_id", "target"]
SEED = r"\w+/[^/\"]+/\w+/seed\d+-\w+"  # of an address
FACTS = ("n_candidates", "rating")  # columns of answers that all runs on the same examples share, besides the slices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outputs", type=Path)
    outputs = parser.parse_args().outputs.resolve()  # as members of ensembles are stored
    record(outputs, RECORDED)
    for result in Results.under(outputs):
        record_ranks(result, RECORDED / RANKS)


def record(outputs: Path, recorded: Path) -> None:
    """Write a line for every finished run to the table of its dataset, and the records of paper tables and searches."""
    by_dataset: dict[str, dict[str, str]] = {}
    for variant in variants(Results.under(outputs)):
        for run in variant.runs:
            line = json.dumps(_record(run, variant), separators=(",", ":"), ensure_ascii=False)
            by_dataset.setdefault(run.dataset, {})[run.address.as_posix()] = line.replace(f"{outputs}/", "")
    for dataset, lines in by_dataset.items():
        file = recorded / f"{dataset}.jsonl"
        known = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        merged = {_address(json.loads(line)["metrics"]): line for line in known} | lines
        write_text(file, "".join(f"{merged[address]}\n" for address in sorted(merged)))
        superseded = _superseded(list(read_records(recorded)), set(lines))
        write_text(file, "".join(f"{merged[address]}\n" for address in sorted(merged.keys() - superseded)))
    for source in (outputs / RECORDS).glob("*/*.json"):
        write_json(recorded / source.relative_to(outputs), json.loads(source.read_text(encoding="utf-8")))
    for source in (outputs / "tune").glob("*/tuning.json"):
        search = json.loads(source.read_text(encoding="utf-8"))
        to = recorded / "searches" / f"{source.parent.name}.json"
        write_json(to, search | {"overrides": _without_neutral(search["overrides"])})


def _superseded(records: Sequence[Recorded], new: Set[str]) -> set[str]:
    """Return the addresses of runs whose settings a new one has, at a later results version, and that no other record
    names as a member, as its training or in a paper's table."""
    named = {address for run in records for address in (*(run.members or ()), run.trained_run) if address}
    named |= {
        address for file in RECORDED.glob(f"{RECORDS}/*/*.json") for address in re.findall(SEED, file.read_text())
    }
    settings = {run.address.as_posix(): _settings(run) for run in records}
    newer = [settings[address] for address in new]
    return {address for address, own in settings.items() if address not in {*new, *named} and own in newer}


def _settings(run: Recorded) -> list[Any]:
    facts = [run.model, run.dataset_fingerprint, run.task, run.split, run.protocol, run.mask_history, run.seed]
    return [*facts, run.n_examples, run.trained_run, run.settings.with_effect()]


def _record(run: Result, variant: Variant) -> dict[str, Any]:
    """Return what is recorded of a run: without neutral settings, and with what follows from the answers of several
    seeds."""
    metrics = {**run.content(), "overrides": _without_neutral(run.overrides)}
    if len(variant.runs) > 1:
        metrics["intervals_over_seeds"] = {"seeds": variant.seeds, "intervals": variant.intervals}
    finished = int((run.folder / STATUS).stat().st_mtime)
    return {"finished": finished, "metrics": metrics, "config": _without(run.settings.content, neutral_keys(), "")}


def _address(metrics: dict[str, Any]) -> str:
    return "{model}/{dataset}/{task}/seed{seed}-{config_hash}".format(**metrics)


def record_ranks(run: Result, ranks: Path) -> None:
    """Add the places of the targets of a test run, or its predicted ratings, to the table of its examples."""
    own = [name for name in OWN if name in run.columns]
    if run.split != "test" or not run.columns.issuperset(EXAMPLE) or "reference" in run.columns or not own:
        return
    answers = run.answers()
    shared = [name for name in map(str, answers) if name in FACTS or name.startswith(SLICE)]
    if answers.duplicated(EXAMPLE).any():  # several candidate orders of an example
        return
    file, of_run = ranks / ranks_name(run), {name: f"{run.address.as_posix()}/{name}" for name in own}
    table = pd.read_parquet(file) if file.exists() else answers[EXAMPLE]
    table = table.drop(columns=[*of_run.values()], errors="ignore")
    new = [name for name in shared if name not in table]
    # Users who are not in both keep their rows: other filters of a dataset leave others.
    merged = table.merge(answers[[*EXAMPLE, *new, *own]].rename(columns=of_run), on=EXAMPLE, how="outer", sort=True)
    compact = merged.convert_dtypes()
    write_atomic(file, lambda path: compact.to_parquet(path, compression="zstd", index=False))


def neutral_keys() -> frozenset[str]:
    """Return the keys that change no number, such as paths and devices."""
    return keys_with_role(*NOT_HASHED)


def _without_neutral(overrides: Any) -> list[str]:
    """Return the overrides that change numbers."""
    return [override for override in overrides if key_typed(override) not in neutral_keys()]


def _without(settings: Any, keys: frozenset[str], above: str) -> dict[str, Any]:
    """Return nested settings without these keys."""
    return {
        name: _without(value, keys, f"{above}{name}.") if isinstance(value, dict) else value
        for name, value in settings.items()
        if f"{above}{name}" not in keys
    }


if __name__ == "__main__":
    main()
