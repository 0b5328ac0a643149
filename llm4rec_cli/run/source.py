"""The finished run whose weights a job evaluates or starts training from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli import processes
from llm4rec_cli.config import walk
from llm4rec_cli.config.keys import key_role, keys_with_role
from llm4rec_cli.config.overrides import as_typed, key_typed
from llm4rec_cli.config.roles import NOT_HASHED, Role
from llm4rec_cli.config.schema import Config, ModelConfig
from llm4rec_cli.errors import RunError, UsageError, raise_first
from llm4rec_cli.results.result import CHECKPOINTS, STATUS, Result, Status, read_result, read_status
from llm4rec_cli.results.settings import Settings
from llm4rec_cli.run import checkpoints
from llm4rec_cli.run.checkpoints import Checkpoint
from llm4rec_cli.run.identity import ReadWeights

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset

EVALUATION_ROLES = (Role.question, Role.extent, *NOT_HASHED)  # may differ from the trained run: not the weights


@dataclass(frozen=True)
class Source:
    """A finished run with weights. `overrides` of its evaluation are those of its training, then those typed now."""

    result: Result
    status: Status
    overrides: Sequence[str] = ()

    @property
    def folder(self) -> Path:
        return self.result.folder

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that it selected."""
        return processes.from_first(lambda: checkpoints.selected(self.folder / CHECKPOINTS))

    @property
    def trained_masked(self) -> bool | None:
        """Whether its validation left out items of the history; None if it ranked no catalogue, or is not known."""
        is_known = self.result.protocol == "full" and not self.result.imported
        return bool(self.result.mask_history) if is_known else None

    def described(self, typed: set[str]) -> str:
        """Return its folder, with the settings of its training whose keys are not typed."""
        settings = settings_not_typed(self.status.overrides, typed)
        return f"{self.folder} with {' '.join(settings)}" if settings else str(self.folder)

    @property
    def as_trained(self) -> ReadWeights:
        """Return what the address of its evaluation is made of."""
        return ReadWeights(f"{self.result.config_hash} {self.checkpoint.sha256}", self.result.variant)

    def as_initial(self, seed: int) -> ReadWeights:
        """Return what the address of a training that starts from these weights is made of."""
        variant = self.result.variant
        if not self.result.imported:  # whose seed means nothing
            # Runs are averaged if each starts from the pre-training of its own seed, or all from one.
            variant += f" of {'the own seed' if self.result.seed == seed else self.result.seed}"
        return ReadWeights(self.checkpoint.sha256, variant)

    def problems_with_data(self, model: ModelConfig, dataset: RecDataset) -> Iterator[RunError]:
        """Yield a problem if it was trained on another dataset: other fingerprint, item tokens or name.

        Imported weights have read no data here. Where they depend on the numbers of users or items, the dataset must
        at least have the name that they were imported for.
        """
        name = dataset.manifest["name"]
        if self.result.imported:
            if model.traits.needs_user and name != self.result.dataset:
                yield RunError(
                    f"the weights of {self.folder} are for the users of {self.result.dataset}",
                    f"dataset={self.result.dataset}",
                )
            return
        if dataset.fingerprint != self.result.dataset_fingerprint:
            yield RunError(
                f"{self.folder} was trained on other data with the name {name}",
                "use the dataset.raw_dir and dataset.seed that it was trained with, or train again",
            )
        if dataset.manifest.get("tokens") != self.result.tokens:
            yield RunError(
                f"{self.folder} was trained with other item tokens",
                "use the llm, enrichment and dataset.seed that it was trained with, or train again",
            )


def settings_not_typed(overrides: Sequence[str], typed: set[str]) -> list[str]:
    """Return the overrides of a training that change its data, model or fitting and whose keys are not typed.

    Model, dataset, task and seed are left out: they say which training it is, and not how it differs from the default.
    """
    not_counted = {*typed, "model", "dataset", "task", "seed"}

    def counts(key: str) -> bool:
        return key == "experiment" or key_role(key) not in (None, *EVALUATION_ROLES)

    return [as_typed(o) for o in overrides if (key := key_typed(o)) not in not_counted and counts(key)]


def initial_source(config: Config) -> Source | None:
    """Return the finished run that `init_from` of the model names; None if it names none.

    In a folder of runs it is the run with this config's seed, so that a sweep over seeds can name the folder. Runs on
    the same data with another held-out split are refused; data are the same if the dataset's name is.

    Raises:
        UsageError: there is no such run or several, it was trained on data held out now, or its weights do not fit.
    """
    setting = next(iter(walk.settings_with(config.model, "agrees_in")), "")
    path = getattr(config.model, setting, None)
    if path is None:
        return None
    folders = [Path(path)] if (Path(path) / STATUS).exists() else sorted(Path(path).glob(f"seed{config.seed}-*"))
    candidates = [
        result
        for folder in folders
        if (result := read_result(folder)) is not None and result.trained_run is None  # not an evaluation
    ]
    if len(candidates) != 1:
        names = ", ".join(result.folder.name for result in candidates) or "none"
        raise UsageError(
            f"model.{setting}={path} is not a finished run, nor a folder with one of seed {config.seed} ({names})",
            "name a run folder: llm4rec list runs task=pretrain",
        )
    (result,) = candidates
    raise_first(_problems_of_initial(config, result))
    return Source(result, read_status(result.folder))


def _problems_of_initial(config: Config, run: Result) -> Iterator[UsageError]:
    """Yield why a training may not start from the weights of a run: data held out now, or other shapes."""
    folder, stored, now = run.folder, run.settings, Settings.of(config)
    # The settings that decide which interactions are held out; a control withholds none.
    held_out = sorted(keys_with_role(Role.division, Role.intervention) - {"dataset.control"})
    for key in held_out if stored.get("dataset.name") == config.dataset.name else ():
        if (theirs := stored.in_effect(key)) != now.in_effect(key):
            yield UsageError(
                f"{folder} was trained on this dataset with {key}={theirs}: it may have seen what this run holds out",
                f"{key}={theirs}, or start from a run on other data",
            )
    without_effect = config.model.unused_settings(config.task)  # an earlier version may have stored values
    (shared,) = walk.settings_with(config.model, "agrees_in").values()
    for key in ("name", *(own for own in shared if own not in without_effect)):
        theirs, ours = (settings.in_effect(f"model.{key}") for settings in (stored, now))
        if theirs != ours:
            yield UsageError(
                f"the weights of {folder} do not fit: they were trained with model.{key}={theirs}, not {ours}",
                "use the settings that it was trained with, or train it again with these",
            )
