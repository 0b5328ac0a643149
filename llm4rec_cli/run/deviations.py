"""The deviations of a run from its paper, in words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from llm4rec_cli.config import walk
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.keys import declarations_with
from llm4rec_cli.config.resolved import resolved_config
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import Config, Precision, TextRecipe
from llm4rec_cli.config.statements import SHARED, content
from llm4rec_cli.labels import NOT_INHERITED
from llm4rec_cli.results.result import Imported, InitFrom, Result


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
