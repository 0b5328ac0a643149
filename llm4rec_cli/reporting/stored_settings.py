"""The settings of finished runs, as their config.yaml holds them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from llm4rec_cli.config.keys import declarations_with
from llm4rec_cli.config.reading import read_yaml
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.roles import NOT_HASHED
from llm4rec_cli.config.schema import TextRecipe
from llm4rec_cli.runs.catalog import CONFIG, FinishedRun, value_at
from llm4rec_cli.runs.identity import plain


def config_of(folder: Path) -> dict[str, Any]:
    """Return a run's config.yaml; empty if there is none."""
    file = (folder / CONFIG).resolve()
    return _read(file, file.stat().st_mtime_ns) if file.exists() else {}


@cache
def _read(file: Path, _written: int) -> dict[str, Any]:
    return dict(read_yaml(file) or {})


def setting(folder: Path, key: str, default: Any = None) -> Any:
    """Return a setting of a run; of a run that is older than the setting, `default`."""
    return value_at(config_of(folder), key, default)


def settings_with_effect(
    run: FinishedRun, nodes: Sequence[str] = (), free: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Return key -> value of the settings that a run's numbers depend on, of these nodes or of all, without the free
    ones. A setting that is newer than the run has its default.
    """
    config, model = config_of(run[0]), config_class(run[1]["model"])
    free |= {f"model.{key}" for key in model.file_settings}
    enriched = value_at(config, "dataset.text") == TextRecipe.enriched.name
    with_effect = {"trainer": model.trainable, "enrichment": enriched, "llm": enriched or model.uses_llm}
    return {
        declared.key: value_at(config, declared.key, plain(declared.field.default))
        for declared in declarations_with(cast(Any, model))
        if not declared.is_node
        and declared.role not in NOT_HASHED
        and declared.key not in free
        and with_effect.get(node := declared.key.partition(".")[0], True)
        and (not nodes or node in nodes)
    }
