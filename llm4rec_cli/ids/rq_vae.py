"""RQ-VAE (Zeghidour et al., 2021; TIGER's ids): an autoencoder whose inner vectors are quantised level by level.

    r₀ = encoder(x),  cᵢ = argminₖ ‖rᵢ - eᵢₖ‖,  rᵢ₊₁ = rᵢ - eᵢ,cᵢ,  x̂ = decoder(Σᵢ eᵢ,cᵢ)
    loss = ‖x - x̂‖² + Σᵢ ‖sg(rᵢ) - eᵢ,cᵢ‖² + β ‖rᵢ - sg(eᵢ,cᵢ)‖²

Gradients pass the quantisation straight through. Three measures keep codes in use: inputs are standardised, codebooks
start as k-means of the encoder's output, and codes that an epoch has not used restart at residuals of random items.
The reconstruction is a sum over dimensions, as are the other terms: a mean would shrink it against them.
"""

from __future__ import annotations

import logging
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.recdataset import IntArray
from llm4rec_cli.data.streams import stream
from llm4rec_cli.ids.config import RqVaeConfig
from llm4rec_cli.ids.quantisers import rq_kmeans
from llm4rec_cli.progress import track

log = logging.getLogger(__name__)

CONSTANT = 1e-6  # a dimension with a smaller standard deviation is not scaled up


class RqVae(nn.Module):
    """The autoencoder.

    Attributes:
        codebooks: (levels, codebook, size).
    """

    def __init__(self, width: int, config: RqVaeConfig, levels: int, codebook: int) -> None:
        super().__init__()
        sizes = [width, *config.layers, config.size]
        self.encoder, self.decoder = _mlp(sizes), _mlp(sizes[::-1])
        self.codebooks = nn.Parameter(torch.zeros(levels, codebook, config.size))
        self.commitment = config.commitment

    def quantise(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sum of the chosen codes (n, size), their numbers (n, levels), and the residual before each level,
        (n, levels, size)."""
        total, labels, residuals = torch.zeros_like(z), [], []
        for codebook in self.codebooks:
            residual = z - total
            label = torch.cdist(residual, codebook).argmin(1)
            total = total + F.embedding(label, codebook)
            labels.append(label)
            residuals.append(residual)
        return total, torch.stack(labels, 1), torch.stack(residuals, 1)

    def loss(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss of vectors (n, width), and their codes."""
        z = self.encoder(x)
        with torch.no_grad():
            _, labels, _ = self.quantise(z)
        chosen = torch.stack(
            [F.embedding(label, book) for label, book in zip(labels.t(), self.codebooks, strict=True)], 1
        )
        before = chosen.detach().cumsum(1) - chosen.detach()  # what the levels before have taken
        residuals = z.unsqueeze(1) - before
        to_codes = (residuals.detach() - chosen).square().sum()
        to_vectors = (residuals - chosen.detach()).square().sum()
        straight_through = z + (chosen.sum(1) - z).detach()
        reconstruction = (self.decoder(straight_through) - x).square().sum()
        return (reconstruction + to_codes + self.commitment * to_vectors) / len(x), labels


def _mlp(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def rq_vae(vectors: Tensor, config: RqVaeConfig, codes: int, codebook: int, seed: int) -> IntArray:
    """Train on vectors (n, width) on their device; return (n, codes)."""
    deviation = vectors.std(0, correction=0)
    x = (vectors - vectors.mean(0)) / torch.where(deviation > CONSTANT, deviation, 1)
    draws = stream(seed, "rq_vae")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(draws.integers(2**31)))
        model = RqVae(x.shape[1], config, codes, codebook).to(x.device)
    with torch.no_grad():
        _, centres = rq_kmeans(model.encoder(x).cpu().numpy(), codes, codebook, seed)
        for level, centre in enumerate(centres):
            model.codebooks[level, : len(centre)] = torch.from_numpy(centre).to(x.device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    for epoch in track(range(config.epochs), "training the autoencoder of ids"):
        used = torch.zeros(codes, codebook, dtype=torch.bool, device=x.device)
        total = 0.0
        order = torch.from_numpy(draws.permutation(len(x))).to(x.device)
        for rows in order.split(config.batch_size):
            loss, labels = model.loss(x[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            used[torch.arange(codes, device=x.device), labels] = True
            total += float(loss.detach()) * len(rows)
        if epoch + 1 < config.epochs:
            _restart(model, x, ~used, draws)
        if epoch % 100 == 0 or epoch + 1 == config.epochs:
            log.info("epoch %d: loss %.4f, codes used per level %s", epoch + 1, total / len(x), used.sum(1).tolist())
    with torch.no_grad():
        return model.quantise(model.encoder(x))[1].cpu().numpy()


@torch.no_grad()
def _restart(model: RqVae, x: Tensor, unused: Tensor, draws: np.random.Generator) -> None:
    """Put unused codes (levels, codebook) where the residuals of random items are."""
    if not unused.any():
        return
    items = torch.from_numpy(draws.permutation(len(x))[: unused.shape[1]]).to(x.device)
    residuals = model.quantise(model.encoder(x[items]))[2]
    for level, places in enumerate(unused):
        (codes,) = torch.nonzero(places, as_tuple=True)
        codes = codes[: len(items)]
        model.codebooks[level, codes] = residuals[: len(codes), level]
