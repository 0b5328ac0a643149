"""The stages of a run, in their order: load, divide, build, measure. Training is `training.fit`'s."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm4rec_cli import processes
from llm4rec_cli.capabilities import BatchAnswering, Incomplete
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.config.schema import Question, TextRecipe, Written
from llm4rec_cli.errors import DataError, RunError, raise_first
from llm4rec_cli.files import write_text
from llm4rec_cli.llm import enrichment
from llm4rec_cli.models import base as models
from llm4rec_cli.runs import marks, rules
from llm4rec_cli.runs.folder import peak_rss_mb, write_results
from llm4rec_cli.runs.identity import Address, text_encoder
from llm4rec_cli.runs.precision import answering_llm, taken_arithmetic, with_arithmetic
from llm4rec_cli.tasks import base as tasks

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.data.split import Split
    from llm4rec_cli.llm.requests import Backend as ChatBackend
    from llm4rec_cli.runs.spec import RunSpec

NOT_OF_ENRICH = ("dataset.text", "dataset.control", "llm.replay", "llm.dry_run", "paths.outputs")


@dataclass
class Clock:
    """Seconds spent by phase."""

    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.monotonic)

    def lap(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[phase] = round(self.seconds.get(phase, 0.0) + now - self.last, 3)
        self.last = now


# --- load


def load(spec: RunSpec) -> RecDataset:
    """The prepared dataset with item texts, under its control.

    Raises:
        DataError, UsageError: it lacks what the model or the task needs.
    """
    from llm4rec_cli.data.controls import controlled_dataset
    from llm4rec_cli.data.prepare import prepare
    from llm4rec_cli.data.texts import with_texts
    from llm4rec_cli.data.tokens import attribute_tokens, with_tokens

    config = spec.config.dataset
    dataset = prepare(config, spec.cache)
    if config.text is TextRecipe.enriched:
        dataset = _enriched(spec, dataset)
    if config.text is TextRecipe.attributes:
        attributes = attribute_tokens(dataset.items)
        if not any(attributes):
            raise DataError(
                f"dataset.text=attributes: dataset '{config.name}' knows no brand and no categories of items",
                "dataset.text=unisrec, or another dataset",
            )
        dataset = with_tokens(dataset, attributes)
    dataset = controlled_dataset(dataset, config.control, config.seed)
    dataset = with_texts(dataset, config.text)
    raise_first(rules.problems_with_dataset(spec, dataset))
    return dataset


def _enriched(spec: RunSpec, dataset: RecDataset) -> RecDataset:
    """The dataset with the tokens of its items that the store has; nothing is asked.

    Raises:
        DataError: some are not there.
    """
    from llm4rec_cli.data.tokens import with_tokens
    from llm4rec_cli.llm import completions
    from llm4rec_cli.llm.store import Store

    asked = enrichment.item_requests(dataset, spec.config.enrichment, spec.llm)
    with Store(completions.store_path(spec.llm, spec.cache)) as store:
        answers = enrichment.stored_completions(asked, item_reader(spec), store)
        if missing := len(asked.requests) - len(answers):
            raise DataError(
                f"dataset.text=enriched: {missing:,} of {len(asked.requests):,} texts of items have no tokens by "
                f"llm.model={spec.llm.model} in {store.path}",
                _enrich_command(spec),
            )
    return with_tokens(dataset, enrichment.parse_tokens(asked, answers, spec.config.enrichment).tokens)


def _enrich_command(spec: RunSpec) -> str:
    """The command that has the tokens written, out of what was typed."""
    named = [] if spec.typed_keys & {"dataset", "experiment"} else [f"dataset={spec.config.dataset.name}"]
    of_data = ("dataset", "llm", "enrichment", "experiment", "paths")
    keys = [(typed, key_typed(typed)) for typed in spec.typed]
    kept = [typed for typed, key in keys if key.split(".")[0] in of_data and key not in NOT_OF_ENRICH]
    return " ".join(["llm4rec enrich", *named, *kept])


def item_reader(spec: RunSpec) -> ChatBackend:
    """Who writes the tokens of items: one for all seeds of a model, as they belong to the data."""
    return chat_backend(spec, spec.config.dataset.seed)


def chat_backend(spec: RunSpec, seed: int) -> ChatBackend:
    """The chat model of `llm`, which writes answers."""
    from llm4rec_cli.llm import completions

    return completions.build_backend(answering_llm(spec), spec.cache, spec.device, seed)


# --- divide


def split_dataset(spec: RunSpec, dataset: RecDataset) -> Split:
    """The dataset divided, with what the config holds out of training; with explanations, where they are asked for."""
    from llm4rec_cli.data import split
    from llm4rec_cli.data.explanations import with_explanations

    config = spec.config.dataset
    divided = split.hold_out(split.split_dataset(dataset), config.cold_items, config.train_users, config.seed)
    wanted = spec.task.written is Written.explanation or spec.model.task_bound
    if wanted and "review_text" in dataset.interactions and "explanation" not in dataset.interactions:
        return with_explanations(divided, spec.cache)
    return divided


# --- build


def build(spec: RunSpec, split: Split) -> Any:
    """The model, its initial weights a function of `seed` alone.

    Args:
        spec: its arithmetic chosen: `with_arithmetic`.
    """
    import torch

    # As transformers' set_seed does, which takes seconds to import where a floor needs nothing else of it.
    random.seed(spec.config.seed)
    np.random.seed(spec.config.seed)  # noqa: NPY002
    torch.manual_seed(spec.config.seed)
    if spec.task.question is Question.rank and not spec.model.task_bound:
        split = split.for_ranking()  # one that is trained for several tasks sees to that itself
    context = models.Context(spec.model, split, spec.config.seed, spec.cache, spec.device, spec.task.name, spec.llm)
    model = models.build(context)
    return model.to(spec.device) if isinstance(model, torch.nn.Module) else model


def rehearse(spec: RunSpec, split: Split) -> None:
    """Shows what a chat model would be asked, and touches no run.

    Raises:
        DryRun: always, when it has.
    """
    task = tasks.module(spec.task)
    examples = task.examples(split, spec.config.split, spec.config, spec.cache)
    build(with_arithmetic(spec), split).prepare_answers(examples)


def keep_artefacts(model: Any, folder: Path) -> None:
    """Writes beside the weights what they mean nothing without, and refuses to train on with another."""
    if not isinstance(model, models.HasArtifacts) or not processes.is_first():
        return
    check_artefacts(model, folder)
    for name, content in model.artifacts().items():
        write_text(folder / name, content)


def check_artefacts(model: Any, folder: Path) -> None:
    """Refuses weights that were trained with other artefacts than the model has now.

    Raises:
        RunError: so it is.
    """
    for name, content in model.artifacts().items() if isinstance(model, models.HasArtifacts) else ():
        kept = folder / name
        if kept.exists() and kept.read_text(encoding="utf-8") != content:
            raise RunError(
                f"{kept} is not what the model is built with now, so the weights of {folder} mean nothing to it",
                "train anew: force=true",
            )


# --- measure


def measure(
    spec: RunSpec,
    split: Split,
    model: Any,
    where: Address,
    clock: Clock,
    floors: Sequence[dict[str, Any]],
    init_from: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Asks the model the task's question and writes the answers and metrics.json.

    Args:
        floors: metrics.json of each.
        init_from: of the run whose weights training began with, what `marks.begun_with` says.
        more: the fields that only the caller knows.

    Returns:
        metrics.json.
    """
    import torch

    config, task = spec.config, tasks.module(spec.task)
    asked = task.examples(split, config.split, config, spec.cache)
    n_asked, foreseen = len(asked), isinstance(model, BatchAnswering)
    if foreseen:
        asked = model.prepare_answers(asked)
        clock.lap("ask")
    evaluation = task.evaluate(model, split, asked, config)
    if foreseen:
        evaluation = tasks.accounted(evaluation, model, task, split, asked, config)
    clock.lap("evaluate")
    gaps = {}
    if isinstance(model, Incomplete):
        gaps = model.gaps(asked, evaluation.predictions, list(config.task.cutoffs))
    labels = marks.labels(spec, split.dataset, n_asked)
    weights = list(model.parameters()) if isinstance(model, torch.nn.Module) else []
    began = init_from or {}
    metrics = {
        "schema": 1,
        "model": config.model.name,
        "shown_as": config.model.display_name(),
        "paper_method": marks.paper_method(spec),
        "dataset": config.dataset.name,
        "task": config.task.name,
        "split": config.split.name,
        "split_rule": config.dataset.split.name,
        "protocol": task.protocol(config.task),
        "mask_history": bool(config.task.mask_history),
        "seed": config.seed,
        "config_hash": where.config_hash,
        "variant": where.variant,
        "experiment": None,
        "trained_run": None,
        "init_from": init_from,
        "text_encoder": text_encoder(config.model),
        "tokens": split.dataset.manifest.get("tokens"),
        "training": None,
        "arithmetic": taken_arithmetic(spec),
        "overrides": [],
        "dataset_fingerprint": split.dataset.fingerprint,
        "labels": [
            *dict.fromkeys([*labels, *began.get("labels", [])]),
            *gaps,
            *marks.unbeaten(spec, evaluation.metrics, floors),
        ],
        "deviations": [*marks.deviations(spec), *(f"pre-training: {d}" for d in began.get("deviations", []))],
        "n_examples": n_asked,
        "metrics": evaluation.metrics,
        "intervals": evaluation.intervals,
        "breakdown": evaluation.breakdown,
        "signatures": evaluation.signatures,
        "n_parameters": sum(p.numel() for p in weights),
        "n_trainable": sum(p.numel() for p in weights if p.requires_grad),
        "llm": model.usage_summary() if foreseen else None,
        "seconds": clock.seconds,
        "peak_rss_mb": peak_rss_mb(),
        **config.model.metrics_fields(),
        "warnings": [
            *evaluation.warnings,
            *gaps.values(),
            *([marks.MEMORISED] if "may-be-memorised" in labels else []),
        ],
        **more,
    }
    write_results(where.folder, metrics, evaluation.predictions)
    return metrics
