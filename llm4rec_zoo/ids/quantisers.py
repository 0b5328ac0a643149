"""Quantisers of vectors by k-means: residual (one code refines the other) and product (codes in parallel)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llm4rec_cli.data.recdataset import IntArray
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import UsageError
from llm4rec_cli.ids.trees import Floats
from llm4rec_cli.progress import track

if TYPE_CHECKING:
    from sklearn.cluster import KMeans

ROTATIONS = 10  # alternations of OPQ between codebooks and rotation
ITERATIONS = 40  # of k-means with the first rotation
ITERATIONS_AFTER = 4  # and with each later one, from the centres before. As faiss's OPQ


def rq_kmeans(vectors: Floats, codes: int, codebook: int, seed: int) -> tuple[IntArray, list[Floats]]:
    """Return (n, codes), and each level's centres (k, size): a level clusters what the levels before leave of the
    vectors."""
    residual = vectors.astype(np.float32)
    levels, centres = [], []
    for level in track(range(codes), "clustering residuals"):
        k_means = _fit(residual, codebook, int(stream(seed, "residual codes", level).integers(2**31)))
        levels.append(k_means.labels_)
        centres.append(k_means.cluster_centers_)
        residual = residual - k_means.cluster_centers_[k_means.labels_]
    return np.stack(levels, axis=1).astype(np.int64), centres


def opq(vectors: Floats, codes: int, codebook: int, seed: int) -> tuple[IntArray, Floats]:
    """Return (n, codes) by optimised product quantisation (Ge et al., CVPR 2013, without a parametric model), and the
    rotation (size, codes * width) of the centred vectors.

    The rotated vectors are cut into parts of equal width, and each is clustered by itself. Codebooks and rotation are
    optimised in turn: given the codebooks, the best rotation is a Procrustes problem. The first rotation keeps the
    leading principal components (of whitened vectors, which vary equally everywhere, any) and mixes them at random, so
    that all parts vary equally.

    Raises:
        UsageError: vectors have fewer dimensions than codes.
    """
    width = vectors.shape[1] // codes
    if width == 0:
        raise UsageError(
            f"model.ids.codes={codes} exceeds the {vectors.shape[1]} dimensions of the text vectors",
            f"model.ids.codes={vectors.shape[1]} or less; or a larger model.encoder.dimension, or more items",
        )
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    components = np.linalg.svd(centred.T @ centred)[0][:, : codes * width]
    mixing = np.linalg.qr(stream(seed, "rotation").standard_normal((codes * width, codes * width)))[0]
    rotation, labels = components @ mixing, np.zeros((len(vectors), codes), dtype=np.int64)
    centres: list[Floats | None] = [None] * codes
    for turn in track(range(ROTATIONS + 1), "rotating and clustering"):
        parts = (centred @ rotation).astype(np.float32).reshape(len(vectors), codes, width)
        quantised = np.empty_like(parts)
        for code in range(codes):
            draw = int(stream(seed, "parallel codes", code).integers(2**31))
            k_means = _fit(parts[:, code], codebook, draw, centres[code], ITERATIONS if turn == 0 else ITERATIONS_AFTER)
            labels[:, code], centres[code] = k_means.labels_, k_means.cluster_centers_
            quantised[:, code] = k_means.cluster_centers_[k_means.labels_]
        if turn < ROTATIONS:
            left, _, right = np.linalg.svd(centred.T @ quantised.reshape(len(vectors), -1), full_matrices=False)
            rotation = left @ right
    return labels, rotation


def _fit(vectors: Floats, clusters: int, seed: int, start: Floats | None = None, iterations: int = 300) -> KMeans:
    """Return fitted k-means, with fewer clusters where there are fewer different vectors."""
    from sklearn.cluster import KMeans  # takes a second, and most models name no items by codes

    k = min(clusters, len(vectors)) if start is None else len(start)
    if start is None and len(vectors) <= 4 * clusters:  # of more vectors, enough differ: counting them takes seconds
        k = min(k, len(np.unique(vectors, axis=0)))
    return KMeans(
        k, init="k-means++" if start is None else start, n_init=1, max_iter=iterations, random_state=seed
    ).fit(vectors)
