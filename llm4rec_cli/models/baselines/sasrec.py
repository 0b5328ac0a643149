"""SASRec (Kang and McAuley, ICDM 2018), by default with cross-entropy over the catalogue, as in UniSRec's tables."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.tokens import vocabulary
from llm4rec_cli.errors import DataError
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.baselines.config import ItemVectors, SASRecConfig
from llm4rec_cli.models.shared.layers import INITIAL_STD, initialise, sasrec_encoder
from llm4rec_cli.models.shared.next_item import EncoderModel
from llm4rec_cli.text.features import encode_texts


class SASRec(EncoderModel):
    """Item embeddings, a causal Transformer, scores by inner product.

    `vectors` are text vectors, which start the item embeddings or, frozen, replace them; None = learned from scratch.
    With `tokens` the vector of an item, in input and output, is its embedding plus the mean of its tokens' embeddings.
    Only tokens shared by several training items are used.
    """

    vectors: Tensor | None
    token: Tensor
    first_token: Tensor

    def __init__(self, config: SASRecConfig, context: Context, vectors: Tensor | None = None) -> None:
        super().__init__(config, context, config.hidden_size)
        self.encoder = sasrec_encoder(config, from_last=self.from_last)
        training_items = context.split.softmax_items()
        self.tokens = self._token_embedding(training_items, config.hidden_size) if config.tokens else None
        self.register_buffer("vectors", None, persistent=False)
        self.adaptor = None
        if vectors is not None and config.vectors is not ItemVectors.initial:
            del self.items
            self.vectors = vectors
            if config.vectors is ItemVectors.adapted:
                self.adaptor = nn.Linear(vectors.shape[1], config.hidden_size)
        self.apply(initialise)
        if vectors is not None and config.vectors is ItemVectors.initial:
            self.items.weight.data.copy_(vectors * (INITIAL_STD * math.sqrt(config.hidden_size)))

    def _token_embedding(self, training_items: IntArray | None, size: int) -> nn.Embedding:
        """Return the embedding of tokens that items share. Two buffers have the concatenated tokens of all items."""
        tokens = list(self.split.dataset.items["tokens"])
        training_tokens = tokens if training_items is None else [tokens[i] for i in training_items]
        number = {token: i for i, token in enumerate(vocabulary(training_tokens))}
        if not number:
            raise DataError("no two items share a token", "set model.tokens=false or use other tokens")
        shared_tokens = [[number[token] for token in item if token in number] for item in tokens]
        first = np.cumsum([0, *map(len, shared_tokens)])[:-1]
        self.register_buffer("token", torch.tensor(list(chain.from_iterable(shared_tokens))), persistent=False)
        self.register_buffer("first_token", torch.from_numpy(first), persistent=False)
        return nn.Embedding(len(number), size)

    def _items(self) -> Tensor:
        if self.vectors is None:
            return self.items.weight
        return self.vectors if self.adaptor is None else self.adaptor(self.vectors)

    def table(self) -> Tensor:
        items = self._items()
        if self.tokens is None:
            return items
        return items + F.embedding_bag(self.token, self.tokens.weight, self.first_token, mode="mean")


def text_vectors(config: SASRecConfig, context: Context) -> Tensor:
    """Return (n_items, size) text vectors of length 1 in the root mean square; of hidden_size where no layer adapts it,
    by principal components, or zeros where there are too few."""
    dataset, encoder = context.split.dataset, config.encoder
    assert encoder is not None
    needs_size = config.vectors is not ItemVectors.adapted
    if needs_size:
        encoder = replace(encoder, dimension=min(config.hidden_size, encoder.dimension or config.hidden_size))
    vectors = encode_texts(dataset.texts, encoder, context.cache, context.device, dataset)
    vectors = vectors / vectors.square().sum(1).mean().sqrt()
    return F.pad(vectors, (0, config.hidden_size - vectors.shape[1])) if needs_size else vectors


def build(context: Context) -> SASRec:
    config: SASRecConfig = context.config
    is_learned = config.vectors is ItemVectors.learned or (config.vectors is ItemVectors.initial and context.is_loaded)
    return SASRec(config, context, None if is_learned else text_vectors(config, context))
