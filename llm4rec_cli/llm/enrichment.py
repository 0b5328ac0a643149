"""Tokens for items: a chat model reads an item's own text, and writes its use, its audience and key words.

Prompts contain only the item's own fields: no interaction, no review, no number. So the tokens carry no information
about who bought what, except for what the model knew before. Items with equal text share one request.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING, Any

from llm4rec_cli.config.schema import EnrichmentConfig, LLMConfig
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.llm.completions import cache_keys
from llm4rec_cli.llm.requests import Backend, Completion, Request
from llm4rec_cli.llm.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.llm.requests import Status

FIELDS = {"item", "noun", "tokens"}


@dataclass(frozen=True)
class ItemRequests:
    """Requests about the items of a catalogue.

    Attributes:
        texts: (n_items,) each item's text fields as JSON; empty for an item without text or whose text was not drawn,
            which has no request.
        requests: by text, one each.
    """

    texts: list[str]
    requests: dict[str, Request]


@dataclass(frozen=True)
class ItemTokens:
    """Tokens parsed from the completions: of each item by slot, and how well its completion could be parsed; of an item
    without text empty and None."""

    slots: list[dict[str, list[str]]]
    status: list[Status | None]

    @property
    def tokens(self) -> list[list[str]]:
        """(n_items,) each item's tokens of all slots."""
        return [[token for slot in by_slot.values() for token in slot] for by_slot in self.slots]


def problems(config: EnrichmentConfig) -> Iterator[UsageError]:
    try:
        fields = {name for _, name, _, _ in Formatter().parse(config.prompt) if name is not None}
    except ValueError:
        yield UsageError("enrichment.prompt has an unmatched brace", "write a literal brace as {{ or }}")
        return
    for unknown in sorted(fields - FIELDS):
        yield UsageError(
            f"enrichment.prompt has no field {{{unknown}}}",
            f"its fields are {', '.join(sorted(FIELDS))}; write a literal brace as {{{{ or }}}}",
        )
    if "item" not in fields:
        yield UsageError("enrichment.prompt lacks the field {item}", "put {item} where the item's text belongs")


def item_requests(dataset: RecDataset, config: EnrichmentConfig, llm: LLMConfig, seed: int) -> ItemRequests:
    """Build one request for each distinct text, or for `enrichment.texts` of them, drawn by `seed`. The dataset is as
    prepared, before a control or a recipe has changed its texts.

    Raises:
        DataError: no item has text.
    """
    texts = _texts(dataset.items, config.characters)
    max_tokens = min(config.max_tokens, llm.max_tokens)
    distinct = list(dict.fromkeys(filter(None, texts)))
    if config.texts is not None:
        drawn = stream(seed, "described texts").permutation(len(distinct))[: config.texts]
        distinct = [distinct[i] for i in sorted(drawn)]
        chosen = set(distinct)
        texts = [text if text in chosen else "" for text in texts]
    requests = {text: Request(_messages(text, config), max_tokens=max_tokens) for text in distinct}
    if not requests:
        raise DataError(
            f"dataset '{dataset.manifest['name']}' has no text of its items for a chat model to read",
            "choose a dataset with titles: llm4rec list datasets",
        )
    return ItemRequests(texts, requests)


def stored_completions(items: ItemRequests, backend: Backend, store: Store) -> dict[str, Completion]:
    """Return the backend's completions that are in the store, by text."""
    keys, _ = cache_keys(list(items.requests.values()), backend)
    stored = store.get(keys)
    return {text: stored[key] for text, key in zip(items.requests, keys, strict=True) if key in stored}


def parse_tokens(items: ItemRequests, completions: Mapping[str, Completion], config: EnrichmentConfig) -> ItemTokens:
    """Parse each item's tokens. `completions` has the answer to each request, by the item text that it asks about."""
    from llm4rec_cli.data.tokens import parse_answer

    parsed = {
        text: parse_answer(completion.text, config.tokens, config.noun, torn=completion.finish == "length")
        for text, completion in completions.items()
    }
    no_text: tuple[dict[str, list[str]], None] = ({}, None)
    by_item = [parsed[text] if text else no_text for text in items.texts]
    return ItemTokens([slots for slots, _ in by_item], [status for _, status in by_item])


def _messages(text: str, config: EnrichmentConfig) -> tuple[dict[str, Any], ...]:
    system = [{"role": "system", "content": config.system}] if config.system else []
    content = config.prompt.format(item=text, noun=config.noun, tokens=config.tokens)
    return (*system, {"role": "user", "content": content})


def _texts(items: pd.DataFrame, characters: int) -> list[str]:
    """Return each item's text fields as a JSON object: on one line, entities resolved, cut; empty if all are empty."""
    from llm4rec_cli.data.texts import TEXT_COLUMNS

    columns = [name for name in TEXT_COLUMNS if name in items]
    texts = []
    for values in items[columns].fillna("").itertuples(index=False):
        plain = (" ".join(html.unescape(value).split())[:characters] for value in values)
        fields = {name: text for name, text in zip(columns, plain, strict=True) if text}
        texts.append(json.dumps(fields, ensure_ascii=False) if fields else "")
    return texts
