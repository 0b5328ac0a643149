"""Without values, work is what an accelerator would be asked."""

import pytest
import torch

from llm4rec_cli.meta import read_as_zeros, without_values
from llm4rec_studies.cost.counting import Counter


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


def test_what_is_read_from_a_tensor_without_values_is_zero():
    x = torch.empty(2, 3, device="meta")
    with pytest.raises((NotImplementedError, RuntimeError)):
        x.tolist()
    with read_as_zeros():
        assert x.tolist() == [[0.0] * 3] * 2
        assert torch.ones(2).tolist() == [1.0, 1.0]
