"""Verify a bundle: its files, its numbers, the addresses of its runs, and that it holds nothing that it may not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet

from llm4rec_cli import __version__
from llm4rec_cli.config import walk
from llm4rec_cli.config.registry import model_names
from llm4rec_cli.config.schema import Config
from llm4rec_cli.errors import Llm4RecError, UsageError
from llm4rec_cli.results.bundles import MANIFEST, problems_of_files, problems_of_numbers, recomputed
from llm4rec_cli.results.result import PREDICTIONS, Result, read_result, read_status
from llm4rec_cli.results.sealed import FILES, is_inside, read_manifest
from llm4rec_cli.run import identity
from llm4rec_cli.run.source import Source
from llm4rec_studies.bundle.make import METRICS_CSV, is_id_or_number, tables
from llm4rec_studies.portable import has_path

TEXT = (".json", ".jsonl", ".yaml", ".md", ".csv")
KINDS = (*TEXT, ".parquet", ".safetensors")
MOST_PROBLEMS = 5  # that are listed of one check


@dataclass(frozen=True)
class Check:
    """What was checked, and what is wrong."""

    name: str
    found: str
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.problems:
            return f"ok      {self.name}: {self.found}"
        more = len(self.problems) - MOST_PROBLEMS
        shown = [*self.problems[:MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
        return f"FAILED  {self.name}: {'; '.join(shown)}"


def verify(folder: Path) -> list[Check]:
    """Return the checks of a bundle; where its files do not hold, only that one.

    Raises:
        UsageError: the folder is not a bundle.
    """
    if not (folder / MANIFEST).is_file():
        raise UsageError(f"{folder} has no {MANIFEST}, so it is not a bundle", "llm4rec bundle make RUN --out DIR")
    manifest = read_manifest(folder, MANIFEST)
    n_files = len(manifest[FILES]) if manifest else 0
    files = Check("files", f"{n_files} with the sizes and hashes of {MANIFEST}", tuple(problems_of_files(folder)))
    if files.problems or manifest is None:
        return [files]
    names = sorted(manifest[FILES])
    kinds = Check("content", "no pickles, links, texts or paths", tuple(_problems_of_content(folder, names)))
    addresses = manifest.get("runs")
    addresses = (
        [own for own in addresses if isinstance(own, str) and is_inside(own)] if isinstance(addresses, list) else []
    )
    runs = {address: read_result(folder / address) for address in addresses}
    readable = [run for run in runs.values() if run is not None]
    of_runs = Check("runs", f"{len(runs)} in their folders", tuple(_problems_of_runs(folder, runs)))
    checks = [files, kinds, of_runs, *_checks_of_results(readable)]
    return checks if of_runs.problems else [*checks, _check_of_tables(folder, manifest, readable)]


def _problems_of_content(folder: Path, names: list[str]) -> Iterator[str]:
    for name in names:
        path = folder / name
        if path.suffix not in KINDS:
            yield f"{name} is of a kind that no bundle has"
        elif path.suffix in TEXT:
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except UnicodeDecodeError:
                yield f"{name} is not UTF-8"
                continue
            if number := next((i for i, line in enumerate(lines, start=1) if has_path(line)), None):
                yield f"{name}:{number} names a path"
        elif path.suffix == ".parquet":
            yield from _problems_of_table(path, name)
        elif not _is_safetensors(path):
            yield f"{name} is not in the format of safetensors"


def _problems_of_table(path: Path, name: str) -> Iterator[str]:
    try:
        empty = pyarrow.parquet.ParquetFile(path).schema_arrow.empty_table().to_pandas()
    except (OSError, ValueError) as error:
        yield f"{name} is not Parquet ({str(error).splitlines()[0]})"
        return
    if path.name != PREDICTIONS:
        yield f"{name} is a table that no bundle has"
    for column in map(str, empty):
        if not is_id_or_number(column, empty[column]):
            yield f"{name} has a column '{column}' with text"


def _is_safetensors(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy"):
            return True
    except (SafetensorError, OSError):
        return False


def _problems_of_runs(folder: Path, runs: dict[str, Result | None]) -> Iterator[str]:
    found = {path.parent.relative_to(folder).as_posix() for path in folder.glob("*/*/*/seed*/status.json")}
    if not runs:
        yield f"{MANIFEST} names no runs"
    for address in sorted(found - runs.keys()):
        yield f"{address} is not named in {MANIFEST}"
    for address, run in runs.items():
        if run is None:
            yield f"{address} is not a finished run"
        elif run.address.as_posix() != address:
            yield f"{address} holds the run {run.address.as_posix()}"


def _checks_of_results(runs: list[Result]) -> Iterator[Check]:
    """Yield a check of the numbers and one of the address of all runs."""
    problems: list[str] = []
    n_metrics = without = 0
    for run in runs:
        try:
            n_metrics += len(recomputed(run))
            without += not run.columns
            problems += [*problems_of_numbers(run), *_problems_of_counts(run)]
        except (Llm4RecError, ValueError, KeyError, TypeError, IndexError) as error:
            problems.append(f"{run.address.as_posix()}: its answers cannot be read ({str(error).splitlines()[0]})")
    found = f"{n_metrics} follow from the answers" + (f"; {without} runs have no answers" if without else "")
    yield Check("metrics", found, tuple(problems))
    addresses = {run.address.as_posix(): recomputed_hash(run, runs) for run in runs}
    wrong = [
        f"{run.address.as_posix()}: its settings have the hash {own[0]}"
        for run in runs
        if (own := addresses[run.address.as_posix()])[0] not in (None, run.config_hash)
    ]
    reasons: dict[str, int] = {}
    for digest, reason in addresses.values():
        if digest is None:
            reasons[reason] = reasons.get(reason, 0) + 1
    same = sum(digest is not None for digest, _ in addresses.values())
    not_checked = "".join(f"; not {n}: {reason}" for reason, n in reasons.items())
    yield Check("addresses", f"{same} follow from the settings{not_checked}", tuple(wrong))


def _problems_of_counts(run: Result) -> Iterator[str]:
    """Yield a problem if the number of answers, or metrics.csv, is not that of metrics.json."""
    address = run.address.as_posix()
    if run.columns and "turn" not in run.columns and (n := len(run.answers(["user_id"]))) != run.n_examples:
        yield f"{address}: {n:,} answers for {run.n_examples:,} examples"
    if (file := run.folder / METRICS_CSV).exists():
        table = pd.read_csv(file, float_precision="round_trip")
        if dict(zip(table["metric"], table["value"], strict=True)) != dict(run.metrics):
            yield f"{address}: {METRICS_CSV} differs from metrics.json"


def recomputed_hash(run: Result, runs: list[Result]) -> tuple[str | None, str]:
    """Return the hash that a run's settings give; None and why, where they do not suffice."""
    if run.model not in model_names():
        return None, f"there is no model '{run.model}' here"
    config = typed_config(run)
    if config is None:
        return None, "settings of another version"
    if run.results_version != f"{identity.RESULTS_VERSION}.{config.model.results_version}":
        return None, f"results version {run.results_version}"
    if config.depends_on_chat_model:
        return None, "answers or tokens of a chat model"
    if run.init_from:
        return None, "trained from weights that are not here"
    if any(getattr(config.model, key) for key in walk.settings_with(config.model, "input_file")):
        return None, "reads files that are not here"
    trained = None
    if run.trained_run:
        trainer = next((other for other in runs if other.address.as_posix() == run.trained_run), None)
        try:
            trained = Source(trainer, read_status(trainer.folder)).as_trained if trainer else None
        except Llm4RecError:
            trained = None
        if trained is None:
            return None, "evaluates weights that are not here"
    try:
        weights = {key: content for key, (_, content) in identity.pretrained_weights(config.model).items()}
    except Llm4RecError:
        return None, "weights that this machine does not have"
    settings = identity.settings_with_effect(config)
    return identity.address(config, settings, run.dataset_fingerprint, weights, trained).config_hash, ""


def typed_config(run: Result) -> Config | None:
    """Return the settings of a run, typed; None if they are of another version."""
    model = run.settings.model_config
    if model is None:
        return None
    try:
        return replace(walk.typed(Config, run.settings.content), model=model)
    except (ValueError, TypeError, AttributeError):
        return None


def _check_of_tables(folder: Path, manifest: Any, runs: list[Result]) -> Check:
    made_by = manifest.get("llm4rec")
    if made_by != __version__:
        return Check("tables", f"not checked: made by llm4rec {made_by}")
    try:
        expected = tables(runs)
    except (Llm4RecError, ValueError, KeyError, TypeError) as error:
        return Check("tables", "", (f"cannot be made of these runs ({str(error).splitlines()[0]})",))
    wrong = [
        f"{name} does not follow from the runs"
        for name, text in expected.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    return Check("tables", f"{len(expected)} follow from the runs", tuple(wrong))
