"""The settings of finished runs, as their config.yaml holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from llm4rec_cli.config.keys import declarations_with
from llm4rec_cli.config.reading import read_yaml
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.roles import NOT_HASHED
from llm4rec_cli.runs.catalog import CONFIG, FinishedRun
from llm4rec_cli.runs.identity import plain


@cache
def config_of(folder: Path) -> dict[str, Any]:
    """Return a run's config.yaml; empty if there is none."""
    file = folder / CONFIG
    return dict(read_yaml(file)) if file.exists() else {}


def setting(folder: Path, key: str, default: Any = None) -> Any:
    """Return a setting of a run; of a run that is older than the setting, `default`."""
    node: Any = config_of(folder)
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return default
        node = node[name]
    return node


def settings_with_effect(
    run: FinishedRun, nodes: Sequence[str] = (), free: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Return key -> value of the settings that a run's numbers depend on, of these nodes or of all, without the free
    ones."""
    folder, model = run[0], config_class(run[1]["model"])
    free |= {f"model.{key}" for key in model.file_settings}
    without_effect = () if model.trainable else ("trainer",)
    return {
        declared.key: setting(folder, declared.key, plain(declared.field.default))
        for declared in declarations_with(cast(Any, model))
        if not declared.is_node
        and declared.role not in NOT_HASHED
        and declared.key not in free
        and (node := declared.key.partition(".")[0]) not in without_effect
        and (not nodes or node in nodes)
    }
