"""TGH-1 against the assembly of one list at a time, and its ties."""

from itertools import pairwise

import numpy as np
import pytest

from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision, SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.run import rules
from llm4rec_zoo.models.transition_graph import model as transition_graph
from tests.support.driver import job_of

N_ITEMS = 40
rng = np.random.default_rng(0)
SEQUENCES = [rng.integers(0, N_ITEMS - 2, rng.integers(3, 7)).tolist() for _ in range(45)]
DATASET = tiny_dataset(SEQUENCES, [f"item {i}" for i in range(N_ITEMS)])
SPLIT = leave_one_out(DATASET)
VECTORS = rng.normal(size=(N_ITEMS, 4)).astype(np.float32)
ENCODER = EncoderConfig(name="minilm", pooling=Pooling.mean, max_length=8, precision=Precision.fp32)


class Encoded:
    def __init__(self, vectors):
        self.numpy = lambda: vectors


@pytest.fixture
def scores(build, monkeypatch):
    """scores(budgets, vectors=VECTORS): of the test examples."""

    def score(budgets, vectors=VECTORS):
        monkeypatch.setattr(transition_graph, "encode_texts", lambda *_: Encoded(vectors))
        model = build("transition_graph", DATASET, encoder=ENCODER, budgets=budgets, edge_weight=0.5)
        return model.score(SPLIT.examples(SplitName.test)).numpy()

    return score


def naive_list(last, budgets):
    """Return the items of one list before the random ones."""
    flat, offsets = SPLIT.train_sequences()
    pairs = [pair for a, b in pairwise(offsets) for pair in pairwise(flat[a:b].tolist())]
    rings, seen = [], {last}
    frontier = {last}
    for _ in budgets:
        frontier = {j for i, j in pairs if i in frontier} - seen
        seen |= frontier
        rings.append(frontier)
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    logs = {j: np.log1p(pairs.count((last, j))) for j in rings[0]}

    def similarity(ring, j):
        return unit[last] @ unit[j] + (0.5 * logs[j] / max(logs.values()) if ring == 0 else 0)

    result, unused = [], []
    for number, (ring, budget) in enumerate(zip(rings, budgets, strict=True)):
        ordered = sorted(ring, key=lambda j: -similarity(number, j))
        lacking = max(0, budget - len(ordered))
        result += unused[:lacking]
        unused = unused[lacking:]
        result += ordered[:budget]
        unused += ordered[budget:]
    return result + unused


@pytest.mark.parametrize("budgets", [[7, 2, 1], [1, 2, 9], [0, 3], [2, 30, 30]])
def test_the_list_is_assembled_ring_by_ring(scores, budgets):
    lengths = set()
    for user, row in zip(SPLIT.examples(SplitName.test).user, scores(budgets), strict=True):
        expected = naive_list(SEQUENCES[user][-2], budgets)
        assert np.argsort(-row, kind="stable")[: len(expected)].tolist() == expected
        assert (np.diff(np.sort(row)[N_ITEMS - len(expected) :]) > 0).all()
        others = np.setdiff1d(np.arange(N_ITEMS), expected)
        assert len(np.unique(row[others])) == 1
        assert not expected or row[others[0]] < row[expected[-1]]
        lengths.add(len(expected))
    assert {0} < lengths  # an item that nothing follows, and others


def test_items_of_a_ring_with_the_same_vector_tie(scores):
    row = scores([0, 3], np.ones_like(VECTORS))[0]
    last = SEQUENCES[SPLIT.examples(SplitName.test).user[0]][-2]
    second = [j for j in naive_list(last, [0, 99]) if j not in naive_list(last, [99])]
    assert len(second) > 1
    assert len(np.unique(row[second])) == 1


def test_seen_items_are_not_zeroed_as_zero_would_be_the_highest_score():
    zeroed = ["task=sequential", "task.mask_history=true", "task.seen_items=zeroed"]
    (problem,) = rules.problems(job_of("model=transition_graph", *zeroed).config)
    assert "scores the others below 0" in str(problem)
