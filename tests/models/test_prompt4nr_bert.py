"""The packed BERT computes what transformers' `BertForMaskedLM` does on padded input."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertForMaskedLM

from llm4rec_cli.models.prompt4nr import templates
from llm4rec_cli.models.prompt4nr.bert import PackedBert
from llm4rec_cli.models.prompt4nr.sequences import Ragged, packed
from tests.models.tiny_bert import tiny_bert
from tests.numeric import assert_close

pytestmark = pytest.mark.numeric

N_NEW = 4
ATOL = 1e-4  # of the tiny one, whose weights are large
LENGTHS = (7, 40, 3, 19, 20, 21, 3, 1, 33)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return BertForMaskedLM.from_pretrained(tiny_bert(tmp_path_factory.mktemp("bert"))).eval()


def resized(bert, new):
    """transformers' own, with the new tokens' embeddings as rows of its vocabulary."""
    other = copy.deepcopy(bert)
    n_words = other.config.vocab_size
    other.resize_token_embeddings(n_words + len(new), mean_resizing=False)
    with torch.no_grad():
        other.bert.embeddings.word_embeddings.weight[n_words:] = new
    return other.eval()


def rows_of(lengths, n_tokens, seed=0):
    """Random tokens, new ones among them."""
    rng = np.random.default_rng(seed)
    return Ragged.of([rng.integers(1, n_tokens, length).tolist() for length in lengths])


def padded(rows):
    """(n, longest) tokens and which of them are no padding."""
    real = torch.arange(int(rows.lengths.max())) < torch.from_numpy(rows.lengths)[:, None]
    tokens = torch.zeros(real.shape, dtype=torch.int64)
    tokens[real] = torch.from_numpy(rows.flat.astype(np.int64))
    return tokens, real


def states_and_theirs(bert, rows, places):
    """What ours and transformers' find at one token a row: its logits of the backbone's whole vocabulary."""
    ours = PackedBert(bert, N_NEW).eval()
    tokens, real = padded(rows)
    with torch.no_grad():
        found = ours.logits(ours(places, **packed(rows)), torch.arange(bert.config.vocab_size))
        theirs = resized(bert, ours.new)(input_ids=tokens, attention_mask=real.long()).logits
    return found, theirs[torch.arange(len(places)), places, : bert.config.vocab_size]


@pytest.mark.parametrize("lengths", [LENGTHS, (5,), (8, 8, 8), (1, 1), (500, 12)])
def test_logits_of_packed_rows_are_those_of_padded_ones(tiny, lengths):
    rows = rows_of(lengths, tiny.config.vocab_size + N_NEW)
    places = torch.tensor([(7 * i) % length for i, length in enumerate(lengths)])
    found, theirs = states_and_theirs(tiny, rows, places)
    assert_close(found, theirs, rel=ATOL)


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_logits_are_those_of_padded_rows_whatever_their_lengths(tiny, lengths, seed):
    rows = rows_of(lengths, tiny.config.vocab_size + N_NEW, seed)
    places = torch.from_numpy(np.random.default_rng(seed).integers(0, lengths))
    found, theirs = states_and_theirs(tiny, rows, places)
    assert_close(found, theirs, rel=ATOL)


def test_logits_of_the_packaged_encoder_are_transformers_too():
    torch.manual_seed(0)  # it has no head of its own
    bert = BertForMaskedLM.from_pretrained(templates.folder("minilm")).eval()
    rows = rows_of((60, 17, 16, 5), bert.config.vocab_size + N_NEW)
    found, theirs = states_and_theirs(bert, rows, torch.tensor([59, 0, 3, 2]))
    assert_close(found, theirs, rel=1e-5)


def test_any_tokens_are_told_as_one_a_row_is(tiny):
    ours = PackedBert(tiny, N_NEW).eval()
    rows = rows_of(LENGTHS, tiny.config.vocab_size + N_NEW)
    inputs = packed(rows)
    places = torch.tensor([length // 2 for length in LENGTHS])
    begins = inputs.pop("begins")
    with torch.no_grad():
        one_a_row = ours(places, **inputs, begins=begins)
        assert_close(ours.everywhere(begins + places, **inputs), one_a_row, rel=5e-6)


def test_gradients_are_those_of_padded_rows(tiny):
    bert = copy.deepcopy(tiny)
    rows = rows_of(LENGTHS, bert.config.vocab_size + N_NEW)
    places, words = torch.tensor([length - 1 for length in LENGTHS]), torch.tensor([7, 9])
    ours = PackedBert(bert, N_NEW).eval()
    theirs = resized(bert, ours.new.detach())
    tokens, real = padded(rows)
    ours.logits(ours(places, **packed(rows)), words).square().sum().backward()
    logits = theirs(input_ids=tokens, attention_mask=real.long()).logits
    logits[torch.arange(len(places)), places][:, words].square().sum().backward()
    n_words = bert.config.vocab_size
    embeddings = theirs.bert.embeddings
    for mine, other in (
        (ours.new.grad, embeddings.word_embeddings.weight.grad[n_words:]),
        (ours.words.weight.grad, embeddings.word_embeddings.weight.grad[:n_words]),
        (ours.positions.weight.grad, embeddings.position_embeddings.weight.grad),
        (ours.kind.grad, embeddings.token_type_embeddings.weight.grad[0]),
        (ours.bias.grad, theirs.cls.predictions.bias.grad[:n_words]),
        (ours.layers[1].attention.self.key.weight.grad, theirs.bert.encoder.layer[1].attention.self.key.weight.grad),
        (ours.layers[0].intermediate.dense.weight.grad, theirs.bert.encoder.layer[0].intermediate.dense.weight.grad),
    ):
        assert_close(mine, other, rel=1e-4)


def test_dropout_is_drawn_in_training_alone_and_keeps_the_mean_of_attention(tiny):
    ours = PackedBert(copy.deepcopy(tiny), N_NEW)
    rows = rows_of((12,) * 4, tiny.config.vocab_size)
    places, inputs = torch.zeros(4, dtype=torch.int64), packed(rows)
    with torch.no_grad():
        assert not torch.equal(ours.train()(places, **inputs), ours(places, **inputs))
        assert torch.equal(ours.eval()(places, **inputs), ours(places, **inputs))
        ours.train().dropout = ours.attention_dropout = 0.0
        without = ours(places, **inputs)
        assert_close(without, ours.eval()(places, **inputs), rel=5e-6)
        ours.attention_dropout = 1e-9  # so little that nothing drops: the explicit attention is the fused one
        assert_close(ours.train()(places, **inputs), without, rel=1e-5)


def test_new_tokens_are_drawn_as_bert_draws_its_own(tiny):
    new = PackedBert(tiny, 400).new
    assert new.mean().abs() < 0.001
    assert new.std().item() == pytest.approx(0.02, rel=0.03)
