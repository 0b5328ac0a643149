"""Item indexing: what an item is called where a model reads and writes it, one code of a few pieces an item.

Numbers: `sequential`, `random`, `leaky_p5`. All are padded to one length and cut into pieces of some digits, so that
their pieces are the model's own choice and not a tokenizer's. Clusters: `collaborative`, `semantic`. A code is the path
to a leaf of a tree of clusters, and the item's place in the leaf: <c3> <c41> <i17>.

No code begins another. None but `leaky_p5` looks at anything that is held out, nor at how the dataset numbers its
items: where that is by first appearance in whole sequences, as in the files of S3-Rec, it leaks what follows what.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, polar, qr
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from llm4rec_cli.config.schema import Index
from llm4rec_cli.data import store
from llm4rec_cli.data.recdataset import IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError
from llm4rec_cli.files import write_json, write_once

VERSION = 1  # raised when the same data and seed give other clusters
NUMBERS = frozenset({Index.sequential, Index.random, Index.leaky_p5})  # the kinds whose codes are numbers
CLUSTERS = 20  # of a level. OpenP5's scripts for T5: N=20, for LastFM 10
LEAF_SIZE = 500  # a larger cluster is divided again. OpenP5's scripts for T5: T=500, for ML-1M 100, for LastFM 50
JOINED = 0.1  # ours: of the mean degree, what each item is tied to all others by, so that the graph is connected
DENSE = 1000  # up to so many items LAPACK is as fast as Lanczos

Floats = NDArray[np.floating[Any]]
Code = tuple[str, ...]
Divide = Callable[[IntArray, np.random.Generator], IntArray]  # (n,) items -> (n,) labels of clusters


@dataclass(frozen=True)
class ItemIndex:
    """What each item is called.

    Attributes:
        kind: how the codes came about.
        codes: of item i, its pieces; no code begins another, so none equals another.
    """

    kind: Index
    codes: list[Code]

    def __post_init__(self) -> None:
        in_order = sorted(self.codes)  # a code that begins others is followed by one of them
        assert not any(later[: len(code)] == code for code, later in pairwise(in_order)), "a code begins another"

    @property
    def digest(self) -> str:
        """The sha256 of kind and codes: runs with the same one speak of items alike."""
        return hashlib.sha256(json.dumps([self.kind.value, self.codes]).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """What a run records of it; `digits` of a piece for numbers alone, `depth` = pieces of the longest code."""
        return {
            "kind": self.kind.value,
            "digits": len(self.codes[0][0]) if self.kind in NUMBERS else None,
            "depth": max(map(len, self.codes)),
            "pieces": len({piece for code in self.codes for piece in code}),
            "digest": self.digest,
        }

    def save(self, path: Path) -> None:
        write_json(path, {"kind": self.kind.value, "codes": [" ".join(code) for code in self.codes]})

    @classmethod
    def load(cls, path: Path) -> ItemIndex:
        """The index that `save` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(Index(content["kind"]), [tuple(code.split(" ")) for code in content["codes"]])


def index_items(
    kind: Index,
    split: Split,
    seed: int,
    digits: int,
    cache: Path,
    features: Floats | None = None,
    clusters: int = CLUSTERS,
    leaf_size: int = LEAF_SIZE,
) -> ItemIndex:
    """The codes of all items; clusters are computed once and kept in the cache, for no run shall depend on finding the
    same ones again (OpenP5's maps come out differently each time, and then no longer fit its checkpoints).

    Args:
        kind: how items are called.
        split: the data; but for `leaky_p5` only its train part is looked at.
        seed: `dataset.seed`, so that runs of different seeds share their codes.
        digits: of a piece of a number; not read by clusters.
        cache: the cache folder.
        features: (n_items, d) unit vectors of the items' texts, for `semantic`.
        clusters, leaf_size: into how many a cluster is divided, and how large one may stay; not read by numbers.

    Raises:
        DataError: `semantic` without features.
    """
    if kind in NUMBERS:
        length = digit_length(split.n_items, digits)
        number = numbers(kind, split, seed).tolist()
        return ItemIndex(kind, [digit_pieces(one, digits, length) for one in number])
    if kind is Index.semantic and features is None:
        raise DataError(
            f"index=semantic clusters item texts, and dataset '{split.dataset.manifest['name']}' has none",
            "choose a dataset with titles, or another model.index: sequential, random or collaborative",
        )
    texts = features if kind is Index.semantic else None
    train = split.train_sequences()
    key = hashlib.sha256(json.dumps([VERSION, kind.value, seed, clusters, leaf_size, split.n_items]).encode())
    for array in train if texts is None else (*train, texts):
        key.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    dataset = store.dataset_folder(cache, split.dataset.manifest["name"], split.dataset.fingerprint)
    path = cache / "indexing" / f"{dataset.name}-{kind.value}-{key.hexdigest()[:24]}.json"

    def compute(aside: Path) -> None:
        with threadpool_limits(1):  # several threads add up in an order of their own
            ItemIndex(kind, _clustered(split, seed, texts, clusters, leaf_size)).save(aside)

    write_once(path, compute)
    return ItemIndex.load(path)


# --- numbers


def digit_length(highest: int, digits: int) -> int:
    """How many digits all numbers up to the highest are padded to: the next multiple of a piece's."""
    return -(-len(str(highest)) // digits) * digits


def digit_pieces(number: int, digits: int, length: int) -> Code:
    """A number in pieces of so many digits, padded with zeros: 12101 in pieces of 2 and length 6 is 01 21 01.

    Args:
        number: at least 0, with at most `length` digits.
        digits: of a piece.
        length: of all pieces, as `digit_length` gives it.
    """
    padded = f"{number:0{length}d}"
    return tuple(padded[start : start + digits] for start in range(0, length, digits))


def numbers(kind: Index, split: Split, seed: int) -> IntArray:
    """(n_items,) the items' numbers, from 1.

    `sequential` (OpenP5): by first appearance in the train parts, user after user in the dataset's order. The other
    items follow in random order: that of the held-out parts, in which OpenP5 numbers them, would tell which of them a
    user has one after another.

    `leaky_p5`: by first appearance in whole sequences, the test item included, so that a user's new items follow one
    another and a test item that nobody had before is often the highest number + 1. The users come in random order, as
    in P5's notebook for Amazon; in the dataset's order the leak is less (Beauty: that guess hits 0.044, not 0.055).

    Args:
        kind: one of NUMBERS.
        split: the data.
        seed: `dataset.seed`.
    """
    rng = stream(seed, f"{kind.value} numbers")
    if kind is Index.random:
        order = rng.permutation(split.n_items)
    else:
        walk = split.train_sequences()[0] if kind is Index.sequential else _users_shuffled(split, rng)
        seen = walk[np.sort(np.unique(walk, return_index=True)[1])]
        order = np.concatenate([seen, rng.permutation(np.setdiff1d(np.arange(split.n_items), seen))])
    number = np.empty(split.n_items, dtype=np.int64)
    number[order] = np.arange(1, split.n_items + 1)
    return number


def _users_shuffled(split: Split, rng: np.random.Generator) -> IntArray:
    """The items of all whole sequences, the users in random order."""
    place = rng.permutation(split.n_users)
    return split.dataset.sequence[np.argsort(place[split.dataset.interactions["user"].to_numpy()], kind="stable")]


# --- clusters


def _clustered(split: Split, seed: int, texts: Floats | None, clusters: int, leaf_size: int) -> list[Code]:
    """The codes of all items by clusters: of their texts' vectors, or else of what train histories hold together.

    Clusters and places in a leaf are numbered in the order of `sequential`, as OpenP5 does by default. Items that were
    never trained on beside another have no place among the collaborative clusters: they are a leaf of their own.
    """
    order = np.argsort(numbers(Index.sequential, split, seed))
    if texts is not None:
        leaves = tree(order, lambda items, rng: _k_means(texts[items], clusters, rng), seed, clusters, leaf_size)
    else:
        weights = co_occurrence(split)
        warm = weights.sum(axis=1)[order] > 0
        leaves = tree(
            order[warm],
            lambda items, rng: spectral_clusters(weights[items][:, items], clusters, rng),
            *(seed, clusters, leaf_size),
        )
        leaves.append((("<cold>",), order[~warm]))
    codes: list[Code] = [()] * split.n_items
    for path, items in leaves:
        for place, item in enumerate(items):
            codes[item] = (*path, f"<i{place}>")
    return codes


def tree(items: IntArray, divide: Divide, seed: int, clusters: int, leaf_size: int) -> list[tuple[Code, IntArray]]:
    """Items divided into clusters, and those again, until they are small; breadth first.

    Clusters are named one after another through all levels, and the names used again from the first when as many as
    a leaf has places are used up (OpenP5): siblings never share one.

    Args:
        items: (n,) item numbers, in the order that names and places follow.
        divide: finds the clusters of some items.
        seed: of the generators that `divide` is given, one for each call.
        clusters: how many `divide` finds at most.
        leaf_size: a cluster of more items is divided again, unless it stays in one; all items together always are.

    Returns:
        the leaves: a path of pieces like <c3>, and its items in their order.
    """
    leaves: list[tuple[Code, IntArray]] = []
    waiting: deque[tuple[Code, IntArray]] = deque([((), items)])
    names, calls = 0, 0
    while waiting:
        path, group = waiting.popleft()
        if len(group) < 2 or (path and len(group) <= leaf_size):
            leaves.append((path, group))
            continue
        label = divide(group, stream(seed, "clusters", calls))
        calls += 1
        found, first = np.unique(label, return_index=True)
        if len(found) == 1:  # alike: no further division would tell them apart
            leaves.append((path, group))
            continue
        for one in found[np.argsort(first)]:
            waiting.append(((*path, f"<c{names % max(leaf_size, clusters)}>"), group[label == one]))
            names += 1
    return leaves


def co_occurrence(split: Split) -> csr_array:
    """(n_items, n_items) how many users' train parts hold both of two items; 0 on the diagonal."""
    flat, offsets = split.train_sequences()
    user = np.repeat(np.arange(split.n_users), np.diff(offsets))
    once = np.unique(user * split.n_items + flat)
    shape = split.n_users, split.n_items
    held = csr_array((np.ones(len(once)), (once // split.n_items, once % split.n_items)), shape=shape)
    both = csr_array(held.T @ held)
    both.setdiag(0)
    both.eliminate_zeros()
    return both


def spectral_clusters(weights: csr_array, clusters: int, rng: np.random.Generator) -> IntArray:
    """(n,) the cluster of each node of a weighted graph, found in the leading eigenvectors of its normalised adjacency.

    Eigenvectors become clusters by a pivoted QR (Damle, Minden and Ying, 2019), which needs no start, so no luck. Every
    node is tied a little to all others: otherwise each connected component would have an eigenvector of eigenvalue 1,
    and a graph of many no leading ones (regularised spectral clustering: Zhang and Rohe, 2018). The ties are one
    number, and the matrix stays sparse; scikit-learn's spectral clustering would factorise it.

    Args:
        weights: (n, n) symmetric; nodes without any edge among them are one cluster.
        clusters: how many, n at most; some may come out empty.
        rng: of the vector that the search for eigenvectors starts from.
    """
    n, k = weights.shape[0], min(clusters, weights.shape[0])
    if weights.nnz == 0:
        return np.zeros(n, dtype=np.int64)
    degree = weights.sum(axis=1)
    ties = JOINED * degree.mean()
    scale = 1 / np.sqrt(degree + ties)
    if n <= DENSE:
        normalised = scale[:, None] * (weights.toarray() + ties / n) * scale
        vectors = eigh(normalised, subset_by_index=[n - k, n - 1])[1]
    else:

        def times(vector: Floats) -> Floats:
            scaled = scale * vector.ravel()
            return scale * (weights @ scaled + ties / n * scaled.sum())

        operator = LinearOperator((n, n), matvec=times, dtype=np.float64)
        vectors = eigsh(operator, k=k, which="LA", v0=rng.standard_normal(n))[1]
    most_apart = qr(vectors.T, mode="r", pivoting=True)[1][:k]
    rotation = polar(vectors[most_apart].T)[0]
    return np.abs(vectors @ rotation).argmax(axis=1)


def _k_means(vectors: Floats, clusters: int, rng: np.random.Generator) -> IntArray:
    """(n,) the cluster of each vector; equal ones share theirs."""
    k = min(clusters, len(np.unique(vectors, axis=0)))
    labels: IntArray = KMeans(k, n_init=1, random_state=int(rng.integers(2**31))).fit_predict(vectors)
    return labels
