"""UniSRec against the paper's formulas and a naive implementation with one padded row per (prefix, target) pair."""

import numpy as np
import pytest
import torch

from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision, SplitName
from llm4rec_cli.conformance.builders import resolved, tiny_dataset
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.models.unisrec import model as unisrec
from llm4rec_cli.models.unisrec.network import MoEAdaptor
from llm4rec_cli.models.unisrec.settings import Adaptor, AdaptorDraw, Freeze, Similarity
from tests.models import naive

pytestmark = pytest.mark.numeric

TEXT_SIZE = 5
SEQUENCES = [[0, 1, 2, 3, 3, 4, 0, 5, 6], [4, 5, 6], [7, 1, 1, 2, 0, 3], [6, 5, 4, 3], [2, 9, 8, 9, 1, 7, 7], [8, 0]]
DATASET = tiny_dataset(SEQUENCES, texts=[f"item {i}" for i in range(10)])
SPLIT = leave_one_out(DATASET)
SETTINGS = {
    "encoder": EncoderConfig("minilm", Pooling.mean, 256, Precision.bf16),
    "adaptor": Adaptor.moe,
    "experts": 3,
    "adaptor_dropout": 0.2,
    "draw": AdaptorDraw.catalogue,
    "use_ids": False,
    "hidden_size": 8,
    "inner_size": 12,
    "layers": 2,
    "heads": 2,
    "dropout": 0.5,
    "attention_dropout": 0.5,
    "temperature": 0.07,
    "max_length": 6,
    "freeze": Freeze.none,
}
VARIANTS = {
    "inductive": {},
    "transductive": {"use_ids": True},
    "linear, inductive": {"adaptor": Adaptor.linear},
    "linear, transductive": {"adaptor": Adaptor.linear, "use_ids": True},
    "zesrec": {"adaptor": Adaptor.two_linear, "similarity": Similarity.dot, "temperature": None},
    "inductive, drawn by position": {"draw": AdaptorDraw.position},
    "transductive, drawn by position": {"draw": AdaptorDraw.position, "use_ids": True},
}
variants = pytest.mark.parametrize("settings", VARIANTS.values(), ids=list(VARIANTS))


@pytest.fixture
def built(build, monkeypatch):
    """built(**settings): UniSRec over random text vectors."""

    def vectors(texts, config, cache, device, dataset):
        return torch.randn(len(texts), TEXT_SIZE, generator=torch.Generator().manual_seed(1))

    monkeypatch.setattr(unisrec, "encode_texts", vectors)

    def build_model(**settings):
        torch.manual_seed(0)
        return build("unisrec", DATASET, **SETTINGS | settings)

    return build_model


@pytest.fixture
def silent(monkeypatch):
    """Gate noise of zero."""
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)


def mixed(adaptor, gate, x):
    """Σ_k g_k (x - b_k) W_k, one item and expert at a time."""
    vectors = [
        sum(g[k] * (row - adaptor.bias[k]) @ adaptor.whiten[k] for k in range(len(g)))
        for row, g in zip(x, gate, strict=True)
    ]
    return torch.stack(vectors)


def adapted(adaptor, x):
    """Return (n, hidden) universal vectors by the paper's formula."""
    if isinstance(adaptor, MoEAdaptor):
        return mixed(adaptor, (x @ adaptor.gate).softmax(-1), x)
    for layer in [adaptor] if isinstance(adaptor, torch.nn.Linear) else adaptor:
        x = x @ layer.weight.t() + layer.bias
    return x


def item_vectors(model):
    """Return (n_items, hidden): adapted text, plus the id embedding."""
    vectors = adapted(model.adaptor, model.features)
    return vectors if model.ids is None else vectors + model.ids.weight


def naive_scores(model, table, history):
    """Return (n_items,) the cosine or inner product of the history's state and each item."""
    state = naive.encode(model.encoder, table[history])
    if not model.uses_cosine:
        return table @ state
    return (table / table.norm(dim=1, keepdim=True)) @ (state / state.norm())


@variants
def test_one_causal_pass_equals_one_row_a_prefix_in_loss_and_gradients(built, settings):
    model = built(**settings).double().eval()
    naive.randomise(model)
    table = item_vectors(model)
    expected = naive.mean_loss(SPLIT, lambda prefix: naive_scores(model, table, prefix) / model.temperature)
    naive.assert_trained(naive.assert_same_loss(naive.loss_of(model), expected, model))


@variants
def test_scores_are_cosines_or_inner_products_by_the_formula(built, settings):
    model = built(**settings).double().eval()
    naive.randomise(model)
    examples = SPLIT.examples(SplitName.test)
    scores = model.score(examples)
    assert not model.uses_cosine or scores.abs().max() <= 1 + 1e-9
    table = item_vectors(model)
    for i, user in enumerate(examples.user):
        expected = naive_scores(model, table, SEQUENCES[user][:-1][-6:]).detach()
        assert_close(scores[i], expected, rel=1e-9)


def test_gates_are_uniform_at_the_start_and_their_noise_has_the_scale_of_the_formula_in_training_only(
    built, monkeypatch
):
    model = built().eval()
    adaptor = model.adaptor
    expected = (model.features @ adaptor.whiten).mean(0)  # biases are zero
    torch.testing.assert_close(adaptor(model.features), expected)
    adaptor, x = built(adaptor_dropout=0.0).adaptor, torch.randn(4, TEXT_SIZE)
    adaptor.train()
    assert not torch.equal(adaptor(x), adaptor(x))
    adaptor.eval()
    assert torch.equal(adaptor(x), adaptor(x))
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)  # ε = 1: δ = softplus(x W_3) + 0.01
    torch.manual_seed(0)
    adaptor = MoEAdaptor(TEXT_SIZE, 8, 3, dropout=0.0).train()
    naive.randomise(adaptor)
    x = torch.randn(4, TEXT_SIZE)
    gate = (x @ adaptor.gate + torch.log1p((x @ adaptor.noise).exp()) + 0.01).softmax(-1)
    torch.testing.assert_close(adaptor(x), mixed(adaptor, gate, x))


def test_without_noise_the_adaptor_in_training_is_that_of_evaluation_and_each_expert_drops_its_own_inputs(silent):
    torch.manual_seed(0)
    adaptor = MoEAdaptor(TEXT_SIZE, 8, 3, dropout=0.0)
    naive.randomise(adaptor)
    x = torch.randn(6, TEXT_SIZE)
    torch.testing.assert_close(adaptor.train()(x), adaptor.eval()(x))
    torch.manual_seed(0)
    adaptor = MoEAdaptor(64, 64, 2, dropout=0.5).train()
    adaptor.whiten.data = torch.stack([torch.eye(64), 1000 * torch.eye(64)])
    out = adaptor(torch.ones(50, 64))  # gates 1/2 each, inputs 0 or 2: 0, 1, 1000 or 1001
    assert sorted(out.round().unique().tolist()) == [0, 1, 1000, 1001]


def test_both_draws_agree_without_dropout_and_noise(built, silent):
    off = {"adaptor_dropout": 0.0, "dropout": 0.0, "attention_dropout": 0.0, "use_ids": True}
    catalogue, position = built(**off).train(), built(**off, draw=AdaptorDraw.position).train()
    position.load_state_dict(catalogue.state_dict())
    first, second = naive.loss_of(catalogue), naive.loss_of(position)
    torch.testing.assert_close(first, second)
    actual, expected = naive.gradients(first, catalogue), naive.gradients(second, position)
    for name in expected:
        assert_close(actual[name], expected[name], rel=1e-6)


@pytest.mark.parametrize("draw", AdaptorDraw)
def test_an_item_is_drawn_once_per_step_or_at_each_position(built, draw):
    model = built(draw=draw).train()
    seen = []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs[0]))
    model(torch.tensor([3, 3]), read=torch.arange(2), targets=torch.tensor([1, 2]), groups=np.array([[1, 2]]))
    assert torch.equal(seen[0], seen[1]) == (draw == AdaptorDraw.catalogue)


def test_the_catalogue_is_adapted_once_per_evaluation_and_again_after_a_step(built):
    model = built().eval()
    calls = []
    model.adaptor.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    examples = SPLIT.examples(SplitName.test)
    for start in range(len(examples)):
        model.score(examples[slice(start, start + 1)])
    assert calls == [10]
    model = built(dropout=0.0, attention_dropout=0.0).eval()
    before = model.score(examples)
    naive.loss_of(model.train()).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    after = model.eval().score(examples)
    assert not torch.allclose(after, before)
    fresh = built()
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(after, fresh.eval().score(examples))


FROZEN = {
    Freeze.none: (),
    Freeze.encoder: ("encoder.positions.", "encoder.layers."),  # the input LayerNorm is trained with the adaptor
    Freeze.adaptor: ("adaptor.",),
}


@pytest.mark.parametrize("freeze", Freeze)
def test_frozen_weights_stay_and_all_others_are_trained(built, freeze):
    model = built(freeze=freeze, use_ids=True).train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(2):  # gates begin at zero: noise has a gradient from the first step on, biases too
        optimiser.zero_grad()
        naive.loss_of(model, epoch).backward()
        optimiser.step()
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) == name.startswith(FROZEN[freeze]), name


@pytest.mark.parametrize(("from_ids", "use_ids"), [(True, False), (True, True), (False, True)])
def test_a_model_starts_from_the_weights_of_another_but_keeps_its_own_ids(built, from_ids, use_ids):
    other, model = built(use_ids=from_ids), built(use_ids=use_ids)
    naive.randomise(other)
    ids = model.ids.weight.clone() if use_ids else None
    model.initialise_from(other.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(value, ids if name == "ids.weight" else other.state_dict()[name]), name


def test_weights_of_another_shape_are_refused_and_with_ids_new_items_cannot_be_ranked(built):
    with pytest.raises(RuntimeError, match="size mismatch"):
        built().initialise_from(built(hidden_size=4).state_dict())
    assert not [*resolved("model=unisrec").model.problems_with_new_items()]
    (problem,) = resolved("model=unisrec", "model.use_ids=true").model.problems_with_new_items()
    assert "a new item does not have" in problem.problem
