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


def test_without_dropout_it_is_ordinary_attention():
    q, k, v = random_inputs()
    for mask in (None, random_mask()):
        out, log_sum = attend(q, k, v, mask)
        scores = q @ k.transpose(-1, -2) / math.sqrt(8)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v, mask))
        torch.testing.assert_close(log_sum, scores.logsumexp(-1, keepdim=True))
    q, k, v = random_inputs()
    (first, first_sum), (second, second_sum) = (
        attend(q, k[:, :, part], v[:, :, part]) for part in ([0, 1, 2], [3, 4, 5, 6])
    )
    both = torch.lerp(first, second, (second_sum - first_sum).sigmoid())
    torch.testing.assert_close(both, attend(q, k, v)[0])
    q, k, v = random_inputs(dtype=torch.float32)
    out, log_sum = attend(q * 1e4, k * 1e4, v)
    assert torch.isfinite(out).all()
    assert torch.isfinite(log_sum).all()


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
