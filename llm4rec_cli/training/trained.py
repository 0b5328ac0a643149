"""Selecting the trained run that `eval` and `recommend` evaluate, and the run whose weights a training starts from.

The trained run is `run=PATH`, PATH being its folder or the end of its path, or one that matches the typed overrides:
the one with the fewest other settings, as what is not typed is at its default, and the newest of equals. Its config is
composed from its stored overrides and the typed ones.
"""

from __future__ import annotations

import itertools
import logging
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llm4rec_cli.config import walk
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.keys import all_declarations, is_of_one_task, key_role, keys_with_role
from llm4rec_cli.config.overrides import GROUPS, as_typed, key_typed
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.roles import NOT_HASHED, Role
from llm4rec_cli.config.schema import Config, Question, Weights
from llm4rec_cli.errors import RunError, UsageError, raise_first
from llm4rec_cli.results.result import CHECKPOINTS, STATUS, Result, Status, read_result, read_status
from llm4rec_cli.results.results import IMPORT, Results, named_results
from llm4rec_cli.results.settings import Settings, added_defaults
from llm4rec_cli.runs import rules
from llm4rec_cli.runs.catalog import read_json
from llm4rec_cli.runs.identity import Address, address_of, pretrained_weights, text_encoder_identity
from llm4rec_cli.runs.precision import ARITHMETIC
from llm4rec_cli.runs.spec import RunSpec, resolved_config
from llm4rec_cli.training import checkpoints
from llm4rec_cli.training.checkpoints import Checkpoint

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset

log = logging.getLogger(__name__)

EVALUATION_ROLES = (
    Role.question,
    Role.extent,
    *NOT_HASHED,
)  # what may differ from the trained run: the question, not the weights


class FinishedTraining(NamedTuple):
    """A finished training, and the command that it ended."""

    result: Result
    status: Status


@dataclass(frozen=True)
class TrainedRun:
    """A finished training run.

    Attributes:
        result, status: of the run.
        overrides: those it was trained with, then those typed now.
        spec: of its evaluation: the config composed from these overrides, checked.
    """

    result: Result
    status: Status
    overrides: list[str]
    spec: RunSpec

    @property
    def folder(self) -> Path:
        return self.result.folder

    @property
    def checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS

    @property
    def trained_masked(self) -> bool | None:
        """Whether its validation left out items of the history; None if it ranked no catalogue, or is not known."""
        is_known = self.result.protocol == "full" and not self.result.imported
        return bool(self.result.mask_history) if is_known else None

    def address(self, dataset: RecDataset, weights: Checkpoint) -> Address:
        """Return the address of its evaluation.

        Args:
            weights: those selected of its checkpoints.
        """
        identity = f"{self.result.config_hash} {weights.sha256}"
        return address_of(self.spec, dataset, trained=(identity, self.result.variant))

    def problems_with_data(self, dataset: RecDataset) -> Iterator[RunError]:
        """Yield a problem if the dataset is not the one it was trained on: other fingerprint, item tokens or name.

        Imported weights have read no data here. Where they depend on the numbers of users or items, the dataset must
        at least have the name that they were imported for.
        """
        if self.result.imported:
            if self.spec.model.traits.needs_user and dataset.manifest["name"] != self.result.dataset:
                yield RunError(
                    f"the weights of {self.folder} are for the users of {self.result.dataset}",
                    f"dataset={self.result.dataset}",
                )
            return
        if dataset.fingerprint != self.result.dataset_fingerprint:
            yield RunError(
                f"{self.folder} was trained on other data with the name {self.spec.config.dataset.name}",
                "use the dataset.raw_dir and dataset.seed that it was trained with, or train again",
            )
        if dataset.manifest.get("tokens") != self.result.tokens:
            yield RunError(
                f"{self.folder} was trained with other item tokens",
                "use the llm, enrichment and dataset.seed that it was trained with, or train again",
            )


def find(requested: RunSpec) -> TrainedRun:
    """Return the run that `run` names, or else the best match of the typed overrides.

    Args:
        requested: the spec of the typed overrides, unchecked.

    Raises:
        RunError: there is none (the remedy is the command that makes one), or its settings have changed since.
        UsageError: the typed overrides do not fit it.
    """
    run = _select(requested)
    return _compose_run(run, _overrides(run.status.overrides, requested.typed), requested)


def open_run(folder: Path, requested: RunSpec) -> TrainedRun:
    """Return the finished run in a folder, with the typed overrides."""
    result, status = read_result(folder), read_status(folder)
    assert result is not None, folder
    return _compose_run(FinishedTraining(result, status), _overrides(status.overrides, requested.typed), requested)


def with_task(source: TrainedRun, task: str) -> TrainedRun:
    """Return the run for evaluation on another task, at its default settings except those that apply to each task."""
    kept = [
        override for override in source.overrides if (key := key_typed(override)) != "task" and not is_of_one_task(key)
    ]
    return _compose_run(FinishedTraining(source.result, source.status), [*kept, f"task={task}"], source.spec)


def _compose_run(run: FinishedTraining, overrides: list[str], requested: RunSpec) -> TrainedRun:
    """Return a run with the config composed from these overrides.

    Raises:
        RunError: its settings have changed since.
        UsageError: the overrides do not fit it.
    """
    composed = compose(overrides)
    spec = RunSpec(resolved_config(composed), "eval", requested.typed, composed.choices)
    rules.check(spec)
    folder, stored = run.result.folder, run.result.settings
    if spec.model.traits.task_bound and not _trained_for(stored, spec.config):
        raise UsageError(
            f"{folder} was trained for task '{stored.get('task.name')}' and can only be evaluated on it",
            f"train for this task: llm4rec train model={spec.model.name} task={spec.task.name}, or task=all",
        )
    raise_first(_problems_with_typed(spec, stored, run.status.choices, folder))
    raise_first(_problems_with_settings(spec.config, stored, folder))
    return TrainedRun(run.result, run.status, overrides, spec)


def settings_not_typed(overrides: Sequence[str], typed: set[str]) -> list[str]:
    """Return the overrides of a training that change its data, model or fitting and whose keys are not typed.

    Model, dataset, task and seed are left out: they say which training it is, and not how it differs from the default.
    """
    not_counted = {*typed, "model", "dataset", "task", "seed"}

    def counts(key: str) -> bool:
        return key == "experiment" or key_role(key) not in (None, *EVALUATION_ROLES)

    return [as_typed(o) for o in overrides if (key := key_typed(o)) not in not_counted and counts(key)]


def _select(requested: RunSpec) -> FinishedTraining:
    """Return the run that `run` names, or the match of the newest one's model and dataset with the fewest settings that
    are not typed, the newest of equals."""
    if requested.config.run is not None:
        return _named_run(requested)
    matches = _matching_runs(requested)
    if (newest := next(matches, None)) is None:
        command = " ".join(["llm4rec train", *requested.typed])
        raise RunError(f"no finished training run under {requested.outputs} matches what was typed", command)

    def not_typed(run: FinishedTraining) -> list[str]:
        return settings_not_typed(run.status.overrides, requested.typed_keys)

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


def _named_run(requested: RunSpec) -> FinishedTraining:
    """Return the run that `run` names."""
    folder = _named_folder(Path(str(requested.config.run)), requested.outputs)
    named, status = read_result(folder), read_status(folder)
    if named is None or status.command not in ("train", IMPORT):
        raise RunError(f"{folder} is not a finished training run", "llm4rec list runs")
    if not config_class(named.model).traits.trainable:
        overrides = _overrides(status.overrides, [o for o in requested.typed if key_typed(o) != "run"])
        problem = f"{folder} is a run of {named.model}, which has no weights to evaluate"
        raise UsageError(problem, shlex.join(["llm4rec", "train", *overrides]))
    expected = requested.outputs / named.address
    if expected.resolve() != folder:
        raise UsageError(f"{folder} is not a run under {requested.outputs}", "paths.outputs=FOLDER above the run")
    return FinishedTraining(replace(named, folder=expected), status)


def _matching_runs(requested: RunSpec) -> Iterator[FinishedTraining]:
    """Yield the trainings that match the typed overrides, the newest first."""
    keys = dict.fromkeys([*_training_keys(requested.typed), *_intervention_keys()])
    config = Settings.of(requested.config)
    task_typed = {"task", "experiment"} & requested.typed_keys
    for result in Results.under(requested.outputs):
        status, stored = read_status(result.folder), result.settings
        if status.command != "train" or not config_class(result.model).traits.trainable:
            continue
        asked_for = requested.task.question is Question.pretrain or {"dataset", "experiment"} & keys.keys()
        if stored.get("task.question") == Question.pretrain.name and not asked_for:
            continue  # pre-training runs match only if requested explicitly
        if task_typed and config_class(result.model).traits.task_bound and not _trained_for(stored, requested.config):
            continue
        if all(_matches(key, config, requested.choices, stored, status.choices) for key in keys):
            yield FinishedTraining(result, status)


def _named_folder(path: Path, outputs: Path) -> Path:
    """Return the run folder at this absolute path, or the one that what was typed is short for."""
    if not path.is_dir():
        typed = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        path = named_results([str(typed)], outputs, imports=True)[0].folder
    return path.resolve()


def _trained_for(stored: Settings, config: Config) -> bool:
    """Return whether a run was trained for this task, or for all tasks."""
    return bool(stored.get("task.question") == Question.all.name or stored.get("task.name") == config.task.name)


def _training_keys(typed: Sequence[str]) -> list[str]:
    """Return the keys that a training run must match: typed, not of the evaluation, and not without effect.

    An experiment names a model and a dataset, unless another is typed; its settings on other data are no match.
    """
    evaluation = {declared.key for declared in all_declarations() if declared.role in EVALUATION_ROLES}  # nodes, too
    keys = [key for key in map(key_typed, typed) if key not in evaluation]
    return [*keys, "model", "dataset"] if "experiment" in keys else keys


@cache
def _intervention_keys() -> list[str]:
    """Return the settings that change the training data on purpose: such runs match only when requested."""
    return [declared.key for declared in all_declarations() if declared.role is Role.intervention]


def _matches(
    key: str,
    config: Settings,
    choices: Mapping[str, str],
    stored: Settings,
    stored_choices: Mapping[str, str | None],
) -> bool:
    """Return whether a setting of a config, or its choice in a config group, is that of a run."""
    if key in ("model", "dataset", "trainer", "experiment"):
        return str(choices.get(key)) == str(stored_choices.get(key))
    key = key.partition("@")[2] or key  # prompt/p5@model.prompts
    return bool(config.in_effect(key) == stored.in_effect(key))


def _overrides(stored: Sequence[str], typed: Sequence[str]) -> list[str]:
    """Return the trained run's overrides, replaced and extended by the typed ones.

    Kept are those of config groups, and what belongs to the training; `split`, `device`, `paths` and the like belong to
    the command that set them.
    """
    keys = set(map(key_typed, typed))

    def kept(key: str) -> bool:
        group = re.split("[./]", key)[0]
        of_run = group in GROUPS or key_role(key) in (Role.training, Role.citation)
        return of_run and key not in keys and not (group == "task" and "task" in keys)

    return [*(override for override in stored if kept(key_typed(override))), *typed]


def _problems_with_typed(
    spec: RunSpec, stored: Settings, choices: Mapping[str, str | None], folder: Path
) -> Iterator[UsageError]:
    """Yield the typed settings of training, such as the seed, that are not those of the trained weights.

    Only typed ones: a YAML may have changed since, and the numbers of the evaluation do not depend on them.

    Args:
        stored, choices: the config of the training, and its choices of config groups.
    """
    now, resolved = Settings.of(spec.config), read_json(folder / ARITHMETIC)  # what a precision of `auto` became
    for override in spec.typed:
        key = key_typed(override)
        if key_role(key) is not Role.training or resolved.get(key, "auto") == now.in_effect(key):
            continue
        if not _matches(key, now, spec.choices, stored, choices):
            yield UsageError(
                f"{override} is not what {folder} was trained with: {choices.get(key, stored.in_effect(key))}",
                "leave it out, or name a run that was trained with it: llm4rec list runs",
            )


def _problems_with_settings(config: Config, stored: Settings, folder: Path) -> Iterator[RunError]:
    """Yield the settings of model, item text and held-out data that are not those of the trained weights.

    A YAML may have changed since. A setting that is newer than the run has the default that the run had in effect.

    Args:
        stored: the config of the training.
    """
    own = walk.declarations(type(config.model))
    of_evaluation = {setting.key for setting in own if setting.role in EVALUATION_ROLES}
    without_effect = config.model.unused_settings(config.task)  # an earlier version may have stored values
    left_out = {
        f"model.{key}" for key in (*walk.settings_with(config.model, "provenance"), *of_evaluation, *without_effect)
    }
    now = Settings.of(config).flat
    newer = {key: default for key, default in added_defaults(config.model.name).items() if key in now}
    then = {**newer, **stored.flat}
    for key in dict.fromkeys([*now, *then]):
        paths = list(itertools.accumulate(key.split("."), "{}.{}".format))
        if not left_out.isdisjoint(paths) or {"model", "dataset.text", *_intervention_keys()}.isdisjoint(paths):
            continue
        if (key in now) != (key in then):
            yield RunError(f"{folder} was trained by another version, with other settings than {key}", "train again")
        elif now.get(key) != then.get(key):
            yield RunError(
                f"{key} is not what {folder} was trained with: {then.get(key)}",
                "use the settings that it was trained with, or train again",
            )


@dataclass(frozen=True)
class InitRun:
    """The run whose weights a training starts from.

    Attributes:
        result: of the run.
        weights: the checkpoint that it selected.
    """

    result: Result
    weights: Checkpoint

    @property
    def folder(self) -> Path:
        return self.result.folder

    def initial_for(self, seed: int) -> tuple[str, str]:
        """Return `initial` of `address_of` for a training that starts from these weights."""
        return self.weights.sha256, self.variant_for(seed)

    def variant_for(self, seed: int) -> str:
        """Return the variant that runs share if each starts from the pre-training of its own seed, or all from one."""
        if self.result.imported:  # its seed means nothing
            return str(self.result.variant)
        same_seed = self.result.seed == seed
        return f"{self.result.variant} of {'the own seed' if same_seed else self.result.seed}"


def find_init_run(spec: RunSpec) -> InitRun | None:
    """Return the finished run that `init_from` of the model names; None if it names none.

    In a folder of runs it is the run with this config's seed, so that a sweep over seeds can name the folder. Runs on
    the same data with another held-out split are refused; data are the same if the dataset's name is.

    Raises:
        UsageError: there is no such run or several, it was trained on data held out now, or its weights do not fit.
    """
    setting = next(iter(walk.settings_with(spec.model, "agrees_in")), None)
    path = getattr(spec.model, setting) if setting else None
    if path is None:
        return None
    folders = [Path(path)] if (Path(path) / STATUS).exists() else sorted(Path(path).glob(f"seed{spec.config.seed}-*"))
    candidates = [
        result
        for folder in folders
        if (result := read_result(folder)) is not None and result.trained_run is None  # not an evaluation
    ]
    if len(candidates) != 1:
        names = ", ".join(result.folder.name for result in candidates) or "none"
        raise UsageError(
            f"model.{setting}={path} is not a finished run, nor a folder with one of seed {spec.config.seed} ({names})",
            "name a run folder: llm4rec list runs task=pretrain",
        )
    (result,) = candidates
    raise_first(_problems_of_init_run(spec, result))
    return InitRun(result, checkpoints.selected(result.folder / CHECKPOINTS))


def _problems_of_init_run(spec: RunSpec, run: Result) -> Iterator[UsageError]:
    """Yield why a training may not start from the weights of a run: data held out now, other shapes or text vectors."""
    folder, stored, now = run.folder, run.settings, Settings.of(spec.config)
    # The settings that decide which interactions are held out; a control withholds none.
    held_out = sorted(keys_with_role(Role.division, Role.intervention) - {"dataset.control"})
    for key in held_out if stored.get("dataset.name") == spec.config.dataset.name else ():
        if (theirs := stored.in_effect(key)) != now.in_effect(key):
            yield UsageError(
                f"{folder} was trained on this dataset with {key}={theirs}: it may have seen what this run holds out",
                f"{key}={theirs}, or start from a run on other data",
            )
    without_effect = spec.model.unused_settings(spec.task)  # an earlier version may have stored values
    (shared,) = walk.settings_with(spec.model, "agrees_in").values()
    for key in ("name", *(setting for setting in shared if setting not in without_effect)):
        theirs, ours = (config.in_effect(f"model.{key}") for config in (stored, now))
        if theirs != ours:
            yield UsageError(
                f"the weights of {folder} do not fit: they were trained with model.{key}={theirs}, not {ours}",
                "use the settings that it was trained with, or train it again with these",
            )
    if run.text_encoder != text_encoder_identity(spec.model):
        (named,) = (key for key, (kind, _) in pretrained_weights(spec.model).items() if kind is Weights.encoder)
        yield UsageError(
            f"the weights of {folder} do not fit: they were trained with another text encoder than "
            f"{now.in_effect(f'model.{named}')}",
            "use the encoder that it was trained with, or train it again with this one",
        )
