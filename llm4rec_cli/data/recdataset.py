"""`RecDataset`: numbered items and interactions in time order, with a manifest of their provenance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from llm4rec_cli.evaluation.beyond_accuracy import title_words

IntArray = NDArray[np.integer[Any]]

ROWS = 1 << 16  # texts that are copied to memory at a time
ITEM_COLUMNS = ("item_id", "title", "brand", "categories", "description", "text", "price")
INTERACTION_COLUMNS = (
    "user_id",
    "item_id",
    "timestamp",
    "rating",
    "review_text",
    "review_title",
    "explanation",
    "feature",
    "user_name",
)
IMPRESSION_COLUMNS = ("impression_id", "user_id", "timestamp", "history", "candidates", "clicks")


@dataclass
class RawData:
    """What a reader returns: raw ids as strings, rows in file order, before any filter.

    Attributes:
        items: `item_id` and those of ITEM_COLUMNS the source has (strings, null where missing; `categories` as one
            string joined by a space, `price` as text without a currency, "12.99"). At most one row per item. Items are
            numbered in this order.
        interactions: `user_id`, `item_id` and those of INTERACTION_COLUMNS the source has (`timestamp`, `rating`:
            float64; `user_name`: the user's name at that time), and `part` (`train`, `valid`, `test`, or `history` for
            what is only listed before another row) if the source gives a split. Without `timestamp`, a user's rows must
            already be in time order.
        impressions: IMPRESSION_COLUMNS (`history`, `candidates`, `clicks` are lists of item ids), for click logs.
        counts: the number of rows read, then the number dropped for each reason, in order.
        item_order: a phrase saying how items are numbered (`sorted ids`), in particular whether that carries order.
        texts: text columns of the interactions that are too large for memory, mapped from a file; an interaction's row
            in it is its index in `interactions`. None = all columns are in `interactions`.
    """

    items: pd.DataFrame
    interactions: pd.DataFrame
    counts: dict[str, int]
    item_order: str
    impressions: pd.DataFrame | None = None
    texts: pa.Table | None = None


@dataclass(frozen=True)
class RecDataset:
    """Users and items numbered 0..n-1, interactions sorted by user and time (ties in file order).

    Attributes:
        items: row i describes item number i; columns as in RawData.items.
        interactions: columns `user`, `item` (int32 numbers) and the other INTERACTION_COLUMNS that the source has;
            `part`, the split of each, if it was drawn per interaction or the raw files give one (`given`).
        user_ids: (n_users,) raw ids.
        offsets: (n_users + 1,) int64: user u's interactions are rows offsets[u]:offsets[u + 1].
        manifest: provenance: raw files with sha256, counts after every filter, `fingerprint`; of item tokens,
            their hash and cost.
        impressions: as in RawData, `user` for `user_id` and numbers for item ids; None for all but click logs.
    """

    items: pd.DataFrame
    interactions: pd.DataFrame
    user_ids: NDArray[np.object_]
    offsets: IntArray
    manifest: dict[str, Any]
    impressions: pd.DataFrame | None = None

    @property
    def n_users(self) -> int:
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        return len(self.items)

    @property
    def fingerprint(self) -> str:
        return str(self.manifest["fingerprint"])

    @property
    def seed(self) -> int:
        """The `dataset.seed` it was prepared with."""
        return int(self.manifest["split"]["seed"])

    @property
    def domains(self) -> tuple[list[str], IntArray]:
        """The names of its domains, and (n_items,) the index of each item's domain."""
        if "domain" not in self.items:
            return [str(self.manifest["name"])], np.zeros(self.n_items, dtype=np.int64)
        item_domain, names = pd.factorize(self.items["domain"])
        return list(names), item_domain

    @cached_property
    def sequence(self) -> IntArray:
        """(n_interactions,) item numbers, user by user."""
        return self.interactions["item"].to_numpy()

    @property
    def texts(self) -> list[str]:
        """The text of each item by the dataset's text recipe; empty if it has none."""
        return self.items["text"].fillna("").tolist()

    def has_value(self, column: str) -> NDArray[np.bool_]:
        """Return (n_interactions,) whether the column has a number or non-blank text."""
        if column not in self.interactions:
            return np.zeros(len(self.interactions), dtype=bool)
        values = self.interactions[column]
        if pd.api.types.is_numeric_dtype(values):
            return values.notna().to_numpy()
        parts = (values.iloc[start : start + ROWS] for start in range(0, max(1, len(values)), ROWS))
        return np.concatenate([(part.fillna("").str.strip() != "").to_numpy(dtype=bool) for part in parts])

    @property
    def has_titles(self) -> bool:
        """Whether any item has a title with a word."""
        return self._has_words("title")

    @cached_property
    def words(self) -> csr_array | None:
        """(n_items, n_words) the words of each item's title, or, if no item has one, of its text; None: no words."""
        for column in ("title", "text"):
            if self._has_words(column):
                return title_words(self.items[column].fillna("").tolist())
        return None

    def _has_words(self, column: str) -> bool:
        return column in self.items and bool(self.items[column].str.contains(r"\w", na=False).any())

    @cached_property
    def id_order(self) -> IntArray:
        """(n_items,) the place of each item among the sorted raw ids: as numbers if all are, otherwise as text."""
        ids = self.items["item_id"].astype(str)
        keys = ids.map(int) if ids.str.isdecimal().all() else ids
        order = np.empty(self.n_items, dtype=np.int64)
        order[np.argsort(keys.to_numpy(), kind="stable")] = np.arange(self.n_items)
        return order
