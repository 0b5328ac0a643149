"""Trees of clusters: hierarchical k-means of vectors, and spectral clusters of items that co-occur in training."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, polar, qr
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, eigsh

from llm4rec_cli.data.recdataset import IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.progress import step

REGULARISER = 0.1  # ours: weight that ties each item to all others, as a share of the mean degree: connects the graph
DENSE = 1000  # up to this many items LAPACK is as fast as Lanczos

Floats = NDArray[np.floating[Any]]
Code = tuple[str, ...]
Clusterer = Callable[[IntArray, np.random.Generator], IntArray]  # (n,) items -> (n,) cluster labels


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


class CoOccurrence:
    """The number of users with both of two items, (n, n), 0 on the diagonal, of which only products are computed: long
    histories give far more pairs than interactions.

    Args:
        owned: (n_users, n) 1 where a user has an item.
    """

    def __init__(self, owned: csr_array) -> None:
        self.owned, self.owners = csr_array(owned), csr_array(owned.T)
        self.n_owners = self.owned.sum(axis=0)
        self.shape = self.owners.shape[:1] * 2

    def among(self, items: IntArray) -> CoOccurrence:
        return CoOccurrence(self.owned[:, items])

    def __matmul__(self, vector: Floats) -> Floats:
        return self.owners @ (self.owned @ vector) - self.n_owners * vector

    def sum(self, axis: int) -> Floats:
        return self @ np.ones(self.shape[axis])

    def toarray(self) -> Floats:
        counts = (self.owners @ self.owned).toarray()
        np.fill_diagonal(counts, 0)
        return counts


def co_occurrence(split: Split) -> csr_array:
    """Return (n_items, n_items) the number of users with both items in training; 0 on the diagonal."""
    owned = owned_items(split)
    counts = csr_array(owned.T @ owned)
    counts.setdiag(0)
    counts.eliminate_zeros()
    return counts


def owned_items(split: Split) -> csr_array:
    """Return (n_users, n_items) 1 where a user has an item in training."""
    flat, offsets = split.train_sequences()
    user = np.repeat(np.arange(split.n_users), np.diff(offsets))
    pairs = np.unique(user * split.n_items + flat)
    shape = split.n_users, split.n_items
    return csr_array((np.ones(len(pairs)), (pairs // split.n_items, pairs % split.n_items)), shape=shape)


def spectral_clusters(weights: csr_array | CoOccurrence, clusters: int, rng: np.random.Generator) -> IntArray:
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
    degree = weights.sum(axis=1)
    if not degree.any():
        return np.zeros(n, dtype=np.int64)
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


def k_means(vectors: Floats, clusters: int, rng: np.random.Generator) -> IntArray:
    """Return (n,) the cluster of each vector; equal vectors share theirs."""
    from sklearn.cluster import KMeans  # takes a second, and most models name no items by clusters

    k = min(clusters, len(np.unique(vectors, axis=0)))
    labels: IntArray = KMeans(k, n_init=1, random_state=int(rng.integers(2**31))).fit_predict(vectors)
    return labels
