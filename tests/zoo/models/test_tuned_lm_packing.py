"""Packed rows: logits and gradients are those of padded rows under transformers."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_zoo.models.tuned_lm.packing import NAME, Row, pack
from tests.zoo.models.tuned_lm_data import plain

pytestmark = pytest.mark.numeric

BEGIN, OTHER = (5, 9, 7, 11, 3), (8, 2)
ROWS = [
    Row(BEGIN, [4, 6, 10]),
    Row((), [12, 5, 5, 7, 2, 30]),
    Row(BEGIN, [3]),
    Row(OTHER, [17, 18, 19, 20]),
    Row(BEGIN, [40, 41, 42]),
    Row(OTHER, []),
    Row(BEGIN, []),
]


def packed_logits(model, rows):
    packed = pack(rows)
    tensors = packed.batch
    logits = model(
        tensors["tokens"][None], position_ids=tensors["position"][None], segments=tensors["segments"].tolist()
    ).logits[0]
    return [logits[[packed.place(i, place) for place in range(len(row.tokens))]] for i, row in enumerate(rows)]


def padded_logits(model, rows):
    tokens = [torch.tensor(row.tokens) for row in rows]
    mask = pad_sequence([torch.ones_like(row) for row in tokens], batch_first=True)
    logits = model(pad_sequence(tokens, batch_first=True), attention_mask=mask).logits
    return [own[: len(row)] for own, row in zip(logits, tokens, strict=True)]


def test_packed_logits_and_their_gradients_equal_padded_ones(causal):
    ours, theirs = plain(causal), plain(causal)
    ours.set_attn_implementation(NAME)
    logits = packed_logits(ours, ROWS), padded_logits(theirs, ROWS)
    assert_close(*logits, rel=1e-5)
    for model, parts in zip((ours, theirs), logits, strict=True):
        sum(part.log_softmax(-1)[:, 3].sum() for part in parts).backward()
        assert all(weight.grad is not None for weight in model.parameters())
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(own.grad, other.grad, rel=1e-4)
    tokens = torch.tensor([ROWS[1].tokens])
    assert_close(ours(tokens).logits, theirs(tokens).logits, rel=1e-5)  # without segments it is ordinary attention
