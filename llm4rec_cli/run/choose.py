"""Choosing the trained run that `eval` and `recommend` evaluate.

It is `run=PATH`, PATH being its folder or the end of its path, or one that matches the typed overrides: the one with
the fewest other settings, as what is not typed is at its default, and the newest of equals. Its config is composed from
its stored overrides and the typed ones.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from llm4rec_cli.config import walk
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.keys import all_declarations, is_of_one_task, key_role
from llm4rec_cli.config.overrides import GROUPS, command_line, key_typed
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.resolved import resolved_config
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import Config, Control, Question
from llm4rec_cli.errors import RunError, UsageError, raise_first
from llm4rec_cli.results.result import Result, Status, read_result, read_status
from llm4rec_cli.results.results import IMPORT, Results, named_results
from llm4rec_cli.results.settings import REMOVED, Settings, added_defaults
from llm4rec_cli.run.catalog import read_json
from llm4rec_cli.run.job import Evaluation, Job
from llm4rec_cli.run.precision import ARITHMETIC
from llm4rec_cli.run.source import EVALUATION_ROLES, Source, settings_not_typed

log = logging.getLogger(__name__)

SAME_TRAINING = {Control.none.name, Control.swap_users.name}  # controls that change no training


def evaluation(requested: Job) -> Job:
    """Return the job that evaluates the run that `run` names, or else the best match of the typed overrides, unchecked.
    For a model without weights, return the job that runs it.

    Raises:
        RunError: no run matches (the remedy is the command that trains one), or its settings have changed since.
        UsageError: the typed overrides do not fit it.
    """
    if not requested.model.traits.trainable:
        if requested.config.run is not None:
            raise UsageError(
                f"run=PATH names a trained run, and {requested.model.name} is not trained", "leave run= out"
            )
        return replace(requested, command="train").checked()
    return _evaluating(_select(requested), requested)


def _evaluating(run: Source, requested: Job) -> Job:
    """Return the job that evaluates a run, with the overrides of its training and the typed ones."""
    source = replace(run, overrides=_overrides(run.status.overrides, requested.typed))
    job = of_source(source, requested.typed)
    stored = run.result.settings
    if job.model.traits.task_bound and not _trained_for(stored, job.config):
        raise UsageError(
            f"{run.folder} was trained for task '{stored.get('task.name')}' and can only be evaluated on it",
            f"train for this task: llm4rec train model={job.model.name} task={job.task.name}, or task=all",
        )
    raise_first(_problems_with_typed(job, run))
    raise_first(_problems_with_settings(job.config, stored, run.folder))
    return job


def just_trained(result: Result, job: Job) -> Source:
    """Return the run of a training that has ended, for its evaluation."""
    overrides, choices = result.overrides or (), {**job.choices, "experiment": result.experiment}
    return Source(result, Status(status="done", overrides=overrides, choices=choices), _overrides(overrides, job.typed))


def of_task(source: Source, typed: tuple[str, ...], task: str) -> Job:
    """Return the evaluation of a run on a task; other settings that depend on the task keep their defaults."""
    kept = [o for o in source.overrides if (key := key_typed(o)) != "task" and not is_of_one_task(key)]
    return of_source(replace(source, overrides=[*kept, f"task={task}"]), typed)


def of_source(source: Source, typed: tuple[str, ...]) -> Job:
    """Return the job that evaluates a run, as its overrides say."""
    composed = compose(source.overrides)
    return Evaluation(resolved_config(composed), "eval", typed, composed.choices, evaluated=source).checked()


def with_override(job: Job, override: str) -> Job:
    """Return the job as if this override had been typed, in place of one of the same key."""
    typed = (*(other for other in job.typed if key_typed(other) != key_typed(override)), override)
    if not isinstance(job, Evaluation):
        return Job.resolve(compose(typed), job.command)
    return of_source(replace(job.evaluated, overrides=[*job.evaluated.overrides, override]), typed)


def _select(requested: Job) -> Source:
    """Return the run that `run` names, or the match of the newest one's model and dataset with the fewest settings that
    are not typed, the newest of equals."""
    if requested.config.run is not None:
        return _named_run(requested)
    matches = _matching_runs(requested)
    if (newest := next(matches, None)) is None:
        command = command_line("train", requested.typed)
        raise RunError(f"no finished training run under {requested.outputs} matches what was typed", command)

    def not_typed(run: Source) -> list[str]:
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


def _named_run(requested: Job) -> Source:
    folder = _named_folder(Path(str(requested.config.run)), requested.outputs)
    named, status = read_result(folder), read_status(folder)
    if named is None or status.command not in ("train", IMPORT):
        raise RunError(f"{folder} is not a finished training run", "llm4rec list runs")
    if not config_class(named.model).traits.trainable:
        overrides = _overrides(status.overrides, [o for o in requested.typed if key_typed(o) != "run"])
        problem = f"{folder} is a run of {named.model}, which has no weights to evaluate"
        raise UsageError(problem, command_line("train", overrides))
    expected = requested.outputs / named.address
    if expected.resolve() != folder:
        raise UsageError(f"{folder} is not a run under {requested.outputs}", "paths.outputs=FOLDER above the run")
    return Source(replace(named, folder=expected), status)


def _matching_runs(requested: Job) -> Iterator[Source]:
    """Yield the trainings that match the typed overrides, the newest first."""
    keys = dict.fromkeys([*_training_keys(requested.typed), *_intervention_keys()])
    config = Settings.of(requested.config)
    task_typed = {"task", "experiment"} & requested.typed_keys
    for result in Results.under(requested.outputs):
        status, stored = read_status(result.folder), result.settings
        if status.command != "train" or not config_class(result.model).traits.trainable:
            continue
        asked_for = requested.task.question == Question.pretrain or {"dataset", "experiment"} & keys.keys()
        if stored.get("task.question") == Question.pretrain.name and not asked_for:
            continue  # pre-training runs match only if requested explicitly
        if task_typed and config_class(result.model).traits.task_bound and not _trained_for(stored, requested.config):
            continue
        if all(_matches(key, config, requested.choices, stored, status.choices) for key in keys):
            yield Source(result, status)


def _named_folder(path: Path, outputs: Path) -> Path:
    """Return the run folder at this absolute path, or the run folder that the typed path abbreviates."""
    if not path.is_dir():
        typed = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        path = named_results([str(typed)], outputs, imports=True)[0].folder
    return path.resolve()


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


def _overrides(stored: Sequence[str], typed: Sequence[str]) -> list[str]:
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


def _problems_with_typed(job: Job, run: Source) -> Iterator[UsageError]:
    """Yield the typed settings of training, such as the seed, that differ from the trained weights'.

    Only typed ones: a YAML may have changed since, and the numbers of the evaluation do not depend on them.
    """
    now, stored, choices = Settings.of(job.config), run.result.settings, run.status.choices
    resolved = read_json(run.folder / ARITHMETIC)  # what a precision of `auto` became
    for override in job.typed:
        key = key_typed(override)
        if key_role(key) is not Role.training or resolved.get(key, "auto") == now.in_effect(key):
            continue
        if not _matches(key, now, job.choices, stored, choices):
            yield UsageError(
                f"{override} differs from the training of {run.folder}, which used "
                f"{choices.get(key, stored.in_effect(key))}",
                "leave it out, or name a run that was trained with it: llm4rec list runs",
            )


def _problems_with_settings(config: Config, stored: Settings, folder: Path) -> Iterator[RunError]:
    """Yield the settings of model, item text and held-out data that differ from the trained weights'.

    A YAML may have changed since. A setting that is newer than the run has the default that the run had in effect.
    """
    own = walk.declarations(type(config.model))
    of_evaluation = {setting.key for setting in own if setting.role in EVALUATION_ROLES}
    without_effect = config.model.unused_settings(config.task)  # an earlier version may have stored values
    provenance = walk.settings_with(config.model, "provenance")
    left_out = {f"model.{key}" for key in (*provenance, *of_evaluation, *without_effect)}
    now = Settings.of(config).flat
    newer = {key: default for key, default in added_defaults(config.model.name).items() if key in now}
    removed = REMOVED.get(config.model.name, {})
    then = newer | {key: value for key, value in stored.flat.items() if removed.get(key, ...) != value}
    for key in dict.fromkeys([*now, *then]):
        paths = list(itertools.accumulate(key.split("."), "{}.{}".format))
        if not left_out.isdisjoint(paths) or {"model", "dataset.text", *_intervention_keys()}.isdisjoint(paths):
            continue
        if key in removed:
            yield RunError(f"{folder} was trained with {key}={then[key]}, which was removed", "train again without it")
        elif (key in now) != (key in then):
            yield RunError(f"{folder} was trained by another version, with other settings than {key}", "train again")
        elif now.get(key) != then.get(key) and not (
            key == "dataset.control" and {now[key], then[key]} <= SAME_TRAINING
        ):
            yield RunError(
                f"{folder} was trained with {key}={then.get(key)}, not {now.get(key)}",
                "use the settings that it was trained with, or train again",
            )
