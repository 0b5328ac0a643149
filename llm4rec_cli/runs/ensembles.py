"""Combining finished runs: the overrides of the ensemble that `train` evaluates."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.keys import keys_with_role
from llm4rec_cli.config.overrides import key_typed, quoted
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import SeenItems
from llm4rec_cli.errors import UsageError, raise_first
from llm4rec_cli.runs.catalog import (
    CONFIG,
    PREDICTIONS,
    STATUS,
    FinishedRun,
    depends_on_seed,
    finished_runs,
    prediction_columns,
    run_folder,
    stored_config,
    stored_value,
    value_at,
)

STORED = {"scores", "top_scores"}  # columns of predictions.parquet
# Keys of metrics.json that all members must agree on.
SAME = ("dataset", "dataset_fingerprint", "task", "split", "protocol", "mask_history", "n_examples")


def ensemble_overrides(members: Sequence[FinishedRun], outputs: Path, combine: str) -> list[str]:
    """Return the overrides of `train` that combine these runs on their own data and examples.

    Args:
        members: folder and metrics.json of each.
        outputs: the folder of all runs.
        combine: of the model `ensemble`.

    Raises:
        UsageError: the runs cannot be combined, or `combine=weights|grid` lacks an evaluation on validation.
    """
    raise_first(_problems_of_members(members))
    overrides = [
        "model=ensemble",
        f"model.members={_listed([str(folder.resolve()) for folder, _ in members])}",
        f"model.names={_listed([_name(metrics) for _, metrics in members])}",
        f"model.variants={_listed([metrics['variant'] for _, metrics in members])}",
        f"model.combine={combine}",
        f"paths.outputs={outputs}",
        *_data_overrides(members[0][0]),
    ]
    seeds = {metrics["seed"] for _, metrics in members if depends_on_seed(metrics)}
    if len(seeds) == 1:
        overrides.append(f"seed={seeds.pop()}")
    if combine in ("weights", "grid"):
        evaluations = [str(_validation_run(*member, outputs)) for member in members]
        overrides.append(f"model.judged={_listed(evaluations)}")
    return overrides


def _name(metrics: dict[str, Any]) -> str:
    return config_class(metrics["model"]).name_in_ensemble(metrics["shown_as"])


def _problems_of_members(members: Sequence[FinishedRun]) -> Iterator[UsageError]:
    """Yield why runs cannot be combined: fewer than two, no stored scores, other data or protocols."""
    if len(members) < 2:
        yield UsageError("an ensemble needs at least two runs, and one is named", "run=[RUN,RUN,…]")
    (first_folder, first), *others = members
    for folder, metrics in members:
        if not STORED & prediction_columns(folder / PREDICTIONS):
            yield UsageError(
                f"{folder} has no stored scores of items (task {metrics['task']})",
                "rankings store them; runs from before they did: evaluate again with force=true",
            )
    for folder, metrics in others:
        for key in SAME:
            if metrics[key] != first[key]:
                yield UsageError(
                    f"the runs differ: {key} is {first[key]} in {first_folder}, {metrics[key]} in {folder}",
                    "combine runs of one dataset and protocol",
                )


def _data_overrides(folder: Path) -> list[str]:
    """Return the overrides that select the dataset, task, split and examples of a run, however it was configured."""
    status = json.loads((folder / STATUS).read_text())
    stored = stored_config(folder)
    choices = [f"{group}={status['choices'][group]}" for group in ("dataset", "task")]
    sources = keys_with_role(Role.source)
    typed = [override for override in status["overrides"] if key_typed(override) in sources]
    overrides = [*choices, f"split={stored['split']}", *typed]
    composed = compose(["model=popularity", *overrides]).config
    usual: Any = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)
    for key in sorted(keys_with_role(Role.data, Role.division, Role.intervention, Role.question, Role.extent)):
        default = value_at(usual, key)
        value = stored_value(stored, key, default)
        if key.startswith(("dataset.", "task.")) and value != default:
            overrides.append(f"{key}={_value(value)}")
    return overrides


def _value(value: Any) -> str:
    """Return a value of a config in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    return quoted(value) if isinstance(value, str) else "null" if value is None else str(value).lower()


def _validation_run(folder: Path, metrics: dict[str, Any], outputs: Path) -> Path:
    """Return the folder of the same model's evaluation on the validation split.

    A trained model is matched by its training run, also where the member is an evaluation of it; another by its
    settings, seed and data.

    Raises:
        UsageError: there is none.
    """
    own = run_folder(Path(), metrics).as_posix() if metrics["training"] else None
    trained = metrics["trained_run"] or own

    def is_same_model(candidate: Path, other: dict[str, Any]) -> bool:
        if trained:
            return bool(other["trained_run"] == trained)
        ours, theirs = (OmegaConf.select(OmegaConf.load(run / CONFIG), "model") for run in (folder, candidate))
        return ours == theirs and all(other[key] == metrics[key] for key in ("seed", "dataset_fingerprint"))

    def is_same_question(other: dict[str, Any]) -> bool:
        return all(other[key] == metrics[key] for key in ("task", "protocol", "mask_history"))

    for candidate, other in finished_runs(outputs):
        if other["split"] == "valid" and is_same_question(other) and is_same_model(candidate, other):
            return candidate.resolve()
    of_rule = [o for o in metrics["overrides"] if key_typed(o).startswith(("model.", "dataset."))]
    chosen = [f"run={outputs / trained}"] if trained else [f"model={metrics['model']}", *of_rule]
    if not trained and "dataset" not in map(key_typed, of_rule):
        chosen.insert(1, f"dataset={metrics['dataset']}")
    masked = ["task.mask_history=true"] if metrics["mask_history"] else []
    masked += ["task.seen_items=zeroed"] if metrics["mask_history"] == SeenItems.zeroed.name else []
    command = shlex.join(["llm4rec", "eval", *chosen, *masked, "split=valid"])
    raise UsageError(f"{folder} was not evaluated on validation", command)


def _listed(values: list[str]) -> str:
    return f"[{','.join(quoted(value) for value in values)}]"
