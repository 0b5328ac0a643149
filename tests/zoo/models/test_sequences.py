"""GRU4Rec, BERT4Rec, FDSA, eSASRec and BSARec against naive implementations, one history at a time."""

import cmath
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision, SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.models.shared import next_item
from llm4rec_cli.models.shared.config import Positions
from llm4rec_cli.models.shared.layers import Groups, SequenceEncoder
from llm4rec_zoo.models.bsarec.model import low_pass_filter
from llm4rec_zoo.models.fdsa import model as fdsa
from tests.models import naive

pytestmark = pytest.mark.numeric

# train parts of 7, 1, 4, 2, 5, 3 and 2 items
SEQUENCES = [[0, 1, 2, 3, 3, 4, 0, 5, 6], [4, 5, 6], [7, 1, 1, 2, 0, 3], [6, 5, 4, 3], [2, 9, 8, 9, 1, 7, 7], [8, 0]]
DATASET = tiny_dataset(SEQUENCES, [f"item {i}" for i in range(10)])
SPLIT = leave_one_out(DATASET)
SIZES = {"hidden_size": 8, "inner_size": 12, "layers": 2, "heads": 2, "dropout": 0.5, "max_length": 6}
SETTINGS = {
    "gru4rec": {"embedding_size": 6, "hidden_size": 8, "layers": 2, "dropout": 0.5, "max_length": 6},
    "bert4rec": {**SIZES, "attention_dropout": 0.5, "mask_ratio": 0.4, "mask_last": 0.25},
    "fdsa": {
        **SIZES,
        "attention_dropout": 0.5,
        "encoder": EncoderConfig(name="minilm", pooling=Pooling.mean, max_length=8, precision=Precision.fp32),
    },
    "esasrec": {"hidden_size": 8, "inner_factor": 2, "layers": 2, "heads": 2, "dropout": 0.5, "max_length": 6},
    "bsarec": {**SIZES, "attention_dropout": 0.5, "components": 3, "filter_weight": 0.7},
}


@pytest.fixture
def model(build, monkeypatch):
    """model(name, **settings): with random weights far from their initial values, in double precision."""
    text = torch.randn(10, 5, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(fdsa, "encode_texts", lambda *_: text)

    def make(name, **settings):
        torch.manual_seed(0)
        made = build(name, DATASET, **SETTINGS[name] | settings).double().eval()
        naive.randomise(made)
        return made

    return make


def gru(model, history):
    states = [torch.zeros(8, dtype=torch.float64)] * 2
    for item in history:
        x = model.items.weight[item]
        for layer, state in enumerate(states):
            cell = nn.GRUCell(len(x), 8, bias=False, dtype=torch.float64)
            cell.weight_ih, cell.weight_hh = (getattr(model.gru, f"weight_{part}_l{layer}") for part in ("ih", "hh"))
            x = states[layer] = cell(x, state)
    return model.out(x)


def cloze(model, history):
    vectors = [*model.items.weight[history[-5:]], model.mask]
    return naive.encode(model.encoder, torch.stack(vectors), causal=False)


def two_streams(model, history):
    ids = naive.encode(model.id_encoder, model.items.weight[history])
    text = naive.encode(
        model.text_encoder, (model.features[history] @ model.adapter.weight.t() + model.adapter.bias).relu()
    )
    return F.layer_norm(model.join(torch.cat([ids, text])), (8,), model.norm.weight, model.norm.bias, eps=1e-12)


def ligr(model, history):
    x = model.items.weight[history] + model.encoder.positions.weight[: len(history)]
    future = torch.ones(len(history), len(history)).triu(1).bool()
    for layer in model.encoder.layers:
        attention = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
        attention.in_proj_weight, attention.in_proj_bias = layer.qkv.weight, layer.qkv.bias
        attention.out_proj.weight, attention.out_proj.bias = layer.out.weight, layer.out.bias
        y = layer.norm_attention(x)[None]
        x = x + torch.sigmoid(layer.gate_attention(x)) * attention(y, y, y, attn_mask=future)[0][0]
        y = layer.norm_feedforward(x)
        gate = layer.gate(y)
        inner = layer.down(gate * torch.sigmoid(gate) * layer.up(y))
        x = x + torch.sigmoid(layer.gate_feedforward(x)) * inner
    return x[-1]


def fourier_filter(x, components, length):
    """Return x with only its lowest frequencies; by the definition of the transform, zeros before the sequence."""
    padded = torch.cat([torch.zeros(length - len(x), x.shape[1], dtype=x.dtype), x])
    kept = [f for f in range(length) if min(f, length - f) <= components // 2]
    waves = torch.tensor(
        [[cmath.exp(-2j * math.pi * f * t / length) for t in range(length)] for f in kept], dtype=torch.complex128
    )
    spectrum = waves @ padded.to(waves.dtype)
    return (waves.conj().t() @ spectrum / length).real[length - len(x) :]


def filtered(model, history):
    x = model.items.weight[history] + model.encoder.positions.weight[: len(history)]
    x = F.layer_norm(x, (8,), model.encoder.norm.weight, model.encoder.norm.bias, eps=1e-12)
    for layer in model.encoder.layers:
        low = fourier_filter(x, 3, 6)
        dsp = layer.norm_filter(x + low + layer.beta**2 * (x - low))
        attended = layer.norm_attention(x + layer.attend(x, Groups([(1, len(x))], None)))
        x = layer.feed_forward(0.7 * dsp + 0.3 * attended)
    return x[-1]


NAIVE = {"gru4rec": gru, "bert4rec": cloze, "fdsa": two_streams, "esasrec": ligr, "bsarec": filtered}


@pytest.mark.parametrize("name", NAIVE)
def test_scores_are_inner_products_with_the_naive_state_of_the_latest_items(model, name):
    made, examples = model(name), SPLIT.examples(SplitName.test)
    scores = made.score(examples)
    for i, user in enumerate(examples.user):
        state = NAIVE[name](made, SEQUENCES[user][:-1][-6:])
        assert_close(scores[i], (made.items.weight @ state).detach(), rel=1e-6)


@pytest.mark.parametrize("name", ["bert4rec", "bsarec", "esasrec", "fdsa"])
def test_positions_can_be_counted_from_the_last_item(model, name):
    made, examples = model(name, positions=Positions.from_last), SPLIT.examples(SplitName.test)
    scores = made.score(examples)
    encoders = [module for module in made.modules() if isinstance(module, SequenceEncoder)]
    places = [encoder.positions.weight.detach().clone() for encoder in encoders]
    for i, user in enumerate(examples.user):
        history = SEQUENCES[user][:-1][-6:]
        n = min(len(history) + 1, 6) if name == "bert4rec" else len(history)
        for encoder, of_encoder in zip(encoders, places, strict=True):
            encoder.positions.weight.data = torch.cat([of_encoder[:n].flip(0), of_encoder[n:]])
        assert_close(scores[i], (made.items.weight @ NAIVE[name](made, history)).detach(), rel=1e-6)


def test_in_training_positions_are_counted_from_the_last_input(model):
    made = model("esasrec", positions=Positions.from_last)
    other = model("esasrec")
    other.load_state_dict(made.state_dict())
    rows, others = made.training_rows(), other.training_rows()
    for row, length in enumerate(rows.lengths):
        places = made.encoder.positions.weight.detach()
        other.encoder.positions.weight.data = torch.cat([places[:length].flip(0), places[length:]])
        loss, expected = made(**rows.batch(0, [row]))["loss"], other(**others.batch(0, [row]))["loss"]
        assert_close(loss, expected, rel=1e-6)


@pytest.mark.parametrize("name", ["bsarec", "esasrec", "fdsa", "gru4rec"])
def test_the_loss_is_that_of_one_row_a_prefix(model, name):
    """So no state in training depends on its target or on what comes after it."""
    made = model(name)
    expected = naive.mean_loss(SPLIT, lambda prefix: made.items.weight @ NAIVE[name](made, prefix))
    naive.assert_same_loss(naive.loss_of(made), expected, made)


def test_a_masked_row_hides_its_targets_and_nothing_else(model, build):
    rows = model("bert4rec").training_rows()
    flat, offsets = SPLIT.train_sequences()
    pairs = [flat[a:b] for a, b in pairwise(offsets) if b - a >= 2]
    assert len(rows) == len(pairs) + 1  # the longest, of 7 items, takes two windows of 6
    shares = []
    for epoch in range(50):
        for row in range(len(pairs)):
            batch = rows.batch(epoch, [row])
            masked = batch["items"] == 10
            assert masked.any()
            assert batch["read"].tolist() == masked.nonzero()[:, 0].tolist()
            shown = batch["items"].index_copy(0, batch["read"], batch["targets"]).tolist()
            assert shown in [sequence.tolist() for sequence in [*pairs, pairs[0][:6], pairs[0][1:]]]
            shares.append(masked.double().mean().item())
    assert 0.4 < np.mean(shares) < 0.6  # 0.4, and more as one is masked at least
    first, same, other = (
        build("bert4rec", DATASET, seed, **SETTINGS["bert4rec"]).training_rows() for seed in (0, 0, 1)
    )

    def masks(rows, epoch):
        return [rows.masked(epoch, row).tolist() for row in range(len(rows))]

    assert masks(first, 3) == masks(same, 3)
    assert masks(first, 3) != masks(first, 4)
    assert masks(first, 3) != masks(other, 3)
    dataset = tiny_dataset([list(range(12))])
    rows = build("bert4rec", dataset, **SETTINGS["bert4rec"] | {"mask_last": 0.0, "mask_ratio": 1.0}).training_rows()
    windows = [rows.batch(0, [row]) for row in range(len(rows))]
    assert len(windows) > 1
    assert sorted(t for w in windows for t in w["targets"].tolist()) == list(range(10))


@pytest.mark.parametrize(("length", "components"), [(6, 1), (6, 3), (7, 5), (50, 5)])
def test_the_low_pass_matrix_is_the_fourier_transform(length, components):
    x = torch.randn(length // 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    part = low_pass_filter(length, components).double()[: len(x), : len(x)]
    torch.testing.assert_close(part @ x, fourier_filter(x, components, length), atol=1e-6, rtol=0)


def test_esasrec_drops_items_out_alike_in_histories_and_in_the_loss(model, monkeypatch):
    made = model("esasrec")
    assert torch.equal(made.table(), made.items.weight)
    tables = []
    states, loss = made.states, next_item.catalogue_cross_entropy
    made.states = lambda table, *rest: tables.append(table) or states(table, *rest)
    monkeypatch.setattr(
        next_item, "catalogue_cross_entropy", lambda h, table, *rest: tables.append(table) or loss(h, table, *rest)
    )
    made.train()(**made.training_rows().batch(0, [0, 1]))
    table, in_the_loss = tables
    assert table is in_the_loss
    kept = table != 0
    assert 0.3 < kept.double().mean() < 0.7
    assert_close(table[kept], 2 * made.items.weight[kept], rel=1e-12)
