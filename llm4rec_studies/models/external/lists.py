"""The lists of a file for the users and items of a dataset, as a sparse matrix."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from llm4rec_cli.data.recdataset import IntArray, RecDataset
from llm4rec_cli.models.shared.ranked_lists import ranked_lists
from llm4rec_studies.models.external import files, ids


@dataclass(frozen=True)
class UserLists:
    """The lists of all users, as `ranked_lists` returns them, and what was left out of the file, in words."""

    matrix: csr_array
    left_out: str | None = None


def read_lists(
    file: str,
    dataset: RecDataset,
    user_ids: str | None = None,
    item_ids: str | None = None,
    codes: str | None = None,
) -> UserLists:
    """Read the lists of a file, in raw ids or in those of another system.

    Args:
        user_ids, item_ids: files that map the ids of the lists to raw ids.
        codes: a file of items and their codes, of which the lists are.

    Raises:
        UsageError, DataError: as `files.read`, `ids.renamed` and `ids.decoded`; or an id is not in the dataset, or an
            item is listed twice for a user.
    """
    lists, left_out = files.read(Path(file)), None
    if codes:
        lists, left_out = ids.decoded(lists, ids.items_by_codes(Path(codes)), Path(codes).name)
    for column, mapped_by in (("user", user_ids), ("item", item_ids)):
        if mapped_by:
            lists = ids.renamed(lists, column, Path(mapped_by))
    user = _numbers(lists, "user", pd.Index(dataset.user_ids), dataset)
    item = _numbers(lists, "item", pd.Index(dataset.items["item_id"]), dataset)
    repeated = pd.Series(user * dataset.n_items + item).duplicated().to_numpy()
    if repeated.any():
        row = int(repeated.argmax())
        user_id, item_id = lists.rows["user"].iloc[row], lists.rows["item"].iloc[row]
        problem = f"item '{item_id}' is listed more than once for user '{user_id}'"
        raise lists.error(row, problem, "list each item once per user")
    score = lists.rows["score"].to_numpy() if "score" in lists.rows else -np.arange(len(lists.rows))
    return UserLists(ranked_lists(user, item, score, (dataset.n_users, dataset.n_items)), left_out)


def _numbers(lists: files.Lists, kind: str, index: pd.Index, dataset: RecDataset) -> IntArray:
    """Return (n,) the dataset's numbers of raw ids; `kind` is `user` or `item`."""
    raw = lists.rows[kind]
    number = index.get_indexer(pd.Index(raw)).astype(np.int64)
    unknown = number < 0
    if unknown.any():
        row, n = int(unknown.argmax()), raw[unknown].nunique()
        more = f" ({n:,} unknown {kind}s in total)" if n > 1 else ""
        raise lists.error(
            row,
            f"no {kind} '{raw.iloc[row]}' in dataset '{dataset.manifest['name']}' after its filters{more}",
            f"use the ids of the raw files, or name the file that maps them: --{kind}-ids FILE; leave out {kind}s that "
            "the dataset lacks",
        )
    return number
