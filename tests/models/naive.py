"""A naive second implementation: one padded row per (prefix, target) pair, explicit masks, no packing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.split import Split
from llm4rec_cli.models.shared.layers import SequenceEncoder, TransformerLayer


def prefix_rows(split: Split) -> list[tuple[list[int], int]]:
    """Return every (prefix, target) of the training part, as in the published code."""
    flat, offsets = split.train_sequences()
    sequences = [flat[a:b].tolist() for a, b in pairwise(offsets)]
    return [(sequence[:t], sequence[t]) for sequence in sequences for t in range(1, len(sequence))]


def mean_loss(split: Split, logits: Callable[[list[int]], Tensor]) -> Tensor:
    """Return the mean cross-entropy of the training part, by the (n_items,) logits after each prefix."""
    rows = prefix_rows(split)
    return torch.stack([F.cross_entropy(logits(prefix), torch.tensor(target)) for prefix, target in rows]).mean()


def loss_of(model: Any, epoch: int = 0) -> Tensor:
    """Return a model's loss of all its training rows as one batch."""
    rows = model.training_rows()
    loss: Tensor = model(**rows.batch(epoch, list(range(len(rows)))))["loss"]
    return loss


def assert_same_loss(loss: Tensor, expected: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """Assert that a loss and its gradients are the expected ones; return the gradients by name."""
    assert_close(loss.double(), expected, rel=1e-5)
    actual, reference = gradients(loss, model), gradients(expected, model)
    for name, gradient in reference.items():
        assert_close(actual[name], gradient, rel=1e-5, msg=name)
    return actual


def assert_trained(gradients: dict[str, Tensor]) -> None:
    for name, gradient in gradients.items():
        untrained = name.endswith("qkv.bias") or name == "adaptor.noise"  # keys' biases cancel; noise is off
        assert untrained or gradient.abs().max() > 1e-6, f"{name} is not trained"


def encode(encoder: SequenceEncoder, vectors: Tensor, causal: bool = True) -> Tensor:
    """Apply RecBole's SASRec encoder to the (length, hidden) vectors of one sequence, padded at the right.

    Returns:
        (hidden,) the state of the last real position.
    """
    length, size = len(vectors), encoder.max_length
    x = torch.cat([vectors, vectors.new_zeros(size - length, vectors.shape[1])])
    x = F.layer_norm(x + encoder.positions.weight, x.shape[1:], encoder.norm.weight, encoder.norm.bias, eps=1e-12)
    place = torch.arange(size)
    hidden_from = (place[None, :] > place[:, None]) & causal | (place[None, :] >= length)  # causal and padding
    mask = -10000.0 * hidden_from.to(vectors.dtype)
    for layer in encoder.layers:
        assert isinstance(layer, TransformerLayer)
        x = _layer(layer, x, mask)
    return x[length - 1]


def _layer(layer: TransformerLayer, x: Tensor, mask: Tensor) -> Tensor:
    hidden = x.shape[1]
    size = hidden // layer.heads
    query, key, value = (
        x @ weight.t() + bias
        for weight, bias in zip(layer.qkv.weight.split(hidden), layer.qkv.bias.split(hidden), strict=True)
    )
    heads = []
    for h in range(layer.heads):
        part = slice(h * size, (h + 1) * size)
        attention = (query[:, part] @ key[:, part].t() / size**0.5 + mask).softmax(-1)
        heads.append(attention @ value[:, part])
    attended = torch.cat(heads, dim=1) @ layer.out.weight.t() + layer.out.bias
    x = _norm(layer.norm_attention, x + attended)
    inner = x @ layer.up.weight.t() + layer.up.bias
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    return _norm(layer.norm_feedforward, x + inner @ layer.down.weight.t() + layer.down.bias)


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt() * norm.weight + norm.bias


def gradients(loss: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """Return the gradient of each parameter by name; zeros where the loss does not depend on it."""
    named = dict(model.named_parameters())
    values = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), values, strict=True)}


def randomise(model: nn.Module, std: float = 0.3) -> None:
    """Move weights far from their initial values, so that none is 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * std)
