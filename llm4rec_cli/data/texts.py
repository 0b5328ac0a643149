"""The text of an item, composed from its fields by a named recipe."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from llm4rec_cli.config.schema import TextRecipe
from llm4rec_cli.data import store
from llm4rec_cli.data.recdataset import RecDataset

TEXT_COLUMNS = ["title", "brand", "categories", "description", "text"]
VERSION = 1  # raised when a recipe makes another text of the same item
_UNISREC_FIELDS = ("title", "categories", "brand")
_UNISREC_LIMIT = 2000  # characters; a field this long is treated as noise and dropped


def item_texts(dataset: RecDataset, recipe: TextRecipe) -> list[str]:
    """Return one text per item, in order of the item numbers; empty where the source has nothing.

    `unisrec`: the dataset's own `text` if it has one, otherwise title, categories and brand as UniSRec's
    process_amazon.py cleans them, except that an empty field adds nothing. `unisrec_verbatim`: the same, with every
    character that the script writes. `title`: the unchanged title. `attributes`: one sentence of the item's tokens,
    which are its attributes. `enriched`: `unisrec` followed by one sentence of tokens.
    """
    if recipe is TextRecipe.title:
        return list(item_column(dataset.items, "title"))
    if recipe is TextRecipe.enriched:
        plain = item_texts(dataset, TextRecipe.unisrec)
        tokens = item_column(dataset.items, "tokens")
        return [_append_tokens(text, item_tokens) for text, item_tokens in zip(plain, tokens, strict=True)]
    if recipe is TextRecipe.attributes:
        return [_append_tokens("", tokens) for tokens in item_column(dataset.items, "tokens")]
    clean = _verbatim_field if recipe is TextRecipe.unisrec_verbatim else _unisrec_field
    composed = zip(*([clean(text) for text in _column(dataset.items, field)] for field in _UNISREC_FIELDS), strict=True)
    texts = item_column(dataset.items, "text")
    return [text or "".join(fields) for text, fields in zip(texts, composed, strict=True)]


def with_texts(dataset: RecDataset, recipe: TextRecipe, cache: Path | None = None) -> RecDataset:
    """Return the dataset with each item's `text` made by the recipe, for `RecDataset.texts`.

    Args:
        cache: the folder where texts are kept and mapped from; None = they are made anew, in memory.
    """

    def texts() -> pd.DataFrame:
        return pd.DataFrame({"text": pd.Series(item_texts(dataset, recipe), dtype="str")})

    if cache is None:
        return replace(dataset, items=dataset.items.assign(text=texts()["text"]))
    manifest = dataset.manifest
    made_from = [VERSION, dataset.fingerprint, manifest.get("control"), manifest.get("tokens", {}).get("sha256")]
    key = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:24]
    kept = store.kept(cache, f"texts/{manifest['name']}-{recipe.value}-{key}", dataset.n_items, texts)
    return replace(dataset, items=dataset.items.assign(text=kept["text"]))


def _append_tokens(text: str, tokens: Sequence[str]) -> str:
    sentence = _unisrec_field(", ".join(tokens))
    return f"{text.rstrip()} {sentence}".lstrip() if sentence else text


def _unisrec_field(text: str | None) -> str:
    """Return a field as a sentence and a space: entities resolved, no double quotes or newlines, one full stop.

    A missing or empty field adds nothing, nor does one of 2,000 characters or more.
    """
    cleaned = _without_signs(text or "").strip().rstrip(".")
    return f"{cleaned}. " if 0 < len(cleaned) < _UNISREC_LIMIT - 1 else ""


def _verbatim_field(text: str | None) -> str:
    """Return a field as `clean_text` and `generate_text` in UniSRec's process_amazon.py write it.

    A missing field adds nothing, an empty one a full stop, one of 2,000 characters or more its space. White space at
    the ends stays, and so does a full stop that is the first character.
    """
    if text is None:
        return ""
    cleaned = _without_signs(text)
    cleaned = f"{cleaned[:1]}{cleaned[1:].rstrip('.')}."
    return f"{cleaned if len(cleaned) < _UNISREC_LIMIT else ''} "


def _without_signs(text: str) -> str:
    """Return the text with entities resolved, without double quotes and line ends."""
    return html.unescape(text).translate({ord(c): None for c in '"\r\n'})


def _column(items: pd.DataFrame, name: str) -> list[str | None]:
    """Return a column of the items, None where the source has no value."""
    return [None if pd.isna(text) else text for text in items[name]] if name in items else [None] * len(items)


def item_column(items: pd.DataFrame, name: str) -> pd.Series:
    """Return a column of the items, empty where the source has nothing."""
    return items[name].fillna("") if name in items else pd.Series("", index=items.index)
