"""The packed BERT equals `BertForMaskedLM` of transformers on padded input."""

import copy

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.models.prompt4nr.bert import PackedBert
from llm4rec_cli.models.prompt4nr.sequences import FilledTemplates, SharedHistories
from llm4rec_cli.models.shared.tokens import Ragged, pack_rows
from tests.models.tiny_bert import tiny_bert

pytestmark = pytest.mark.numeric

N_NEW = 4
LENGTHS = (7, 40, 3, 19, 22, 21, 3, 1, 42)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return BertForMaskedLM.from_pretrained(tiny_bert(tmp_path_factory.mktemp("bert"))).eval()


def resized(bert, new):
    """The BERT of transformers with the new tokens' embeddings added to its vocabulary."""
    larger = copy.deepcopy(bert)
    n_words = larger.config.vocab_size
    larger.resize_token_embeddings(n_words + len(new), mean_resizing=False)
    with torch.no_grad():
        larger.bert.embeddings.word_embeddings.weight[n_words:] = new
    return larger.eval()


def rows_of(lengths, n_tokens, seed=0):
    """Random tokens, including new ones."""
    rng = np.random.default_rng(seed)
    return Ragged.from_rows([rng.integers(1, n_tokens, length).tolist() for length in lengths])


def padded(rows):
    """(n, longest) tokens, and whether each is real."""
    real = torch.arange(int(rows.lengths.max())) < torch.from_numpy(rows.lengths)[:, None]
    tokens = torch.zeros(real.shape, dtype=torch.int64)
    tokens[real] = torch.from_numpy(rows.flat.astype(np.int64))
    return tokens, real


def test_states_at_any_tokens_equal_those_at_one_per_row_and_new_tokens_start_as_in_bert(tiny):
    ours = PackedBert(tiny, N_NEW).eval()
    rows = rows_of(LENGTHS, tiny.config.vocab_size + N_NEW)
    inputs = pack_rows(rows)
    mask_positions = torch.tensor([length // 2 for length in LENGTHS])
    starts = inputs.pop("starts")
    with torch.no_grad():
        one_per_row = ours(mask_positions, **inputs, starts=starts)
        assert_close(ours.states_at(starts + mask_positions, **inputs), one_per_row, rel=5e-6)
    new = PackedBert(tiny, 400).new
    assert new.mean().abs() < 0.001
    assert new.std().item() == pytest.approx(0.02, rel=0.03)


def test_gradients_equal_those_of_padded_rows(tiny):
    bert = copy.deepcopy(tiny)
    rows = rows_of(LENGTHS, bert.config.vocab_size + N_NEW)
    mask_positions, words = torch.tensor([length - 1 for length in LENGTHS]), torch.tensor([7, 9])
    ours = PackedBert(bert, N_NEW).eval()
    theirs = resized(bert, ours.new.detach())
    tokens, real = padded(rows)
    ours.logits(ours(mask_positions, **pack_rows(rows)), words).square().sum().backward()
    logits = theirs(input_ids=tokens, attention_mask=real.long()).logits
    logits[torch.arange(len(mask_positions)), mask_positions][:, words].square().sum().backward()
    n_words = bert.config.vocab_size
    embeddings = theirs.bert.embeddings
    for own, other in (
        (ours.new.grad, embeddings.word_embeddings.weight.grad[n_words:]),
        (ours.words.weight.grad, embeddings.word_embeddings.weight.grad[:n_words]),
        (ours.positions.weight.grad, embeddings.position_embeddings.weight.grad),
        (ours.kind.grad, embeddings.token_type_embeddings.weight.grad[0]),
        (ours.bias.grad, theirs.cls.predictions.bias.grad[:n_words]),
        (ours.layers[1].attention.self.key.weight.grad, theirs.bert.encoder.layer[1].attention.self.key.weight.grad),
        (ours.layers[0].intermediate.dense.weight.grad, theirs.bert.encoder.layer[0].intermediate.dense.weight.grad),
    ):
        assert_close(own, other, rel=1e-4)


HISTORIES, OWNERS = (22, 17, 21, 1), (0, 1, 1, 2, 0, 3, 2, 1, 2)  # lengths, and the history of each row


def shared_inputs(bert, seed=0):
    """Rows of LENGTHS with their histories, packed, and the tokens of both."""
    histories = rows_of(HISTORIES, bert.config.vocab_size + N_NEW, seed + 1)
    rows = rows_of(LENGTHS, bert.config.vocab_size + N_NEW, seed)
    owner, starts = np.array(OWNERS), np.zeros(len(HISTORIES), dtype=np.int64)
    shared = SharedHistories(histories, starts, owner, histories.lengths[owner])
    inputs = FilledTemplates(rows, np.zeros(len(OWNERS), dtype=np.int64), shared).packed()
    del inputs["mask_positions"]
    return histories, rows, inputs


def whole_row(bert, histories, rows, i, mask_position):
    """Return transformers' state at the mask of row i after its history, which does not see the row."""
    history, row = histories.rows(np.array([OWNERS[i]])).flat, rows.rows(np.array([i])).flat
    tokens = torch.from_numpy(np.concatenate([history, row]).astype(np.int64))[None]
    sees = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool)
    sees[: len(history), len(history) :] = False
    bias = torch.zeros(1, 1, *sees.shape).masked_fill(~sees, torch.finfo(torch.float32).min)
    states = bert.bert(input_ids=tokens, attention_mask=bias)[0]
    return bert.cls.predictions.transform(states[0, len(history) + mask_position])


def test_gradients_through_a_shared_history_equal_those_of_whole_rows(tiny):
    bert = copy.deepcopy(tiny)
    ours = PackedBert(bert, N_NEW).eval()
    theirs, (histories, rows, inputs) = resized(bert, ours.new.detach()), shared_inputs(bert)
    mask_positions = torch.tensor([length // 2 for length in LENGTHS])
    weights = torch.randn(bert.config.hidden_size, generator=torch.Generator().manual_seed(0))
    (ours(mask_positions, **inputs) @ weights).sum().backward()
    for i in range(len(OWNERS)):
        (whole_row(theirs, histories, rows, i, mask_positions[i]) @ weights).sum().backward()
    layers, embeddings = theirs.bert.encoder.layer, theirs.bert.embeddings
    assert_close(ours.positions.weight.grad, embeddings.position_embeddings.weight.grad, rel=1e-4)
    assert_close(ours.new.grad, embeddings.word_embeddings.weight.grad[bert.config.vocab_size :], rel=1e-4)
    for own, other in zip(ours.layers, layers, strict=True):
        for (name, weight), expected in zip(own.named_parameters(), other.parameters(), strict=True):
            if not name.endswith("key.bias"):  # which shifts all scores of a query alike, so that its gradient is 0
                assert_close(weight.grad, expected.grad, rel=1e-4)


def test_dropout_applies_in_training_only(tiny):
    ours = PackedBert(copy.deepcopy(tiny), N_NEW)
    rows = rows_of((12,) * 4, tiny.config.vocab_size)
    mask_positions, inputs = torch.zeros(4, dtype=torch.int64), pack_rows(rows)
    shared_positions, (_, _, shared) = torch.zeros(len(LENGTHS), dtype=torch.int64), shared_inputs(tiny)
    with torch.no_grad():
        assert not torch.equal(ours.train()(mask_positions, **inputs), ours(mask_positions, **inputs))
        assert torch.equal(ours.eval()(mask_positions, **inputs), ours(mask_positions, **inputs))
        expected = ours(shared_positions, **shared)
        ours.train().dropout = 0.0
        states = torch.stack([ours(shared_positions, **shared) for _ in range(200)])
        assert (states.std(0) > 0).all(), "each row's attention is dropped"
        ours.attention_dropout = 0.0
        assert_close(ours(shared_positions, **shared), expected, rel=5e-6)
        without = ours(mask_positions, **inputs)
        assert_close(without, ours.eval()(mask_positions, **inputs), rel=5e-6)
        ours.attention_dropout = 1e-9  # so low that nothing is dropped: explicit attention equals fused attention
        assert_close(ours.train()(mask_positions, **inputs), without, rel=1e-5)
