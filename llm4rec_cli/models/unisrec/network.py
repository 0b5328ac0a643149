"""UniSRec (Hou et al., KDD 2022, arXiv 2206.05941): item vectors from text, SASRec encoder, cosine scores.

With `adaptor=two_linear` and `similarity=dot` it is ZESRec (arXiv 2105.08318) as UniSRec's table has it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli import processes
from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.layers import INITIAL_STD, Dropout, initialise, sasrec_encoder
from llm4rec_cli.models.shared.losses import catalogue_cross_entropy, gather_rows
from llm4rec_cli.models.shared.next_item import HistoryRanker
from llm4rec_cli.models.shared.sequences import SequenceRows
from llm4rec_cli.models.unisrec.config import UniSRecConfig
from llm4rec_cli.models.unisrec.settings import Adaptor, AdaptorDraw, Freeze, Similarity
from llm4rec_cli.text.features import encode_texts

NOISE_FLOOR = 0.01  # added to the gate noise's scale (published code)


class MoEAdaptor(nn.Module):
    """Parametric whitening by several experts, mixed by a noisy softmax gate (paper, equations 1-4).

    v = Σ_k g_k (Dropout(x) - b_k) W_k with g = softmax(x W_2 + δ), δ = ε (softplus(x W_3) + 0.01) in training, 0 after.
    Each expert draws its own dropout.
    """

    def __init__(self, text_size: int, hidden_size: int, experts: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(experts, text_size))
        self.whiten = nn.Parameter(torch.empty(experts, text_size, hidden_size).normal_(std=INITIAL_STD))
        self.gate = nn.Parameter(torch.zeros(text_size, experts))
        self.noise = nn.Parameter(torch.zeros(text_size, experts))

    def forward(self, x: Tensor) -> Tensor:
        gates = self.gates(x)
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        x, gates = x.to(dtype), gates.to(dtype)
        # b_k W_k is one vector per expert, so the bias is applied without touching the inputs. Experts are computed one
        # by one, because all at once would exceed the cache.
        mixed = -gates @ torch.bmm(self.bias.unsqueeze(1), self.whiten).squeeze(1)
        for gate, whiten in zip(gates.unsqueeze(-1).unbind(1), self.whiten, strict=True):
            mixed = mixed + gate * (self.dropout(x) @ whiten)
        return mixed

    def gates(self, x: Tensor) -> Tensor:
        """Return (n, experts) the weights of the experts for each item, with noise in training."""
        logits = x @ self.gate
        if self.training:
            scale = F.softplus(x @ self.noise) + NOISE_FLOOR
            logits = logits + torch.randn_like(logits) * scale
        return logits.softmax(-1)


class UniSRec(HistoryRanker):
    """Text vectors, adapted (plus an id embedding if transductive), into a causal Transformer.

    The adaptor runs over the catalogue once per step; inputs and targets are looked up in its result.
    """

    features: Tensor
    softmax_items: Tensor | None

    def __init__(self, config: UniSRecConfig, features: Tensor, context: Context) -> None:
        super().__init__(context)
        self.cache, self.text_encoder, self.max_length = context.cache, config.encoder, config.max_length
        self.temperature = config.temperature or 1.0  # null: of inner products
        self.uses_cosine = config.similarity is Similarity.cosine
        self.draw = config.draw or AdaptorDraw.catalogue  # null: of an adaptor that draws nothing
        self.register_buffer("features", features, persistent=False)  # frozen, stored in the feature cache
        self.encoder = sasrec_encoder(config)
        if config.adaptor == Adaptor.linear:
            self.adaptor: nn.Module = nn.Linear(features.shape[1], config.hidden_size)
        elif config.adaptor == Adaptor.two_linear:
            layers = [nn.Linear(size, config.hidden_size) for size in (features.shape[1], config.hidden_size)]
            self.adaptor = nn.Sequential(*layers)
        else:
            self.adaptor = MoEAdaptor(features.shape[1], config.hidden_size, config.experts, config.adaptor_dropout)
        self.ids = nn.Embedding(len(features), config.hidden_size) if config.use_ids else None
        items = context.split.softmax_items()
        subset = None if items is None else torch.from_numpy(items).long()
        self.register_buffer("softmax_items", subset, persistent=False)
        self.apply(initialise)
        frozen: dict[Freeze, list[nn.Module]] = {
            Freeze.none: [],
            Freeze.encoder: [self.encoder.positions, self.encoder.layers],  # its input LayerNorm is trained
            Freeze.adaptor: [self.adaptor],
        }
        for part in frozen[config.freeze]:
            part.requires_grad_(False)

    def initialise_from(self, weights: dict[str, Tensor]) -> None:
        """Load the weights of another UniSRec, except id embeddings, which belong to their own catalogue.

        Raises:
            RuntimeError: the shapes differ.
        """
        own_ids = {} if self.ids is None else {"ids.weight": self.ids.weight}
        self.load_state_dict({n: w for n, w in weights.items() if n != "ids.weight"} | own_ids)

    def add_items(self, split: Split) -> None:
        texts = split.dataset.texts[len(self.features) :]
        device = self.features.device
        added = encode_texts(texts, self.text_encoder, self.cache, device.type, self.split.dataset)
        self.features = torch.cat([self.features, added.to(device)])
        self._kept = None

    def training_rows(self) -> SequenceRows:
        return SequenceRows(self.split, self.max_length)

    def table(self) -> Tensor:
        """Return (n_items, hidden) item vectors: adapted text, plus the id embedding if transductive."""
        return self._with_ids(self.adaptor(self.features))

    def _with_ids(self, adapted: Tensor) -> Tensor:
        return adapted if self.ids is None else adapted + self.ids.weight

    def compared(self, vectors: Tensor) -> Tensor:
        """Return vectors, scaled to length 1 if the scores are cosines."""
        return F.normalize(vectors, dim=-1) if self.uses_cosine else vectors

    def forward(self, items: Tensor, read: Tensor, targets: Tensor, groups: IntArray) -> dict[str, Any]:
        """Return the mean cross-entropy of score / temperature over all items, of a batch of `SequenceRows`."""
        catalogue = self.table()
        if self.draw == AdaptorDraw.catalogue:
            inputs = F.embedding(items, catalogue)
        else:
            inputs = self.adaptor(F.embedding(items, self.features))
            if self.ids is not None:
                inputs = inputs + self.ids(items)
        hidden = self.compared(self.encoder(inputs, groups)[read])
        loss = catalogue_cross_entropy(hidden / self.temperature, self.compared(catalogue), targets, self.softmax_items)
        return {"loss": loss, "n_terms": len(hidden)}

    def evaluated_table(self) -> Tensor:
        """Return `table` for an evaluation. Several processes adapt a share of the items each, and all must call it.

        With eight experts an item of 300 numbers takes 3,072 operations (of a text vector of 768) for each byte that is
        gathered.
        """
        shares = processes.shares(len(self.features))
        adapted = self.adaptor(self.features[shares[processes.rank()]])
        return self._with_ids(gather_rows(adapted, [share.stop - share.start for share in shares]))

    def last_states(self, table: Tensor, items: Tensor, groups: IntArray, last: IntArray) -> Tensor:
        return self.encoder.last(F.embedding(items, table), groups, last)
