"""Scores that stand in a file. What a user's list leaves out ties below all that it holds."""

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
from llm4rec_cli.models.external import lists

log = logging.getLogger(__name__)


class External:
    """Ranked lists by user number: all examples of one user get the same scores.

    Args:
        listed: (n_users, n_items) as `lists.read` gives it.
        user_ids: (n_users,) raw ids.
        max_missing: the share of examples whose user may have no row.
    """

    def __init__(self, listed: csr_array, user_ids: NDArray[np.object_], max_missing: float) -> None:
        self.listed, self.user_ids, self.max_missing = listed, user_ids, max_missing

    def score(self, examples: Examples) -> Tensor:
        if examples.candidates is None:
            return torch.from_numpy(self.listed[examples.user].toarray())
        user = np.repeat(examples.user, examples.candidates.shape[1])
        scores = self.listed[user, examples.candidates.ravel()]  # nothing of users × items, even of a batch
        return torch.from_numpy(scores.reshape(examples.candidates.shape))

    def gaps(self, examples: Examples, ranks: pd.DataFrame, cutoffs: Sequence[int]) -> dict[str, str]:
        """`missing-users`: they have no row; `truncated-lists`: chance among unlisted items is part of a metric.

        A target that its list does not hold stands, by expectation, anywhere among the unlisted. Behind a list of L
        items that adds nothing to HR@K for K <= L, a little beyond, and much to AUC.

        Raises:
            DataError: more users are missing than `max_missing` allows.
        """
        missing = np.diff(self.listed.indptr)[examples.user] == 0
        if missing.sum() > self.max_missing * len(examples):
            raise DataError(
                f"{missing.sum():,} of the {len(examples):,} users asked about have no row in the file, such as user "
                f"'{self.user_ids[examples.user[missing][0]]}'",
                "add their rows, or let each count as chance: model.max_missing=1",
            )
        said = {}
        if missing.any():
            said["missing-users"] = f"{missing.sum():,} of {len(examples):,} users have no row: each counts as chance"
        n_better, n_tied, n_candidates = (ranks[name].to_numpy() for name in ("n_better", "n_tied", "n_candidates"))
        unlisted = (self.listed[examples.user, examples.target] == 0) & (n_tied > 1) & ~missing
        values = ranking_metrics(n_better[unlisted], n_tied[unlisted], n_candidates[unlisted], cutoffs)
        parts = [
            f"{value.sum() / len(examples):.4f} of {name}"
            for name, value in values.items()
            if value.any() and not name.startswith("recall")  # which equals hr
        ]
        if parts:
            said["truncated-lists"] = f"lists end early: chance among the items left out makes {', '.join(parts)}"
        return said


def build(context: Context) -> External:
    config = context.config
    listed = lists.read(Path(config.file), context.split.dataset)
    lengths = np.diff(listed.indptr)
    held = lengths[lengths > 0]
    log.info("%s: lists of %s users, %d to %d items long", config.alias, f"{len(held):,}", held.min(), held.max())
    return External(listed, context.split.dataset.user_ids, config.max_missing)
