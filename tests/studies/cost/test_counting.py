"""Work is counted as by hand."""

import pytest
import torch

from llm4rec_cli.meta import read_as_zeros, without_values
from llm4rec_studies.cost.counting import Counter


def test_work_by_hand():
    a, b, buffer = torch.ones(3, 4), torch.ones(4, 5), torch.empty(3, 5)
    numbers, sorted_numbers, places = torch.tensor([3.0, 1.0]), torch.empty(2), torch.empty(2, dtype=torch.int64)
    table, rows = torch.ones(1000, 8), torch.tensor([1, 2, 3])
    product, matrices = 2 * 3 * 4 * 5, 4 * (12 + 20 + 15)  # a multiply-add is two operations; each matrix once
    for work, parts, peak in (
        (lambda: a @ b, (product, matrices, 1, 0), 4 * 15),
        (lambda: torch.mm(a, b, out=buffer), (product, matrices, 1, 0), 0),  # of a buffer nothing is read
        (lambda: torch.sort(numbers, out=(sorted_numbers, places)), (0, 4 * 2 + 4 * 2 + 8 * 2, 1, 0), 0),
        (lambda: b.t()[1:].view(-1, 2, 2).unsqueeze(0), (0, 0, 0, 0), 0),  # views hold no memory
        (lambda: torch.nn.functional.embedding(rows, table), (0, 2 * 4 * 3 * 8, 1, 0), 4 * 3 * 8),  # only rows read
    ):
        with Counter() as counter:
            kept = work()
        assert (counter.work.parts, counter.peak) == (parts, peak), kept


def test_a_gru_multiplies_each_vector_by_each_weight_and_twice_as_often_for_its_gradients():
    gru = torch.nn.GRU(4, 5, 2, batch_first=True, device="meta")
    with without_values(), Counter() as counter:
        gru(torch.empty(2, 3, 4, device="meta", requires_grad=True))[0].sum().backward()
    of_a_vector = 3 * 5 * (4 + 5) + 3 * 5 * (5 + 5)  # three gates, from the input and from the state, of two layers
    assert counter.work.operations == (1 + 2) * 2 * (2 * 3) * of_a_vector
    assert (counter.names["_cudnn_rnn"], counter.names["_cudnn_rnn_backward"]) == (1, 1)


def test_the_peak_is_of_what_lives_at_once():
    with Counter() as counter:
        for _ in range(3):
            kept = torch.zeros(100)
            del kept
        two = torch.zeros(100), torch.zeros(100)
    assert counter.peak == 800
    assert len(two) == 2


def test_work_of_shapes_that_are_known_counts_as_it_did_before():
    layer = torch.nn.Sequential(torch.nn.LayerNorm(6), torch.nn.Linear(6, 4), torch.nn.GELU()).to("meta")
    x = torch.empty(5, 6, device="meta")  # asks for no gradient of its own, so that one result is None

    def step():
        layer(x).split([1, 3], dim=1)[1].float().topk(2).values.sum().backward()
        layer.zero_grad()

    with Counter() as once:
        step()
    with Counter() as twice:
        step()
        step()
    assert once.work.operations > 0
    assert twice.work.parts == tuple(2 * part for part in once.work.parts)
    assert twice.names == {name: 2 * n for name, n in once.names.items()}
    assert twice.peak == once.peak


def test_what_is_made_without_a_tensor_has_values():
    with read_as_zeros(), Counter():
        zeros = [torch.empty(3, device="meta").tolist() for _ in range(3)]
    assert zeros == [[0.0] * 3] * 3


@pytest.mark.parametrize("masked", [False, True])
def test_attention_without_values_is_one_operator_with_the_operations_of_two_products(masked):
    q = torch.empty(2, 4, 16, 8, device="meta", requires_grad=True)
    mask = torch.empty(2, 1, 1, 16, dtype=torch.bool, device="meta") if masked else None
    with without_values(), Counter() as counter:
        mixed = torch.nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=mask)
    assert mixed.shape == q.shape
    assert counter.work.operations == 2 * 2 * (2 * 4 * 16 * 16 * 8)
    assert counter.names["_scaled_dot_product_efficient_attention"] == 1
    mixed.sum().backward()
    assert q.grad is not None
    assert q.grad.shape == q.shape
