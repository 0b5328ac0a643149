from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision, SplitName
from llm4rec_cli.conformance.builders import tiny_dataset, tiny_log
from llm4rec_cli.data.split import TEST, TRAIN, leave_one_out, split_dataset
from llm4rec_cli.models.baselines import frozen_text

pytestmark = pytest.mark.numeric

TEXTS = ["right", "up", "left", "diagonal", "nothing"]
VECTORS = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
DIRECTION = {"right": (1, 0), "up": (0, 1), "left": (-1, 0), "diagonal": (0.5**0.5, 0.5**0.5)}
ENCODER = EncoderConfig("any", Pooling.mean, 8, Precision.fp32)


@pytest.fixture(autouse=True)
def encoded(monkeypatch):
    monkeypatch.setattr(
        frozen_text, "encode_texts", lambda texts, *_: VECTORS[[TEXTS.index(text.strip(". ")) for text in texts]]
    )


def log(*histories):
    """Return a log whose dev impressions have these histories and show all items; all training histories are `up`."""
    trained = [("train", i, 1, [1], "0-1 1-0") for i in range(20)]
    return tiny_log(
        [*trained, *(("dev", i, 2, history, "0-1 1-0 2-0 3-0") for i, history in enumerate(histories))], TEXTS
    )


def test_scores_are_cosines_with_the_mean_of_the_history(build):
    dataset = log([0, 0, 1], [2])
    scores = build("frozen_text", dataset, encoder=ENCODER).score_shown(split_dataset(dataset).impressions(TEST))
    profile = np.array([2, 1]) / 5**0.5
    assert scores[:4].tolist() == pytest.approx([np.dot(profile, DIRECTION[text]) for text in TEXTS[:4]], abs=1e-6)
    assert scores[4:].tolist() == pytest.approx([-1, 0, 1, -(0.5**0.5)], abs=1e-6)


def test_without_a_history_a_user_gets_the_mean_training_history_or_items_tie(build):
    empty = [("train", 0, 1, [], "0-1 1-0")] * 20 + [("dev", 0, 2, [], "0-1 1-0")]
    dataset = tiny_log(empty, TEXTS)
    assert (
        build("frozen_text", dataset, encoder=ENCODER).score_shown(split_dataset(dataset).impressions(TRAIN)).unique()
        == 0
    )
    # Whatever the temperature, a single vector's scores are cosines, here with the mean of `right` and `up`.
    trained = [("train", i, 1, [i % 2], "0-1 1-0") for i in range(40)]
    dataset = tiny_log([*trained, ("dev", 0, 2, [], "0-1 1-0 2-0 3-0")], TEXTS)
    split = split_dataset(dataset)
    history, _ = split.impressions(TRAIN).histories()
    mean = np.bincount(history, minlength=2) / np.linalg.norm(np.bincount(history, minlength=2))
    scores = build("frozen_text", dataset, encoder=ENCODER, temperature=0.5).score_shown(split.impressions(TEST))
    assert scores.tolist() == pytest.approx([np.dot(mean, DIRECTION[text]) for text in TEXTS[:4]], abs=1e-6)


def test_examples_are_scored_by_the_same_rule(build):
    dataset = tiny_dataset([[0, 0, 1, 3], [2, 1, 0, 4]], TEXTS)
    examples = leave_one_out(dataset).examples(SplitName.test)
    model = build("frozen_text", dataset, encoder=ENCODER)
    profile = np.array([2, 1]) / 5**0.5
    assert model.score(examples)[0].tolist() == pytest.approx(
        [*(np.dot(profile, DIRECTION[text]) for text in TEXTS[:4]), 0], abs=1e-6
    )


def naive(vectors, history, item, temperature):
    similarity = np.array([vectors[i] @ vectors[item] for i in history])
    weights = np.exp(similarity / temperature)
    return float((weights * similarity).sum() / weights.sum())


def normalised(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def unit_vectors(split, centred):
    vectors = normalised(VECTORS.numpy().astype(float))
    return normalised(vectors - vectors[split.seen_in_training()].mean(axis=0)) if centred else vectors


def test_centred_scores_are_cosines_of_vectors_less_the_mean_of_training_items_also_of_new_items(build):
    dataset = log([0, 0, 1], [2])
    split = split_dataset(dataset)
    model = build("frozen_text", dataset, encoder=ENCODER, centred=True)
    # Training has `right` and `up`, of mean (½, ½). Less it, up is opposite to right, and diagonal orthogonal to both.
    root = 0.5**0.5
    right, left, diagonal = np.array([root, -root]), np.array([-1.5, -0.5]) / 2.5**0.5, np.array([root, root])
    expected = [1, -1, right @ left, 0, left @ right, -left @ right, 1, left @ diagonal]
    assert model.score_shown(split.impressions(TEST)).tolist() == pytest.approx(expected, abs=1e-6)
    texts = [*TEXTS, "left", "up"]
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(7)], "text": texts, "title": texts})
    model.add_items(replace(split, dataset=replace(dataset, items=items)))
    np.testing.assert_allclose(model.vectors[5:], [left, -right], atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5, "centred": True}])
def test_equal_texts_tie_exactly(build, monkeypatch, settings):
    """In a catalogue whose items 0 to 302 have the texts of items 303 to 605, in vectors as long as MiniLM's."""
    rng = np.random.default_rng(0)
    vectors = torch.from_numpy(rng.standard_normal((303, 384)).astype(np.float32))
    numbers = [str(item % 303) for item in range(606)]
    monkeypatch.setattr(
        frozen_text, "encode_texts", lambda texts, *_: vectors[[int(text.strip(". ")) for text in texts]]
    )
    dataset = tiny_dataset([rng.choice(606, 9).tolist() for _ in range(101)], numbers)
    scores = build("frozen_text", dataset, encoder=ENCODER, **settings).score(
        leave_one_out(dataset).examples(SplitName.test)
    )
    assert scores.shape == (101, 606)
    assert torch.equal(scores[:, :303], scores[:, 303:])


@pytest.mark.parametrize("centred", [False, True])
def test_a_weighted_history_counts_similar_items_more(build, centred):
    dataset = log([0, 0, 1], [2])
    split = split_dataset(dataset)
    model = build("frozen_text", dataset, encoder=ENCODER, temperature=0.5, centred=centred)
    vectors = unit_vectors(split, centred)
    expected = [naive(vectors, history, item, 0.5) for history in ([0, 0, 1], [2]) for item in range(4)]
    assert model.score_shown(split.impressions(TEST)).tolist() == pytest.approx(expected, abs=1e-6)
