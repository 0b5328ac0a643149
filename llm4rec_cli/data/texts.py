"""The text of an item, composed from its fields by a named recipe."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from llm4rec_cli.config.schema import TextRecipe
from llm4rec_cli.data.recdataset import RecDataset

TEXT_COLUMNS = ["title", "brand", "categories", "description", "text"]
_UNISREC_FIELDS = ("title", "categories", "brand")
_UNISREC_LIMIT = 2000  # characters; a field this long is treated as noise and dropped


def item_texts(dataset: RecDataset, recipe: TextRecipe) -> list[str]:
    """Return one text per item, in order of the item numbers; empty where the source has nothing.

    `unisrec`: the dataset's own `text` if it has one, otherwise title, categories and brand as UniSRec's
    process_amazon.py cleans them. `title`: the unchanged title. `attributes`: one sentence of the item's tokens, which
    are its attributes. `enriched`: `unisrec` followed by one sentence of tokens.
    """
    if recipe is TextRecipe.title:
        return list(item_column(dataset.items, "title"))
    if recipe is TextRecipe.enriched:
        plain = item_texts(dataset, TextRecipe.unisrec)
        tokens = item_column(dataset.items, "tokens")
        return [_append_tokens(text, item_tokens) for text, item_tokens in zip(plain, tokens, strict=True)]
    if recipe is TextRecipe.attributes:
        return [_append_tokens("", tokens) for tokens in item_column(dataset.items, "tokens")]
    composed = zip(*(item_column(dataset.items, field).map(_unisrec_field) for field in _UNISREC_FIELDS), strict=True)
    texts = item_column(dataset.items, "text")
    return [text or "".join(fields) for text, fields in zip(texts, composed, strict=True)]


def with_texts(dataset: RecDataset, recipe: TextRecipe) -> RecDataset:
    """Return the dataset with each item's `text` made by the recipe, for `RecDataset.texts`."""
    return replace(dataset, items=dataset.items.assign(text=item_texts(dataset, recipe)))


def _append_tokens(text: str, tokens: Sequence[str]) -> str:
    sentence = _unisrec_field(", ".join(tokens))
    return f"{text.rstrip()} {sentence}".lstrip() if sentence else text


def _unisrec_field(text: str) -> str:
    """Return a field as a sentence and a space: entities resolved, no double quotes or newlines, one full stop.

    A missing field adds nothing, nor does one of 2,000 characters or more.
    """
    cleaned = html.unescape(text).translate({ord(c): None for c in '"\r\n'}).strip().rstrip(".")
    return f"{cleaned}. " if 0 < len(cleaned) < _UNISREC_LIMIT - 1 else ""


def item_column(items: pd.DataFrame, name: str) -> pd.Series:
    """Return a column of the items, empty where the source has nothing."""
    return items[name].fillna("") if name in items else pd.Series("", index=items.index)
