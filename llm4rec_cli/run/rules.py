"""Checks of a run: of its config, before torch is imported, and of its prepared data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from llm4rec_cli.config import questions
from llm4rec_cli.config.keys import is_of_one_task
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.config.registry import config_class, model_names, models_with
from llm4rec_cli.config.schema import (
    Backend,
    Candidates,
    Config,
    Control,
    EmptyHistory,
    LLMConfig,
    ModelConfig,
    Precision,
    Question,
    SplitRule,
    TaskConfig,
    Written,
)
from llm4rec_cli.errors import DataError, Llm4RecError, UsageError, did_you_mean
from llm4rec_cli.llm import enrichment
from llm4rec_cli.tasks import base as tasks

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset

DEVICES = ("auto", "cpu", "cuda", "mps")


def problems_of_job(config: Config, typed: Sequence[str], command: str) -> Iterator[Llm4RecError]:
    """Yield the problems with a config, typed settings of the model or of one task that have no effect under this one,
    and `run` where a run is made."""
    yield from problems(config)
    for setting, reader in config.model.unused_settings(config.task).items():
        for override in typed:
            if f"{key_typed(override)}.".startswith(f"model.{setting}."):
                yield UsageError(f"{override} is only read with {reader}", f"use {reader}, or leave it out")
    for override in typed if config.task.question == Question.all else ():
        key = key_typed(override)
        if is_of_one_task(key):
            yield UsageError(
                f"{key} applies to one task, but task={config.task.name} has several",
                f"leave it out, and evaluate each task with its own: llm4rec eval task=sequential {override}",
            )
    if command == "train" and config.run is not None:
        yield UsageError("run=PATH names a trained run, and train makes one", "llm4rec eval run=PATH; or leave it out")


def problems(config: Config) -> Iterator[Llm4RecError]:
    """Yield the problems with a config: unknown names, a model that cannot do the task, settings that exclude one
    another."""
    if unknown := list(questions.problems(config.task.question)):
        yield from unknown
        return
    known = model_names()
    if config.model.name not in known:
        yield UsageError(f"unknown model '{config.model.name}'", did_you_mean(config.model.name, known))
    yield from _problems_of_floors(config.task.floors)
    if config.device not in DEVICES:
        yield UsageError(
            f"unknown device '{config.device}'", f"one of {', '.join(DEVICES)}; CUDA_VISIBLE_DEVICES selects the GPU"
        )
    if config.model.name in known and type(config.model) is not config_class(config.model.name):
        yield UsageError("model.name does not select a model", f"model={config.model.name}")
    if (config.dataset.split, config.dataset.control) == (SplitRule.p5_reviews, Control.shuffle_history):
        yield UsageError(
            "dataset.control=shuffle_history would change the ranking targets of dataset.split=p5_reviews",
            "dataset.split=leave_one_out",
        )
    if config.dataset.split.splits_impressions and config.dataset.control == Control.shuffle_ties:
        yield UsageError(
            f"dataset.control=shuffle_ties shuffles interactions, and dataset '{config.dataset.name}' is a click log",
            "leave it out; dataset.control=shuffle_history shuffles the histories of a click log",
        )
    if config.task.question == Question.all and config.task.candidates != Candidates.full:
        yield UsageError("task=all uses the candidates of each of its tasks", "leave task.candidates out")
    if tasks.is_zeroed(config.task) and config.model.traits.zero_ranks_high:
        yield UsageError(
            f"task.seen_items=zeroed would rank items of the history first, as model '{config.model.name}' scores the "
            "others below 0",
            "task.seen_items=excluded",
        )
    task = questions.offered_module(config.task.question)
    if task and hasattr(task, "problems"):
        yield from task.problems(config)
    yield from _problems_of_impressions(config)
    incapable = list(problems_of_capability(config)) if config.model.name in known else []
    yield from incapable
    if config.model.name in known and config.depends_on_chat_model:
        yield from problems_of_llm(config.llm)
    yield from enrichment.problems(config.enrichment)
    if config.dataset.control is Control.shuffle_tokens:
        yield from config.dataset.problems_without_tokens("dataset.control=shuffle_tokens")
    if config.task.question == Question.write and config.task.written is None:
        yield UsageError(
            "task.question=write needs task.written, which is null", f"one of {', '.join(w.name for w in Written)}"
        )
    if config.trainer.scoring is not Precision.fp32 and not config.model.traits.bf16_scoring:
        able = [name for name in known if config_class(name).traits.bf16_scoring]
        yield UsageError(
            f"trainer.scoring={config.trainer.scoring.name} does not apply to model '{config.model.name}'",
            f"leave it out; models that it applies to: {', '.join(able)}",
        )
    metrics = tasks.metric_names(config.task)
    if config.task.selection not in metrics:
        yield UsageError(
            f"task.selection={config.task.selection} is not a metric of the task",
            did_you_mean(config.task.selection, metrics),
        )
    if config.model.name in known and not incapable:
        yield from config.model.problems(config)
    if config.trainer.report_to:
        yield from _problems_of_trackers(config.trainer.report_to)


def _problems_of_floors(names: Sequence[str]) -> Iterator[UsageError]:
    floors = [name for name in model_names() if config_class(name).traits.is_floor]
    for name in names:
        if name not in model_names():
            yield UsageError(f"task.floors: unknown floor '{name}'", did_you_mean(name, floors))
        elif name not in floors:
            yield UsageError(
                f"task.floors names {name}, which is not a simple rule", f"choose from {', '.join(floors)}"
            )


def problems_of_capability(config: Config) -> Iterator[UsageError]:
    needed = needed_capability(config.task)
    if needed not in config.model.traits.capabilities:
        fitting = models_with(needed)
        yield UsageError(
            f"model '{config.model.name}' cannot do task '{config.task.name}', which needs the capability {needed}",
            f"models that can: {', '.join(fitting) or 'none yet'}; {config.model.name} can "
            f"{', '.join(sorted(config.model.traits.capabilities))}",
        )


def problems_with_new_items(model: ModelConfig) -> Iterator[UsageError]:
    if "rank_new_items" in model.traits.capabilities:
        yield from model.problems_with_new_items()
        return
    yield UsageError(
        f"model '{model.name}' ranks only items of the catalogue",
        f"a model that reads item text: {', '.join(models_with('rank_new_items'))}",
    )


def _problems_of_trackers(names: Sequence[str]) -> Iterator[UsageError]:
    """Yield trackers that are not installed; imports transformers, as nothing else here does."""
    from transformers.integrations import get_available_reporting_integrations

    installed = get_available_reporting_integrations()
    for tracker in names:
        if tracker not in installed:
            yield UsageError(f"tracker '{tracker}' is not installed", f"installed: {', '.join(installed) or 'none'}")


def problems_with_dataset(config: Config, dataset: RecDataset) -> Iterator[Llm4RecError]:
    if config.model.traits.needs_text and not any(dataset.texts):
        yield DataError(
            f"model '{config.model.name}' needs item text, and dataset '{config.dataset.name}' has none",
            "choose a dataset with titles, or a model that uses ids: llm4rec list models",
        )
    yield from config.model.problems_with_dataset(config.task, dataset)
    yield from tasks.problems_with_dataset(config.task, dataset)


def _problems_of_impressions(config: Config) -> Iterator[UsageError]:
    name, task = config.dataset.name, config.task.name
    is_log, needs_log = config.dataset.split.splits_impressions, tasks.ranks_impressions(config.task)
    if is_log and not needs_log:
        yield UsageError(
            f"dataset.split={config.dataset.split.name} splits impressions, and task '{task}' needs interactions",
            f"task=impressions if '{name}' is a click log, dataset.split=leave_one_out if not; or dataset=demo",
        )
    if needs_log and not is_log:
        yield UsageError(
            f"task.candidates=impression needs a click log, and dataset '{name}' is not one",
            "task=direct or task=sequential; or a click log: dataset=demo_news, dataset=mind-small",
        )
    if is_log and (config.dataset.cold_items > 0 or config.dataset.train_users < 1):
        yield UsageError(
            f"dataset.cold_items and dataset.train_users hold out interactions, and '{name}' is a click log",
            "leave them out; dataset.train_impressions=0.1 trains on a tenth of its impressions",
        )
    if config.dataset.train_impressions < 1 and not is_log:
        yield UsageError(
            f"dataset.train_impressions is a share of impressions, and dataset '{name}' is not a click log",
            "dataset.train_users=0.1 trains on a tenth of the users",
        )
    if config.dataset.empty_history != EmptyHistory.keep and not is_log:
        yield UsageError(
            f"dataset.empty_history applies to impressions, and dataset '{name}' is not a click log", "leave it out"
        )


def problems_of_llm(llm: LLMConfig) -> Iterator[UsageError]:
    """Yield the problems of a cost budget without prices, and of an endpoint."""
    if llm.ask_again and llm.replay:
        yield UsageError("llm.ask_again sends requests, and llm.replay sends none", "leave one of them out")
    if llm.budget_cost is not None and not (llm.price_prompt or llm.price_answer):
        yield UsageError(
            "llm.budget_cost needs the model's prices, and both are 0",
            "llm.price_prompt=0.15 llm.price_answer=0.6 (per million tokens), or llm.budget_tokens=N",
        )
    if llm.backend != Backend.openai:
        return
    from llm4rec_cli.llm import endpoint

    yield from endpoint.problems(llm)


def needed_capability(task: TaskConfig) -> str:
    if task.question != Question.rank:
        return task.question
    if tasks.ranks_impressions(task):
        return "rank_impressions"
    return "rank_catalogue" if task.candidates == Candidates.full else "rank_candidates"
