"""A run's address: one folder an experiment, however it was typed; and what identifies the weights below it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.config import walk
from llm4rec_cli.config.keys import declarations_with
from llm4rec_cli.config.roles import NOT_HASHED
from llm4rec_cli.config.schema import Backend, Config, ModelConfig, TextRecipe, Weights
from llm4rec_cli.files import sha256

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.runs.spec import RunSpec

RESULTS_VERSION = 2  # raised when a change moves numbers; the CHANGELOG says which


@dataclass(frozen=True)
class Address:
    """Where a run lives.

    Attributes:
        folder: outputs/<model>/<dataset>/<task>/seed<seed>-<hash>.
        config_hash: of everything that changes a number.
        variant: the same without the seed: what seeds are averaged over.
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
    """The address of a run.

    Args:
        dataset: prepared.
        trained: for an evaluation, what identifies the weights that are asked, and the variant of the run they come
            from.
        initial: for a training, what identifies the weights that it begins with, and the variant of the run they come
            from.
    """
    return address(
        spec.config,
        dataset.fingerprint,
        weights={setting: identity for setting, (_, identity) in weights(spec.model).items()},
        trained=trained,
        file=None if trained else file_content(spec.model),
        initial=initial,
        llm=None if trained else chat_model(spec.config, dataset),
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
    """The address of a config on a dataset; of what has a path, the content counts.

    Args:
        fingerprint: the dataset's.
        weights: what identifies the pretrained weights that a setting of the model names, by setting.
        trained, initial: as of `address_of`.
        file: what identifies the content of the files that the model is read from, if it is.
        llm: what identifies the chat model that is asked or has enriched the items, and what it wrote of them.
    """
    content = plain(config)
    model: Any = type(config.model)
    outside = [one.key for one in declarations_with(model) if one.role in NOT_HASHED]
    if not config.model.trainable:
        outside.append("trainer")
    if config.dataset.text is not TextRecipe.enriched:
        outside.append("enrichment")
    for key in outside:
        *parents, leaf = key.split(".")
        _at(content, parents).pop(leaf, None)
    facts: dict[str, Any] = {"config": content, "dataset": fingerprint, "results": RESULTS_VERSION}
    if llm is None:
        del content["llm"]
    else:
        content["llm"]["model"] = llm
    for setting, identity in (weights or {}).items():
        *parents, leaf = setting.split(".")
        _at(content["model"], parents)[leaf] = identity
    for key in config.model.file_settings:
        content["model"].pop(key, None)
    if file is not None:
        content["model"]["file"] = file
    begin, begin_variant = initial or (None, None)
    if config.model.init_setting:
        content["model"][config.model.init_setting] = begin
    asked, variant = trained or (None, None)
    config_hash = _digest(facts | {"trained": asked})
    seed = content.pop("seed")
    content["model"].pop("file", None)  # another seed's answers stand in another file
    if config.model.init_setting:
        content["model"][config.model.init_setting] = begin_variant
    folder = Path(config.paths.outputs) / config.model.name / config.dataset.name / config.task.name
    return Address(folder / f"seed{seed}-{config_hash}", config_hash, _digest(facts | {"trained": variant}))


def plain(value: Any) -> Any:
    """A config as config.yaml holds it: dictionaries, lists, and enums by their names."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.name if isinstance(value, Enum) else value


def _at(content: dict[str, Any], parents: list[str]) -> dict[str, Any]:
    for parent in parents:
        content = content.get(parent, {})
    return content


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]


# --- what identifies weights and files


def weights(model: ModelConfig) -> dict[str, tuple[Weights, str]]:
    """The pretrained weights that the model's numbers depend on, by the setting that names them: their kind, and what
    identifies them. A name may mean other weights tomorrow, or elsewhere."""
    from llm4rec_cli.text import weights as text

    found = {}
    for setting in walk.settings(model):
        names = setting.field.metadata.get("weights")
        if names is None or setting.value in names.random:
            continue
        identify = {
            Weights.encoder: lambda name: text.locate_weights(name)[1],
            Weights.backbone: text.backbone_identity,
        }
        found[setting.key] = (names.kind, identify[names.kind](setting.value))
    return found


def text_encoder(model: ModelConfig) -> str | None:
    """What identifies the weights of the model's text encoder; None for a model without one."""
    return next((identity for kind, identity in weights(model).values() if kind is Weights.encoder), None)


def builds_on_chat_model(config: Config) -> bool:
    """Whether the model asks a chat model, or reads texts of items that one has enriched."""
    enriched = config.dataset.text is TextRecipe.enriched and config.model.uses_item_text()
    return enriched or config.model.uses_llm


def chat_model(config: Config, dataset: RecDataset) -> str | None:
    """What identifies the chat model that numbers build on, and the tokens that it wrote; None where there is none.

    Raises:
        UsageError: there is no such model on this machine.
    """
    if not builds_on_chat_model(config):
        return None
    tokens = dataset.manifest["tokens"] if config.dataset.text is TextRecipe.enriched else None
    wrote = f" wrote {tokens['sha256']}" if tokens else ""
    if config.llm.backend is Backend.openai:
        return f"{config.llm.model}{wrote}"
    from llm4rec_cli.llm import weights as chat_weights
    from llm4rec_cli.llm.local import VERSION

    return f"{chat_weights.locate(config.llm.model).identity} version {VERSION}{wrote}"


def file_content(model: ModelConfig) -> str | None:
    """What identifies the content of the files that the model is read from; None for a model that comes of none."""
    return " ".join(sha256(Path(file)) for file in model.input_files()) or None
