"""Combining finished runs: the overrides of the ensemble that `train` evaluates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from llm4rec_cli.config import walk
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.keys import keys_with_role
from llm4rec_cli.config.overrides import command_line, key_typed, quoted
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import SeenItems
from llm4rec_cli.errors import UsageError, raise_first
from llm4rec_cli.results.result import Result, read_status
from llm4rec_cli.results.results import Results, depends_on_seed
from llm4rec_cli.results.settings import value_at

STORED = {"scores", "top_scores"}  # columns of predictions.parquet
# Keys of metrics.json that all members must agree on.
SAME = ("dataset", "dataset_fingerprint", "task", "split", "protocol", "mask_history", "n_examples")


def ensemble_overrides(members: Sequence[Result], outputs: Path, combine: str) -> list[str]:
    """Return the overrides of `train` that combine these runs on their own data and examples.

    Raises:
        UsageError: the runs cannot be combined, or `combine=grid` lacks an evaluation on validation.
    """
    raise_first(_problems_of_members(members))
    overrides = [
        "model=ensemble",
        f"model.members={_listed([str(run.folder.resolve()) for run in members])}",
        f"model.names={_listed([_name(run) for run in members])}",
        f"model.variants={_listed([run.variant for run in members])}",
        f"model.combine={combine}",
        f"paths.outputs={outputs}",
        *_data_overrides(members[0]),
    ]
    seeds = {run.seed for run in members if depends_on_seed(run)}
    if len(seeds) == 1:
        overrides.append(f"seed={seeds.pop()}")
    if combine == "grid":
        evaluations = [str(_validation_run(member, outputs)) for member in members]
        overrides.append(f"model.judged={_listed(evaluations)}")
    return overrides


def _name(run: Result) -> str:
    named_otherwise = walk.settings_with(config_class(run.model), "names_member")
    return run.shown_as.removeprefix(f"{run.model} ") if named_otherwise else run.shown_as


def _problems_of_members(members: Sequence[Result]) -> Iterator[UsageError]:
    if len(members) < 2:
        yield UsageError("an ensemble needs at least two runs, but only one is named", "run=[RUN,RUN,…]")
    first, *others = members
    for run in members:
        if not STORED & run.columns:
            yield UsageError(
                f"{run.folder} has no stored scores of items (task {run.task})",
                "rankings store them; runs from before they did: evaluate again with force=true",
            )
    for run in others:
        for key in SAME:
            if getattr(run, key) != getattr(first, key):
                yield UsageError(
                    f"the runs differ: {key} is {getattr(first, key)} in {first.folder}, {getattr(run, key)} in "
                    f"{run.folder}",
                    "combine runs of one dataset and protocol",
                )


def _data_overrides(run: Result) -> list[str]:
    """Return the overrides that select the dataset, task, split and examples of a run, however it was configured."""
    status = read_status(run.folder)
    choices = [f"{group}={status.choices[group]}" for group in ("dataset", "task")]
    sources = keys_with_role(Role.source)
    typed = [override for override in status.overrides if key_typed(override) in sources]
    overrides = [*choices, f"split={run.split}", *typed]
    composed = compose(["model=popularity", *overrides]).config
    usual: Any = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)
    for key in sorted(keys_with_role(Role.data, Role.division, Role.intervention, Role.question, Role.extent)):
        default = value_at(usual, key)
        value = run.settings.in_effect(key, default)
        if key.startswith(("dataset.", "task.")) and value != default:
            overrides.append(f"{key}={_value(value)}")
    return overrides


def _value(value: Any) -> str:
    """Return a value of a config in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    return quoted(value) if isinstance(value, str) else "null" if value is None else str(value).lower()


def _validation_run(run: Result, outputs: Path) -> Path:
    """Return the folder of the same model's evaluation on the validation split.

    A trained model is matched by its training run, also where the member is an evaluation of it; another by its
    settings, seed and data.

    Raises:
        UsageError: the validation run does not exist.
    """
    trained = run.trained_run or (run.address.as_posix() if run.training else None)

    def is_same(other: Result, *fields: str) -> bool:
        return all(getattr(other, name) == getattr(run, name) for name in fields)

    def is_same_model(other: Result) -> bool:
        if trained:
            return other.trained_run == trained
        same_settings = other.settings.get("model") == run.settings.get("model")
        return same_settings and is_same(other, "seed", "dataset_fingerprint")

    for other in Results.under(outputs):
        if other.split == "valid" and is_same(other, "task", "protocol", "mask_history") and is_same_model(other):
            return other.folder.resolve()
    of_rule = [o for o in run.overrides if key_typed(o).startswith(("model.", "dataset."))]
    chosen = [f"run={outputs / trained}"] if trained else [f"model={run.model}", *of_rule]
    if not trained and "dataset" not in map(key_typed, of_rule):
        chosen.insert(1, f"dataset={run.dataset}")
    masked = ["task.mask_history=true"] if run.mask_history else []
    masked += ["task.seen_items=zeroed"] if run.mask_history == SeenItems.zeroed.name else []
    command = command_line("eval", [*chosen, *masked, "split=valid"])
    raise UsageError(f"{run.folder} was not evaluated on validation", command)


def _listed(values: list[str]) -> str:
    return f"[{','.join(quoted(value) for value in values)}]"
