"""Greedy decoding of lists of distinct choices: each token continues a choice that is not named yet, as in a trie.

A decision is between tokens that differ among the remaining choices. Between two decisions only one token is possible,
so these tokens, most of a title, are read several at once without their logits. Log-probabilities are renormalised over
the tokens that are possible: forced ones add nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicLayer

from llm4rec_cli.errors import raise_first
from llm4rec_cli.llm.likelihood import cache_argument, masks_by_layer, problems_of_layers, read_prompt

AT_ONCE = 8  # tokens of an answer that a pass reads: with more, a batch waits for the longest title of any answer
ROOM = 256  # slots by which the cache of a batch grows, at least


class Answer:
    """An answer in progress.

    Args:
        first, later: token codes of each choice, as the first of a list and as a later one. Where one is a prefix of
            another, or equal to it, it is named before the other.
        n: choices to name.

    Attributes:
        named: the choices named so far, best first.
        log_probs: the log-probability of each.
    """

    def __init__(self, first: Sequence[Sequence[int]], later: Sequence[Sequence[int]], n: int) -> None:
        self.codes, self.later, self.n = first, later, min(n, len(first))
        self.remaining = list(range(len(first)))
        self.named: list[int] = []
        self.log_probs: list[float] = []
        self._begin()

    def _begin(self) -> None:
        self.matching, self.depth, self.log_prob = self.remaining, 0, 0.0  # choices that the tokens so far begin

    @property
    def is_done(self) -> bool:
        return len(self.named) == self.n

    def forced(self) -> list[int]:
        """Return the tokens up to the next decision, empty after the last one, and the choices that they complete."""
        tokens: list[int] = []
        while not self.is_done:
            ended = [choice for choice in self.matching if len(self.codes[choice]) == self.depth]
            if ended or len(self.matching) == 1:
                choice = (ended or self.matching)[0]
                tokens += self.codes[choice][self.depth :]
                self.named.append(choice)
                self.log_probs.append(self.log_prob)
                self.remaining = [other for other in self.remaining if other != choice]
                self.codes = self.later
                self._begin()
            elif len(possible := self._possible()) == 1:
                tokens += possible
                self.depth += 1
            else:
                return tokens
        return []

    def decide(self, logits: Tensor) -> int:
        """Return the likeliest possible token, by (vocabulary,) logits."""
        possible = self._possible()
        log_probs = logits[torch.tensor(possible, device=logits.device)].float().log_softmax(0)
        best = int(log_probs.argmax())
        self.log_prob += float(log_probs[best])
        self.matching = [choice for choice in self.matching if self.codes[choice][self.depth] == possible[best]]
        self.depth += 1
        return possible[best]

    def _possible(self) -> list[int]:
        return sorted({self.codes[choice][self.depth] for choice in self.matching})


@torch.inference_mode()
def decode(model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Answer]) -> None:
    """Complete the answers to a batch of prompts. The model is as in `log_likelihoods`.

    Each prompt is read once, by itself, and so without padding. Then every pass reads up to AT_ONCE tokens of each
    answer, and decides its next one where it has read all forced ones before it.

    Raises:
        UsageError: the model has other layers than attention.
    """
    raise_first(problems_of_layers(model))
    sequences = [[*prompt, *answer.forced()] for prompt, answer in zip(prompts, answers, strict=True)]
    read = [read_prompt(model, torch.tensor(tokens, device=model.device)) for tokens in sequences]
    caches, logits = zip(*read, strict=True)
    batch = _Batch(model, caches, torch.tensor([len(tokens) for tokens in sequences], device=model.device))
    next_logits = torch.stack(logits)
    unread: list[list[int]] = [[] for _ in answers]  # tokens of each answer up to its next decision
    while True:
        for answer, tokens, row in zip(answers, unread, next_logits, strict=True):
            if not tokens and not answer.is_done:
                tokens += [answer.decide(row), *answer.forced()]
            if answer.is_done:
                tokens.clear()
        if not any(unread):
            return
        next_logits = batch.read([tokens[:AT_ONCE] for tokens in unread])
        unread = [tokens[AT_ONCE:] for tokens in unread]


class _Batch:
    """The keys and values of a batch of sequences that grow by different numbers of tokens."""

    def __init__(self, model: Any, caches: Sequence[Any], length: Tensor) -> None:
        self.model, self.length = model, length
        self.used = int(length.max())
        slots = torch.arange(self.used, device=length.device)
        self.position = slots.repeat(len(caches), 1)  # (n, slots) of the token in each slot
        self.filled = slots < length[:, None]  # (n, slots) whether there is a token
        by_layer = zip(*(cache.layers for cache in caches), strict=True)
        self.layers: list[Any] = [_JoinedLayer(rows, self.used) for rows in by_layer]
        self.cache = Cache(layers=self.layers)
        self._grow(ROOM)

    def read(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Append tokens to each sequence, in the same slots with gaps before them; return (n, vocabulary) logits after
        the last of each."""
        device, width = self.length.device, max(map(len, tokens))
        if self.used + width > self.filled.shape[1]:
            self._grow(max(ROOM, width))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in tokens], device=device)
        n_new = torch.tensor([len(row) for row in tokens], device=device)
        offset = torch.arange(width, device=device) - width + n_new[:, None]  # negative in a gap
        position = self.length[:, None] + offset.clamp(min=0)
        new = slice(self.used, self.used + width)
        self.position[:, new], self.filled[:, new] = position, offset >= 0
        self.used, self.length = self.used + width, self.length + n_new
        distance = position[:, :, None] - self.position[:, None, :]
        masks = masks_by_layer(self.model, self.filled[:, None, :] & (distance >= 0), distance)
        arguments = {cache_argument(self.model): self.cache, "position_ids": position, "attention_mask": masks}
        logits: Tensor = self.model(ids, **arguments, logits_to_keep=1).logits
        return logits[:, -1]

    def _grow(self, room: int) -> None:
        self.position, self.filled = pad(self.position, (0, room)), pad(self.filled, (0, room))
        for layer in self.layers:
            layer.keys, layer.values = (pad(states, (0, 0, 0, room)) for states in (layer.keys, layer.values))


class _JoinedLayer(DynamicLayer):
    """One layer's keys and values of several sequences, of which `used` slots hold tokens. The rest are zeros.

    New ones are written into free slots, and all slots are returned: a part of them would be copied by each product.
    """

    def __init__(self, rows: Sequence[Any], used: int) -> None:
        super().__init__()
        self.lazy_initialization(rows[0].keys, rows[0].values)
        self.used = used
        self.keys, self.values = (
            torch.cat([pad(states, (0, 0, 0, used - states.shape[-2])) for states in of_rows])
            for of_rows in ([row.keys for row in rows], [row.values for row in rows])
        )

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        new = slice(self.used, self.used + key_states.shape[-2])
        keys, values = self.keys, self.values
        assert keys is not None and values is not None
        keys[:, :, new], values[:, :, new], self.used = key_states, value_states, new.stop
        return keys, values
