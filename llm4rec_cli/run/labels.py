"""The labels and warnings of a run's results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llm4rec_cli import processes
from llm4rec_cli.config.schema import Config, Control, EmptyHistory, Keep, SplitRule, TaskConfig, Written
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.labels import (
    CONTROL,
    FLOOR_NOT_BEATEN,
    IMPORTED,
    MAY_BE_MEMORISED,
    NOT_ABOVE_POPULARITY,
    SELECTED_MASKED,
    SELECTED_UNMASKED,
    UNREAD_ANSWERS,
)
from llm4rec_cli.results.result import Imported, InitFrom, Number, Result
from llm4rec_cli.run import memorisation

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset

MOST_UNREAD = 0.1  # share of answers


def labels(
    config: Config,
    dataset: RecDataset,
    n_examples: int,
    metrics: Mapping[str, float],
    training: Mapping[str, Number] | None,
    selected: Mapping[str, bool],
    gaps: Iterable[str],
    floors: Sequence[Result],
    imported: Imported | None,
    init_from: InitFrom | None,
) -> list[str]:
    """Return the labels of a result, in the order in which tables show them.

    Args:
        metrics: of the result.
        training: entry of the run in which its weights were trained.
        selected: of `selected_masked`.
        gaps: labels of what the model's answers lack.
        floors: the results that it is compared with.
        imported, init_from: where the weights come from, if not from a training from new ones.
    """
    manifest, synthetic = dataset.manifest, dataset.manifest["synthetic"]
    asks_llm, uses_llm = config.depends_on_chat_model, config.model.traits.uses_llm
    conditions = {
        "synthetic": synthetic,
        "no-timestamps": manifest["users_without_times"] and not synthetic,
        "extracted-explanations": "explanations" in manifest and config.task.written is Written.explanation,
        "subset": config.dataset.part_of is not None or config.task.max_examples == n_examples,
        "substitute-llm": asks_llm and uses_llm,  # the papers' chat model of 2023 is no longer available
        "llm-tokens": asks_llm and not uses_llm,
        MAY_BE_MEMORISED: asks_llm and not synthetic,
        "temporal-split": config.dataset.split is SplitRule.temporal,
        "leaky": config.dataset.split is SplitRule.p5_reviews,
        "transfer": config.dataset.split is SplitRule.transfer,
        "cold-items": config.dataset.cold_items > 0,
        "few-users": config.dataset.train_users < 1,
        "few-impressions": config.dataset.train_impressions < 1,
        "empty-history-skipped": config.dataset.empty_history is EmptyHistory.skip,
        f"{CONTROL}{config.dataset.control.name}": config.dataset.control is not Control.none,
    }
    own = [name for name in config.model.labels(config.task.name) if not (name == MAY_BE_MEMORISED and synthetic)]
    own += [label for label, applies in conditions.items() if applies]
    own += selection_labels(config.task, selected)
    own += [UNREAD_ANSWERS] if metrics.get("answers/invalid", 0) > MOST_UNREAD else []
    own += training_labels(training or {})
    own += [IMPORTED] if imported else []
    inherited = init_from.labels if init_from else []
    return [*dict.fromkeys([*own, *inherited]), *gaps, *floor_labels(config, metrics, floors)]


def selected_masked(config: Config, trained_masked: bool | None, chosen: Mapping[str, Any] | None) -> dict[str, bool]:
    """Return what validation chose by rankings of the catalogue -> whether items of the history were left out.

    `settings` were chosen by a search, `epoch` by early stopping (under `trained_masked`, None if not by a ranking),
    and `chosen` by the model itself. The label `selected-unmasked` or `selected-masked` follows where one differs from
    the evaluation.
    """
    result = {}
    if config.tuning is not None and config.tuning.mask_history is not None:
        result["settings"] = config.tuning.mask_history
    if config.model.traits.trainable and config.trainer.keep is Keep.best and trained_masked is not None:
        result["epoch"] = trained_masked
    if config.task.ranks_catalogue:
        result |= dict.fromkeys(chosen or (), config.task.masked)
    return result


def selection_labels(task: TaskConfig, selected: Mapping[str, bool]) -> list[str]:
    """Return the label of a ranking with something that was chosen under another mask."""
    if not task.ranks_catalogue or set(selected.values()) <= {task.mask_history}:
        return []
    return [SELECTED_UNMASKED if task.mask_history else SELECTED_MASKED]


def floor_labels(config: Config, metrics: Mapping[str, float], floors: Sequence[Result]) -> list[str]:
    """Return `floor-not-beaten` for a model that is not a floor if some floor is at least as good."""
    if config.model.traits.is_floor:
        return []
    metric = config.task.selection
    sign = direction(metric)
    beaten = all(sign * metrics[metric] > sign * floor.metrics[metric] for floor in floors)
    return [] if beaten else [FLOOR_NOT_BEATEN]


def training_labels(training: Mapping[str, Number]) -> list[str]:
    """Return `not-above-popularity` of a training, given its entry in metrics.json, unless the interval of its gain on
    validation is above zero."""
    return [NOT_ABOVE_POPULARITY] if training.get("gain_low", 1) <= 0 else []


def training_warnings(training: Mapping[str, Number]) -> list[str]:
    """Return what says that a training probably failed: that it has the label `not-above-popularity`, and that the loss
    of its best epoch is not below that of drawing targets by popularity."""
    warnings = []
    if training_labels(training):
        valid = next(key for key in training if key.startswith("valid_"))
        own, popularity, *interval = (training[key] for key in (valid, "popularity", "gain", "gain_low", "gain_high"))
        scores = f"{valid.removeprefix('valid_')} is {own:.4f}, and popularity's {popularity:.4f}"
        gain = "{:+.4f}, 95 % CI {:+.4f} to {:+.4f}".format(*interval)
        warnings.append(
            f"training probably failed: on validation, {scores} ({gain}); llm4rec tune searches other settings"
        )
    if training.get("popularity_loss", math.inf) <= training.get("loss", 0):
        loss, popularity, uniform = (training[key] for key in ("loss", "popularity_loss", "uniform_loss"))
        warnings.append(
            f"has not learned more than popularity: the loss of its best epoch is {loss:.4f}, that of drawing items by "
            f"their popularity {popularity:.4f}, and with all equally likely {uniform:.4f}"
        )
    return warnings


def update_finished(run: Result, config: Config, dataset: RecDataset, floors: Sequence[Result]) -> Result:
    """Return a finished run with what was measured since: that it is not better than a floor that it was first run
    without, and what its chat model has memorised of the data."""
    missing = [label for label in floor_labels(config, run.metrics, floors) if label not in run.labels]
    updated = replace(run, labels=[*run.labels, *missing])
    if MAY_BE_MEMORISED in run.labels and (scores := memorisation.read(config, dataset)):
        model = memorisation.model_name(config)
        earlier = {memorisation.warning(run.memorisation, name) for name in (model, memorisation.CHAT_MODEL)}
        warnings = [warning for warning in run.warnings if warning not in earlier]
        updated = replace(updated, memorisation=scores, warnings=[*warnings, memorisation.warning(scores, model)])
    if updated != run and processes.is_first():
        updated.write()
    return updated
