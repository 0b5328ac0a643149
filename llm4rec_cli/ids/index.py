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
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from llm4rec_cli.config.schema import Index
from llm4rec_cli.data import store
from llm4rec_cli.data.recdataset import IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError
from llm4rec_cli.files import write_json, write_once
from llm4rec_cli.ids.trees import (
    Code,
    CoOccurrence,
    Floats,
    cluster_tree,
    co_occurrence,
    k_means,
    owned_items,
    spectral_clusters,
)

VERSION = 1  # raised when the same data and seed give other clusters
CLUSTERS = 20  # per level. OpenP5's scripts for T5: N=20, for LastFM 10
MOST_PAIRS = 1 << 25  # of items that users have together, which are counted: 400 MB
LEAF_SIZE = 500  # larger clusters are split again. OpenP5's scripts for T5: T=500, for ML-1M 100, for LastFM 50


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
        leaves = cluster_tree(order, lambda items, rng: k_means(texts[items], clusters, rng), seed, clusters, leaf_size)
    else:
        weights = _weights(split)
        warm = weights.sum(axis=1)[order] > 0

        def clustered(items: IntArray, rng: np.random.Generator) -> IntArray:
            within = weights.among(items) if isinstance(weights, CoOccurrence) else weights[items][:, items]
            return spectral_clusters(within, clusters, rng)

        leaves = cluster_tree(order[warm], clustered, seed, clusters, leaf_size)
        leaves.append((("<cold>",), order[~warm]))
    codes: list[Code] = [()] * split.n_items
    for path, items in leaves:
        for place, item in enumerate(items):
            codes[item] = (*path, f"<i{place}>")
    return codes


def _weights(split: Split) -> csr_array | CoOccurrence:
    """Return the number of users with both of two items in training, counted unless that takes too much memory."""
    owned = owned_items(split)
    n_pairs = min(float((owned.sum(axis=1) ** 2).sum()), float(split.n_items) ** 2)
    return co_occurrence(split) if n_pairs <= MOST_PAIRS else CoOccurrence(owned)
