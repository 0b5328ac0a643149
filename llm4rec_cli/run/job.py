"""A job: everything known about a run before its data are read, resolved once.

There are three kinds: a `Job` trains a model from new weights, or runs one that has none; a `StartedJob` trains from
the weights of a finished run; an `Evaluation` trains nothing and evaluates a finished run.

Precisions `auto` are chosen in the run: `precision.settled`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from omegaconf import DictConfig, OmegaConf

from llm4rec_cli.arithmetic import resolve_device
from llm4rec_cli.config import walk
from llm4rec_cli.config.compose import Composed, compose, model_node, problems_of_choices, usage_errors
from llm4rec_cli.config.folders import options
from llm4rec_cli.config.keys import is_of_one_task
from llm4rec_cli.config.overrides import key_typed, quoted
from llm4rec_cli.config.resolved import resolved_config, without_unused
from llm4rec_cli.config.schema import Config, LLMConfig, ModelConfig, TaskConfig, TextRecipe, Weights
from llm4rec_cli.errors import Llm4RecError, UsageError, raise_first
from llm4rec_cli.paths import cache_folder
from llm4rec_cli.results.result import InitFrom, Result, Status, Tuning
from llm4rec_cli.run import checkpoints, deviations, identity, rules
from llm4rec_cli.run.source import Source, carried_over, choose, initial_source
from llm4rec_cli.tasks.modules import task_module

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset

log = logging.getLogger(__name__)

DEFAULTS = ("dataset", "task", "trainer")  # groups for which a model may have its own default


@dataclass(frozen=True)
class Job:
    """One run of a command.

    The device and the identities of weights are read at their first use.

    Attributes:
        config: of dataclasses, with absolute paths and neutral values for settings without effect.
        command: `train`, `eval`, …
        typed: the overrides that were typed.
        choices: config group -> option chosen.
        floors: the jobs of the task's floors under the same protocol.
        arithmetic: the precisions that it reads, by key; None until they are settled in its run folder.
    """

    config: Config
    command: str
    typed: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    floors: tuple[Job, ...] = ()
    arithmetic: Mapping[str, str] | None = None

    @classmethod
    def resolve(cls, composed: Composed, command: str) -> Job:
        """Return the job of a composed config. Neither weights nor data are read, and torch is not imported unless a
        tracker is chosen.

        Raises:
            UsageError: as `unchecked`; or a rule refuses the run, or there is no run such as `init_from` names.
        """
        return cls.unchecked(composed, command).checked()

    @classmethod
    def unchecked(cls, composed: Composed, command: str) -> Job:
        """Return the job without rules and floors, for commands that select a run, or neither train nor evaluate.

        Raises:
            UsageError: a value is out of range, of another type, or refers to a key that does not exist; or the user
                has a file of a chosen option that is not read.
        """
        raise_first(problems_of_choices(composed.choices))
        with usage_errors():
            config = resolved_config(composed)
        return cls(config, command, composed.typed, composed.choices)

    def problems(self) -> Iterator[Llm4RecError]:
        yield from rules.problems_of_job(self.config, self.typed, self.command)

    def checked(self) -> Job:
        """Return the job with its floors and the run that it starts from, if no rule refuses it."""
        job = self._with_floors()
        if (initial := initial_source(self.config)) is None:
            return job
        return StartedJob(**{own.name: getattr(job, own.name) for own in fields(Job)}, initial=initial)

    def _with_floors(self) -> Self:
        raise_first(self.problems())
        return replace(self, floors=tuple(self.floor(name) for name in self.task.floors if name != self.model.name))

    def floor(self, name: str, *settings: str) -> Job:
        """Return the job of a floor under the same dataset and task, at its default settings except what it copies from
        the model and `settings`, such as `model.recent=1`. It records only overrides of data, task and seed."""
        with usage_errors():
            model = cast(ModelConfig, OmegaConf.to_object(model_node(name, settings, self._nodes)))
        copied = {
            setting: value
            for setting, is_copied in walk.settings_with(model, "copied_if").items()
            if (value := getattr(self.model, setting, None)) is not None and is_copied(value)
        }
        of_model = ["model", "prompt", "trainer", "experiment"]
        model = without_unused(replace(model, **copied), self.task)
        seed = self.config.seed
        if not model.traits.seeded:
            seed, of_model = Config.seed, [*of_model, "seed"]  # one run, whatever the seeds of the model
        if self.config.dataset.text is not TextRecipe.enriched:
            of_model += ["llm", "enrichment"]
        typed = [o for o in self.overrides if not o.lstrip("+").startswith(tuple(of_model))]
        choices = {group: option for group, option in self.choices.items() if group in ("dataset", "task")}
        keys = set(map(key_typed, typed))
        chosen = [f"{group}={option}" for group, option in choices.items() if group not in keys]  # the model's defaults
        return Job(
            replace(self.config, model=model, seed=seed, deviations=[], tuning=None),
            "train",
            (*chosen, *typed, f"model={name}", *settings),
            choices | {"model": name},
        )

    def with_config(self, **nodes: Any) -> Job:
        """Return a job with changed values: `with_config(task={"max_examples": 3}, seed=1)`; a dictionary changes
        settings of a node."""
        changed = {
            name: replace(getattr(self.config, name), **value) if isinstance(value, dict) else value
            for name, value in nodes.items()
        }
        return replace(self, config=replace(self.config, **changed))

    @cached_property
    def _nodes(self) -> DictConfig:
        """The nodes that the settings of a floor may refer to."""
        nodes = {key: getattr(self.config, key) for key in ("dataset", "task", "trainer", "seed")}
        return OmegaConf.create(nodes, flags={"allow_objects": True})

    @property
    def model(self) -> ModelConfig:
        return self.config.model

    @property
    def task(self) -> TaskConfig:
        return self.config.task

    @property
    def task_module(self) -> Any:
        return task_module(self.task)

    @property
    def llm(self) -> LLMConfig:
        return self.config.llm

    @property
    def outputs(self) -> Path:
        return Path(self.config.paths.outputs)

    @property
    def cache(self) -> Path:
        return cache_folder(self.config.paths.cache)

    @property
    def typed_keys(self) -> set[str]:
        return {key_typed(override) for override in self.typed}

    @property
    def overrides(self) -> list[str]:
        """The typed overrides, with raw_dir and folders of weights absolute, so that they hold in any working
        directory."""
        folders = {
            setting.key: setting.value
            for setting in walk.settings(self.config)
            if "weights" in setting.field.metadata and Path(str(setting.value)).is_absolute()
        }
        typed = [
            f"{key_typed(override)}={quoted(folders[key_typed(override)])}"
            if key_typed(override) in folders
            else override
            for override in self.typed
            if key_typed(override) != "dataset.raw_dir"
        ]
        raw_dir = self.config.dataset.raw_dir
        return typed if raw_dir is None else [*typed, f"dataset.raw_dir={quoted(raw_dir)}"]

    @property
    def experiment(self) -> str | None:
        """The name of the experiment that was chosen for the training, if any."""
        return self.choices.get("experiment")

    @property
    def trains(self) -> bool:
        """Whether weights are fitted."""
        return self.model.traits.trainable

    @property
    def trained_masked(self) -> bool | None:
        """Whether validation in training left out items of the history; None if it ranked no catalogue, or that is not
        known."""
        return self.task.mask_history if self.task.ranks_catalogue else None

    @property
    def is_dry(self) -> bool:
        """Whether requests to a chat model are only shown."""
        return self.llm.dry_run and self.model.traits.uses_llm

    @property
    def starts_anew(self) -> bool:
        """Whether a finished run is run again: by `force`, or as its chat model is asked again."""
        return self.config.force or (self.llm.ask_again and self.model.traits.uses_llm)

    @property
    def introduction(self) -> str:
        """What was not typed, as `prompt4nr: dataset=demo_news task=impressions, its defaults`; empty if all was typed,
        or an experiment was."""
        defaults = [f"{group}={self.choices[group]}" for group in DEFAULTS if group not in self.typed_keys]
        if "experiment" in self.typed_keys or not defaults:
            return ""
        if self.task.max_examples is not None and "task.max_examples" not in self.typed_keys:
            defaults.append(f"task.max_examples={self.task.max_examples}")
        files = ((folder, self.choices.get(f"{folder}@_global_")) for folder in ("size", "home"))
        defaults += [f"conf/{folder}/{file}.yaml" for folder, file in files if file in options(folder)]
        return f"{self.model.name}: {' '.join(defaults)}, its defaults"

    @cached_property
    def device(self) -> str:
        """`device`, with `auto` resolved; imports torch."""
        return resolve_device(self.config.device)

    @cached_property
    def weights(self) -> Mapping[str, tuple[Weights, str]]:
        return identity.pretrained_weights(self.model)

    @cached_property
    def settings(self) -> Mapping[str, object]:
        """Key -> value of the settings that affect numbers."""
        return identity.settings_with_effect(self.config)

    @property
    def tuning(self) -> Tuning | None:
        tuning = self.config.tuning
        return None if tuning is None else Tuning(**{own.name: getattr(tuning, own.name) for own in fields(tuning)})

    @cached_property
    def paper_method(self) -> dict[str, str]:
        """The facts that match a run with published results: `ModelConfig.paper_method`, and the chat model."""
        chat = {"chat model": Path(self.llm.model).name} if self.model.traits.uses_llm else {}
        return {**self.model.paper_method(self.task.name), **chat}

    @property
    def deviations(self) -> list[str]:
        """The deviations of the run from its paper, and of the run that training started from."""
        return deviations.deviations(self.config, self.task.name)

    @property
    def init_from(self) -> InitFrom | None:
        """What the result records of the run that training started from."""
        return None

    @property
    def text_encoder(self) -> str | None:
        """The identity of the model's text encoder; None for a model without one."""
        return next((content for kind, content in self.weights.values() if kind is Weights.encoder), None)

    def problems_with_weights(self) -> Iterator[UsageError]:
        """Yield why the weights that training would start from do not fit; reads the text encoder's."""
        yield from ()

    def problems_with_data(self, dataset: RecDataset) -> Iterator[Llm4RecError]:
        """Yield what the model and the task need and the dataset lacks, and why weights do not fit the data."""
        yield from rules.problems_with_dataset(self.config, dataset)

    def load_weights(self, model: Any) -> None:
        """Give the model the weights of a finished run, if the job names one."""

    def address(self, dataset: RecDataset) -> identity.Address:
        _ = self.task.masked  # it has an address once this is settled
        weights = {setting: content for setting, (_, content) in self.weights.items()}
        return identity.address(self.config, self.settings, dataset.fingerprint, weights, **self._read(dataset))

    def _read(self, dataset: RecDataset) -> dict[str, Any]:
        """Return what an address is made of besides settings, data and published weights."""
        return {
            "file": identity.model_files_identity(self.model),
            "llm": identity.chat_model_identity(self.config, dataset),
        }

    @property
    def of_training(self) -> dict[str, Any]:
        """What the result says of the run whose weights are evaluated, or the overrides of this one."""
        return {"overrides": self.overrides}


@dataclass(frozen=True, kw_only=True)
class StartedJob(Job):
    """A training that starts from the weights of the run `initial`."""

    initial: Source

    @property
    def init_from(self) -> InitFrom:
        return deviations.init_from(self.initial.result)

    @property
    def deviations(self) -> list[str]:
        return [*super().deviations, *_inherited(self.init_from)]

    def problems_with_weights(self) -> Iterator[UsageError]:
        if self.initial.result.text_encoder != self.text_encoder:
            (key,) = (key for key, (kind, _) in self.weights.items() if kind is Weights.encoder)
            yield UsageError(
                f"the weights of {self.initial.folder} do not fit: they were trained with another text encoder than "
                f"{attrgetter(key)(self.model)}",
                "use the encoder that it was trained with, or train it again with this one",
            )

    def load_weights(self, model: Any) -> None:
        log.info("starting from the weights of %s", self.initial.folder)
        model.initialise_from(checkpoints.weights(self.initial.checkpoint))

    def _read(self, dataset: RecDataset) -> dict[str, Any]:
        return super()._read(dataset) | {"initial": self.initial.as_initial(self.config.seed)}


@dataclass(frozen=True, kw_only=True)
class Evaluation(Job):
    """An evaluation of the run `evaluated`."""

    evaluated: Source

    def checked(self) -> Self:
        return self._with_floors()

    @property
    def experiment(self) -> str | None:
        return self.evaluated.status.choices.get("experiment")

    @property
    def trains(self) -> bool:
        return False

    @property
    def trained_masked(self) -> bool | None:
        return self.evaluated.trained_masked

    @property
    def introduction(self) -> str:
        return f"evaluating {self.model.name}, trained in {self.evaluated.described(self.typed_keys)}"

    @property
    def init_from(self) -> InitFrom | None:
        return self.evaluated.result.init_from

    @property
    def deviations(self) -> list[str]:
        run = self.evaluated.result
        own = (
            deviations.imported_deviations(self.config, run.imported)
            if run.imported
            else deviations.deviations(self.config, run.task)
        )
        return [*own, *_inherited(self.init_from)]

    def problems_with_data(self, dataset: RecDataset) -> Iterator[Llm4RecError]:
        yield from super().problems_with_data(dataset)
        yield from self.evaluated.problems_with_data(self.model, dataset)

    def load_weights(self, model: Any) -> None:
        checkpoints.load(model, self.evaluated.checkpoint)

    def _read(self, dataset: RecDataset) -> dict[str, Any]:
        return {"trained": self.evaluated.as_trained}

    @property
    def of_training(self) -> dict[str, Any]:
        run = self.evaluated
        return {
            "trained_run": run.folder.relative_to(self.outputs).as_posix(),
            "imported": run.result.imported,
            "overrides": run.overrides,
            "training_seconds": run.result.seconds.get("train"),  # unknown of imported weights
        }


def _inherited(init_from: InitFrom | None) -> list[str]:
    return [f"pre-training: {deviation}" for deviation in init_from.deviations] if init_from else []


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
    typed = requested.typed
    run = choose(requested.config, typed, requested.choices)
    job = of_source(replace(run, overrides=carried_over(run.status.overrides, typed)), typed)
    raise_first(run.problems_with_typed(job.config, typed, job.choices))
    raise_first(run.problems_with_settings(job.config))
    return job


def just_trained(result: Result, job: Job) -> Source:
    """Return the run of a training that has ended, for its evaluation."""
    choices = {**job.choices, "experiment": result.experiment}
    status = Status(status="done", overrides=result.overrides or (), choices=choices)
    return Source(result, status, carried_over(status.overrides, job.typed))


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
