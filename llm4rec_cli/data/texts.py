"""The text of an item, made of its fields by a named recipe."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from llm4rec_cli.config.schema import TextRecipe
from llm4rec_cli.data.recdataset import RecDataset

TEXT_COLUMNS = ["title", "brand", "categories", "description", "text"]
_UNISREC_FIELDS = ("title", "categories", "brand")
_UNISREC_LIMIT = 2000  # characters from which a field counts as rubbish


def item_texts(dataset: RecDataset, recipe: TextRecipe) -> list[str]:
    """One text an item, in order of the item numbers; empty where the source has nothing.

    `unisrec`: the dataset's own `text` where it has one, otherwise title, categories and brand as UniSRec's
    process_amazon.py cleans them. `title`: the title as it stands. `attributes`: a sentence of the item's tokens alone,
    which are its attributes. `enriched`: as `unisrec`, and one more such sentence.
    """
    if recipe is TextRecipe.title:
        return list(column(dataset.items, "title"))
    if recipe is TextRecipe.enriched:
        plain = item_texts(dataset, TextRecipe.unisrec)
        tokens = column(dataset.items, "tokens")
        return [_followed(text, of_one) for text, of_one in zip(plain, tokens, strict=True)]
    if recipe is TextRecipe.attributes:
        return [_followed("", of_one) for of_one in column(dataset.items, "tokens")]
    made = zip(*(column(dataset.items, field).map(_unisrec_field) for field in _UNISREC_FIELDS), strict=True)
    own = column(dataset.items, "text")
    return [text or "".join(fields) for text, fields in zip(own, made, strict=True)]


def with_texts(dataset: RecDataset, recipe: TextRecipe) -> RecDataset:
    """The dataset with each item's `text` made by the recipe: what `RecDataset.texts` then gives every model."""
    return replace(dataset, items=dataset.items.assign(text=item_texts(dataset, recipe)))


def _followed(text: str, tokens: Sequence[str]) -> str:
    sentence = _unisrec_field(", ".join(tokens))
    return f"{text.rstrip()} {sentence}".lstrip() if sentence else text


def _unisrec_field(text: str) -> str:
    """A field as a sentence and a space: entities resolved, no double quotes or newlines, one full stop at the end.

    A field that is missing adds nothing, and so does one of 2,000 characters or more.
    """
    cleaned = html.unescape(text).translate({ord(c): None for c in '"\r\n'}).strip().rstrip(".")
    return f"{cleaned}. " if 0 < len(cleaned) < _UNISREC_LIMIT - 1 else ""


def column(items: pd.DataFrame, name: str) -> pd.Series:
    """A column of the items, empty where the source has nothing."""
    return items[name].fillna("") if name in items else pd.Series("", index=items.index)
