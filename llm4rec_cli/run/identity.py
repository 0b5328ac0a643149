"""The address of a run: one folder per experiment, however it was typed, and the identities of weights and files."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llm4rec_cli.config import walk
from llm4rec_cli.config.keys import declarations_with
from llm4rec_cli.config.roles import NOT_HASHED
from llm4rec_cli.config.schema import Backend, Config, LLMConfig, ModelConfig, TextRecipe, Weights
from llm4rec_cli.files import sha256

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset

RESULTS_VERSION = 4  # raised when a change moves numbers, as listed in the CHANGELOG


class ReadWeights(NamedTuple):
    """What an address says of a run whose weights are read: their identity, and the run's variant."""

    identity: str
    variant: str


@dataclass(frozen=True)
class Address:
    """The address of a run.

    Attributes:
        folder: outputs/<model>/<dataset>/<task>/seed<seed>-<hash>.
        config_hash: hash of everything that affects the results.
        variant: the same without the seed, shared by the runs that are averaged over seeds.
    """

    folder: Path
    config_hash: str
    variant: str


def address(
    config: Config,
    settings: Mapping[str, object],
    fingerprint: str,
    weights: Mapping[str, str] | None = None,
    trained: ReadWeights | None = None,
    file: str | None = None,
    initial: ReadWeights | None = None,
    llm: str | None = None,
) -> Address:
    """Return the address of a config on a dataset; files and weights enter by content, not by path.

    Args:
        settings: as `settings_with_effect` returns them.
        weights: model setting -> identity of the pretrained weights that it names.
        trained: of an evaluation: the weights that are evaluated.
        initial: of a training: the weights that it starts from.
        file: identity of the files that the model is read from, if any.
        llm: identity of the chat model that answers or has enriched the items, and of the tokens that it wrote.
    """
    content = {key: value for key, value in settings.items() if key != "seed" and (llm or not key.startswith("llm."))}
    content |= {"llm.model": llm} if llm else {}
    content |= {f"model.{setting}": identity for setting, identity in (weights or {}).items()}

    def digest(of_run: Mapping[str, object], file: str | None, initial: str | None, trained: str | None) -> str:
        of_model: dict[str, object] = {"file": file} if file else {}
        of_model |= dict.fromkeys(walk.settings_with(config.model, "agrees_in"), initial)
        of_model |= {"results": config.model.results_version} if config.model.results_version > 1 else {}
        config_of_run = {**content, **of_run, **{f"model.{key}": value for key, value in of_model.items()}}
        facts = {
            "config": walk.nested(config_of_run),
            "dataset": fingerprint,
            "results": RESULTS_VERSION,
            "trained": trained,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]

    initial_weights, initial_variant = initial or (None, None)
    trained_weights, trained_variant = trained or (None, None)
    config_hash = digest({"seed": config.seed}, file, initial_weights, trained_weights)
    variant = digest({}, None, initial_variant, trained_variant)  # each seed has its own file
    folder = Path(config.paths.outputs) / config.model.name / config.dataset.name / config.task.name
    return Address(folder / f"seed{config.seed}-{config_hash}", config_hash, variant)


def settings_with_effect(config: Config) -> Mapping[str, object]:
    """Return key -> value of the settings that affect numbers; input files are left to their content.

    A setting that was added after runs existed counts where it is not at its default.
    """
    model: Any = type(config.model)
    left_out = {declared.key for declared in declarations_with(model) if declared.role in NOT_HASHED}
    left_out |= {*(f"model.{key}" for key in walk.settings_with(config.model, "input_file"))}
    left_out |= set() if config.model.traits.trainable else {"trainer"}
    left_out |= set() if config.dataset.text is TextRecipe.enriched else {"enrichment"}

    def counts(setting: walk.Setting) -> bool:
        paths = itertools.accumulate(setting.key.split("."), "{}.{}".format)
        return not setting.is_as_before and left_out.isdisjoint(paths)

    return {setting.key: walk.plain(setting.value) for setting in walk.settings(config) if counts(setting)}


def find_weights(config: Config) -> None:
    """Find all weights that a run depends on, of its chat model too, without reading them.

    Raises:
        UsageError: some are not on this machine, and cannot be downloaded.
    """
    from llm4rec_cli.ids.files import find_ids
    from llm4rec_cli.text.encoders import find_encoder
    from llm4rec_cli.text.weights import BACKBONE, find_causal, find_weights

    find: dict[Weights, Callable[[walk.Setting], object]] = {
        Weights.encoder: lambda setting: find_encoder(setting.holder),
        Weights.backbone: lambda setting: find_weights(setting.value, BACKBONE),
        Weights.causal: lambda setting: find_causal(setting.value, BACKBONE),
        Weights.ids: lambda setting: find_ids(setting.value),
    }
    for kind, setting in _named_weights(config.model):
        find[kind](setting)
    if config.depends_on_chat_model and config.llm.backend is Backend.local:
        find_causal(config.llm.model)


def pretrained_weights(model: ModelConfig) -> dict[str, tuple[Weights, str]]:
    """Return the (kind, identity) of the pretrained weights that the model depends on, by the setting that names them.

    The identity hashes the content, because a name may refer to other weights later or on another machine."""
    from llm4rec_cli.text.encoders import encoder_identity
    from llm4rec_cli.text.weights import BACKBONE, backbone_identity, locate_causal

    identify: dict[Weights, Callable[[walk.Setting], str]] = {
        Weights.encoder: lambda setting: encoder_identity(setting.holder),
        Weights.backbone: lambda setting: backbone_identity(setting.value),
        Weights.causal: lambda setting: locate_causal(setting.value, BACKBONE).identity,
        Weights.ids: lambda setting: sha256(Path(setting.value)),
    }
    return {setting.key: (kind, identify[kind](setting)) for kind, setting in _named_weights(model)}


def _named_weights(model: ModelConfig) -> Iterator[tuple[Weights, walk.Setting]]:
    """Yield each of the model's settings that names pretrained weights, with their kind."""
    for setting in walk.settings(model):
        declared = setting.field.metadata.get("weights")
        if declared is not None and setting.value not in declared.random:
            yield declared.kind, setting


def chat_model_identity(config: Config, dataset: RecDataset) -> str | None:
    """Return the identity of the chat model that the results depend on and of the tokens it wrote; None without one.

    Raises:
        UsageError: the model is not on this machine.
    """
    if not config.depends_on_chat_model:
        return None
    tokens = dataset.manifest["tokens"] if config.dataset.text is TextRecipe.enriched else None
    wrote = f" wrote {tokens['sha256']}" if tokens else ""
    return f"{identity_of(config.llm)}{wrote}"


def identity_of(llm: LLMConfig) -> str:
    """Return the identity of a chat model: the server's name for it, or its weights' with the backend's version.

    Raises:
        UsageError: the model is not on this machine.
    """
    if llm.backend is Backend.openai:
        return llm.model
    from llm4rec_cli.llm.local import VERSION
    from llm4rec_cli.text.weights import locate_causal

    return f"{locate_causal(llm.model).identity} version {VERSION}"


def model_files_identity(model: ModelConfig) -> str | None:
    files = []
    for key, name in walk.settings_with(model, "input_file").items():
        value = getattr(model, key)
        files += [Path(path) / name for path in (value if isinstance(value, list) else filter(None, [value]))]
    return " ".join(map(sha256, files)) or None
