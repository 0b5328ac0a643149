"""The settings of a finished run, as its config.yaml holds them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

from llm4rec_cli.config.keys import declarations_with
from llm4rec_cli.config.reading import read_yaml
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.roles import NOT_HASHED
from llm4rec_cli.config.schema import Config, ModelConfig, TextRecipe
from llm4rec_cli.config.walk import plain, settings_with, typed

# Model -> setting that this version lacks -> the value whose effect it has kept.
REMOVED: Mapping[str, Mapping[str, Any]] = {
    "evidence_mix": {"model.repetition": True, "model.popularity": True, "model.gated": True},
    "p5": {"model.rates": "uniform"},
    "prompt4nr": {"model.warm_up.texts": "titles"},
}


@dataclass(frozen=True)
class Settings:
    """Settings by dotted key, such as `model.layers`."""

    model: str
    content: Mapping[str, Any]  # nested mappings; empty where nothing is stored

    @classmethod
    def read(cls, file: Path, model: str) -> Settings:
        """Return the settings in a YAML file; empty if the file does not exist."""
        return cls(model, read_yaml(file) or {}) if file.exists() else cls(model, {})

    @classmethod
    def of(cls, config: Config) -> Settings:
        return cls(config.model.name, plain(config))

    def get(self, key: str, default: Any = None) -> Any:
        """Return a setting; `default` if it is not stored."""
        return value_at(self.content, key, default)

    def in_effect(self, key: str, default: Any = None) -> Any:
        """Return a setting; of a run that is older than the setting the value that was in effect, as is declared where
        the setting was added; else `default`."""
        return self.get(key, added_defaults(self.model).get(key, default))

    @cached_property
    def model_config(self) -> ModelConfig | None:
        """The model's settings, typed; None if they are not stored, or do not fit this version's classes."""
        node = self.content.get("model")
        if node is None or self.model not in model_names():
            return None
        return _model_config(self.model, json.dumps(node, sort_keys=True))

    @cached_property
    def flat(self) -> Mapping[str, Any]:
        """Key -> value, with lists and empty groups as values."""
        return dict(_leaves("", self.content))

    def with_effect(self, nodes: Sequence[str] = (), free: frozenset[str] = frozenset()) -> Mapping[str, Any]:
        """Return key -> value of the settings that numbers depend on, of these nodes or of all, without the free ones.

        A setting that is newer than the run has its default.
        """
        model = config_class(self.model)
        free |= {f"model.{key}" for key in settings_with(model, "input_file")}
        enriched = self.get("dataset.text") == TextRecipe.enriched.name
        with_effect = {"trainer": model.traits.trainable, "enrichment": enriched}
        with_effect["llm"] = enriched or model.traits.uses_llm
        return {
            key: self.get(key, default)
            for key, default in _numbers_depend_on(self.model).items()
            if key not in free and with_effect.get(node := key.partition(".")[0], True) and (not nodes or node in nodes)
        }


@cache
def _model_config(model: str, node: str) -> ModelConfig | None:
    try:
        return cast(ModelConfig, typed(config_class(model), json.loads(node)))
    except (ValueError, TypeError, AttributeError):
        return None


@cache
def _numbers_depend_on(model: str) -> Mapping[str, Any]:
    """Return key -> default of the settings of a config with this model that numbers depend on."""
    return {
        declared.key: plain(declared.field.default)
        for declared in declarations_with(cast(Any, config_class(model)))
        if not declared.is_node and declared.role not in NOT_HASHED
    }


@cache
def added_defaults(model: str) -> Mapping[str, Any]:
    """Return key -> default of the settings of a config with this model that were added after runs existed."""
    declared = declarations_with(cast(Any, config_class(model)))
    return {setting.key: plain(setting.field.default) for setting in declared if setting.field.metadata.get("added")}


def value_at(content: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Return the value with this dotted key in nested mappings; `default` if it is not there."""
    node: Any = content
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return default
        node = node[name]
    return node


def _leaves(above: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(f"{above}.{key}" if above else str(key), value)
    else:
        yield above, node
