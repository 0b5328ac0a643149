"""Make a bundle: a folder of finished runs to hand over, without data, texts and paths."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
import yaml

from llm4rec_cli import __version__
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.errors import RunError, UsageError, raise_first
from llm4rec_cli.results import contents
from llm4rec_cli.results.bundles import MANIFEST
from llm4rec_cli.results.records import Recorded
from llm4rec_cli.results.result import (
    CHECKPOINTS,
    CONFIG,
    METRICS,
    PREDICTIONS,
    STATUS,
    TRAIN_LOG,
    Result,
    read_result,
    read_status,
)
from llm4rec_cli.results.results import Results, find_result, named_results
from llm4rec_cli.results.sealed import SealedFolder, sealed_folder
from llm4rec_cli.results.tables import comma_separated, markdown
from llm4rec_cli.results.variants import groups, variants
from llm4rec_cli.run import checkpoints
from llm4rec_cli.run.catalog import read_json
from llm4rec_cli.run.folder import ENVIRONMENT
from llm4rec_studies.bundle.checklist import checklist
from llm4rec_studies.portable import config_of, has_path, metrics_of, without_paths

README, CHECKLIST, TABLE_CSV, TABLE_MD = "README.md", "CHECKLIST.md", "tables/results.csv", "tables/results.md"
ARITHMETIC, METRICS_CSV = "arithmetic.json", "metrics.csv"
# Columns of answers with ids, or lists of ids and numbers. Of the others, those with numbers are kept: no texts, and
# not what impressions showed, which is the click log itself.
IDS = ("user_id", "target", "impression_id", "status")
LISTS = ("top_items", "top_scores")


def make(names: Sequence[str], out: Path, outputs: Path, seeds: bool = False, weights: bool = False) -> Path:
    """Write a bundle of finished runs and return its folder.

    Args:
        names: as `compare` takes them.
        seeds: whether all seeds of these runs' variants are included.
        weights: whether the weights are; of an evaluation, with the run that trained them.

    Raises:
        RunError, UsageError: there is no such run, it is only recorded, or its weights are gone.
    """
    runs = _runs(names, outputs, seeds, weights)
    raise_first(_problems_of_runs(runs))
    with sealed_folder(out, MANIFEST) as folder:
        for run in runs:
            _write_run(folder, run, weights)
        written = results_in(folder.path, [run.address.as_posix() for run in runs])
        for name, text in tables(written).items():
            folder.write_text(name, text)
        folder.write_text(CHECKLIST, checklist(written))
        folder.write_text(README, _readme(folder.path.name, written, weights))
        folder.facts = {"llm4rec": __version__, "runs": [run.address.as_posix() for run in written], "weights": weights}
        raise_first(_problems_of_paths(folder))
        return folder.path


def _runs(names: Sequence[str], outputs: Path, seeds: bool, weights: bool) -> list[Result]:
    named = named_results(names, outputs)
    if seeds:
        by_variant = Results.under(outputs).by_variant()
        named = [other for run in named for other in by_variant.get(run.variant, {run.seed: run}).values()]
    if weights:
        trained = (find_result(run.outputs / run.trained_run) for run in named if run.trained_run)
        named += [run for run in trained if run is not None]
    return [*{run.folder.resolve(): run for run in named}.values()]


def _problems_of_runs(runs: Sequence[Result]) -> Iterator[UsageError]:
    for run in runs:
        if isinstance(run, Recorded):
            yield UsageError(f"{run.name} is only recorded, without its folder", "name a run under --outputs")
    addresses = [run.address for run in runs]
    for i, address in enumerate(addresses):
        if address in addresses[:i]:
            yield UsageError(f"two of these runs have the address {address}", "name one of them")


def _write_run(folder: SealedFolder, run: Result, weights: bool) -> None:
    """Write what a run folder has but its log, its texts and the state of its optimiser."""
    source, to = run.folder, run.address.as_posix()
    status = read_status(source)
    choices = {key: value for key, value in status.choices.items() if value is not None}
    content = {"status": "done", "error": None, "command": status.command, "overrides": [*status.overrides]}
    folder.write_json(f"{to}/{STATUS}", without_paths({**content, "choices": choices}))
    folder.write_text(f"{to}/{CONFIG}", yaml.safe_dump(config_of(run), sort_keys=False, allow_unicode=True, width=120))
    folder.write_json(f"{to}/{METRICS}", metrics_of(run))
    for name in (ENVIRONMENT, ARITHMETIC):
        if (source / name).exists():
            folder.write_json(f"{to}/{name}", without_paths(read_json(source / name)))
    if (source / METRICS_CSV).exists():
        folder.write(f"{to}/{METRICS_CSV}", lambda path: shutil.copyfile(source / METRICS_CSV, path))
    if (source / TRAIN_LOG).exists():
        folder.write_text(f"{to}/{TRAIN_LOG}", "".join(_rewritten(source / TRAIN_LOG)))
    if run.columns:
        answers = without_texts(run.answers())
        folder.write(f"{to}/{PREDICTIONS}", lambda path: answers.to_parquet(path, index=False))
    if weights and config_class(run.model).traits.trainable and not run.trained_run:
        _write_weights(folder, run, to)


def _rewritten(file: Path) -> Iterator[str]:
    """Yield the lines of a log; those that a killed process left torn are left out."""
    for line in file.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            yield json.dumps(without_paths(json.loads(line))) + "\n"


def without_texts(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of answers that hold ids and numbers."""
    return answers[[name for name in map(str, answers) if is_id_or_number(name, answers[name])]]


def is_id_or_number(name: str, column: pd.Series) -> bool:
    return name in (*IDS, *LISTS) or pd.api.types.is_numeric_dtype(column)


def _write_weights(folder: SealedFolder, run: Result, to: str) -> None:
    """Write the selected checkpoint, complete as `eval` needs it, without the files to resume the training."""
    checkpoint = checkpoints.selected(run.folder / CHECKPOINTS)
    part = f"{to}/{CHECKPOINTS}/{checkpoint.folder.name}"
    folder.write(
        f"{part}/{checkpoints.WEIGHTS}", lambda path: shutil.copyfile(checkpoint.folder / checkpoints.WEIGHTS, path)
    )
    manifest = read_json(checkpoint.folder / checkpoints.MANIFEST)
    kept = {checkpoints.WEIGHTS: manifest["files"][checkpoints.WEIGHTS]}
    folder.write_json(f"{part}/{checkpoints.MANIFEST}", {**manifest, "best_step": checkpoint.step, "files": kept})
    done = read_json(run.folder / CHECKPOINTS / checkpoints.TRAINING_DONE)
    folder.write_json(f"{to}/{CHECKPOINTS}/{checkpoints.TRAINING_DONE}", {**done, "step": checkpoint.step})
    known = {METRICS, STATUS, ENVIRONMENT, ARITHMETIC}
    for file in sorted(run.folder.glob("*.json")):  # what belongs to the weights, such as the names of the items
        if file.name not in known:
            folder.write(f"{to}/{file.name}", lambda path, file=file: shutil.copyfile(file, path))  # type: ignore[misc]


def results_in(folder: Path, addresses: Iterable[str]) -> list[Result]:
    """Return the runs of a bundle, unmarked. Raises RunError if one is not readable."""
    runs = []
    for address in addresses:
        run = read_result(folder / address)
        if run is None:
            raise RunError(f"{folder / address} is not a finished run", "make the bundle again")
        runs.append(run)
    return runs


def tables(runs: Sequence[Result]) -> dict[str, str]:
    """Return the tables that `llm4rec report` makes of these runs: file name -> content."""
    by_table = groups(variants(runs))
    flat = contents.flat_results(by_table)
    parts = []
    for content in map(contents.results, by_table):
        parts += [f"### {content.title}", markdown(content.columns, content.rows)]
        parts.append("\n".join(f"- {note}" for note in content.notes))
    return {TABLE_CSV: comma_separated(flat.columns, flat.rows), TABLE_MD: "\n\n".join(parts) + "\n"}


def _readme(name: str, runs: Sequence[Result], weights: bool) -> str:
    addresses = "\n".join(f"- `{run.address.as_posix()}`" for run in runs)
    return f"""# {name}: {len(runs)} finished run{"s" if len(runs) > 1 else ""} of llm4rec {__version__}

{addresses}

Each folder has the settings, the environment, the numbers and the answers per example, as ids, ranks and numbers.
Data, texts and paths are left out{", and the weights are included" if weights else ", and so are the weights"}.

- [CHECKLIST.md](CHECKLIST.md): data, split, seeds, trials, hardware, time, deviations
- [tables/results.md](tables/results.md), [tables/results.csv](tables/results.csv): the results

```bash
llm4rec bundle verify {name}
llm4rec report --outputs {name}
llm4rec compare RUN RUN --outputs {name}
```
"""


def _problems_of_paths(folder: SealedFolder) -> Iterator[RunError]:
    for name in folder.names:
        if name.endswith((".json", ".jsonl", ".yaml", ".md", ".csv")):
            for number, line in enumerate((folder.path / name).read_text(encoding="utf-8").splitlines(), start=1):
                if has_path(line):
                    yield RunError(f"{folder.path / name}:{number} names a path: {line.strip()[:80]}", "report this")
