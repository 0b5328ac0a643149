"""RQ-VAE (Zeghidour et al., 2021; TIGER's ids): an autoencoder whose inner vectors are quantised level by level.

    r₀ = encoder(x),  cᵢ = argminₖ ‖rᵢ - eᵢₖ‖,  rᵢ₊₁ = rᵢ - eᵢ,cᵢ,  x̂ = decoder(Σᵢ eᵢ,cᵢ)
    loss = ‖x - x̂‖² + Σᵢ ‖sg(rᵢ) - eᵢ,cᵢ‖² + β ‖rᵢ - sg(eᵢ,cᵢ)‖²

Gradients pass the quantisation straight through. Three measures keep codes in use: inputs are standardised, codebooks
start as k-means of the encoder's output, and codes that an epoch has not used restart at residuals of random items.
The reconstruction is a sum over dimensions, as are the other terms: a mean would shrink it against them.
"""

from __future__ import annotations

import json
import logging
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.recdataset import IntArray
from llm4rec_cli.data.streams import stream
from llm4rec_cli.files import write_atomic
from llm4rec_cli.progress import track
from llm4rec_zoo.ids.config import RqVaeConfig
from llm4rec_zoo.ids.quantisers import rq_kmeans

log = logging.getLogger(__name__)

CONSTANT = 1e-6  # a dimension with a smaller standard deviation is not scaled up
LOGGED = 100  # epochs from one message to the next
SECONDS = 60.0  # between checkpoints


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


class _Training:
    """The training of an autoencoder, which can be stopped after any epoch and continued exactly.

    Attributes:
        draws: of the order of items and of restarts.
        log: of the epochs so far: number, mean loss, and how many codes of each level were used.
    """

    def __init__(self, x: Tensor, config: RqVaeConfig, codes: int, codebook: int, seed: int) -> None:
        self.x, self.config, self.draws = x, config, stream(seed, "rq_vae")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(self.draws.integers(2**31)))
            self.autoencoder = RqVae(x.shape[1], config, codes, codebook).to(x.device)
        self.optimiser = torch.optim.AdamW(self.autoencoder.parameters(), lr=config.learning_rate)
        self.log: list[dict[str, Any]] = []

    @torch.no_grad()
    def start(self, seed: int) -> None:
        """Start the codebooks at k-means of the encoder's output."""
        codes, codebook, _ = self.autoencoder.codebooks.shape
        _, centres = rq_kmeans(self.autoencoder.encoder(self.x).cpu().numpy(), codes, codebook, seed)
        for level, centre in enumerate(centres):
            self.autoencoder.codebooks[level, : len(centre)] = torch.from_numpy(centre).to(self.x.device)

    def epoch(self) -> None:
        x, model = self.x, self.autoencoder
        levels, codebook, _ = model.codebooks.shape
        used = torch.zeros(levels, codebook, dtype=torch.bool, device=x.device)
        total = 0.0
        order = torch.from_numpy(self.draws.permutation(len(x))).to(x.device)
        for rows in order.split(self.config.batch_size):
            loss, labels = model.loss(x[rows])
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            used[torch.arange(levels, device=x.device), labels] = True
            total += float(loss.detach()) * len(rows)
        n = len(self.log) + 1
        if n < self.config.epochs:
            _restart(model, x, ~used, self.draws)
        self.log.append({"epoch": n, "loss": total / len(x), "used": used.sum(1).tolist()})

    def save(self, path: Path) -> None:
        state = {
            "autoencoder": self.autoencoder.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "draws": json.dumps(self.draws.bit_generator.state),
            "log": json.dumps(self.log),
        }
        write_atomic(path, lambda part: torch.save(state, part))

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True, map_location=self.x.device)
        self.autoencoder.load_state_dict(state["autoencoder"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.draws.bit_generator.state = json.loads(state["draws"])
        self.log = json.loads(state["log"])


def rq_vae(
    vectors: Tensor,
    config: RqVaeConfig,
    codes: int,
    codebook: int,
    seed: int,
    checkpoint: Path | None = None,
    every: float = SECONDS,
) -> tuple[IntArray, list[dict[str, Any]]]:
    """Train on vectors (n, width) on their device; return (n, codes), and the log of the epochs.

    Args:
        checkpoint: a file from which a killed training goes on to the same codes. It belongs to these vectors and
            settings, and the caller removes it.
        every: seconds between checkpoints.
    """
    deviation = vectors.std(0, correction=0)
    x = (vectors - vectors.mean(0)) / torch.where(deviation > CONSTANT, deviation, 1)
    training = _Training(x, config, codes, codebook, seed)
    if checkpoint is not None and checkpoint.exists():
        training.load(checkpoint)
        log.info("the autoencoder of ids goes on after epoch %d", len(training.log))
    else:
        training.start(seed)
    saved = time.monotonic()
    for epoch in track(range(len(training.log), config.epochs), "training the autoencoder of ids"):
        training.epoch()
        if epoch % LOGGED == 0 or epoch + 1 == config.epochs:
            of_epoch = training.log[-1]
            log.info("epoch %d: loss %.4f, codes used per level %s", *of_epoch.values())
        if checkpoint is not None and time.monotonic() - saved >= every:
            training.save(checkpoint)
            saved = time.monotonic()
    with torch.no_grad():
        return training.autoencoder.quantise(training.autoencoder.encoder(x))[1].cpu().numpy(), training.log


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
