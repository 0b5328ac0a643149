"""The runs behind a paper's table: which commands make each cell, in what order, and which of them are finished.

A step is one command. Cells share steps: a training is run once, however many cells evaluate it, and what is finished
is skipped, as by the typed command, whose address a step's run has.
"""

from __future__ import annotations

import itertools
import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from llm4rec_cli.config import walk
from llm4rec_cli.config.compose import Composed, compose
from llm4rec_cli.config.keys import is_of_one_task
from llm4rec_cli.config.overrides import command_line, hydra_override, key_typed
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.schema import Question
from llm4rec_cli.data import store
from llm4rec_cli.data.prepare import missing_files, prepare
from llm4rec_cli.data.statistics import comparison
from llm4rec_cli.errors import Llm4RecError, RunError, UsageError
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.results.result import Result, read_result
from llm4rec_cli.run import stages
from llm4rec_cli.run.execute import run, run_all
from llm4rec_cli.run.job import Job, evaluation
from llm4rec_studies.ensembles import ensemble_overrides
from llm4rec_studies.paper_tables.definitions import REFERENCE, Cell, Kind, Size, Table, merged

log = logging.getLogger(__name__)

TUNING_SEED = 0


@dataclass(frozen=True)
class Step:
    command: str  # train, eval, prepare or ensemble
    overrides: tuple[str, ...]  # as typed, without those that name other runs, and without folders
    after: tuple[Step, ...] = ()  # the run that a training starts from or an evaluation is of; an ensemble's members
    search: tuple[tuple[tuple[str, ...], Step], ...] = ()  # settings, and the run on validation that has them

    @property
    def needed(self) -> tuple[Step, ...]:
        """The steps that come first."""
        return (*self.after, *(candidate for _, candidate in self.search))


def cell_step(
    table: Table, cell: Cell, size: Size, seed: int, tuned: bool, start_run: Path | None = None
) -> Step | None:
    """Return the step whose run is a cell with this seed; None if the cell is not made at this size.

    Args:
        tuned: whether rows that the table tunes are searched first.
        start_run: the run whose weights a row starts from that the table starts from another training's.
    """
    if table.not_made(cell, size) or (table.kind is Kind.human and cell.row.label == REFERENCE):
        return None
    if cell.row.ensemble:
        by_label = {other.row.label: other for other in table.cells() if other.column is cell.column}
        members = [cell_step(table, by_label[label], size, seed, tuned, start_run) for label in cell.row.ensemble]
        return Step("ensemble", ("combine=sum",), tuple(filter(None, members)))
    overrides = table.train_overrides(cell, size) or ()
    if table.kind is Kind.data:
        return Step("prepare", overrides)
    grid = table.tuning.grid if table.tuning and tuned and cell.row.tuned else {}
    start = table.start_overrides(cell, size)
    if start and start_run:
        setting = _init_setting(composed(overrides).config.model.name)
        overrides, start = merged([overrides, [f"model.{setting}={start_run}"]]), ()
    step = _training(overrides, start, seed, grid)
    if evaluation := table.eval_overrides(cell):
        return Step("eval", merged([step.overrides, evaluation]), (step,))
    return step


def _training(overrides: tuple[str, ...], start: tuple[str, ...], seed: int, grid: Mapping[str, Sequence[Any]]) -> Step:
    def after(of_seed: int) -> tuple[Step, ...]:
        return (Step("train", merged([start, [f"seed={of_seed}"]])),) if start else ()

    search = []
    for values in itertools.product(*grid.values()) if grid else ():
        settings = tuple(f"{key}={value}" for key, value in zip(grid, values, strict=True))
        typed = merged([overrides, settings, ["split=valid", f"seed={TUNING_SEED}"]])
        search.append((settings, Step("train", typed, after(TUNING_SEED))))
    return Step("train", merged([overrides, [f"seed={seed}"]]), after(seed), tuple(search))


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Return each step once, after those that it needs."""
    ordered: dict[Step, None] = {}

    def add(step: Step) -> None:
        for needed in step.needed:
            add(needed)
        ordered.setdefault(step)

    for step in steps:
        add(step)
    return list(ordered)


def composed(overrides: Sequence[str]) -> Composed:
    """Return the composed config of overrides as they are typed (cached; do not mutate). Raises UsageError if they are
    wrong."""
    return _composed(tuple(overrides))


@cache
def _composed(overrides: tuple[str, ...]) -> Composed:
    return compose([hydra_override(override) for override in overrides])


class Runner:
    """Runs steps, each once.

    Args:
        raw: dataset -> folder of its raw files; `*` = a folder that holds one for each dataset.
        typed: overrides of every step, such as `paths.outputs=…`.
    """

    def __init__(self, raw: Mapping[str, Path], typed: Sequence[str]) -> None:
        self.raw, self.typed = raw, list(typed)
        self._results: dict[Step, Result | Llm4RecError] = {}
        self._states: dict[Step, str] = {}

    @property
    def _of_machine(self) -> list[str]:
        """The typed overrides that hold for any command and model."""
        return [override for override in self.typed if key_typed(override).partition(".")[0] in ("paths", "device")]

    @property
    def changes_runs(self) -> bool:
        """Whether the typed overrides change more than folders and devices."""
        return len(self.typed) > len(self._of_machine)

    @property
    def paths(self) -> Any:
        """The node `paths` of the config of every step."""
        return composed(self._of_machine).config.paths

    @property
    def outputs(self) -> Path:
        """The folder of the runs."""
        return Path(self.paths.outputs).expanduser()

    def overrides(self, step: Step) -> list[str]:
        """Return the overrides of a step with the folder of its raw files. An ensemble has those of its members."""
        typed = self._of_machine if step.command in ("ensemble", "prepare") else self.typed
        composes = bool(step.overrides) and step.command != "ensemble"
        if composes and composed(step.overrides).config.task.question == Question.all:
            typed = [override for override in typed if not is_of_one_task(key_typed(override))]  # of its evaluations
        overrides = [*merged([step.overrides, typed])]
        if step.command == "ensemble" or not self.raw:
            return overrides
        folder = self._raw_dir(composed(overrides))
        return overrides if folder is None else [*overrides, f"dataset.raw_dir={folder}"]

    def _raw_dir(self, config: Composed) -> Path | None:
        if config.config.dataset.generator is not None or "dataset.raw_dir" in map(key_typed, config.typed):
            return None
        name = config.choices["dataset"]
        if name in self.raw:
            return self.raw[name]
        folder = self.raw["*"] / name if "*" in self.raw else None
        return folder if folder and folder.is_dir() else None

    def result(self, step: Step) -> Result:
        """Return the run of a step, running it and what it needs unless finished.

        Raises:
            Llm4RecError: it failed, or a run that it needs did; the same error again if it was tried before.
        """
        if step not in self._results:
            self._results[step] = self._tried(step)
        result = self._results[step]
        if isinstance(result, Llm4RecError):
            raise result
        return result

    def _tried(self, step: Step) -> Result | Llm4RecError:
        try:
            for needed in step.needed:
                self.result(needed)
            return self._run(step)
        except Llm4RecError as error:
            log.error("%s (%s)", error.problem, error.remedy)
            return error
        except Exception as error:
            log.error("%s", traceback.format_exc())
            return RunError(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", "see the log above")

    def _run(self, step: Step) -> Result:
        if step.command == "prepare":
            return self._statistics(step)
        members = [self.result(member) for member in step.after]
        if step.command == "eval":
            (member,) = members
            config = composed([*self.overrides(step), f"run={member.folder}"])
            (*_, outcome) = run_all(evaluation(Job.unchecked(config, "eval")))
            return outcome.result
        if step.command == "ensemble":
            values = dict(override.split("=") for override in step.overrides)
            combined = ensemble_overrides(members, self.outputs, values["combine"])
            overrides = [*merged([combined, self._of_machine])]
        else:
            overrides = self._train_overrides(step)
        # Of a training for all tasks only this: a cell evaluates the task that it is of.
        return run(Job.resolve(composed(overrides), "train")).result

    def _train_overrides(self, step: Step) -> list[str]:
        """Return the overrides of a training with its chosen settings and the run whose weights it starts from."""
        overrides = self.overrides(step)
        if step.search:
            overrides = [*merged([overrides, self.chosen(step)])]
        for start in map(self.result, step.after):
            name = composed(overrides).config.model.name
            overrides.append(f"model.{_init_setting(name)}={start.folder.resolve()}")
        return overrides

    def sweeps(self, group: Sequence[Step]) -> Iterator[list[str]]:
        """Yield the overrides of the sweeps that make trainings which differ only in the seed: those of their search,
        and then those of their seeds. The runs that a sweep needs are made before it is yielded."""
        first = group[0]
        if len(first.search) > 1:
            values: dict[str, dict[str, None]] = {}
            for key, _, value in (setting.partition("=") for settings, _ in first.search for setting in settings):
                values.setdefault(key, {})[value] = None
            _, candidate = first.search[0]
            swept = [f"{key}={','.join(of_key)}" for key, of_key in values.items()]
            yield [*merged([self._train_overrides(candidate), swept])]
        starts = [start.folder for step in group for start in map(self.result, step.after)]
        alone = [len([*start.parent.glob(f"{start.name.partition('-')[0]}-*")]) == 1 for start in starts]
        if not all(alone):
            log.info("%s: several runs of a seed, so that its trainings come one after the other", starts[0].parent)
        elif len(group) > 1:
            seeds = [override for step in group for override in step.overrides if key_typed(override) == "seed"]
            swept = [f"seed={','.join(seed.partition('=')[2] for seed in seeds)}"]
            if starts:  # of a folder of runs, each seed starts from the one with its seed
                name = composed(self.overrides(first)).config.model.name
                swept.append(f"model.{_init_setting(name)}={starts[0].parent.resolve()}")
            yield [*merged([self._train_overrides(first), swept])]

    def chosen(self, step: Step) -> tuple[str, ...]:
        """Return the settings whose run has the best validation metric, the first of equal ones."""
        task = composed(self.overrides(step)).config.task

        def score(candidate: Step) -> float:
            result = self.result(candidate)
            in_training = (result.training or {}).get(f"valid_{task.selection}", result.metrics.get(task.selection))
            assert in_training is not None, result.folder
            return direction(task.selection) * in_training

        settings, _ = max(step.search, key=lambda searched: score(searched[1]))
        return settings

    def _statistics(self, step: Step) -> Result:
        """Return a prepared dataset's folder, and its statistics in the form of a result."""
        job = Job.unchecked(composed(self.overrides(step)), "prepare")
        manifest = prepare(job.config.dataset, job.cache).manifest
        metrics: dict[str, float] = {row.statistic: float(row.ours) for row in comparison(manifest, None)}
        if "interactions" in metrics:
            metrics["length"] = metrics["interactions"] / metrics["users"]
            metrics["density"] = 100 * metrics["interactions"] / (metrics["users"] * metrics["items"])
        labels = ["synthetic"] if job.config.dataset.generator else []
        folder = store.dataset_folder(job.cache, manifest["name"], manifest["fingerprint"])
        return Result.of_numbers(folder, manifest["name"], metrics, labels)

    # --- without running anything

    def located(self, step: Step) -> str:
        """Return `done`, `to run`, or why that cannot be known here: raw files or weights are not on this machine."""
        if step not in self._states:
            states = [self.located(needed) for needed in step.needed]
            blocked = [state for state in states if state not in ("done", "to run")]
            if blocked or "to run" in states:
                self._states[step] = blocked[0] if blocked else "to run"
            else:
                self._states[step] = self._state(step)
        return self._states[step]

    def _state(self, step: Step) -> str:
        """Return the state of a step that needs nothing else, and keep its run if it is finished."""
        if step.command == "ensemble":  # takes no time
            return "to run"
        try:
            job = Job.unchecked(composed(self.overrides(step)), step.command)
            if missing_files(job.config.dataset, job.cache):
                return f"no data of {job.config.dataset.name}"
            if step.command == "prepare":
                return "to run"
            folder = self._address(step)
        except Llm4RecError as error:
            return error.problem
        result = read_result(folder)
        if result is None:
            return "to run"
        self._results[step] = result
        return "done"

    def _address(self, step: Step) -> Path:
        """Return the run folder of a training, or of an evaluation of a run that is done. Raises Llm4RecError if
        weights are not on this machine, or the overrides are refused."""
        if step.command == "eval":
            config = composed([*self.overrides(step), f"run={self.result(step.after[0]).folder}"])
            job = evaluation(Job.unchecked(config, "eval"))
        else:
            job = Job.resolve(composed(self._train_overrides(step)), "train")
        return job.address(stages.load(job)).folder

    def command(self, step: Step, numbers: Mapping[Step, int]) -> str:
        """Return a step as it is typed. The runs that it needs as `RUN_3`, by their numbers."""
        overrides = self.overrides(step)
        if step.command == "eval":
            overrides = [f"run=RUN_{numbers[step.after[0]]}", *overrides]
        elif step.command == "ensemble":
            overrides = [f"run=[{','.join(f'RUN_{numbers[member]}' for member in step.after)}]", *overrides]
        elif step.after:
            name = composed(overrides).config.model.name
            overrides.append(f"model.{_init_setting(name)}=RUN_{numbers[step.after[0]]}")
        if step.search:
            searched = sorted(numbers[candidate] for _, candidate in step.search)
            overrides.append(f"BEST_OF_{searched[0]}_TO_{searched[-1]}")
        return command_line(step.command, overrides)


def _init_setting(model: str) -> str:
    setting = next(iter(walk.settings_with(config_class(model), "agrees_in")), None)
    if setting is None:
        raise UsageError(f"model '{model}' starts from no other run's weights", "remove 'start' from the row")
    return setting


def trainings(steps: Sequence[Step]) -> list[list[Step]]:
    """Return the trainings in groups that differ only in the seed."""
    groups: dict[tuple[Any, ...], list[Step]] = {}
    for step in steps:
        if step.command == "train":
            typed = tuple(override for override in step.overrides if key_typed(override) != "seed")
            groups.setdefault((typed, bool(step.after)), []).append(step)
    return [*groups.values()]
