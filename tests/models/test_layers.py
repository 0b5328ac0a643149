import math

import pytest
import torch

from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.models.shared.layers import (
    Dropout,
    Groups,
    SequenceEncoder,
    TransformerLayer,
    dropped_out,
    initialise,
    pairwise_products,
)
from tests.models import naive

pytestmark = pytest.mark.numeric


def test_dropout_keeps_the_mean_drops_neighbours_independently_and_small_probabilities_are_not_rounded_away():
    torch.manual_seed(0)
    for n, p in ((200_000, 0.1), (200_000, 0.2), (200_000, 0.5), (200_000, 0.9), (1_000_000, 0.001)):
        out = dropped_out(torch.ones(n), p)
        assert out.mean().item() == pytest.approx(1, abs=5 * math.sqrt(p / (1 - p) / n))
        assert (out == 0).float().mean().item() == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / n))
    dropped = (dropped_out(torch.ones(50_000, 4), 0.5) == 0).float()  # four elements share one random number
    correlation = torch.corrcoef(dropped.t()) - torch.eye(4)
    assert correlation.abs().max().item() < 5 / math.sqrt(50_000)


def test_dropout_keeps_or_drops_with_its_gradient_in_training_only():
    torch.manual_seed(0)
    x = torch.randn(7, 11, requires_grad=True)  # 77 elements: not a multiple of the four that share a draw
    out = dropped_out(x, 0.5)
    kept = out != 0
    assert out.shape == x.shape
    assert 0 < kept.sum() < x.numel()
    torch.testing.assert_close(out[kept], 2 * x[kept])
    out.sum().backward()
    torch.testing.assert_close(x.grad, 2.0 * kept)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):  # no trace is left of what is dropped
        x = torch.tensor([torch.inf, torch.nan, -1.0, 3.0] * 50, dtype=dtype)
        out = dropped_out(x, 0.5)
        kept = out != 0
        assert out.dtype == dtype
        assert 0 < kept.sum() < len(x)
        torch.testing.assert_close(out[kept], 2 * x[kept], equal_nan=True)
    x = torch.randn(10, 10)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0).train()(x), x)
    assert not torch.equal(Dropout(0.5).train()(x), x)


def test_weights_start_as_recbole_starts_them_and_attention_without_drops_is_that_of_evaluation():
    torch.manual_seed(0)
    encoder = SequenceEncoder(64, 50, 0.5, [TransformerLayer(64, 64, 2, 0.5, 0.5)])
    encoder.apply(initialise)
    for name, parameter in encoder.named_parameters():
        if name.endswith("bias"):
            assert parameter.abs().max() == 0, name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name
            assert parameter.mean().item() == pytest.approx(0, abs=0.002), name
    # 1e-6 rounds to 0 of 65,536: the path that applies dropout runs, and drops nothing
    torch.manual_seed(0)
    layer = TransformerLayer(8, 12, heads=2, dropout=0.0, attention_dropout=1e-6)
    naive.randomise(layer)
    x, groups = torch.randn(3 * 5, 8), Groups([(3, 5)], None)
    assert_close(layer.train()(x, groups), layer.eval()(x, groups), rel=1e-5)


@pytest.mark.parametrize("size", [0, 1, 300])
def test_pairwise_products_and_their_gradients(size):
    draw = torch.Generator().manual_seed(0)
    left, right, outer = (torch.randn(n, m, generator=draw) for n, m in ((70, size), (90, size), (70, 90)))
    inputs = left.requires_grad_(), right.requires_grad_()
    actual, expected = pairwise_products(*inputs), left @ right.t()
    assert_close(actual, expected, rel=1e-6)
    gradients = (torch.autograd.grad(value, inputs, outer) for value in (actual, expected))
    assert_close(*gradients, rel=1e-6)
