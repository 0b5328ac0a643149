"""A ranker by stored lists, one of each user. Items that a list omits tie below the listed ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.errors import DataError
from llm4rec_cli.evaluation.ranking import ranking_metrics

if TYPE_CHECKING:
    from torch import Tensor


def ranked_lists(user: IntArray, item: IntArray, score: NDArray[Any], shape: tuple[int, int]) -> csr_array:
    """Return (n_users, n_items) float32 the lists of all users, of (n,) scored pairs of user and item.

    An entry is 1 for the worst of a user's listed items, 2 for the next better, …, equal where scores are equal; 0 =
    not listed. Any order of scores thus survives float32.
    """
    order = np.lexsort((score, user))
    user, item, score = user[order], item[order], score[order]
    first = np.searchsorted(user, user)  # of each row's user
    step = np.concatenate([[0], np.cumsum(score[1:] != score[:-1])])
    return csr_array(((1 + step - step[first]).astype(np.float32), (user, item)), shape)


class RankedLists:
    """Ranked lists by user, as `ranked_lists` returns them: all examples of one user get the same scores.

    Attributes:
        max_missing: the maximum share of examples whose user has no row.
        left_out: what was left out of the lists when they were read, in words.
    """

    def __init__(
        self, lists: csr_array, user_ids: NDArray[np.object_], max_missing: float, left_out: str | None = None
    ) -> None:
        self.lists, self.user_ids, self.max_missing, self.left_out = lists, user_ids, max_missing, left_out

    def score(self, examples: Examples) -> Tensor:
        import torch  # imported here: a file of lists is checked before torch is imported

        if examples.candidates is None:
            return torch.from_numpy(self.lists[examples.user].toarray())
        user = np.repeat(examples.user, examples.candidates.shape[1])
        scores = self.lists[user, examples.candidates.ravel()]  # avoids a dense (batch, n_items) array
        return torch.from_numpy(scores.reshape(examples.candidates.shape))

    def gaps(self, examples: Examples, ranks: pd.DataFrame, cutoffs: Sequence[int]) -> dict[str, str]:
        """Return `missing-users` if users lack rows, `truncated-lists` if chance among omitted items adds to a metric,
        `left-out-codes` if rows were left out.

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
        warnings = {"left-out-codes": self.left_out} if self.left_out else {}
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
