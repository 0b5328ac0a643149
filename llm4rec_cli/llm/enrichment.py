"""Items enriched by a chat model: it reads an item's own text, and writes what it is for, for whom, and key words.

Nothing is told but the item's own fields: no interaction, no review, no number. So the tokens know nothing of who
bought what, but what the model knew before. Items of the same words are asked about once.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING, Any

from llm4rec_cli.config.schema import EnrichmentConfig, LLMConfig
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.llm.ask import keys_of
from llm4rec_cli.llm.requests import Answer, Backend, Request
from llm4rec_cli.llm.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.llm.requests import Status

FIELDS = {"item", "noun", "tokens"}


@dataclass(frozen=True)
class Questions:
    """What is asked about the items of a catalogue.

    Attributes:
        told: (n_items,) what is told of each: its text fields as JSON; empty where it has none, and nothing is asked.
        requests: by what is told, each once.
    """

    told: list[str]
    requests: dict[str, Request]


@dataclass(frozen=True)
class Enriched:
    """What was made of the answers, item by item.

    Attributes:
        slots: (n_items,) the tokens by slot; empty where nothing was asked.
        status: (n_items,) how the answer could be read; None where nothing was asked.
    """

    slots: list[dict[str, list[str]]]
    status: list[Status | None]

    @property
    def tokens(self) -> list[list[str]]:
        """(n_items,) the tokens of all slots."""
        return [[token for slot in of_one.values() for token in slot] for of_one in self.slots]


def problems(config: EnrichmentConfig) -> Iterator[UsageError]:
    """What is wrong with the prompt."""
    try:
        fields = {name for _, name, _, _ in Formatter().parse(config.prompt) if name is not None}
    except ValueError:
        yield UsageError("enrichment.prompt has a brace without its other", "a brace that is none of a field: {{ or }}")
        return
    for unknown in sorted(fields - FIELDS):
        yield UsageError(
            f"enrichment.prompt tells {{{unknown}}}, and there is no such field",
            f"it can tell {', '.join(sorted(FIELDS))}; a brace that is none of a field: {{{{ or }}}}",
        )
    if "item" not in fields:
        yield UsageError("enrichment.prompt does not tell the item", "{item} stands for its text")


def questions(dataset: RecDataset, config: EnrichmentConfig, llm: LLMConfig) -> Questions:
    """One request for each text that differs.

    Args:
        dataset: as prepared, before a control or a recipe has changed its texts.

    Raises:
        DataError: no item has any.
    """
    told = _told(dataset.items, config.characters)
    max_tokens = min(config.max_tokens, llm.max_tokens)
    requests = {text: Request(_messages(text, config), max_tokens=max_tokens) for text in filter(None, told)}
    if not requests:
        raise DataError(
            f"dataset '{dataset.manifest['name']}' tells nothing of its items that a chat model could read",
            "choose a dataset with titles: llm4rec list datasets",
        )
    return Questions(told, requests)


def stored(asked: Questions, backend: Backend, store: Store) -> dict[str, Answer]:
    """The answers that are in the store, by what was told.

    Args:
        backend: who gave them.
    """
    keys, _ = keys_of(list(asked.requests.values()), backend)
    found = store.find(keys)
    return {text: found[key] for text, key in zip(asked.requests, keys, strict=True) if key in found}


def enriched(asked: Questions, answers: Mapping[str, Answer], config: EnrichmentConfig) -> Enriched:
    """The tokens of each item.

    Args:
        answers: by what was told, of all requests.
    """
    from llm4rec_cli.data.tokens import parse_answer

    found = {
        text: parse_answer(answer.text, config.tokens, config.noun, torn=answer.finish == "length")
        for text, answer in answers.items()
    }
    nothing: tuple[dict[str, list[str]], None] = ({}, None)
    of_items = [found[text] if text else nothing for text in asked.told]
    return Enriched([slots for slots, _ in of_items], [status for _, status in of_items])


def _messages(told: str, config: EnrichmentConfig) -> tuple[dict[str, Any], ...]:
    system = [{"role": "system", "content": config.system}] if config.system else []
    filled = config.prompt.format(item=told, noun=config.noun, tokens=config.tokens)
    return (*system, {"role": "user", "content": filled})


def _told(items: pd.DataFrame, characters: int) -> list[str]:
    """Each item's text fields as a JSON object: on one line, entities resolved, cut; empty where all are empty."""
    from llm4rec_cli.data.texts import TEXT_COLUMNS

    columns = [name for name in TEXT_COLUMNS if name in items]
    told = []
    for values in items[columns].fillna("").itertuples(index=False):
        plain = (" ".join(html.unescape(value).split())[:characters] for value in values)
        fields = {name: text for name, text in zip(columns, plain, strict=True) if text}
        told.append(json.dumps(fields, ensure_ascii=False) if fields else "")
    return told
