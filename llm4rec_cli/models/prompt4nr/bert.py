"""BERT with its masked-language-model head, without unused outputs.

`BertForMaskedLM` supplies the weights. The top layer and the head are computed at the masks only, and there only the
logits of the two answer words.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertForMaskedLM

from llm4rec_cli.models.shared.bert import PackedEncoder, padding_masks
from llm4rec_cli.models.shared.layers import INITIAL_STD


class PackedBert(PackedEncoder):
    """A masked language model with extra embeddings for new tokens.

    Args:
        bert: the weights.
        n_new: number of new tokens, with ids after the backbone's; initialised N(0, 0.02²), as BERT (reference 1.5).

    Attributes:
        new: (n_new, d) embeddings of the new tokens.
    """

    def __init__(self, bert: BertForMaskedLM, n_new: int) -> None:
        super().__init__(bert.bert)
        self.transform = bert.cls.predictions.transform
        self.bias = nn.Parameter(bert.cls.predictions.bias.detach().clone())
        self.new = nn.Parameter(torch.empty(n_new, bert.config.hidden_size).normal_(std=INITIAL_STD))

    def forward(
        self, mask_positions: Tensor, tokens: Tensor, position: Tensor, groups: Tensor, lengths: Tensor, starts: Tensor
    ) -> Tensor:
        """Return (n, d) the head's state at one token per row; its product with a word's embedding is the word's logit.

        Args:
            mask_positions: (n,) that token's position in its row.
            tokens, position, groups, lengths, starts: as `tokens.pack_rows` returns them.
        """
        shapes = [(rows, length) for rows, length in groups.tolist()]
        masks = padding_masks(shapes, lengths)
        x = self._embed(tokens, position)
        *below, top = self.layers
        for layer in below:
            x = self._after_attention(layer, x, self._self_attention(layer.attention, x, shapes, masks))
        index, order = (starts + mask_positions).sort()
        attended = self._self_attention_at(top.attention, x, index, shapes, masks)
        states = self._after_attention(top, x[index], attended)
        return self.transform(states[order.argsort()])

    def states_at(self, index: Tensor, tokens: Tensor, position: Tensor, groups: Tensor, lengths: Tensor) -> Tensor:
        """Return (m, d) the head's states at any tokens.

        Args:
            index: (m,) indices into the flat tokens.
        """
        return self.transform(self.states(tokens, position, groups, lengths)[index])

    def logits(self, states: Tensor, words: Tensor) -> Tensor:
        """Return (n, k) the logits of some words of the backbone's vocabulary."""
        return F.linear(states, self.words(words), self.bias[words])

    def _token_vectors(self, tokens: Tensor) -> Tensor:
        n_words = self.words.num_embeddings
        x = self.words(tokens.clamp(max=n_words - 1))
        is_new = torch.nonzero(tokens >= n_words).squeeze(1)
        return x.index_copy(0, is_new, self.new[tokens[is_new] - n_words])
