"""The results of many runs: read from a folder of runs, selected, finished by name, and by variant."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import overload

from llm4rec_cli.config.overrides import key_typed, typed_besides_path
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.walk import settings_with
from llm4rec_cli.errors import RunError, UsageError, did_you_mean
from llm4rec_cli.results.describe import shown_as
from llm4rec_cli.results.records import read_records, recorded
from llm4rec_cli.results.result import STATUS, Result, read_result, read_status

log = logging.getLogger(__name__)

IMPORT = "import-weights"  # the command, in status.json, of runs that hold weights and no results
# Settings of controls and other splits: such runs are meant only where their folder is named.
OTHER_DATA = {"dataset.control", "dataset.split", "dataset.seed"}
NEAREST_RUNS = 5  # named in an error


class Results(Sequence[Result]):
    def __init__(self, results: Iterable[Result] = ()) -> None:
        self._results = tuple(results)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...
    def __getitem__(self, index: int | slice) -> Result | Results:
        return Results(self._results[index]) if isinstance(index, slice) else self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    @classmethod
    def under(cls, outputs: Path, imports: bool = False, any_model: bool = False) -> Results:
        """Return the finished runs under `outputs`, the last to finish first.

        Args:
            imports: whether imported weights, which have no results, are among them.
            any_model: whether runs of models that are not installed are, which are otherwise left out with a warning.
        """
        finished: list[tuple[float, Result]] = [(record.finished, record) for record in read_records(outputs)]
        for path in outputs.glob(f"*/*/*/seed*/{STATUS}"):
            with suppress(FileNotFoundError):  # another process has just restarted it
                result = read_result(path.parent)
                if result is not None and (imports or read_status(path.parent).command != IMPORT):
                    finished.append((path.stat().st_mtime, result))
        newest_first = [result for _, result in sorted(finished, key=lambda run: (-run[0], run[1].folder))]
        return cls(_with_trainers(newest_first if any_model else filter(_is_installed, newest_first)))

    def select(self, condition: Callable[[Result], bool]) -> Results:
        return Results(filter(condition, self))

    def by_variant(self) -> dict[str, dict[int, Result]]:
        """Return variant -> seed -> run; of several runs of one seed the first."""
        by_seed: dict[str, dict[int, Result]] = {}
        for result in self:
            by_seed.setdefault(result.variant, {}).setdefault(result.seed, result)
        return {variant: without_copies(runs) for variant, runs in by_seed.items()}


def _with_trainers(results: Iterable[Result]) -> Iterator[Result]:
    """Yield the results; evaluations of trained weights with the run that trained them, if it is among them."""
    results = list(results)
    by_address = {result.address.as_posix(): result for result in results}
    for result in results:
        trainer = by_address.get(result.trained_run or "")
        yield replace(result, trainer=trainer) if trainer else result


def _is_installed(result: Result) -> bool:
    if result.model not in model_names():
        log.warning("%s is left out: there is no model '%s' here", result.folder, result.model)
        return False
    return True


def find_result(folder: Path) -> Result | None:
    """Return the finished or recorded run of a folder; None if there is none."""
    return read_result(folder) or recorded(folder)


def depends_on_seed(result: Result) -> bool:
    """Return whether a run's numbers depend on the seed, as far as its model is known; of a combination, if those of a
    member do."""
    if result.model not in model_names():
        return True
    folders = map(Path, result.members or ())  # recorded ones are named under the folder of all runs
    members = [find_result(folder if folder.is_absolute() else result.outputs / folder) for folder in folders]
    finished = [member for member in members if member is not None]
    if members and len(finished) == len(members):
        return any(map(depends_on_seed, finished))
    return config_class(result.model).traits.seeded


def without_copies(by_seed: Mapping[int, Result]) -> dict[int, Result]:
    """Return the runs by seed; of a rule that draws nothing, and of what reads the same files, the lowest seed.

    A file of another system, or one ensemble, evaluated under several seeds is one training and not several. What was
    read from the same files, or computed by the same rule, has the same numbers to the last digit.
    """
    distinct: dict[int, Result] = {}
    for seed, result in sorted(by_seed.items()):
        reads_files = result.model in model_names() and settings_with(config_class(result.model), "input_file")
        has_copies = reads_files or (distinct and not depends_on_seed(result))
        metrics = result.metrics  # an earlier version may have computed fewer
        if has_copies and any(
            all(metrics[name] == other.metrics[name] for name in metrics.keys() & other.metrics.keys())
            for other in distinct.values()
        ):
            if reads_files:
                log.warning(
                    "%s is left out: it has the numbers of a lower seed, so that its files are the same", result.folder
                )
        else:
            distinct[seed] = result
    return distinct


def named_results(names: Sequence[str], outputs: Path, imports: bool = False) -> list[Result]:
    """Return the finished run for each name: its folder, the end of its path, or the beginning of its path under
    `outputs`, such as `sasrec` or `sasrec/demo`, if all runs there are of one variant; of several seeds the lowest.

    With `imports` a run may hold imported weights, which have no results.

    Raises:
        RunError: no finished run has this name.
        UsageError: several do.
    """
    finished = Results.under(outputs, imports, any_model=True)
    return [_named(name, finished, outputs) for name in names]


def _named(name: str, finished: Results, outputs: Path) -> Result:
    path = Path(name.removeprefix("run=")).expanduser()
    if path.is_dir():
        result = read_result(path)
        if result is None:
            raise RunError(f"{path} is not a finished run", "llm4rec list runs")
        if result.imported and not result.metrics:
            raise RunError(f"{path} has imported weights but no results", f"llm4rec eval run={path}")
        return result
    matches = [result for result in finished if _ends_with(result.folder, path)]
    if not matches:
        begin = [run for run in finished if run.address.parts[: len(path.parts)] == path.parts or name == shown_as(run)]
        matches = [run for run in begin if not OTHER_DATA & set(map(key_typed, run.overrides))] or begin
    if not finished:
        raise RunError(
            f"no finished run under {outputs}, so '{name}' matches none",
            "train one first, e.g. llm4rec train model=unisrec; or --outputs FOLDER",
        )
    if not matches:
        addresses = [result.folder.relative_to(outputs).as_posix() for result in finished]
        of_model = [address for address in addresses if path.parts[0] in address.split("/")]
        models = {result.model for result in finished}
        near = difflib.get_close_matches(name, [*models, *addresses], n=1) or (of_model or addresses)[:NEAREST_RUNS]
        remedy = "; ".join(filter(None, [did_you_mean(name, near), "llm4rec list runs shows all"]))
        raise RunError(f"no finished run under {outputs} matches '{name}'", remedy)
    if len({result.variant for result in matches}) > 1 or len({result.seed for result in matches}) < len(matches):
        names = (
            " ".join([run.folder.relative_to(outputs).as_posix(), *typed_besides_path(run.overrides)])
            for run in matches
        )
        raise UsageError(f"'{name}' matches {len(matches)} runs", "; ".join(sorted(names)))
    return min(matches, key=lambda result: result.seed)


def _ends_with(run: Path, end: Path) -> bool:
    """Return whether a run's path ends with these parts. The last may be abbreviated."""
    *parents, last = end.parts
    return run.name.startswith(last) and list(run.parent.parts[len(run.parent.parts) - len(parents) :]) == parents
