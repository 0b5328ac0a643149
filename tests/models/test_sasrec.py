"""SASRec against a naive implementation with one padded row per (prefix, target) pair."""

import numpy as np
import pytest
import torch

from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision, SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.split import hold_out, leave_one_out
from llm4rec_cli.data.tokens import with_tokens
from llm4rec_cli.errors import DataError
from llm4rec_cli.models import base
from llm4rec_cli.models.baselines import sasrec
from llm4rec_cli.models.baselines.config import ItemVectors
from llm4rec_cli.models.shared.config import Positions
from llm4rec_cli.tasks.ranking import rank
from tests.models import naive

pytestmark = pytest.mark.numeric

SETTINGS = {
    "hidden_size": 8,
    "inner_size": 12,
    "layers": 2,
    "heads": 2,
    "dropout": 0.5,
    "attention_dropout": 0.5,
    "max_length": 6,
}
# train parts of 7, 1, 4, 2, 5, 3 and 2 items: none longer than max_length inputs, so no window cuts a prefix
SEQUENCES = [[0, 1, 2, 3, 3, 4, 0, 5, 6], [4, 5, 6], [7, 1, 1, 2, 0, 3], [6, 5, 4, 3], [2, 9, 8, 9, 1, 7, 7], [8, 0]]
DATASET = tiny_dataset(SEQUENCES, n_items=10)
SPLIT = leave_one_out(DATASET)


@pytest.fixture
def model(build):
    torch.manual_seed(0)
    model = build("sasrec", DATASET, **SETTINGS).double().eval()
    naive.randomise(model)
    return model


def test_one_causal_pass_equals_one_row_a_prefix_in_loss_and_gradients(model):
    def logits(prefix):
        return model.items.weight @ naive.encode(model.encoder, model.items.weight[prefix])

    assert len(naive.prefix_rows(SPLIT)) == 6 + 0 + 3 + 1 + 4 + 1
    naive.assert_trained(naive.assert_same_loss(naive.loss_of(model), naive.mean_loss(SPLIT, logits), model))


def test_positions_can_be_counted_from_the_last_item(build, model):
    counted = build("sasrec", DATASET, **SETTINGS, positions=Positions.from_last).double().eval()
    counted.load_state_dict(model.state_dict())
    examples, rows, others = SPLIT.examples(SplitName.test), counted.training_rows(), model.training_rows()
    scores, places = counted.score(examples), counted.encoder.positions.weight.detach()

    def reverse(length):
        model.encoder.positions.weight.data = torch.cat([places[:length].flip(0), places[length:]])

    for i, user in enumerate(examples.user):
        history = SEQUENCES[user][:-1][-6:]
        reverse(len(history))
        state = naive.encode(model.encoder, model.items.weight[history])
        assert_close(scores[i], (model.items.weight @ state).detach(), rel=1e-6)
    for row, length in enumerate(rows.lengths):
        reverse(length)
        assert_close(counted(**rows.batch(0, [row]))["loss"], model(**others.batch(0, [row]))["loss"], rel=1e-6)


def test_item_vectors_are_computed_once_in_an_evaluation_and_an_empty_history_scores_all_items_alike(
    model, monkeypatch
):
    examples = SPLIT.examples(SplitName.test)
    examples.start[1] = examples.end[1]
    assert torch.equal(model.score(examples)[1], torch.zeros(10, dtype=torch.float64))
    calls, examples, model = [], SPLIT.examples(SplitName.test), model.float()  # as ranks are of fp32
    monkeypatch.setattr(model, "table", lambda: calls.append(1) or model.items.weight)
    for n in (1, 2):
        rank(model, examples, mask_history=True, top_items=3, batch_size=2)
        assert len(calls) == n  # weights may have changed in between


def test_cold_items_take_no_part_in_training(tmp_path):
    split = hold_out(SPLIT, 0.3, 1.0, seed=0)
    assert split.cold is not None
    cold, warm = np.flatnonzero(split.cold), np.flatnonzero(~split.cold)
    config = config_class("sasrec")(name="sasrec", **SETTINGS)
    model = base.build(base.Context(config, split, 0, tmp_path, "cpu")).double().eval()
    naive.randomise(model)
    hidden = torch.from_numpy(split.cold)

    def logits(prefix):
        scores = model.items.weight @ naive.encode(model.encoder, model.items.weight[prefix])
        return scores.masked_fill(hidden, -torch.inf)

    gradients = naive.assert_same_loss(naive.loss_of(model), naive.mean_loss(split, logits), model)
    assert (gradients["items.weight"][cold] == 0).all()
    assert (gradients["items.weight"][warm] != 0).any(1).all()
    assert set(model.state_dict()) == set(base.build(base.Context(config, SPLIT, 0, tmp_path, "cpu")).state_dict())


# Two tokens are shared; `oil` and `soap` belong to one item each, and item 4 has none.
TOKENS = ["red nail", "red", "oil", "nail red", "", "red", "red", "nail", "nail", "nail soap"]
DATASET_WITH_TOKENS = with_tokens(DATASET, [tokens.split() for tokens in TOKENS])


def naive_table(model, split):
    """Return item vectors with tokens; token embeddings are in alphabetical order."""
    nail, red = model.tokens.weight
    means = {"nail": nail, "red": red, "nail red": (nail + red) / 2, "": torch.zeros_like(red)}
    known = [" ".join(sorted({"nail", "red"} & set(tokens))) for tokens in split.dataset.items["tokens"]]
    return torch.stack([model.items.weight[item] + means[tokens] for item, tokens in enumerate(known)])


def test_tokens_are_added_to_items_in_input_and_output(build):
    torch.manual_seed(0)
    model = build("sasrec", DATASET_WITH_TOKENS, **SETTINGS, tokens=True).double().eval()
    naive.randomise(model)
    table = naive_table(model, model.split)
    expected = naive.mean_loss(SPLIT, lambda prefix: table @ naive.encode(model.encoder, table[prefix]))
    gradients = naive.assert_same_loss(naive.loss_of(model), expected, model)
    assert (gradients["tokens.weight"] != 0).any(1).all()
    examples = SPLIT.examples(SplitName.test)
    states = [naive.encode(model.encoder, table[SEQUENCES[user][:-1][-6:]]) for user in examples.user]
    assert_close(model.score(examples), (torch.stack(states) @ table.t()).detach(), rel=1e-9)


def test_a_token_counts_that_two_training_items_share(tmp_path, build):
    cold = hold_out(SPLIT, 0.3, 1.0, seed=0).cold
    tokens = [["of cold items", "of all"] if is_cold else ["of all"] for is_cold in cold]
    split = hold_out(leave_one_out(with_tokens(DATASET, tokens)), 0.3, 1.0, seed=0)
    config = config_class("sasrec")(name="sasrec", **SETTINGS, tokens=True)
    model = base.build(base.Context(config, split, 0, tmp_path, "cpu"))
    assert cold.sum() >= 2
    assert model.tokens.weight.shape == (1, 8)
    with pytest.raises(DataError, match="no two items share a token"):
        build("sasrec", with_tokens(DATASET, [[str(i)] for i in range(10)]), **SETTINGS, tokens=True)


TEXTS = [f"text {i}" for i in range(10)]
WITH_TEXTS = tiny_dataset(SEQUENCES, TEXTS)


@pytest.fixture
def from_text(build, monkeypatch):
    """from_text(vectors, kind): SASRec of these vectors, which PCA would leave as they are."""
    encoders = []

    def build_model(vectors, kind):
        torch.manual_seed(0)
        encoder = EncoderConfig("any", Pooling.mean, 8, Precision.fp32)
        monkeypatch.setattr(sasrec, "encode_texts", lambda texts, config, *_: encoders.append(config) or vectors)
        return build("sasrec", WITH_TEXTS, **SETTINGS, vectors=ItemVectors[kind], encoder=encoder)

    build_model.encoders = encoders
    return build_model


VECTORS = torch.randn(10, 8, generator=torch.Generator().manual_seed(0)) * 7
SCALED = VECTORS / VECTORS.square().sum(1).mean().sqrt()


def test_text_vectors_start_item_embeddings_or_are_the_frozen_table(from_text):
    model = from_text(VECTORS, "initial")
    assert_close(model.items.weight.data, SCALED * 0.02 * 8**0.5, rel=1e-6)
    assert model.items.weight.requires_grad
    assert from_text.encoders[0].dimension == SETTINGS["hidden_size"]
    model = from_text(VECTORS, "frozen")
    assert_close(model.table(), SCALED, rel=1e-6)
    assert not any(name.startswith(("items", "vectors")) for name in model.state_dict())
    naive.loss_of(model).backward()
    assert all(weights.grad is not None for weights in model.parameters())
    table = from_text(VECTORS[:, :5], "frozen").table()
    assert table.shape == (10, 8)
    assert not table[:, 5:].any()
    config = config_class("sasrec")(name="sasrec", **SETTINGS, vectors=ItemVectors.frozen)
    (problem,) = config.problems_with_dataset(None, DATASET)
    assert "all alike" in problem.problem
    assert [*config.problems_with_dataset(None, WITH_TEXTS)] == []


def test_an_adaptor_projects_vectors_of_any_size(from_text):
    wide = torch.cat([VECTORS, VECTORS], 1)
    model = from_text(wide, "adapted").double().eval()
    naive.randomise(model)
    scaled = wide.double() / wide.double().square().sum(1).mean().sqrt()
    assert_close(model.table(), scaled @ model.adaptor.weight.t() + model.adaptor.bias, rel=1e-6)
    assert from_text.encoders[0].dimension is None
    table = model.table()
    expected = naive.mean_loss(SPLIT, lambda prefix: table @ naive.encode(model.encoder, table[prefix]))
    gradients = naive.assert_same_loss(naive.loss_of(model), expected, model)
    assert (gradients["adaptor.weight"] != 0).any()
