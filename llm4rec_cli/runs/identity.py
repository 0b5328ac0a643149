"""The address of a run: one folder per experiment, however it was typed, and the identities of weights and files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.config import registry, walk
from llm4rec_cli.config.keys import declarations_with
from llm4rec_cli.config.roles import NOT_HASHED
from llm4rec_cli.config.schema import Backend, Config, LLMConfig, ModelConfig, TextRecipe, Weights
from llm4rec_cli.files import sha256

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.runs.spec import RunSpec

RESULTS_VERSION = 4  # raised when a change moves numbers, as listed in the CHANGELOG


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


def address_of(
    spec: RunSpec,
    dataset: RecDataset,
    trained: tuple[str, str] | None = None,
    initial: tuple[str, str] | None = None,
) -> Address:
    """Return the address of a run.

    Args:
        dataset: prepared.
        trained: of an evaluation: identity of the evaluated weights, and variant of their training run.
        initial: of a training: identity of the weights it starts from, and variant of their training run.
    """
    return address(
        spec.config,
        dataset.fingerprint,
        weights={setting: identity for setting, (_, identity) in pretrained_weights(spec.model).items()},
        trained=trained,
        file=None if trained else model_files_identity(spec.model),
        initial=initial,
        llm=None if trained else chat_model_identity(spec.config, dataset),
    )


def address(
    config: Config,
    fingerprint: str,
    weights: Mapping[str, str] | None = None,
    trained: tuple[str, str] | None = None,
    file: str | None = None,
    initial: tuple[str, str] | None = None,
    llm: str | None = None,
) -> Address:
    """Return the address of a config on a dataset; files and weights enter by content, not by path.

    Args:
        fingerprint: of the dataset.
        weights: model setting -> identity of the pretrained weights that it names.
        trained, initial: as in `address_of`.
        file: identity of the files that the model is read from, if any.
        llm: identity of the chat model that answers or has enriched the items, and of the tokens that it wrote.
    """
    content = _settings_with_effect(config)
    seed, of_model = content.pop("seed"), content["model"]
    if llm is None:
        del content["llm"]
    else:
        content["llm"]["model"] = llm
    for setting, identity in (weights or {}).items():
        *parents, leaf = setting.split(".")
        _subtree(of_model, parents)[leaf] = identity

    def digest(of_run: Mapping[str, Any], file: str | None, initial: str | None, trained: str | None) -> str:
        initial_run = dict.fromkeys(walk.settings_with(config.model, "agrees_in"), initial)
        version = {} if config.model.results_version == 1 else {"results": config.model.results_version}
        model = {**of_model, **({} if file is None else {"file": file}), **initial_run, **version}
        facts = {"config": {**content, **of_run, "model": model}, "dataset": fingerprint, "results": RESULTS_VERSION}
        return hashlib.sha256(json.dumps(facts | {"trained": trained}, sort_keys=True).encode()).hexdigest()[:10]

    initial_weights, initial_variant = initial or (None, None)
    trained_weights, trained_variant = trained or (None, None)
    config_hash = digest({"seed": seed}, file, initial_weights, trained_weights)
    variant = digest({}, None, initial_variant, trained_variant)  # each seed has its own file
    folder = Path(config.paths.outputs) / config.model.name / config.dataset.name / config.task.name
    return Address(folder / f"seed{seed}-{config_hash}", config_hash, variant)


def _settings_with_effect(config: Config) -> dict[str, Any]:
    """Return the settings that affect numbers, as nested dictionaries; input files are left to their content."""
    content = walk.plain(config)
    model: Any = type(config.model)
    left_out = [declared.key for declared in declarations_with(model) if declared.role in NOT_HASHED]
    settings = (setting for setting in walk.settings(config) if setting.field.metadata.get("added"))
    added = [setting.key for setting in settings if setting.value == setting.field.default]
    left_out += [f"model.{key}" for key in walk.settings_with(config.model, "input_file")]
    left_out += [] if config.model.traits.trainable else ["trainer"]
    left_out += [] if config.dataset.text is TextRecipe.enriched else ["enrichment"]
    for key in left_out + added:
        *parents, leaf = key.split(".")
        _subtree(content, parents).pop(leaf, None)
    for *parents, group, _ in (key.split(".") for key in added):
        if not _subtree(content, [*parents, group]):  # the group came later, too
            _subtree(content, parents).pop(group, None)
    with_effect: dict[str, Any] = content
    return with_effect


def _subtree(content: dict[str, Any], parents: list[str]) -> dict[str, Any]:
    for parent in parents:
        content = content.get(parent, {})
    return content


# --- identities of weights and files


def find_weights(config: Config) -> None:
    """Find all weights that a run depends on, of its chat model too, without reading them.

    Raises:
        UsageError: some are not on this machine, and cannot be downloaded.
    """
    from llm4rec_cli.llm import weights as chat_weights
    from llm4rec_cli.text import weights as text

    keys = {Weights.encoder: text.ENCODER, Weights.backbone: text.BACKBONE}
    for _, kind, name in _named_weights(config.model):
        text.find_weights(name, keys[kind])
    if depends_on_chat_model(config) and config.llm.backend is Backend.local:
        chat_weights.find(config.llm.model)


def pretrained_weights(model: ModelConfig) -> dict[str, tuple[Weights, str]]:
    """Return the (kind, identity) of the pretrained weights that the model depends on, by the setting that names them.

    The identity is of the content, as a name may refer to other weights later or on another machine."""
    from llm4rec_cli.text import weights as text

    identify = {
        Weights.encoder: lambda name: text.locate_weights(name)[1],
        Weights.backbone: text.backbone_identity,
    }
    return {key: (kind, identify[kind](name)) for key, kind, name in _named_weights(model)}


def _named_weights(model: ModelConfig) -> Iterator[tuple[str, Weights, str]]:
    """Yield key, kind and value of each of the model's settings that names pretrained weights."""
    for setting in walk.settings(model):
        declared = setting.field.metadata.get("weights")
        if declared is not None and setting.value not in declared.random:
            yield setting.key, declared.kind, setting.value


def text_encoder_identity(model: ModelConfig) -> str | None:
    """Return the identity of the model's text encoder weights; None for a model without text encoder."""
    return next((identity for kind, identity in pretrained_weights(model).values() if kind is Weights.encoder), None)


def depends_on_chat_model(config: Config) -> bool:
    """Return whether the model prompts a chat model, or reads item texts that one has enriched."""
    enriched = config.dataset.text is TextRecipe.enriched and config.model.uses_item_text()
    return enriched or config.model.traits.uses_llm


def chat_model_identity(config: Config, dataset: RecDataset) -> str | None:
    """Return the identity of the chat model that the results depend on and of the tokens it wrote; None without one.

    Raises:
        UsageError: the model is not on this machine.
    """
    if not depends_on_chat_model(config):
        return None
    tokens = dataset.manifest["tokens"] if config.dataset.text is TextRecipe.enriched else None
    wrote = f" wrote {tokens['sha256']}" if tokens else ""
    return f"{identity_of(config.llm)}{wrote}"


def identity_of(llm: LLMConfig) -> str:
    """Return the identity of a chat model: the server's name for it, or that of its weights and the backend's version.

    Raises:
        UsageError: the model is not on this machine.
    """
    if llm.backend is Backend.openai:
        return llm.model
    from llm4rec_cli.llm import weights as chat_weights
    from llm4rec_cli.llm.local import VERSION

    return f"{chat_weights.locate(llm.model).identity} version {VERSION}"


def code_identity(model: str) -> str:
    """Return a hash of a model's own code. It is no part of an address: `results_version` says where numbers move."""
    content = {str(file.relative_to(registry.MODELS)): file.read_text() for file in registry.source_files(model)}
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]


def model_files_identity(model: ModelConfig) -> str | None:
    """Return the identity of the files that the model is read from; None if there are none."""
    files = []
    for key, name in walk.settings_with(model, "input_file").items():
        value = getattr(model, key)
        files += [Path(path) / name for path in (value if isinstance(value, list) else filter(None, [value]))]
    return " ".join(map(sha256, files)) or None
