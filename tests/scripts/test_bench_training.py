"""The reference computes the same as our models."""

from itertools import islice

import bench_training as bench
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.models.unisrec import model as unisrec
from tests.models import naive

pytestmark = pytest.mark.numeric

TEXT_SIZE = 64
# train parts of 7, 1, 4, 2, 5, 3 and 2 items: no sequence is longer than max_length inputs, so no window cuts a prefix
SEQUENCES = [[0, 1, 2, 3, 3, 4, 0, 5, 6], [4, 5, 6], [7, 1, 1, 2, 0, 3], [6, 5, 4, 3], [2, 9, 8, 9, 1, 7, 7], [8, 0]]
DIFFERENT = slice(1, None)  # no two of these users share a last training target
SMALL = ["model.hidden_size=16", "model.inner_size=12", "model.max_length=6", "trainer.batch_size=4"]
MODELS = pytest.mark.parametrize("name", ["sasrec", "unisrec"])
NO_DROPOUT = ["model.dropout=0", "model.adaptor_dropout=0"]


@pytest.fixture
def vectors(monkeypatch):
    """Replace text vectors by random ones, different for texts of different total length."""

    def random_vectors(texts, *_):
        return torch.randn(len(texts), TEXT_SIZE, generator=torch.Generator().manual_seed(len("".join(texts))))

    monkeypatch.setattr(unisrec, "encode_texts", random_vectors)


@pytest.fixture
def built(vectors):
    """Return a function (name, sequences, *overrides) -> config and model, with random text vectors."""

    def build(name, sequences, *overrides):
        job = bench.training_job(bench.parse([*SMALL, *overrides]), name)
        split = leave_one_out(tiny_dataset(sequences, texts=[f"item {i}" for i in range(10)]))
        model = bench.stages.build(job, split)
        naive.randomise(model)
        return job.config, model

    return build


@MODELS
def test_the_reference_has_the_loss_and_gradients_of_our_one_pass(name, built, monkeypatch):
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # no gate noise
    config, model = built(name, SEQUENCES, *NO_DROPOUT[: 2 if name == "unisrec" else 1])
    reference, prefixes = bench.build_reference(config, model), bench.PrefixRows(model.split, config.model.max_length)
    rows = model.training_rows()
    loss = model.train()(**rows.batch(0, list(range(len(rows)))))["loss"]
    expected = reference.train()(**prefixes.batch(np.arange(len(prefixes))))
    assert_same_gradients(loss, model, expected, reference)


def assert_same_gradients(loss, model, expected, reference):
    """Assert that two models have the same loss and the same gradients of it."""
    assert_close(loss, expected, rel=1e-4)
    ours, theirs = naive.gradients(loss, model), naive.gradients(expected, reference)
    assert ours.keys() == theirs.keys()
    for key in theirs:
        assert_close(ours[key], theirs[key], rel=1e-3, msg=key)


@MODELS
def test_the_reference_drops_out_as_ours_does(name, built):
    config, model = built(name, SEQUENCES)
    reference = bench.build_reference(config, model).train()
    rates = sorted(module.p for module in reference.modules() if isinstance(module, torch.nn.Dropout))
    attention = [layer.p for layer in reference.encoder.layers]
    assert rates == [0.2] * (name == "unisrec") + [0.5] * 3  # after the embedding, and in each layer
    assert attention == [0.5, 0.5]
    batch = bench.PrefixRows(model.split, config.model.max_length).batch(np.arange(5))
    assert reference(**batch) != reference(**batch)


@pytest.mark.parametrize(
    ("loss", "augmentation", "users"),
    [
        ("exact", ["drop=0"], DIFFERENT),
        ("exact", ["drop=0.5", "item_drop=1"], DIFFERENT),
        ("exact", ["drop=0.5", "item_drop=0"], DIFFERENT),
        ("paper_code", ["drop=0"], slice(None)),  # two records of one target
    ],
    ids=["no augmentation", "items dropped", "words dropped", "equal targets"],
)
def test_the_reference_of_pretraining_has_the_loss_and_gradients_of_ours(built, monkeypatch, loss, augmentation, users):
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # no gate noise
    overrides = [f"model.pretraining.{override}" for override in (f"loss={loss}", "word_drop=0.5", *augmentation)]
    # with the published weight of 1e-3 a wrong loss of views would go unnoticed
    config, model = built(
        "unisrec-pretraining", SEQUENCES[users], *NO_DROPOUT, "model.pretraining.sequence_weight=1", *overrides
    )
    rows = model.training_rows()
    rows.first_loss = rows.lengths - 1  # one record per user: ours does not use a user's other records as negatives
    batch = rows.batch(0, list(range(len(rows))))
    prefixes = bench.PrefixRows(model.split, config.model.max_length)
    records = prefixes.batch(np.searchsorted(prefixes.target, batch["records"][:, 0]))
    reference = bench.build_reference(config, model)
    loss_of_ours = model.train()(**batch)["loss"]
    expected = reference.train()(**records, **views_of(batch, config.model.max_length))
    assert_same_gradients(loss_of_ours, model, expected, reference)


def views_of(batch, max_length):
    """Return the augmented sequence of each record in a packed batch, as padded rows."""
    groups, texts = torch.from_numpy(batch["groups"]), batch["texts"][batch["text"]]
    widths = groups[:, 1].repeat_interleave(groups[:, 0])
    ends = widths.cumsum(0)
    starts = (ends - widths)[torch.searchsorted(ends, batch["seen_at"], right=True)]
    lengths = batch["seen_at"] + 1 - starts
    rows = [texts[i : i + n] for i, n in zip(starts.tolist(), lengths.tolist(), strict=True)]
    return {"views": torch.stack([F.pad(row, (0, max_length - len(row))) for row in rows]), "view_lengths": lengths}


def test_prefix_rows_by_hand():
    prefixes = bench.PrefixRows(leave_one_out(tiny_dataset([[5, 6, 7, 8, 9, 1], [3], [2, 4, 0, 0]])), max_length=2)
    batch = prefixes.batch(np.arange(len(prefixes)))
    rows = [items[:length] for items, length in zip(batch["items"].tolist(), batch["lengths"].tolist(), strict=True)]
    assert rows == [[5], [5, 6], [6, 7], [2]]
    assert batch["targets"].tolist() == [6, 7, 8, 4]
    assert batch["items"].shape == (4, 2)


def test_items_are_dropped_except_the_first_and_the_rest_is_packed():
    items, lengths, views, view_lengths = next(augmented("item_drop=1"))
    for row, length, view, kept in zip(
        items.tolist(), lengths.tolist(), views.tolist(), view_lengths.tolist(), strict=True
    ):
        assert view[0] == row[0]
        assert view[:kept] == sorted(set(view[:kept]) & set(row[:length]))
    dropped = (lengths - view_lengths).sum() / (lengths - 1).sum()
    assert dropped == pytest.approx(0.2, abs=0.02)


def test_words_are_dropped_at_a_share_of_the_positions():
    items, lengths, views, view_lengths = next(augmented("item_drop=0"))
    assert torch.equal(views % 20, items)
    assert torch.equal(view_lengths, lengths)
    assert (views >= 20).float().mean().item() == pytest.approx(0.2, abs=0.02)


def test_a_batch_drops_either_items_or_words():
    batches = list(islice(augmented("item_drop=0.5"), 10))
    words = [bool((views >= 20).any()) for _, _, views, _ in batches]
    items = [not torch.equal(view_lengths, lengths) for _, lengths, _, view_lengths in batches]
    assert set(zip(words, items, strict=True)) == {(True, False), (False, True)}


def augmented(override):
    """Yield batches of 1,700 prefix rows over ascending items: items, lengths, views and their lengths."""
    config = bench.training_job(bench.parse([f"model.pretraining.{override}"]), "unisrec-pretraining").config
    rows = bench.AugmentedRows(leave_one_out(tiny_dataset([range(20)] * 100)), config.model, seed=0)
    while True:
        batch = rows.batch(np.arange(len(rows)))
        yield [batch[name] for name in ("items", "lengths", "views", "view_lengths")]


@pytest.mark.parametrize("name", ["sasrec", "unisrec-pretraining"])
def test_every_contender_trains_on_the_targets_it_reports(name, vectors, cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(bench, "TARGETS", 1)
    options = bench.parse([*SMALL, "trainer.batch_size=512", "model.layers=1"])
    contest = bench.set_up(bench.training_job(options, name), 8)
    n_targets = {name: work() for name, work in contest.work.items()}
    assert n_targets == {bench.REFERENCE: 8, bench.FP32: contest.n_targets, bench.BF16: contest.n_targets}


def test_a_run_prints_each_contender(cache, monkeypatch, bench_prints):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(bench, "TARGETS", 1)
    small = [*SMALL, "trainer.batch_size=512", "model.layers=1"]
    arguments = [*small, "--model", "sasrec", "--reference-batch", "8", "--rounds", "1"]
    bench_prints(bench.main, arguments, "### sasrec on demo, 16-d, 160 items", *bench.DESCRIPTIONS)
