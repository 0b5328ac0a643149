"""Items outside the dataset: from a user's file, or typed as a title.

They are appended to the dataset's catalogue, without interactions, for models that read item text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from llm4rec_cli.config.schema import DatasetConfig, TextRecipe
from llm4rec_cli.data.readers.table import read_items
from llm4rec_cli.data.recdataset import ITEM_COLUMNS, RecDataset
from llm4rec_cli.data.texts import item_texts
from llm4rec_cli.data.tokens import attribute_tokens
from llm4rec_cli.errors import DataError, UsageError

SAMPLE = 3  # ids that an error names


def read_new_items(path: Path, config: DatasetConfig) -> pd.DataFrame:
    """Return the items of a CSV, JSON lines or Parquet file: `item_id`, `title` and other item columns.

    If the dataset maps column names of a user's own files, the map also applies to this file.

    Raises:
        UsageError: the file does not exist.
        DataError: it is malformed, has no titles, or lists an item twice.
    """
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist", "--new-items FILE, a CSV, JSON lines or Parquet file with item_id,title"
        )
    columns = config.columns if config.reader == "table" else None
    items = read_items(path, columns, optional={*ITEM_COLUMNS} - {"title"})
    if "title" not in items:
        raise DataError(
            f"{path.name}: no column 'title'", "new items need item_id,title; other item columns may follow"
        )
    if (repeated := items["item_id"].duplicated()).any():
        raise DataError(
            f"{path.name}: item '{items['item_id'][repeated].iloc[0]}' is listed twice", "remove one of them"
        )
    return items


def titled_items(titles: Sequence[str]) -> pd.DataFrame:
    """Return items that have a title and no id."""
    return pd.DataFrame({"item_id": None, "title": list(titles)}, dtype=object)


def with_new_items(dataset: RecDataset, items: pd.DataFrame, recipe: TextRecipe) -> RecDataset:
    """Return the dataset with items appended to its catalogue, their text made by the dataset's recipe.

    Raises:
        UsageError: the recipe needs tokens that only a chat model writes.
        DataError: an id is in the catalogue already, a new item has no text, or no item of the catalogue has any.
    """
    if recipe is TextRecipe.enriched:
        raise UsageError(
            "dataset.text=enriched: a chat model wrote tokens for items of the catalogue, and new items have none",
            "use a model trained with another dataset.text",
        )
    if not any(dataset.texts):
        raise DataError(
            f"dataset {dataset.manifest['name']} has no item text that a model could compare with new items",
            "a dataset with titles: llm4rec list datasets",
        )
    in_catalogue = items["item_id"][items["item_id"].isin(dataset.items["item_id"]) & items["item_id"].notna()]
    if len(in_catalogue):
        raise DataError(
            f"{len(in_catalogue):,} of {len(items):,} new items have ids of the catalogue: "
            + ", ".join(f"'{item_id}'" for item_id in in_catalogue[:SAMPLE]),
            "give new items ids of their own, and leave out items that the catalogue has",
        )
    if recipe is TextRecipe.attributes:
        items = items.assign(tokens=pd.Series(attribute_tokens(items), index=items.index, dtype=object))
    items = items.assign(text=item_texts(replace(dataset, items=items), recipe))
    if (empty := items["text"].str.strip() == "").any():
        row = items[empty].iloc[0]
        raise DataError(
            f"new item '{row['item_id'] or row['title']}' has no text by dataset.text={recipe.name}",
            "give each new item a title, or with dataset.text=attributes brand and categories",
        )
    return replace(dataset, items=pd.concat([dataset.items, items], ignore_index=True))
