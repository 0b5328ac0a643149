"""The finished run whose weights a job evaluates or starts training from, and how it is chosen.

`eval` and `recommend` evaluate `run=PATH`, PATH being its folder or the end of its path, or the run that matches the
typed overrides: the one with the fewest other settings, as what is not typed is at its default, and the newest of
equals. A training starts from the run that `init_from` of its model names.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli import processes
from llm4rec_cli.config import walk
from llm4rec_cli.config.keys import all_declarations, key_role, keys_with_role
from llm4rec_cli.config.overrides import GROUPS, as_typed, command_line, key_typed
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.roles import NOT_HASHED, Role
from llm4rec_cli.config.schema import Config, Control, ModelConfig, Question
from llm4rec_cli.errors import RunError, UsageError, raise_first
from llm4rec_cli.results.result import ARITHMETIC, CHECKPOINTS, STATUS, Result, Status, read_result, read_status
from llm4rec_cli.results.results import IMPORT, Results, named_results
from llm4rec_cli.results.settings import REMOVED, Settings, added_defaults
from llm4rec_cli.run import checkpoints
from llm4rec_cli.run.catalog import read_json
from llm4rec_cli.run.checkpoints import Checkpoint
from llm4rec_cli.run.identity import ReadWeights

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset

log = logging.getLogger(__name__)

EVALUATION_ROLES = (Role.question, Role.extent, *NOT_HASHED)  # may differ from the trained run: not the weights
SAME_TRAINING = {Control.none.name, Control.swap_users.name}  # controls that change no training


@dataclass(frozen=True)
class Source:
    """A finished run with weights. `overrides` of its evaluation are those of its training, then those typed now."""

    result: Result
    status: Status
    overrides: Sequence[str] = ()

    @property
    def folder(self) -> Path:
        return self.result.folder

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that it selected."""
        return processes.from_first(lambda: checkpoints.selected(self.folder / CHECKPOINTS))

    @property
    def trained_masked(self) -> bool | None:
        """Whether its validation left out items of the history; None if it ranked no catalogue, or is not known."""
        is_known = self.result.protocol == "full" and not self.result.imported
        return bool(self.result.mask_history) if is_known else None

    def described(self, typed: set[str]) -> str:
        """Return its folder, with the settings of its training whose keys are not typed."""
        settings = settings_not_typed(self.status.overrides, typed)
        return f"{self.folder} with {' '.join(settings)}" if settings else str(self.folder)

    @property
    def as_trained(self) -> ReadWeights:
        """Return what the address of its evaluation is made of."""
        return ReadWeights(f"{self.result.config_hash} {self.checkpoint.sha256}", self.result.variant)

    def as_initial(self, seed: int) -> ReadWeights:
        """Return what the address of a training that starts from these weights is made of."""
        variant = self.result.variant
        if not self.result.imported:  # whose seed means nothing
            # Runs are averaged if each starts from the pre-training of its own seed, or all from one.
            variant += f" of {'the own seed' if self.result.seed == seed else self.result.seed}"
        return ReadWeights(self.checkpoint.sha256, variant)

    def problems_with_data(self, model: ModelConfig, dataset: RecDataset) -> Iterator[RunError]:
        """Yield a problem if it was trained on another dataset: other fingerprint, item tokens or name.

        Imported weights have read no data here. Where they depend on the numbers of users or items, the dataset must
        at least have the name that they were imported for.
        """
        name = dataset.manifest["name"]
        if self.result.imported:
            if model.traits.needs_user and name != self.result.dataset:
                yield RunError(
                    f"the weights of {self.folder} are for the users of {self.result.dataset}",
                    f"dataset={self.result.dataset}",
                )
            return
        if dataset.fingerprint != self.result.dataset_fingerprint:
            yield RunError(
                f"{self.folder} was trained on other data with the name {name}",
                "use the dataset.raw_dir and dataset.seed that it was trained with, or train again",
            )
        if dataset.manifest.get("tokens") != self.result.tokens:
            yield RunError(
                f"{self.folder} was trained with other item tokens",
                "use the llm, enrichment and dataset.seed that it was trained with, or train again",
            )

    def problems_with_typed(
        self, config: Config, typed: Sequence[str], choices: Mapping[str, str]
    ) -> Iterator[UsageError]:
        """Yield the task, and the typed settings of training, such as the seed, that the weights were not trained for.

        Only typed ones: a YAML may have changed since, and the numbers of the evaluation do not depend on them.
        """
        folder, stored, now = self.folder, self.result.settings, Settings.of(config)
        if config.model.traits.task_bound and not _trained_for(stored, config):
            yield UsageError(
                f"{folder} was trained for task '{stored.get('task.name')}' and can only be evaluated on it",
                f"train for this task: llm4rec train model={config.model.name} task={config.task.name}, or task=all",
            )
        resolved = read_json(folder / ARITHMETIC)  # what a precision of `auto` became
        for override in typed:
            key = key_typed(override)
            if key_role(key) is not Role.training or resolved.get(key, "auto") == now.in_effect(key):
                continue
            if not _matches(key, now, choices, stored, self.status.choices):
                yield UsageError(
                    f"{override} differs from the training of {folder}, which used "
                    f"{self.status.choices.get(key, stored.in_effect(key))}",
                    "leave it out, or name a run that was trained with it: llm4rec list runs",
                )

    def problems_with_settings(self, config: Config) -> Iterator[RunError]:
        """Yield the settings of model, item text and held-out data that differ from the trained weights'.

        A YAML may have changed since. A setting that is newer than the run has the default that the run had in effect.
        """
        folder, now = self.folder, Settings.of(config).flat
        own = walk.declarations(type(config.model))
        of_evaluation = {setting.key for setting in own if setting.role in EVALUATION_ROLES}
        without_effect = config.model.unused_settings(config.task)  # an earlier version may have stored values
        provenance = walk.settings_with(config.model, "provenance")
        left_out = {f"model.{key}" for key in (*provenance, *of_evaluation, *without_effect)}
        newer = {key: default for key, default in added_defaults(config.model.name).items() if key in now}
        removed = REMOVED.get(config.model.name, {})
        then = newer | {
            key: value for key, value in self.result.settings.flat.items() if removed.get(key, ...) != value
        }
        for key in dict.fromkeys([*now, *then]):
            paths = list(itertools.accumulate(key.split("."), "{}.{}".format))
            if not left_out.isdisjoint(paths) or {"model", "dataset.text", *_intervention_keys()}.isdisjoint(paths):
                continue
            if key in removed:
                yield RunError(
                    f"{folder} was trained with {key}={then[key]}, which was removed", "train again without it"
                )
            elif (key in now) != (key in then):
                yield RunError(
                    f"{folder} was trained by another version, with other settings than {key}", "train again"
                )
            elif now.get(key) != then.get(key) and not (
                key == "dataset.control" and {now[key], then[key]} <= SAME_TRAINING
            ):
                yield RunError(
                    f"{folder} was trained with {key}={then.get(key)}, not {now.get(key)}",
                    "use the settings that it was trained with, or train again",
                )


def choose(config: Config, typed: Sequence[str], choices: Mapping[str, str]) -> Source:
    """Return the run that `run` names, or the match of the newest one's model and dataset with the fewest settings that
    are not typed, the newest of equals.

    Raises:
        RunError: no run matches; the remedy is the command that trains one.
        UsageError: the named run has no weights, or is not under the folder of outputs.
    """
    outputs, typed_keys = Path(config.paths.outputs), set(map(key_typed, typed))
    if config.run is not None:
        return _named_run(Path(str(config.run)), outputs, typed)
    matches = _matching_runs(config, typed, choices)
    if (newest := next(matches, None)) is None:
        command = command_line("train", typed)
        raise RunError(f"no finished training run under {outputs} matches what was typed", command)

    def not_typed(run: Source) -> list[str]:
        return settings_not_typed(run.status.overrides, typed_keys)

    model, dataset = newest.result.model, newest.result.dataset
    same = [run for run in matches if (run.result.model, run.result.dataset) == (model, dataset)]
    chosen = min([newest, *same], key=lambda run: len(not_typed(run)))
    if chosen is not newest:
        settings = [setting for setting in not_typed(newest) if setting not in not_typed(chosen)]
        log.info(
            "left out: %s, which is newer and was trained with %s; to evaluate it, type that, or run=%s",
            *(newest.result.folder, " ".join(settings), newest.result.folder),
        )
    return chosen


def _named_run(path: Path, outputs: Path, typed: Sequence[str]) -> Source:
    """Return the run at this absolute path, or the run whose folder the typed path abbreviates."""
    if not path.is_dir():
        written = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        path = named_results([str(written)], outputs, imports=True)[0].folder
    folder = path.resolve()
    named, status = read_result(folder), read_status(folder)
    if named is None or status.command not in ("train", IMPORT):
        raise RunError(f"{folder} is not a finished training run", "llm4rec list runs")
    if not config_class(named.model).traits.trainable:
        overrides = carried_over(status.overrides, [o for o in typed if key_typed(o) != "run"])
        problem = f"{folder} is a run of {named.model}, which has no weights to evaluate"
        raise UsageError(problem, command_line("train", overrides))
    expected = outputs / named.address
    if expected.resolve() != folder:
        raise UsageError(f"{folder} is not a run under {outputs}", "paths.outputs=FOLDER above the run")
    return Source(replace(named, folder=expected), status)


def _matching_runs(config: Config, typed: Sequence[str], choices: Mapping[str, str]) -> Iterator[Source]:
    """Yield the trainings that match the typed overrides, the newest first."""
    keys = dict.fromkeys([*_training_keys(typed), *_intervention_keys()])
    now = Settings.of(config)
    task_typed = {"task", "experiment"} & set(map(key_typed, typed))
    for result in Results.under(Path(config.paths.outputs)):
        status, stored = read_status(result.folder), result.settings
        if status.command != "train" or not config_class(result.model).traits.trainable:
            continue
        asked_for = config.task.question == Question.pretrain or {"dataset", "experiment"} & keys.keys()
        if stored.get("task.question") == Question.pretrain.name and not asked_for:
            continue  # pre-training runs match only if requested explicitly
        if task_typed and config_class(result.model).traits.task_bound and not _trained_for(stored, config):
            continue
        if all(_matches(key, now, choices, stored, status.choices) for key in keys):
            yield Source(result, status)


def _trained_for(stored: Settings, config: Config) -> bool:
    return bool(stored.get("task.question") == Question.all.name or stored.get("task.name") == config.task.name)


def _training_keys(typed: Sequence[str]) -> list[str]:
    """Return the keys that a training run must match: typed, not of the evaluation, and not without effect.

    An experiment names a model and a dataset, unless another is typed. Its settings on other data do not match.
    """
    evaluation = {declared.key for declared in all_declarations() if declared.role in EVALUATION_ROLES}  # nodes, too
    keys = [key for key in map(key_typed, typed) if key not in evaluation]
    return [*keys, "model", "dataset"] if "experiment" in keys else keys


@cache
def _intervention_keys() -> list[str]:
    """Return the settings that change the training data on purpose: such runs match only when requested."""
    return [declared.key for declared in all_declarations() if declared.role is Role.intervention]


def _matches(
    key: str, config: Settings, choices: Mapping[str, str], stored: Settings, stored_choices: Mapping[str, str | None]
) -> bool:
    """Return whether a config and a run agree in a setting, or in the choice of a config group."""
    if key in ("model", "dataset", "trainer", "experiment"):
        return str(choices.get(key)) == str(stored_choices.get(key))
    key = key.partition("@")[2] or key  # prompt/p5@model.prompts
    return bool(config.in_effect(key) == stored.in_effect(key))


def carried_over(stored: Sequence[str], typed: Sequence[str]) -> list[str]:
    """Return the trained run's overrides, replaced and extended by the typed ones.

    Config groups and settings of the training are kept; `split`, `device`, `paths` and the like belong to the command
    that set them.
    """
    keys = set(map(key_typed, typed))

    def kept(key: str) -> bool:
        group = re.split("[./]", key)[0]
        of_run = group in GROUPS or key_role(key) in (Role.training, Role.citation)
        return of_run and key not in keys and not (group == "task" and "task" in keys)

    return [*(override for override in stored if kept(key_typed(override))), *typed]


def settings_not_typed(overrides: Sequence[str], typed: set[str]) -> list[str]:
    """Return the overrides of a training that change its data, model or fitting and whose keys are not typed.

    Model, dataset, task and seed are left out: they say which training it is, and not how it differs from the default.
    """
    not_counted = {*typed, "model", "dataset", "task", "seed"}

    def counts(key: str) -> bool:
        return key == "experiment" or key_role(key) not in (None, *EVALUATION_ROLES)

    return [as_typed(o) for o in overrides if (key := key_typed(o)) not in not_counted and counts(key)]


def initial_source(config: Config) -> Source | None:
    """Return the finished run that `init_from` of the model names; None if it names none.

    In a folder of runs it is the run with this config's seed, so that a sweep over seeds can name the folder. Runs on
    the same data with another held-out split are refused; data are the same if the dataset's name is.

    Raises:
        UsageError: there is no such run or several, it was trained on data held out now, or its weights do not fit.
    """
    setting = next(iter(walk.settings_with(config.model, "agrees_in")), "")
    path = getattr(config.model, setting, None)
    if path is None:
        return None
    folders = [Path(path)] if (Path(path) / STATUS).exists() else sorted(Path(path).glob(f"seed{config.seed}-*"))
    candidates = [
        result
        for folder in folders
        if (result := read_result(folder)) is not None and result.trained_run is None  # not an evaluation
    ]
    if len(candidates) != 1:
        names = ", ".join(result.folder.name for result in candidates) or "none"
        raise UsageError(
            f"model.{setting}={path} is not a finished run, nor a folder with one of seed {config.seed} ({names})",
            "name a run folder: llm4rec list runs task=pretrain",
        )
    (result,) = candidates
    raise_first(_problems_of_initial(config, result))
    return Source(result, read_status(result.folder))


def _problems_of_initial(config: Config, run: Result) -> Iterator[UsageError]:
    """Yield why a training may not start from the weights of a run: data held out now, or other shapes."""
    folder, stored, now = run.folder, run.settings, Settings.of(config)
    # The settings that decide which interactions are held out; a control withholds none.
    held_out = sorted(keys_with_role(Role.division, Role.intervention) - {"dataset.control"})
    for key in held_out if stored.get("dataset.name") == config.dataset.name else ():
        if (theirs := stored.in_effect(key)) != now.in_effect(key):
            yield UsageError(
                f"{folder} was trained on this dataset with {key}={theirs}: it may have seen what this run holds out",
                f"{key}={theirs}, or start from a run on other data",
            )
    without_effect = config.model.unused_settings(config.task)  # an earlier version may have stored values
    (shared,) = walk.settings_with(config.model, "agrees_in").values()
    for key in ("name", *(own for own in shared if own not in without_effect)):
        theirs, ours = (settings.in_effect(f"model.{key}") for settings in (stored, now))
        if theirs != ours:
            yield UsageError(
                f"the weights of {folder} do not fit: they were trained with model.{key}={theirs}, not {ours}",
                "use the settings that it was trained with, or train it again with these",
            )
