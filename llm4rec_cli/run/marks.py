"""The labels of a run's results, and its deviations from the paper in words."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from llm4rec_cli import processes
from llm4rec_cli.config import walk
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.keys import declarations_with
from llm4rec_cli.config.resolved import resolved_config
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import (
    Backend,
    Config,
    Control,
    EmptyHistory,
    Keep,
    Precision,
    SplitRule,
    TaskConfig,
    TextRecipe,
    Written,
    causal_backbone,
)
from llm4rec_cli.config.statements import SHARED, content
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.files import write_json
from llm4rec_cli.labels import (
    CONTROL,
    FLOOR_NOT_BEATEN,
    IMPORTED,
    MAY_BE_MEMORISED,
    NOT_ABOVE_POPULARITY,
    NOT_INHERITED,
    SELECTED_MASKED,
    SELECTED_UNMASKED,
    UNREAD_ANSWERS,
)
from llm4rec_cli.paths import cache_folder
from llm4rec_cli.results.result import Imported, InitFrom, MemorisationScore, Number, Result
from llm4rec_cli.run.identity import identity_of

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset

MOST_UNREAD = 0.1  # share of answers
CHAT_MODEL = "the chat model"
MEMORISED = (
    "{model} may have read these very data in its training: a high number can be memory (llm4rec inspect memorisation "
    "measures it)"
)


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
    own = [*labels_of_data(config, dataset, n_examples), *selection_labels(config.task, selected)]
    own += [UNREAD_ANSWERS] if metrics.get("answers/invalid", 0) > MOST_UNREAD else []
    own += training_labels(training or {})
    own += [IMPORTED] if imported else []
    inherited = init_from.labels if init_from else []
    return [*dict.fromkeys([*own, *inherited]), *gaps, *floor_labels(config, metrics, floors)]


def labels_of_data(config: Config, dataset: RecDataset, n_examples: int) -> list[str]:
    """Return the labels that model, data and split have, whatever the answers are."""
    manifest, synthetic = dataset.manifest, dataset.manifest["synthetic"]
    conditions = {
        "synthetic": synthetic,
        "no-timestamps": manifest["users_without_times"] and not synthetic,
        "extracted-explanations": "explanations" in manifest and config.task.written is Written.explanation,
        "subset": config.dataset.part_of is not None or config.task.max_examples == n_examples,
        **(_chat_model_labels(config, dataset) if config.depends_on_chat_model else {}),
        "temporal-split": config.dataset.split is SplitRule.temporal,
        "leaky": config.dataset.split is SplitRule.p5_reviews,
        "transfer": config.dataset.split is SplitRule.transfer,
        "cold-items": config.dataset.cold_items > 0,
        "few-users": config.dataset.train_users < 1,
        "few-impressions": config.dataset.train_impressions < 1,
        "empty-history-skipped": config.dataset.empty_history is EmptyHistory.skip,
        f"{CONTROL}{config.dataset.control.name}": config.dataset.control is not Control.none,
    }
    of_model = [name for name in config.model.labels(config.task.name) if not (name == MAY_BE_MEMORISED and synthetic)]
    return [*of_model, *(label for label, applies in conditions.items() if applies)]


def _chat_model_labels(config: Config, dataset: RecDataset) -> dict[str, bool]:
    """Return the labels of results that depend on a chat model, which may have seen the data in its training. The
    papers' chat model of 2023 is no longer available, so every model is a substitute."""
    return {
        "substitute-llm": config.model.traits.uses_llm,
        "llm-tokens": not config.model.traits.uses_llm,
        MAY_BE_MEMORISED: not dataset.manifest["synthetic"],
    }


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


def memorisation(config: Config, dataset: RecDataset) -> Mapping[str, MemorisationScore] | None:
    """Return what `inspect memorisation` measured of the language model on this dataset, by probe; None without."""
    path = _memorisation_file(config, dataset)
    return msgspec.json.decode(path.read_bytes(), type=dict[str, MemorisationScore]) if path.exists() else None


def model_with_memory(config: Config) -> str:
    """Return what a run's warning calls the language model that may remember the data."""
    backbone = causal_backbone(config.model)
    return f"the backbone {Path(backbone).name}" if backbone else CHAT_MODEL


def memorisation_warning(scores: Mapping[str, MemorisationScore] | None, model: str = CHAT_MODEL) -> str:
    """Return what was measured of a language model's memory in words, or that it may remember the data."""
    if scores is None:
        return MEMORISED.format(model=model)
    shares = [
        f"{name} {s.share:.2f} ({s.low:.2f}–{s.high:.2f}), chance {s.chance:.2f}"
        + ("" if s.made_up is None else f", made-up records {s.made_up:.2f}")
        for name, s in scores.items()
    ]
    return f"records of these data whose true end {model} finds likeliest, or writes verbatim: {'; '.join(shares)}"


def save_memorisation(config: Config, dataset: RecDataset, scores: Mapping[str, MemorisationScore]) -> bool:
    """Keep the scores of this chat model on this dataset for its runs; False if scores of more records are kept.

    Scores of a version without made-up records are replaced.
    """
    earlier = memorisation(config, dataset) or {}

    def tells_more(score: MemorisationScore, other: MemorisationScore) -> bool:
        return score.n > other.n and (score.made_up is not None or other.made_up is None)

    if earlier.keys() == scores.keys() and all(tells_more(earlier[probe], scores[probe]) for probe in scores):
        return False
    path = _memorisation_file(config, dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, msgspec.to_builtins(scores))
    return True


def _memorisation_file(config: Config, dataset: RecDataset) -> Path:
    """Return the file of the scores, of the model that is tuned or else the chat model. An endpoint's name for a model
    says nothing about another's."""
    llm = config.llm
    if backbone := causal_backbone(config.model):
        llm = replace(llm, backend=Backend.local, model=backbone)
    server = f" {llm.base_url}" if llm.backend is Backend.openai else ""
    key = hashlib.sha256(f"{dataset.fingerprint} {identity_of(llm)}{server}".encode()).hexdigest()[:24]
    return cache_folder(config.paths.cache) / "llm" / "memorisation" / f"{key}.json"


def paper_method(config: Config) -> dict[str, str]:
    """Return the facts that match a run with published results: `ModelConfig.paper_method`, and the chat model."""
    chat = {"chat model": Path(config.llm.model).name} if config.model.traits.uses_llm else {}
    return {**config.model.paper_method(config.task.name), **chat}


def deviations(config: Config, trained_task: str) -> list[str]:
    """Return the deviations of a run from its paper: of the model, the trainer, and as the experiment lists them.
    The weights were trained on `trained_task`."""
    sentences = [*config.model.deviations(config.task, trained_task).values()]
    if config.model.traits.trainable and config.trainer.precision is Precision.bf16:
        sentences.append("bf16 arithmetic in training")
    sentences += _arithmetic_of_evaluation(config)
    if config.dataset.text is TextRecipe.enriched and config.model.traits.needs_text:
        sentences.append(f"item texts end with tokens that {Path(config.llm.model).name} wrote")
    return [*sentences, *other_settings(config), *config.deviations]


def imported_deviations(config: Config, imported: Imported) -> list[str]:
    """Return the deviations of weights that were not trained here: where they come from, and the model's."""
    source = f"{imported.file} (sha256 {imported.sha256[:12]}), which {imported.code} writes"
    own = config.model.deviations(config.task, None).values()
    return [f"weights imported, not trained here: {source}", *own, *_arithmetic_of_evaluation(config)]


def _arithmetic_of_evaluation(config: Config) -> list[str]:
    traits, trainer = config.model.traits, config.trainer
    tf32 = ["TF32 arithmetic on GPUs"] if traits.trainable and trainer.tf32 else []
    is_bf16 = traits.bf16_scoring and trainer.scoring is Precision.bf16
    return [*tf32, *(["histories are encoded in bf16 in validation and test"] if is_bf16 else [])]


def other_settings(config: Config) -> list[str]:
    """Return one sentence with the settings of model and training that differ from the paper's experiment.

    Prompts and templates are compared by their names elsewhere, and weights by the last part of their name.
    """
    experiment = config.model.paper_experiment(config.task)
    if experiment is None:
        return []
    ours, theirs = _fitted_settings(config), _settings_of_paper(experiment)
    differences = [
        f"{key.removeprefix('model.')}={value} ({theirs[key]})"
        for key, value in ours.items()
        if key in theirs and value != theirs[key]
    ]
    return [f"settings other than those of {experiment}: {', '.join(differences)}"] if differences else []


@cache
def _settings_of_paper(experiment: str) -> Mapping[str, object]:
    return _fitted_settings(resolved_config(compose([f"+experiment={experiment}"])))


def _fitted_settings(config: Config) -> Mapping[str, object]:
    """Return the settings of model and trainer that determine the fitted weights."""
    model: Any = type(config.model)
    roles = {setting.key: setting.role for setting in declarations_with(model)}
    values = {
        setting.key: Path(value).name if (value := setting.value) and "weights" in setting.field.metadata else value
        for setting in walk.settings(config)
        if roles[setting.key] in (Role.model, Role.training) and not setting.key.startswith("model.prompts")
    }
    provenance = {"seed", "model.name", *(f"model.{key}" for key in walk.settings_with(config.model, "provenance"))}
    return {key: walk.plain(value) for key, value in values.items() if key not in provenance}


def init_from(run: Result) -> InitFrom:
    """Return what a run records of the run that it starts from, whose labels and deviations it inherits."""
    return InitFrom(
        dataset=run.dataset,
        experiment=run.experiment,
        overrides=run.overrides,
        seed=run.seed,
        config_hash=run.config_hash,
        deviations=[deviation for deviation in run.deviations if deviation != content(SHARED).get("from_scratch")],
        labels=[label for label in run.labels if label not in NOT_INHERITED],
    )


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
        own, popularity, gain, low, high = (
            training[key] for key in (valid, "popularity", "gain", "gain_low", "gain_high")
        )
        scores = f"{valid.removeprefix('valid_')} is {own:.4f}, and popularity's {popularity:.4f}"
        interval = f"{gain:+.4f}, 95 % CI {low:+.4f} to {high:+.4f}"
        warnings.append(
            f"training probably failed: on validation, {scores} ({interval}); llm4rec tune searches other settings"
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
    if MAY_BE_MEMORISED in run.labels and (scores := memorisation(config, dataset)):
        model = model_with_memory(config)
        earlier = {memorisation_warning(run.memorisation, name) for name in (model, CHAT_MODEL)}
        warnings = [warning for warning in run.warnings if warning not in earlier]
        updated = replace(updated, memorisation=scores, warnings=[*warnings, memorisation_warning(scores, model)])
    if updated != run and processes.is_first():
        updated.write()
    return updated
