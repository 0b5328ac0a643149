"""Initial weights of a T5 from scratch, from the items that follow each other in training.

The token of an item is a pair of vectors [u, v], such that u of one item and v of another have a large inner product
where the second often follows the first. The decoder's attention to the source starts as a map that moves u to the
place of v. So the item that it attends to makes its usual successors likely, because tokens are also the output
embeddings. A last coordinate of u says how far the item's stars are above average.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import svd
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds
from torch import nn

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.ids.trees import DENSE

WINDOW = 3  # interactions between two items that are counted, at most
CARRIED = 4.0  # scale of what attention carries over at the start
STAR_SCALE = 5.0  # root mean square of the coordinate of stars, of items and of users
SHRINKAGE = 20  # ratings at the average that are added to each mean of stars

Floats = NDArray[np.floating[Any]]


def transition_factors(counts: csr_array, width: int) -> tuple[Floats, Floats]:
    """Return (n_items, width) twice, the vectors u and v of all items: u @ v.T approximates counts divided by
    (row sum + 1) ** 0.5 * (column sum + 1) ** 0.25, up to a factor for each row.

    By the smaller exponent, v keeps a part of the items' popularity. The root mean square is 1 for each u, and for all
    v together, as T5 draws its embeddings. An item without successors has u = 0, one without predecessors v = 0.
    """
    n = counts.shape[0]
    rows, columns = counts.sum(axis=1) + 1, counts.sum(axis=0) + 1
    normalised = csr_array(counts * (rows**-0.5)[:, None] * columns**-0.25)
    k = min(width, n - 1)
    if n <= DENSE:
        left, values, right = svd(normalised.toarray())
    else:
        left, values, right = svds(normalised, k=k, v0=np.ones(n), solver="arpack")
    leading = np.argsort(-values)[:k]
    left, values, right = left[:, leading], values[leading], right[leading].T
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(k)])  # arbitrary, but the same for both sides
    u, v = np.zeros((2, n, width))
    u[:, :k], v[:, :k] = left * signs * np.sqrt(values), right * signs * np.sqrt(values)
    return _unit_scale(u), v / (np.sqrt(np.square(v).mean()) or 1.0)


def user_factors(split: Split, u: Floats) -> Floats:
    """Return (n_users, width) the mean u of each user's training items, weighted by 1, 1/2, 1/3, … from the latest; of
    root mean square 1, or 0 without items."""
    flat, offsets = split.train_sequences()
    user = np.repeat(np.arange(split.n_users), np.diff(offsets))
    weights = 1.0 / (offsets[1:][user] - np.arange(len(flat)))
    return _unit_scale(csr_array((weights, (user, flat)), shape=(split.n_users, len(u))) @ u)


def mean_stars(split: Split) -> tuple[Floats, Floats]:
    """Return (n_items,) and (n_users,) how far mean training ratings are above average, with SHRINKAGE more ratings at
    the average; of a user, after the items' part is subtracted.

    The root mean square of each is STAR_SCALE; 0 without ratings.
    """
    interactions = split.dataset.interactions
    ratings = interactions["rating"].to_numpy(float) if "rating" in interactions else np.full(len(interactions), np.nan)
    rated = (split.assignment == TRAIN) & ~np.isnan(ratings)
    user, item, stars = interactions["user"].to_numpy()[rated], split.dataset.sequence[rated], ratings[rated]
    stars = stars - (stars.mean() if len(stars) else 0)
    by_item = _shrunk_means(item, stars, split.n_items)
    by_user = _shrunk_means(user, stars - by_item[item], split.n_users)
    return STAR_SCALE * _unit_scale(by_item[None])[0], STAR_SCALE * _unit_scale(by_user[None])[0]


def _shrunk_means(group: IntArray, values: Floats, n: int) -> Floats:
    """Return (n,) the mean of the values of each group, with SHRINKAGE more values of 0."""
    return np.bincount(group, weights=values, minlength=n) / (np.bincount(group, minlength=n) + SHRINKAGE)


@torch.no_grad()
def carry_over(attention: Any) -> None:
    """Set the values and the output of a T5 attention so that it adds CARRIED times the first half of what it attends
    to, to the second half of the state. Drawn by torch's global generator.

    The maps of values to heads are orthogonal, so each head carries a part, and all together the whole.

    Args:
        attention: a `T5Attention` whose heads are together as wide as the model.
    """
    half = attention.d_model // 2
    nn.init.orthogonal_(attention.v.weight)
    attention.o.weight.zero_()
    attention.o.weight[half:] = CARRIED * attention.v.weight[:, :half].T


def _unit_scale(vectors: Floats) -> Floats:
    """Return rows divided by their root mean square. Rows of zeros stay."""
    size = np.sqrt(np.square(vectors).mean(axis=1, keepdims=True))
    return np.divide(vectors, size, out=np.zeros_like(vectors), where=size > 1e-9)
