import math

import pytest
import torch
import torch.nn.functional as F

from llm4rec_cli.models.shared.attention import attend

pytestmark = pytest.mark.numeric


def random_inputs(n=5, m=7, dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.randn(2, 3, length, 8, dtype=dtype, requires_grad=True) for length in (n, m, m)]


def random_mask(m=7):
    mask = torch.rand(2, 1, 1, m, generator=torch.Generator().manual_seed(0)) > 0.4
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_those_of_differences(dropout):
    mask = random_mask()

    def seeded(q, k, v):
        torch.manual_seed(1)  # the same weights are dropped each time
        return attend(q, k, v, mask, dropout)

    assert torch.autograd.gradcheck(seeded, random_inputs())


def test_dropout_drops_its_share_of_the_weights_and_keeps_the_mean():
    q, k, v = (tensor.detach() for tensor in random_inputs())
    many = attend(q.expand(4000, 2, 3, 5, 8), k, v, None, 0.25)[0]
    expected = F.scaled_dot_product_attention(q, k, v)
    error = many.std(0) / math.sqrt(len(many))
    assert ((many.mean(0) - expected).abs() < 5 * error).all()
    assert (error > 0).all()
    q, k, _ = (tensor.detach() for tensor in random_inputs(m=100))
    one_hot = torch.eye(100, dtype=q.dtype).expand(2, 3, 100, 100)  # so that the output is the weights
    weights, log_sum = attend(q, k, one_hot, None, 0.25)
    assert (weights == 0).double().mean().item() == pytest.approx(0.25, abs=0.04)
    expected, expected_log_sum = attend(q, k, one_hot)
    torch.testing.assert_close(weights, torch.where(weights == 0, 0, expected / 0.75))
    torch.testing.assert_close(log_sum, expected_log_sum)
