"""Item indexing: the codes by which a model reads and writes items, a few pieces each.

Numbers: `sequential`, `random`, `leaky_p5`. They are padded to one length and cut into pieces of a fixed number of
digits, so that the pieces do not depend on a tokenizer. Clusters: `collaborative`, `semantic`. A code is the path to a
leaf of a tree of clusters, and the item's place in the leaf: <c3> <c41> <i17>. `independent`: one piece for each item,
shared with no other.

No code is a prefix of another. Only `leaky_p5` uses held-out data. None uses the dataset's own item numbers: numbers by
first appearance in whole sequences, as in the files of S3-Rec, leak the order of items.
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
from llm4rec_cli.progress import step

VERSION = 1  # raised when the same data and seed give other clusters
CLUSTERS = 20  # per level. OpenP5's scripts for T5: N=20, for LastFM 10
LEAF_SIZE = 500  # larger clusters are split again. OpenP5's scripts for T5: T=500, for ML-1M 100, for LastFM 50
REGULARISER = 0.1  # ours: weight that ties each item to all others, as a share of the mean degree: connects the graph
DENSE = 1000  # up to this many items LAPACK is as fast as Lanczos

Floats = NDArray[np.floating[Any]]
Code = tuple[str, ...]
Clusterer = Callable[[IntArray, np.random.Generator], IntArray]  # (n,) items -> (n,) cluster labels


@dataclass(frozen=True)
class ItemIndex:
    kind: Index
    codes: list[Code]  # the pieces of each item's code; no code is a prefix of another, so all differ

    def __post_init__(self) -> None:
        in_order = sorted(self.codes)  # a prefix of other codes is followed by one of them
        assert not any(after[: len(code)] == code for code, after in pairwise(in_order)), (
            "a code is a prefix of another"
        )

    @property
    def digest(self) -> str:
        """The sha256 of kind and codes: runs with equal digests use the same codes."""
        return hashlib.sha256(json.dumps([self.kind.value, self.codes]).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return a run's record of the index; `digits` are per piece, `depth` = pieces of the longest code."""
        return {
            "kind": self.kind.value,
            "digits": len(self.codes[0][0]) if self.kind.is_number else None,
            "depth": max(map(len, self.codes)),
            "pieces": len({piece for code in self.codes for piece in code}),
            "digest": self.digest,
        }

    def save(self, path: Path) -> None:
        write_json(path, {"kind": self.kind.value, "codes": [" ".join(code) for code in self.codes]})

    @classmethod
    def load(cls, path: Path) -> ItemIndex:
        """Return the index that `save` wrote."""
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
    """Return the codes of all items.

    Clusters are computed once and cached, so that no run depends on reproducing them (OpenP5's clusters differ from
    time to time and then no longer fit its checkpoints). All kinds but `leaky_p5` use training interactions only.

    Args:
        digits: per piece of a number; ignored by clusters.
        features: (n_items, d) unit vectors of the items' texts, for `semantic`.
        clusters, leaf_size: children of a cluster, and the largest cluster that is not split; ignored by numbers.

    Raises:
        DataError: `semantic` without features.
    """
    if kind.is_number:
        length = digit_length(split.n_items, digits)
        return ItemIndex(kind, [digit_pieces(n, digits, length) for n in numbers(kind, split, seed).tolist()])
    if kind is Index.independent:
        return ItemIndex(kind, [(f"<item{item}>",) for item in range(split.n_items)])
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
        with threadpool_limits(1):  # with several threads the order of summation varies
            ItemIndex(kind, _clustered(split, seed, texts, clusters, leaf_size)).save(aside)

    write_once(path, compute)
    return ItemIndex.load(path)


# --- numbers


def digit_length(highest: int, digits: int) -> int:
    """Return how many digits numbers up to the highest are padded to: a multiple of the digits of a piece."""
    return -(-len(str(highest)) // digits) * digits


def digit_pieces(number: int, digits: int, length: int) -> Code:
    """Return a number cut into pieces, padded with zeros: 12101 with 2 digits per piece and length 6 is 01 21 01."""
    padded = f"{number:0{length}d}"
    return tuple(padded[start : start + digits] for start in range(0, length, digits))


def numbers(kind: Index, split: Split, seed: int) -> IntArray:
    """Return (n_items,) the items' numbers, from 1.

    `sequential` (OpenP5): by first appearance in the training interactions, user after user in the dataset's order. The
    other items follow in random order; OpenP5 numbers them in the order of the held-out interactions, which leaks the
    items that a user has one after another.

    `leaky_p5`: by first appearance in whole sequences, test items included, so that a user's new items have consecutive
    numbers and a test item that no other user has is often the history's highest number + 1. Users come in random
    order, as in P5's notebook for Amazon; the dataset's order leaks less (Beauty: that guess hits 0.044, not 0.055).
    """
    rng = stream(seed, f"{kind.value} numbers")
    if kind is Index.random:
        order = rng.permutation(split.n_items)
    else:
        sequence = split.train_sequences()[0] if kind is Index.sequential else _users_shuffled(split, rng)
        seen = sequence[np.sort(np.unique(sequence, return_index=True)[1])]
        order = np.concatenate([seen, rng.permutation(np.setdiff1d(np.arange(split.n_items), seen))])
    number = np.empty(split.n_items, dtype=np.int64)
    number[order] = np.arange(1, split.n_items + 1)
    return number


def _users_shuffled(split: Split, rng: np.random.Generator) -> IntArray:
    """Return the items of all whole sequences, with users in random order."""
    place = rng.permutation(split.n_users)
    return split.dataset.sequence[np.argsort(place[split.dataset.interactions["user"].to_numpy()], kind="stable")]


# --- clusters


def _clustered(split: Split, seed: int, texts: Floats | None, clusters: int, leaf_size: int) -> list[Code]:
    """Return the codes of all items, from clusters of their text vectors, or of co-occurrence in training.

    Clusters and places in a leaf are numbered in the order of `sequential`, as OpenP5 does by default. Items that
    co-occur with no other in training form a leaf of their own among the collaborative clusters.
    """
    order = np.argsort(numbers(Index.sequential, split, seed))
    if texts is not None:
        leaves = cluster_tree(
            order, lambda items, rng: _k_means(texts[items], clusters, rng), seed, clusters, leaf_size
        )
    else:
        weights = co_occurrence(split)
        warm = weights.sum(axis=1)[order] > 0
        leaves = cluster_tree(
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


def cluster_tree(
    items: IntArray, clusterer: Clusterer, seed: int, clusters: int, leaf_size: int
) -> list[tuple[Code, IntArray]]:
    """Return the leaves of a tree of clusters, split breadth first until each is small: a path of pieces like <c3>, and
    its items.

    Clusters are named consecutively through all levels. After `leaf_size` names (at least `clusters`) the names are
    reused from the first, as in OpenP5. Siblings never share a name.

    Args:
        items: (n,) item numbers, in the order that names and places follow.
        clusterer: returns at most `clusters` labels. Each call gets a generator of its own.
        leaf_size: larger clusters are split again unless the clusterer returns one cluster. The root is always split.
    """
    leaves: list[tuple[Code, IntArray]] = []
    queue: deque[tuple[Code, IntArray]] = deque([((), items)])
    names, calls = 0, 0
    with step("clustering items", len(items)) as progress:
        while queue:
            path, group = queue.popleft()
            is_leaf = len(group) < 2 or bool(path and len(group) <= leaf_size)
            if not is_leaf:
                label = clusterer(group, stream(seed, "clusters", calls))
                calls += 1
                labels, first = np.unique(label, return_index=True)
                is_leaf = len(labels) == 1  # the items are indistinguishable
            if is_leaf:
                leaves.append((path, group))
                progress.advance(len(group))
                continue
            for cluster in labels[np.argsort(first)]:
                queue.append(((*path, f"<c{names % max(leaf_size, clusters)}>"), group[label == cluster]))
                names += 1
    return leaves


def co_occurrence(split: Split) -> csr_array:
    """Return (n_items, n_items) the number of users with both items in training; 0 on the diagonal."""
    flat, offsets = split.train_sequences()
    user = np.repeat(np.arange(split.n_users), np.diff(offsets))
    pairs = np.unique(user * split.n_items + flat)
    shape = split.n_users, split.n_items
    user_item = csr_array((np.ones(len(pairs)), (pairs // split.n_items, pairs % split.n_items)), shape=shape)
    counts = csr_array(user_item.T @ user_item)
    counts.setdiag(0)
    counts.eliminate_zeros()
    return counts


def spectral_clusters(weights: csr_array, clusters: int, rng: np.random.Generator) -> IntArray:
    """Return (n,) the cluster of each node of a weighted graph, from leading eigenvectors of its normalised adjacency.

    Eigenvectors become clusters by a pivoted QR (Damle, Minden and Ying, 2019), which needs no random initialisation.
    Every node is tied weakly to all others: otherwise each connected component would have an eigenvector of eigenvalue
    1, and a graph of many components no leading ones (regularised spectral clustering: Zhang and Rohe, 2018). All ties
    have one weight, so the matrix stays sparse; scikit-learn's spectral clustering would factorise it.

    Args:
        weights: (n, n) symmetric. A graph without edges is one cluster.
        clusters: the number of clusters, at most n. Some may be empty.
        rng: draws the start vector of the eigenvector iteration.
    """
    n, k = weights.shape[0], min(clusters, weights.shape[0])
    if weights.nnz == 0:
        return np.zeros(n, dtype=np.int64)
    degree = weights.sum(axis=1)
    ties = REGULARISER * degree.mean()
    scale = 1 / np.sqrt(degree + ties)
    if n <= DENSE:
        normalised = scale[:, None] * (weights.toarray() + ties / n) * scale
        vectors = eigh(normalised, subset_by_index=[n - k, n - 1])[1]
    else:

        def multiply(vector: Floats) -> Floats:
            scaled = scale * vector.ravel()
            return scale * (weights @ scaled + ties / n * scaled.sum())

        operator = LinearOperator((n, n), matvec=multiply, dtype=np.float64)
        vectors = eigsh(operator, k=k, which="LA", v0=rng.standard_normal(n))[1]
    pivots = qr(vectors.T, mode="r", pivoting=True)[1][:k]
    rotation = polar(vectors[pivots].T)[0]
    return np.abs(vectors @ rotation).argmax(axis=1)


def _k_means(vectors: Floats, clusters: int, rng: np.random.Generator) -> IntArray:
    """Return (n,) the cluster of each vector; equal vectors share theirs."""
    k = min(clusters, len(np.unique(vectors, axis=0)))
    labels: IntArray = KMeans(k, n_init=1, random_state=int(rng.integers(2**31))).fit_predict(vectors)
    return labels
