"""Tuning of a model: ordinary trainings on validation, and the experiment that holds the best settings."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from llm4rec_cli.config import walk
from llm4rec_cli.config.compose import Composed, compose
from llm4rec_cli.config.folders import data_file
from llm4rec_cli.config.overrides import GROUPS, SEARCH_SPACES, command_line, key_typed, quoted
from llm4rec_cli.errors import UsageError
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.results.result import Result, Tuning
from llm4rec_cli.results.tables import Content
from llm4rec_cli.run import stages
from llm4rec_cli.run.advice import advised
from llm4rec_cli.run.execute import OnEpoch, execute, run_floors
from llm4rec_cli.run.identity import find_weights
from llm4rec_cli.run.job import Job
from llm4rec_studies.tuning.search import Budget, Score, Search, Settings, Trial, best, expected_best
from llm4rec_studies.tuning.space import Space, read_space

GENERATED = "dataset.seed=1"  # generated data are tested with seed 0
CHOSEN_BY = "Chosen on validation by:"  # and the command, in the experiment of a search
NOT_SAVED = {"dataset.raw_dir", "dataset.seed", "split", "seed", "device", "force"}


@dataclass(frozen=True)
class Tuned:
    """A search that has spent its budget."""

    job: Job  # the training with the settings before tuning
    typed: Sequence[str]  # the overrides of the search
    name: str
    folder: Path  # its journal, the runs of its trials, and its record
    starts: Sequence[str]  # the experiments whose settings were tried after trial 0
    budget: Budget  # of the latest call
    pruned: bool  # whether the latest call stopped trials early
    space: Space  # the settings that were searched
    trials: Sequence[Trial]  # of all calls
    floors: Sequence[Result] = ()  # on the same validation part

    @property
    def metric(self) -> str:
        return self.job.task.selection

    @cached_property
    def chosen(self) -> Trial | None:
        return best(self.trials)

    @property
    def cost(self) -> Tuning:
        """The budget of the search and its result, as the runs with the chosen settings record them."""
        n_trials = len([trial for trial in self.trials if trial.counts and trial.state != "running"])
        minutes, most, sign = round(sum(trial.minutes for trial in self.trials), 1), self.budget, direction(self.metric)
        return Tuning(
            dataset=self.job.config.dataset.name,
            trials=n_trials,
            minutes=minutes,
            max_trials=max(most.trials, n_trials),  # an earlier call may have had more
            max_minutes=None if most.minutes is None else max(most.minutes, minutes),
            metric=self.metric,
            mask_history=self.job.task.mask_history if self.job.task.ranks_catalogue else None,
            score=round(sign * ((self.chosen and self.chosen.score) or 0.0), 6),
            expected_best=[round(sign * score, 6) for score in expected_best(self.trials)],
        )

    def _cost_entries(self) -> Mapping[str, object]:
        return {name: value for name, value in asdict(self.cost).items() if value is not None}

    def record(self) -> Mapping[str, object]:
        """Return tuning.json."""
        assert self.chosen is not None
        return {
            "overrides": list(self.typed),
            "space": {key: vars(entry) for key, entry in self.space.items()},
            "starts": list(self.starts),
            "tuning": self._cost_entries(),
            "chosen": self.chosen.number,
            "trials": [
                {
                    "number": trial.number,
                    "state": trial.state,
                    "settings": trial.settings,
                    self.metric: None if trial.score is None else round(direction(self.metric) * trial.score, 6),
                    "minutes": round(trial.minutes, 2),
                    "error": trial.error,
                }
                for trial in self.trials
            ],
        }

    def experiment(self) -> str:
        """Return the YAML of an experiment with the best settings and what is known of their search."""
        assert self.chosen is not None
        bases: list[Any] = []
        values: Settings = {}
        for override in self.typed:
            key, _, value = override.lstrip("+").partition("=")
            if key == "experiment":
                bases.insert(0, value)
            elif key in GROUPS:
                bases.append({f"override /{key}": value})
            elif key.startswith("prompt/"):
                bases.append({f"override /{key}": yaml.safe_load(value)})
            elif key not in NOT_SAVED and not key.startswith(("paths.", "~")):  # YAML removes no key
                values = {**values, key: yaml.safe_load(value)}
        if not bases or not any(isinstance(base, str) or "override /model" in base for base in bases):
            bases.append({"override /model": self.job.model.name})
        settings = walk.nested({**values, **self.chosen.settings})
        content = {"defaults": [*bases, "_self_"], **settings, "tuning": self._cost_entries()}
        command = [_command(self.typed), f"--trials {self.budget.trials}", *(f"--start {name}" for name in self.starts)]
        command += [f"--minutes {self.budget.minutes:g}"] if self.budget.minutes else []
        command += [] if self.pruned else ["--unpruned"]
        head = textwrap.fill(f"{CHOSEN_BY} {' '.join(command)}", 110, break_on_hyphens=False, break_long_words=False)
        comment = textwrap.indent(f"@package _global_\n{head}\n", "# ")
        return comment + yaml.safe_dump(content, sort_keys=False, width=110)

    def table(self) -> Content:
        """Return the trials, the best marked, with the space, the best-of-n curve, and the strongest floor."""
        sign, metric = direction(self.metric), self.metric
        short = {key: key.partition(".")[2] for key in self.space}
        rows = [
            [
                f"{trial.number}{'*' if trial is self.chosen else ''}",
                *(str(trial.settings.get(key, "")) for key in self.space),
                "–" if trial.score is None else f"{sign * trial.score:.4f}",
                f"{trial.minutes:.1f}",
                trial.state if trial.error is None else f"{trial.state}: {trial.error}",
            ]
            for trial in self.trials
        ]
        notes = [f"space: {'; '.join(f'{short[key]} {entry}' for key, entry in self.space.items())}"]
        curve = " ".join(f"{sign * score:.4f}" for score in expected_best(self.trials))
        if curve:
            notes.append(f"expected best of n trials, n = 1, 2, …: {curve}")
        with_metric = [floor for floor in self.floors if metric in floor.metrics]
        if with_metric:
            strongest = max(with_metric, key=lambda floor: sign * floor.metrics[metric])
            notes.append(f"strongest floor: {strongest.shown_as} {strongest.metrics[metric]:.4f}")
        columns = ["trial", *short.values(), metric, "minutes", "state"]
        return Content(f"{self.name}: {metric} on validation", columns, rows, notes)


def tune(typed: Sequence[str], name: str | None, starts: Sequence[str], budget: Budget, pruned: bool) -> Tuned:
    """Search the settings of a model until the budget is spent. A search of this name goes on.

    Args:
        typed: from `overrides_of_search`.
        name: None = MODEL-DATASET-TASK.
        starts: experiments whose settings are tried after trial 0.

    Raises:
        UsageError: the model has no search space, a start belongs to another model, or the folder has another search.
    """
    job = Job.resolve(compose(typed), "train")
    if job.task.mask_history is None:
        job = advised(job, stages.split_dataset(job, stages.load(job)))
        typed = job.typed
    find_weights(job.config)
    unused = {f"model.{setting}" for setting in job.model.unused_settings(job.task)}
    space = {key: entry for key, entry in _space(job.model.name).items() if key not in unused}
    first = [_settings(job, space), *(_settings_of(start, job, space) for start in starts)]
    name = name or f"{job.model.name}-{job.config.dataset.name}-{job.task.name}"
    folder = (job.outputs / "tune" / name).absolute()
    metric = job.task.selection
    typed_here = [*typed, f"paths.outputs={quoted(str(folder / 'runs'))}"]
    job = Job.resolve(compose(typed_here), "train")
    dataset = stages.load(job)  # first: what is wrong with the data may need other overrides
    settings = {"overrides": typed, "pruned": pruned, "dataset_fingerprint": dataset.fingerprint}
    search = Search(folder, space, first, settings, seed=0)
    split = stages.split_dataset(job, dataset)
    floors = run_floors(job, split)

    def evaluate(settings: Settings, on_epoch: OnEpoch) -> Score:
        values = [
            f"{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}" for key, value in settings.items()
        ]
        trial = Job.resolve(compose([*typed_here, *values]), "train")
        hook = on_epoch if pruned else None
        outcome = execute(trial, split, floors, on_epoch=hook)
        result = outcome.result
        value = (result.training or {}).get(f"valid_{metric}", result.metrics.get(metric))
        assert value is not None, result.folder
        seconds = sum(result.seconds.values()) if outcome.status == "skipped" else None
        return Score(direction(metric) * value, seconds)

    search.run(budget, evaluate)
    return Tuned(job, typed, name, folder, starts, budget, pruned, space, search.trials(), floors)


def overrides_of_search(composed: Composed) -> list[str]:
    """Return the overrides of a search: those typed, validation, and for generated data a draw that is not tested."""
    keys = {key_typed(override) for override in composed.typed}
    generated = composed.config.dataset.generator is not None and "dataset.seed" not in keys
    return [*composed.typed, "split=valid", *([GENERATED] if generated else [])]


def _space(model: str) -> Space:
    if (file := data_file(SEARCH_SPACES, model)) is None:
        raise UsageError(
            f"model '{model}' has no search space",
            f"write conf/search/{model}.yaml: KEY: {{values: [A, B]}} for each key",
        )
    return read_space(file)


def _settings(job: Job, space: Space) -> Settings:
    """Return the composed values of the settings that are searched."""
    return {key: _value(job, key) for key in space}


def _settings_of(experiment: str, searched: Job, space: Space) -> Settings:
    """Return the values of the settings that are searched in an experiment, which may be of other data. Raises
    UsageError if the experiment is unknown or belongs to another model."""
    job = Job.unchecked(compose([f"+experiment={experiment}"]), "train")
    if job.model.name != searched.model.name:
        raise UsageError(
            f"--start {experiment} belongs to model '{job.model.name}', but the search is for '{searched.model.name}'",
            "llm4rec list experiments",
        )
    return _settings(job, space)


def _value(job: Job, key: str) -> Any:
    value: Any = job.config
    for part in key.split("."):
        value = getattr(value, part)
    return getattr(value, "name", value)  # of an enumeration


def _command(typed: Sequence[str]) -> str:
    """Return the command that repeats a search, without options that do not belong to its experiment."""
    saved = (o for o in typed if key_typed(o) not in NOT_SAVED and not o.startswith("paths."))
    return command_line("tune", saved)


def names_the_search(experiment: Path, typed: Sequence[str]) -> bool:
    """Return whether the comments of an experiment name this search, on one line or wrapped."""
    lines = experiment.read_text(encoding="utf-8").splitlines()
    words = " ".join(line.lstrip("#").strip() for line in lines if line.startswith("#"))
    _, named, after = words.partition(f"{CHOSEN_BY} {_command(typed)}")
    return bool(named) and (not after or after.startswith(" --"))  # more overrides are another search
