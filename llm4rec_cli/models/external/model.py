"""Scores read from a file. Items that a user's list omits tie below the listed ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from llm4rec_cli.data.examples import Examples
from llm4rec_cli.errors import DataError
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.external.lists import read_lists

log = logging.getLogger(__name__)


class External:
    """Ranked lists by user: all examples of one user get the same scores.

    Args:
        lists: (n_users, n_items) as returned by `read_lists`.
        user_ids: (n_users,) raw ids.
        max_missing: the maximum share of examples whose user has no row.
    """

    def __init__(self, lists: csr_array, user_ids: NDArray[np.object_], max_missing: float) -> None:
        self.lists, self.user_ids, self.max_missing = lists, user_ids, max_missing

    def score(self, examples: Examples) -> Tensor:
        if examples.candidates is None:
            return torch.from_numpy(self.lists[examples.user].toarray())
        user = np.repeat(examples.user, examples.candidates.shape[1])
        scores = self.lists[user, examples.candidates.ravel()]  # avoids a dense (batch, n_items) array
        return torch.from_numpy(scores.reshape(examples.candidates.shape))

    def gaps(self, examples: Examples, ranks: pd.DataFrame, cutoffs: Sequence[int]) -> dict[str, str]:
        """Return `missing-users` if users lack rows, `truncated-lists` if chance among omitted items adds to a metric.

        An omitted target has, in expectation, any place among the omitted items. Below a list of L items that adds
        nothing to HR@K for K <= L, a little beyond, and much to AUC.

        Raises:
            DataError: more users are missing than `max_missing` allows.
        """
        missing = np.diff(self.lists.indptr)[examples.user] == 0
        if missing.sum() > self.max_missing * len(examples):
            raise DataError(
                f"{missing.sum():,} of the {len(examples):,} users evaluated have no row in the file, for example user "
                f"'{self.user_ids[examples.user[missing][0]]}'",
                "add their rows, or score them as chance: model.max_missing=1",
            )
        warnings = {}
        if missing.any():
            warnings["missing-users"] = f"{missing.sum():,} of {len(examples):,} users have no row and count as chance"
        n_better, n_tied, n_candidates = (ranks[name].to_numpy() for name in ("n_better", "n_tied", "n_candidates"))
        omitted = (self.lists[examples.user, examples.target] == 0) & (n_tied > 1) & ~missing
        values = ranking_metrics(n_better[omitted], n_tied[omitted], n_candidates[omitted], cutoffs)
        shares = [
            f"{value.sum() / len(examples):.4f} of {name}"
            for name, value in values.items()
            if value.any() and not name.startswith("recall")  # equals hr
        ]
        if shares:
            warnings["truncated-lists"] = f"lists omit items: chance among them contributes {', '.join(shares)}"
        return warnings


def build(context: Context) -> External:
    config = context.config
    lists = read_lists(Path(config.file), context.split.dataset)
    lengths = np.diff(lists.indptr)
    lengths = lengths[lengths > 0]
    log.info(
        "%s: lists of %s users, %d to %d items long",
        *(config.alias, f"{len(lengths):,}", lengths.min(), lengths.max()),
    )
    return External(lists, context.split.dataset.user_ids, config.max_missing)
