"""The floor against a naive implementation: loops over users, items and distances."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.models.baselines import transition_text
from llm4rec_cli.models.baselines.config import TextSimilarity
from llm4rec_cli.models.baselines.transition_text import TransitionText, transition_matrix
from llm4rec_cli.text.vectors import Tfidf

pytestmark = pytest.mark.numeric

TEXTS = ["red nail polish", "blue nail polish", "", "hair brush", "hair dryer red", "soap", "soap bar", "brush"]
SEQUENCES = [[0, 1, 1, 3, 4, 2], [5, 6, 0, 1], [3, 4, 7, 3, 4], [2, 0, 1, 6, 5, 7, 7], [4, 3, 0], [6, 5]]
DATASET = tiny_dataset(SEQUENCES, TEXTS)
SETTINGS = {"recent": 3, "steps": 3, "mask_history": False, "symmetric": False}


@pytest.fixture
def examples():
    return leave_one_out(DATASET).examples(SplitName.test)


def naive_scores(history: list[int], weight: float, symmetric: bool = False) -> np.ndarray:
    """Return Σ_d (1 / d) · (T[i_d, j] + w · cos(i_d, j)), step by step."""
    n = len(TEXTS)
    transitions = np.zeros((n, n))
    for sequence in SEQUENCES:
        train = sequence[:-2] if len(sequence) >= 3 else sequence
        for i, item in enumerate(train):
            for step in (1, 2, 3):
                if i + step < len(train):
                    transitions[item, train[i + step]] += 1 / step
                    if symmetric:
                        transitions[train[i + step], item] += 1 / step
    for row in transitions:
        if row.sum() > 0:
            row /= np.sqrt(row.sum())
    cosine = cosine_similarity(TfidfVectorizer().fit_transform(TEXTS))
    scores = np.zeros(n)
    for d in (1, 2, 3):
        if d <= len(history):
            scores += (transitions[history[-d]] + weight * cosine[history[-d]]) / d
    return scores


@pytest.mark.parametrize(("weight", "symmetric"), [(0.0, False), (0.5, False), (2.0, False), (0.5, True)])
def test_scores_follow_the_formula(build, examples, weight, symmetric):
    settings = SETTINGS | {"text_weights": [weight], "symmetric": symmetric}
    scores = build("transition_text", DATASET, **settings).score(examples)
    assert scores.dtype == torch.float32
    for example, row in enumerate(scores):
        history = SEQUENCES[examples.user[example]][:-1]
        assert row.numpy() == pytest.approx(naive_scores(history, weight, symmetric), abs=1e-6)


@pytest.mark.parametrize("scores_at_once", [1, 20])
def test_candidates_and_weight_do_not_depend_on_how_many_scores_are_dense_at_once(
    build, examples, monkeypatch, scores_at_once
):
    candidates = replace(examples, candidates=np.stack([examples.target, (examples.target + 3) % len(TEXTS)], axis=1))
    whole = build("transition_text", DATASET, text_weights=[0.0, 0.5, 2.0], **SETTINGS)
    expected = whole.score(candidates)
    monkeypatch.setattr(transition_text, "SCORES_AT_ONCE", scores_at_once)
    model = build("transition_text", DATASET, text_weights=[0.0, 0.5, 2.0], **SETTINGS)
    assert model.text_weight == whole.text_weight
    torch.testing.assert_close(model.score(candidates), expected)


def test_without_text_transitions_remain(build, examples):
    for texts in ([""] * 8, [None] * 8, ["-", "a", *[""] * 6]):
        model = build("transition_text", tiny_dataset(SEQUENCES, texts), text_weights=[0.0, 1.0], **SETTINGS)
        assert model.text_weight == 0.0
        assert model.score(examples)[0].numpy() == pytest.approx(naive_scores(SEQUENCES[0][:-1], 0.0), abs=1e-6)
    scores = build("transition_text", DATASET, text_weights=[1.0], **SETTINGS).score(
        replace(examples, end=examples.start)
    )
    assert torch.count_nonzero(scores) == 0, "an empty history"


@pytest.mark.parametrize("mask_history", [False, True])
def test_the_weight_is_best_on_validation(mask_history):
    split = leave_one_out(DATASET)
    examples, weights = split.examples(SplitName.valid), [0.0, 0.5, 1.0, 4.0]
    model = TransitionText(transition_matrix(split, steps=3), Tfidf(TEXTS), recent=3)

    def ndcg(weight: float) -> float:
        total = 0.0
        for user, target in zip(examples.user, examples.target, strict=True):
            history = SEQUENCES[user][:-2]
            scores = naive_scores(history, weight)
            if mask_history and target in history:
                continue  # a miss
            allowed = [j for j in range(len(TEXTS)) if not (mask_history and j in history)]
            better = sum(scores[j] > scores[target] + 1e-9 for j in allowed)
            tied = sum(abs(scores[j] - scores[target]) <= 1e-9 for j in allowed)
            total += np.mean([1 / np.log2(r + 1) if r <= 10 else 0 for r in range(better + 1, better + tied + 1)])
        return total

    model.choose_text_weight(examples, weights, mask_history)
    assert model.text_weight == max(weights, key=ndcg)


def test_with_an_encoder_texts_are_compared_by_the_cosine_of_vectors(build, monkeypatch):
    vectors = torch.randn(len(TEXTS), 5, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(transition_text, "encode_texts", lambda texts, *_: vectors[[TEXTS.index(t) for t in texts]])
    settings = {"recent": 3, "steps": 3, "text_weights": [1.0], "mask_history": False, "text": TextSimilarity.vectors}
    model = build("transition_text", DATASET, **settings)
    examples = leave_one_out(DATASET).examples(SplitName.test)
    _, text = model.parts(examples)
    cosine = cosine_similarity(vectors)
    flat, offsets = examples.histories(last=3)
    expected = [
        sum(cosine[item] / distance for distance, item in enumerate(flat[start:end][::-1], start=1))
        for start, end in pairwise(offsets)
    ]
    np.testing.assert_allclose(text, expected, atol=1e-5)
