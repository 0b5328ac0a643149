"""An ensemble of finished runs of a ranking task: combines the lists of best items that they stored for each user."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.errors import DataError
from llm4rec_cli.evaluation.ranking import expected_ndcg
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.ranked_lists import RankedLists, ranked_lists
from llm4rec_studies.models.ensemble.config import Combine, EnsembleConfig

log = logging.getLogger(__name__)

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
SHARES = np.arange(1, 10) / 10  # of the first member's standardised scores
FUSION = 60  # of reciprocal rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009


class EnsembleOfLists(RankedLists):
    """Combined lists of several runs, looked up by user.

    A member's score of an item is its stored score minus the score of the last item in the user's list, and 0 for an
    item that the list omits. Items that all members omit tie below the others.
    """

    def __init__(self, config: EnsembleConfig, context: Context) -> None:
        self.config, dataset = config, context.split.dataset
        pairs, scores = union([Lists(folder, dataset) for folder in config.members], config.combine)
        self.weights = None
        if config.combine is Combine.grid:
            self.weights = grid_weights([Lists(folder, dataset) for folder in config.judged], dataset.n_items)
        combined = scores.sum(0) if self.weights is None else self.weights @ scores
        user, item = np.divmod(pairs, dataset.n_items)
        lists = ranked_lists(user, item, combined, (dataset.n_users, dataset.n_items))
        super().__init__(lists, dataset.user_ids, max_missing=0)

    def artifacts(self) -> dict[str, str]:
        return self.config.members_file(None if self.weights is None else self.weights.tolist())


class Lists:
    """The lists that one run stored.

    Attributes:
        pair: (total,) user x n_items + item, ascending.
        score: (total,) stored scores, less the lowest of the user's list.
        rank: (total,) places in the list, from 1; of tied items the mean of their places.
        target: (n,) user x n_items + target, ascending.
    """

    def __init__(self, folder: str, dataset: RecDataset) -> None:
        columns = ["user_id", "target", "top_items", "top_scores"]
        rows = pd.read_parquet(Path(folder) / "predictions.parquet", columns=columns)
        if rows["user_id"].duplicated().any():
            raise DataError(
                f"{folder} has several examples of user '{rows['user_id'][rows['user_id'].duplicated()].iloc[0]}'",
                "combine runs of a split with one example a user, such as dataset.split=leave_one_out",
            )
        user = pd.Index(dataset.user_ids).get_indexer(pd.Index(rows["user_id"])).astype(np.int64)
        number = pd.Index(dataset.items["item_id"]).get_indexer
        length = rows["top_items"].map(len).to_numpy()
        item = number(pd.Index(np.concatenate(rows["top_items"].to_numpy()))).astype(np.int64)
        lowest = np.array([scores[-1] if len(scores) else 0.0 for scores in rows["top_scores"]], dtype=np.float64)
        stored = np.concatenate(rows["top_scores"].to_numpy()).astype(np.float64)
        score = stored - np.repeat(lowest, length)
        rank = np.arange(len(item)) - np.repeat(np.cumsum(length) - length, length) + 1.0
        is_tied = np.zeros(len(item), dtype=bool)  # with the item before
        is_tied[1:] = (stored[1:] == stored[:-1]) & (rank[1:] > 1)
        tie = np.cumsum(~is_tied) - 1
        rank = (np.bincount(tie, rank) / np.bincount(tie))[tie]
        pair = np.repeat(user, length) * dataset.n_items + item
        order = np.argsort(pair)
        self.pair, self.score, self.rank = pair[order], score[order], rank[order]
        self.target = np.sort(user * dataset.n_items + number(pd.Index(rows["target"])))


def union(members: Sequence[Lists], combine: Combine) -> tuple[IntArray, FloatArray]:
    """Return the items that any member lists, as user x n_items + item, ascending, and (members, total) scores of them:
    standardised for a sum, so that the scale of a member has no influence; 1 / (60 + rank) for ranks; as stored for the
    weights of a grid, which include the scale."""
    pairs = np.unique(np.concatenate([member.pair for member in members]))
    scores = np.zeros((len(members), len(pairs)))
    for row, member in zip(scores, members, strict=True):
        score = 1 / (FUSION + member.rank) if combine is Combine.rank else member.score
        scale = _deviation(member) if combine is Combine.sum else 1.0
        row[np.searchsorted(pairs, member.pair)] = score / scale
    return pairs, scores


def _deviation(member: Lists) -> float:
    return float(member.score.std().clip(min=1e-12))


def grid_weights(members: Sequence[Lists], n_items: int) -> FloatArray:
    """Choose the weights of two members' standardised scores, .1 and .9 to .9 and .1, by NDCG@10 on validation. The
    first wins a tie. Return weights for the stored scores.

    Users for whom no member lists the target are left out: they add the same to all.

    Raises:
        DataError: no member lists any target, or the members were evaluated on different examples.
    """
    if any(not np.array_equal(member.target, members[0].target) for member in members):
        raise DataError("the members were evaluated on different validation examples", "evaluate all on the same ones")
    pairs, scores = union(members, Combine.sum)
    hit, user = np.isin(pairs, members[0].target), pairs // n_items
    has_target = np.isin(user, user[hit])
    if not has_target.any():
        raise DataError("no member lists the target of any validation user", "longer lists: task.stored_items=100")
    scores, hit = scores[:, has_target], hit[has_target]
    _, lengths = np.unique(user[has_target], return_counts=True)
    begins = np.cumsum(lengths) - lengths
    best, weights = -1.0, SHARES[:0]
    for share in SHARES:
        combined = share * scores[0] + (1 - share) * scores[1]
        of_target = np.repeat(combined[hit], lengths)
        n_better = np.add.reduceat((combined > of_target).astype(np.int64), begins)
        n_tied = np.add.reduceat((combined == of_target).astype(np.int64), begins)
        ndcg = float(expected_ndcg(n_better, n_tied, 10).mean())
        log.info("weight %.1f of the first: NDCG@10 %.4f of the %d listed targets", share, ndcg, len(lengths))
        if ndcg > best:
            best, weights = ndcg, np.array([share, 1 - share])
    return weights / [_deviation(member) for member in members]
