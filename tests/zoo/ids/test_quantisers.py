"""Quantisers against naive loops, and what must not change their codes."""

from collections import defaultdict
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from llm4rec_cli.errors import UsageError
from llm4rec_cli.ids.item_ids import ItemIds
from llm4rec_zoo.ids.config import RqVaeConfig
from llm4rec_zoo.ids.quantisers import opq, rq_kmeans
from llm4rec_zoo.ids.rq_vae import RqVae, _restart, _Training, rq_vae

rng = np.random.default_rng(0)
CENTRES = rng.standard_normal((6, 12)) * 5
GROUP = rng.integers(0, 6, 200)
VECTORS = (CENTRES[GROUP] + 0.1 * rng.standard_normal((200, 12))).astype(np.float32)
SMALL = RqVaeConfig([16], 4, 0.25, 20, 50, 1e-3)


def partition(labels):
    groups = defaultdict(set)
    for item, label in enumerate(map(tuple, np.reshape(labels, (len(labels), -1)))):
        groups[label].add(item)
    return {frozenset(group) for group in groups.values()}


def test_each_level_has_the_nearest_centre_of_what_is_left():
    labels, centres = rq_kmeans(VECTORS, 3, 4, seed=0)
    for item, vector in enumerate(VECTORS):
        for level in range(3):
            distances = [((vector - centre) ** 2).sum() for centre in centres[level]]
            assert labels[item, level] == np.argmin(distances)
            vector = vector - centres[level][labels[item, level]]


def test_separate_groups_get_codes_of_their_own():
    assert partition(rq_kmeans(VECTORS, 1, 6, seed=0)[0]) == partition(GROUP)
    assert partition(opq(VECTORS, 1, 6, seed=0)[0]) == partition(GROUP)


def test_equal_vectors_have_equal_codes_even_with_more_codes_than_vectors():
    few = np.repeat(VECTORS[:5], 3, axis=0)
    for labels in (
        rq_kmeans(few, 2, 50, 0)[0],
        opq(few, 3, 50, 0)[0],
        rq_vae(torch.from_numpy(few), SMALL, 2, 50, 0)[0],
    ):
        assert (labels[::3] == labels[1::3]).all()
        assert (labels[::3] == labels[2::3]).all()
        assert labels.min() >= 0


def test_parallel_codes_are_those_of_the_nearest_centre_of_each_rotated_part():
    labels, rotation = opq(VECTORS, 3, 5, seed=0)
    assert np.allclose(rotation.T @ rotation, np.eye(12), atol=1e-6)
    parts = ((VECTORS - VECTORS.mean(0)) @ rotation).reshape(200, 3, 4)
    for code in range(3):
        of_code, part = labels[:, code], parts[:, code]
        centres = np.stack([part[of_code == label].mean(0) for label in range(of_code.max() + 1)])
        distances = ((part[:, None] - centres) ** 2).sum(2)
        assert (distances.argmin(1) == of_code).mean() > 0.95  # its last k-means may end before it converges


def test_an_optimised_rotation_quantises_better_than_a_random_one(monkeypatch):
    def error(turns):
        monkeypatch.setattr("llm4rec_zoo.ids.quantisers.ROTATIONS", turns)
        labels, rotation = opq(correlated, 4, 8, seed=0)
        parts = ((correlated - correlated.mean(0)) @ rotation).reshape(len(correlated), 4, -1)
        means = [[parts[labels[:, c] == label, c].mean(0) for label in range(8)] for c in range(4)]
        return sum(((parts[:, c] - np.stack(means[c])[labels[:, c]]) ** 2).sum() for c in range(4))

    correlated = rng.standard_normal((400, 8)) @ rng.standard_normal((8, 8))
    assert error(10) < error(0)


def test_vectors_may_be_shifted_and_turned():
    turn = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    moved = (VECTORS @ turn + 3).astype(np.float32)
    assert partition(rq_kmeans(moved, 1, 6, 0)[0]) == partition(GROUP)
    assert partition(opq(moved, 1, 6, 0)[0]) == partition(GROUP)


def test_more_codes_than_dimensions_are_refused():
    with pytest.raises(UsageError, match="exceeds the 12 dimensions"):
        opq(VECTORS, 13, 4, 0)


@pytest.mark.parametrize("method", ["rq_kmeans", "opq", "rq_vae"])
def test_codes_follow_from_the_seed(method):
    noise = rng.standard_normal((120, 12)).astype(np.float32)

    def codes(seed):
        if method == "rq_vae":
            return rq_vae(torch.from_numpy(noise), SMALL, 2, 8, seed)[0]
        return {"rq_kmeans": rq_kmeans, "opq": opq}[method](noise, 2, 8, seed)[0]

    first = codes(0)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert (codes(0) == first).all()
    assert torch.equal(torch.get_rng_state(), state), "the model's own draws stay where they were"
    assert partition(codes(1)) != partition(first)


# --- rq_vae


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = RqVae(12, SMALL, 3, 5)
    nn.init.normal_(model.codebooks)
    return model


def test_codes_and_loss_are_those_of_a_loop(model):
    x = torch.from_numpy(VECTORS[:9])
    z = model.encoder(x).detach()
    model.codebooks.requires_grad_(False)
    expected, labels = 0.0, []
    for i in range(9):
        residual, total, chosen = z[i], torch.zeros(4), []
        for book in model.codebooks:
            nearest = min(range(5), key=lambda k, r=residual, b=book: float((r - b[k]).square().sum()))
            expected += (1 + 0.25) * float((residual - book[nearest]).square().sum())
            residual, total = residual - book[nearest], total + book[nearest]
            chosen.append(nearest)
        expected += float((model.decoder(total) - x[i]).square().sum())
        labels.append(chosen)
    loss, numbers = model.loss(x)
    assert numbers.tolist() == labels
    assert loss.item() == pytest.approx(expected / 9, rel=1e-5)


def test_the_reconstruction_reaches_the_encoder_and_not_the_codebooks(model):
    model.commitment = 0.0
    x = torch.from_numpy(VECTORS[:9])
    z = model.encoder(x)
    model.loss(x)[0].backward()
    by_encoder = [weight.grad.clone() for weight in model.encoder.parameters()]
    of_codes = model.codebooks.grad.clone()
    model.zero_grad()
    _, labels, residuals = model.quantise(z)
    quantisation = sum(
        (residuals[:, level].detach() - model.codebooks[level][labels[:, level]]).square().sum() for level in range(3)
    )
    (quantisation / 9).backward()
    assert torch.allclose(model.codebooks.grad, of_codes, rtol=1e-4)
    assert any(grad.abs().max() > 0 for grad in by_encoder)


def test_unused_codes_restart_at_residuals(model):
    x = torch.from_numpy(VECTORS)
    model.codebooks.data[0, 2:] = 1e6
    used = torch.zeros(3, 5, dtype=torch.bool)
    used[torch.arange(3), model.quantise(model.encoder(x))[1]] = True
    assert not used[0, 2:].any()
    before = model.codebooks.clone()
    _restart(model, x, ~used, np.random.default_rng(0))
    assert (model.codebooks[0, 2:] < 1e3).all()
    assert torch.equal(model.codebooks[used], before[used])


def test_training_keeps_codes_in_use():
    noise = rng.standard_normal((400, 12)).astype(np.float32)
    ids = ItemIds(rq_vae(torch.from_numpy(noise), SMALL, 2, 16, 0)[0])
    assert min(ids.sizes) == 16
    assert all(len(np.unique(level)) >= 14 for level in ids.codes.T)


def test_the_scale_of_a_dimension_does_not_matter():
    scaled = VECTORS.copy()
    scaled[:, 3] *= 1000
    constant = np.column_stack([VECTORS, np.ones(200, np.float32)])
    codes = [rq_vae(torch.from_numpy(x), SMALL, 2, 6, 0)[0] for x in (VECTORS, scaled)]
    assert partition(codes[0]) == partition(codes[1])
    assert np.isfinite(rq_vae(torch.from_numpy(constant), SMALL, 2, 6, 0)[0]).all()


@pytest.mark.parametrize("done", [1, 5, 8])
def test_a_killed_training_goes_on_to_the_same_codes(tmp_path, monkeypatch, done):
    x, config = torch.from_numpy(VECTORS), replace(SMALL, epochs=8)
    codes, log = rq_vae(x, config, 2, 6, 0)
    assert [row["epoch"] for row in log] == list(range(1, 9))
    of_epoch = _Training.epoch

    def until(training):
        if len(training.log) == done:
            raise KeyboardInterrupt
        of_epoch(training)

    def after(training):
        assert len(training.log) >= done
        of_epoch(training)

    checkpoint = tmp_path / "ids.checkpoint"
    monkeypatch.setattr(_Training, "epoch", until)
    with nullcontext() if done == 8 else pytest.raises(KeyboardInterrupt):  # or killed before its codes are stored
        rq_vae(x, config, 2, 6, 0, checkpoint, every=0)
    monkeypatch.setattr(_Training, "epoch", after)
    again, its_log = rq_vae(x, config, 2, 6, 0, checkpoint, every=0)
    assert (again == codes).all()
    assert its_log == log
