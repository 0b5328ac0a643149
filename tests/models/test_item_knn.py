"""ItemKNN against a double loop."""

from itertools import pairwise

import numpy as np
import pytest

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.models.baselines import item_knn

rng = np.random.default_rng(0)
SEQUENCES = [rng.integers(0, 12, rng.integers(3, 9)).tolist() for _ in range(25)]
DATASET = tiny_dataset(SEQUENCES, n_items=14)  # two items that nobody has
SPLIT = leave_one_out(DATASET)


def naive_similarity(neighbours, shrinkage):
    """Return [i][j]: the similarity of item i to item j, if it is among j's nearest or ties with them."""
    flat, offsets = SPLIT.train_sequences()
    users = [set(flat[a:b].tolist()) for a, b in pairwise(offsets)]
    whole = np.zeros((14, 14))
    for i in range(14):
        for j in range(14):
            both = sum(i in user and j in user for user in users)
            if i != j and both:
                counts = [sum(k in user for user in users) for k in (i, j)]
                whole[i, j] = both / ((counts[0] * counts[1]) ** 0.5 + shrinkage)
    for j in range(14):
        least = np.sort(whole[:, j])[-neighbours]
        whole[whole[:, j] < least, j] = 0
    return whole


@pytest.mark.parametrize(("neighbours", "shrinkage"), [(14, 0.0), (3, 0.0), (3, 2.5)])
@pytest.mark.parametrize("at_once", [1024, 5])
def test_scores_are_sums_of_similarities_to_the_nearest_items(build, monkeypatch, neighbours, shrinkage, at_once):
    monkeypatch.setattr(item_knn, "ITEMS_AT_ONCE", at_once)
    examples = SPLIT.examples(SplitName.test)
    scores = build("item_knn", DATASET, neighbours=neighbours, shrinkage=shrinkage).score(examples)
    similarity = naive_similarity(neighbours, shrinkage)
    expected = [sum(similarity[i] for i in SEQUENCES[user][:-1]) for user in examples.user]
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5)
