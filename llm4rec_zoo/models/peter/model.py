"""PETER (Li, Zhang and Chen, ACL 2021): a Transformer over user, item, word 1, word 2, …

The user and the item see each other, a word sees them and the words before it. Three losses are summed with weights:

- text: the next word, at the item's position and at each word's;
- context: all words of the text at once, only from the item's position, which ties words to the item; and its end, if
  it has fewer words than the model writes (as in the published code, which cuts the last of `words` + 1 places);
- rating: the squared error of a two-layer network on the user's position.

The text is the review's title for `task=review_summary`, otherwise the explanation. With `task=rating`, a
rating without a text trains only the rating. Texts are written word by word, always the most probable one. Without the
item's feature as an input (PETER+).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.capabilities import Ratings
from llm4rec_cli.config.schema import Written
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import TRAIN
from llm4rec_cli.models.base import Batch, Context
from llm4rec_zoo.models.peter.config import PeterConfig, text_to_learn

TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
PAD, START, END, UNKNOWN = range(4)  # numbers of what is not a word
IGNORED = -100  # the target of a place without loss
N_SPECIAL = 4


class Vocabulary:
    """The most frequent words and punctuation marks of some texts. The earliest win ties."""

    def __init__(self, texts: list[str], size: int) -> None:
        counts = Counter(word for text in texts for word in TOKEN.findall(text))
        self.words = [word for word, _ in counts.most_common(size)]
        self.number = {word: number for number, word in enumerate(self.words, start=N_SPECIAL)}

    def __len__(self) -> int:
        return N_SPECIAL + len(self.words)

    def encode(self, text: str, length: int) -> list[int]:
        """Return the numbers of the first `length` words."""
        return [self.number.get(word, UNKNOWN) for word in TOKEN.findall(text)[:length]]

    def decode(self, numbers: list[int]) -> str:
        """Return the words up to the end, with spaces before all but closing punctuation."""
        words = [self.words[n - N_SPECIAL] for n in numbers[: numbers.index(END) if END in numbers else None]]
        return re.sub(r" ([.,!?;:%)\]])", r"\1", " ".join(words))


class TextRows:
    """One row per interaction to learn: `user`, `item`, `rating` (NaN where missing) and `words`, padded: the
    text's, with start and end. Only the start for a rating without a text."""

    def __init__(self, user: Tensor, item: Tensor, rating: Tensor, words: list[list[int]]) -> None:
        self.user, self.item, self.rating = user, item, rating
        self.words = [torch.tensor(row) for row in words]

    def __len__(self) -> int:
        return len(self.words)

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        words = nn.utils.rnn.pad_sequence([self.words[i] for i in indices], batch_first=True, padding_value=PAD)
        return {"user": self.user[indices], "item": self.item[indices], "rating": self.rating[indices], "words": words}


class Peter(nn.Module):
    positions: Tensor

    def __init__(self, config: PeterConfig, context: Context) -> None:
        super().__init__()
        self.settings = config
        column = text_to_learn(context.task).value
        interactions = context.split.dataset.interactions
        learned = (interactions[column].fillna("").str.strip() != "").to_numpy()
        if context.task == "rating":
            learned = learned | interactions["rating"].notna().to_numpy()
        rows = interactions[(context.split.assignment == TRAIN) & learned]
        texts = rows[column].fillna("").tolist()
        self.vocabulary = Vocabulary(texts, config.vocabulary)
        encoded = [self.vocabulary.encode(text, config.words) for text in texts]
        words = [[START, *numbers, END] if numbers else [START] for numbers in encoded]
        rating = rows["rating"].to_numpy(dtype=np.float32) if "rating" in rows else np.full(len(rows), np.nan)
        rated = rating[~np.isnan(rating)]
        self.scale = (float(rated.min()), float(rated.max())) if len(rated) else (0.0, 0.0)
        user, item = (torch.from_numpy(rows[name].to_numpy(copy=True)).long() for name in ("user", "item"))
        self.rows = TextRows(user, item, torch.from_numpy(rating).float(), words)
        size = config.hidden_size
        self.users = nn.Embedding(context.split.n_users, size)
        self.items = nn.Embedding(context.split.n_items, size)
        self.words = nn.Embedding(len(self.vocabulary), size)
        layer = nn.TransformerEncoderLayer(size, config.heads, config.inner_size, config.dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.dropout = nn.Dropout(config.dropout)
        self.next_word = nn.Linear(size, len(self.vocabulary))
        to_hidden, to_rating = nn.Linear(size, size), nn.Linear(size, 1)
        self.rating = nn.Sequential(to_hidden, nn.Sigmoid(), to_rating)
        for embedding in (self.users, self.items, self.words):
            nn.init.uniform_(embedding.weight, -0.1, 0.1)
        for linear in (self.next_word, to_hidden, to_rating):
            nn.init.uniform_(linear.weight, -0.1, 0.1)
            nn.init.zeros_(linear.bias)
        nn.init.constant_(to_rating.bias, float(rated.mean()) if len(rated) else 0.0)
        self.register_buffer("positions", sinusoids(config.words + 3, size), persistent=False)

    def training_rows(self) -> TextRows:
        return self.rows

    def states(self, user: Tensor, item: Tensor, words: Tensor) -> Tensor:
        """Return (n, 2 + length, hidden) the states of the user, the item and (n, length) words."""
        embedded = torch.cat([self.users(user)[:, None], self.items(item)[:, None], self.words(words)], dim=1)
        length = embedded.shape[1]
        hidden = self.dropout(embedded * math.sqrt(self.settings.hidden_size) + self.positions[:length])
        hides = torch.ones(length, length, dtype=torch.bool, device=user.device).triu(1)
        hides[0, 1] = False  # the user sees the item
        return self.encoder(hidden, mask=hides, is_causal=False)  # padding comes last, so no word sees it

    def forward(self, user: Tensor, item: Tensor, rating: Tensor, words: Tensor) -> dict[str, Any]:
        """Return the mean over rows of the weighted losses. A rating may be NaN; words go from START to END and then
        PAD."""
        states = self.states(user, item, words[:, :-1]).float()
        target = words[:, 1:].masked_fill(words[:, 1:] == PAD, IGNORED)
        text = _mean_of_rows(self.next_word(states[:, 2:]), target)
        of_item = self.next_word(states[:, 1]).log_softmax(1)
        last = torch.arange(target.shape[1], device=target.device) == self.settings.words  # the end of the longest text
        in_context = target.masked_fill(last, IGNORED)
        unlikely = -of_item.gather(1, in_context.clamp_min(0)) * (in_context != IGNORED)
        context = unlikely.sum(1) / (in_context != IGNORED).sum(1).clamp_min(1)
        error = (self.rating(states[:, 0]).squeeze(1) - rating.nan_to_num()) ** 2 * ~rating.isnan()
        weights = self.settings
        loss = weights.text_weight * text + weights.context_weight * context + weights.rating_weight * error
        return {"loss": loss.mean(), "n_terms": len(user)}

    @torch.no_grad()
    def rate(self, examples: Examples) -> Ratings:
        user, item = self._users_and_items(examples)
        state = self.states(user, item, user.new_zeros(len(user), 0))[:, 0]
        return Ratings(self.rating(state).squeeze(1).clamp(*self.scale).double().cpu().numpy())

    @torch.no_grad()
    def write(self, examples: Examples, written: Written) -> list[str]:
        user, item = self._users_and_items(examples)
        words = torch.full((len(user), 1), START, device=user.device)
        for _ in range(self.settings.words):
            scores = self.next_word(self.states(user, item, words)[:, -1])
            scores[:, [PAD, START, UNKNOWN]] = -torch.inf
            words = torch.cat([words, scores.argmax(1, keepdim=True)], dim=1)
            if (words == END).any(1).all():
                break
        return [self.vocabulary.decode(row) for row in words[:, 1:].tolist()]

    def _users_and_items(self, examples: Examples) -> tuple[Tensor, Tensor]:
        device = self.positions.device
        user, item = (torch.from_numpy(numbers).long().to(device) for numbers in (examples.user, examples.target))
        return user, item


def _mean_of_rows(scores: Tensor, target: Tensor) -> Tensor:
    """Return (n,) the mean cross-entropy of each row's targets that are not IGNORED; 0 for a row without any."""
    losses = F.cross_entropy(scores.transpose(1, 2), target, ignore_index=IGNORED, reduction="none")
    return losses.sum(1) / (target != IGNORED).sum(1).clamp_min(1)


def sinusoids(length: int, size: int) -> Tensor:
    """Return (length, size) the positions of Vaswani et al., NeurIPS 2017."""
    angle = torch.arange(length)[:, None] * torch.exp(torch.arange(0, size, 2) * (-math.log(10000.0) / size))
    table = torch.zeros(length, size)
    table[:, 0::2], table[:, 1::2] = angle.sin(), angle[:, : size // 2].cos()
    return table


def build(context: Context) -> Peter:
    return Peter(context.config, context)
