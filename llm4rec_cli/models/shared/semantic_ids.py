"""The ids of a catalogue, by the settings of a model."""

from __future__ import annotations

from llm4rec_cli.ids.config import SemanticIdsConfig
from llm4rec_cli.ids.item_ids import ItemIds
from llm4rec_cli.ids.semantic import item_ids
from llm4rec_cli.models.base import Context


def codes_of(context: Context, seed: int | None = None) -> ItemIds:
    """Return the ids of all items, by another seed than that of the settings if there is one."""
    config: SemanticIdsConfig = context.config
    return item_ids(config.ids, config.encoder, context.split.for_ranking(), context.cache, context.device, seed)
