"""SASRec (Kang and McAuley, ICDM 2018), by default with cross-entropy over the catalogue, as in UniSRec's tables."""

from __future__ import annotations

from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.tokens import vocabulary
from llm4rec_cli.errors import DataError
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.baselines.config import SASRecConfig
from llm4rec_cli.models.shared.layers import initialise, sasrec_encoder
from llm4rec_cli.models.shared.next_item import EncoderModel


class SASRec(EncoderModel):
    """Item embeddings, a causal Transformer, scores by inner product.

    With `tokens` the vector of an item, in input and output, is its embedding plus the mean of its tokens' embeddings.
    Only tokens shared by several training items are used.
    """

    token: Tensor
    first_token: Tensor

    def __init__(self, config: SASRecConfig, context: Context) -> None:
        super().__init__(config, context, config.hidden_size)
        self.encoder = sasrec_encoder(config, from_last=self.from_last)
        training_items = context.split.softmax_items()
        self.tokens = self._token_embedding(training_items, config.hidden_size) if config.tokens else None
        self.apply(initialise)

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

    def table(self) -> Tensor:
        if self.tokens is None:
            return self.items.weight
        return self.items.weight + F.embedding_bag(self.token, self.tokens.weight, self.first_token, mode="mean")


def build(context: Context) -> SASRec:
    return SASRec(context.config, context)
