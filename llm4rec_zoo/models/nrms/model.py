"""NRMS (Wu et al., EMNLP 2019) with a fine-tuned BERT as its news encoder, and a mean-of-titles encoder to compare.

    title   r = W Σ_t a_t h_t         h: the backbone's states of the title's tokens, a: additive attention
    user    u = Σ_i b_i s_i           s: multi-head self-attention over the history's titles, b: additive attention
    score   <u, r_candidate>

Training is a softmax over a click and `negatives` items that were shown with it and not clicked. With
`aggregation=mean`, r is the mean of the states and u the mean of the history's r, all of length 1, and a score is their
inner product over a temperature: before training, the floor `frozen_text` on the latest `titles` titles, but for
empty histories. These have one trained vector, which starts at random.

A title is encoded once in a batch however many histories and lists contain it, and once in an evaluation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertModel

from llm4rec_cli.arithmetic import autocast, on_cpu
from llm4rec_cli.data.examples import Examples, Histories, Impressions, IntArray
from llm4rec_cli.models.base import Batch, Context
from llm4rec_cli.models.shared.batch import copied_to, on_device
from llm4rec_cli.models.shared.bert import PackedEncoder, padding_masks
from llm4rec_cli.models.shared.clicks import Clicks, training_clicks
from llm4rec_cli.models.shared.layers import INITIAL_STD, Dropout, group_shapes
from llm4rec_cli.models.shared.tokens import Ragged, pack_rows, token_batches
from llm4rec_cli.text.backbone import backbone_folder, load_tokenizer
from llm4rec_cli.text.loading import load_pretrained
from llm4rec_zoo.models.nrms.config import Aggregation, NRMSConfig


class Titles:
    """The titles of a catalogue as at most `max_length` tokens, equal ones once; `of_item` is the title of each
    item."""

    def __init__(self, titles: list[str], backbone: str, max_length: int) -> None:
        strings, of_item = np.unique(np.array(titles, dtype=object), return_inverse=True)
        tokenizer = load_tokenizer(backbone_folder(backbone))
        tokenizer.enable_truncation(max_length)
        tokens = [tuple(encoding.ids) for encoding in tokenizer.encode_batch_fast(strings.tolist())]
        number = {distinct: i for i, distinct in enumerate(dict.fromkeys(tokens))}
        self.of_item = np.array([number[title] for title in tokens])[of_item]
        self.tokens = Ragged.from_rows([list(distinct) for distinct in number])

    def __len__(self) -> int:
        return len(self.tokens)

    def histories(self, histories: Histories, last: int) -> tuple[IntArray, IntArray]:
        """Return (n_histories, longest) the latest titles of each history, padded, and how many are real. An empty
        history has one, with the number n."""
        flat, offsets = histories.histories(last)
        lengths = np.diff(offsets)
        padded = np.zeros((len(lengths), max(1, lengths.max(initial=1))), dtype=np.int64)
        padded[np.arange(padded.shape[1]) < lengths[:, None]] = self.of_item[flat]
        padded[lengths == 0, 0] = len(self)
        return padded, np.maximum(lengths, 1)


class ClickLists:
    """Training rows: a click, the history before it and negatives, drawn by (seed, epoch, click)."""

    def __init__(self, config: NRMSConfig, clicks: Clicks, titles: Titles, seed: int) -> None:
        self.config, self.clicks, self.titles, self.seed = config, clicks, titles, seed

    def __len__(self) -> int:
        return len(self.clicks)

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Return the distinct titles of these rows, packed by `tokens.pack_rows`, and for each row, among these titles:

        `history` (n, longest) padded, `n_history` (n,); `lists` (n, 1 + negatives), the click first.
        """
        rows = np.array(indices)
        history, n_history = self.titles.histories(self.clicks[rows], self.config.titles)
        drawn = [self.clicks.with_negatives(i, self.config.negatives, self.seed, epoch) for i in indices]
        lists = self.titles.of_item[np.stack(drawn)]
        is_real = (np.arange(history.shape[1]) < n_history[:, None]) & (history < len(self.titles))
        distinct = np.unique(np.concatenate([history[is_real], lists.ravel()]))
        renumbered = np.where(is_real, np.searchsorted(distinct, history), 0)
        renumbered[history == len(self.titles)] = len(distinct)
        arrays = {"history": renumbered, "n_history": n_history, "lists": np.searchsorted(distinct, lists)}
        return {name: torch.from_numpy(array) for name, array in arrays.items()} | pack_rows(
            self.titles.tokens.rows(distinct)
        )


class AdditiveAttention(nn.Module):
    """Σ_i a_i x_i with a = softmax over i of <q, tanh(V x_i + v)>."""

    def __init__(self, size: int, query_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(size, query_size)
        self.query = nn.Linear(query_size, 1, bias=False)

    def forward(self, x: Tensor, is_real: Tensor) -> Tensor:
        """Map (n, length, size) to (n, size)."""
        logits = self.query(torch.tanh(self.key(x))).squeeze(-1).float()
        weights = logits.masked_fill(~is_real, -torch.inf).softmax(-1)
        return torch.einsum("nl,nlh->nh", weights.to(x.dtype), x)


class TitleAttention(nn.Module):
    """A title's vector: additive attention over its tokens, projected."""

    def __init__(self, size: int, hidden_size: int, query_size: int, dropout: float) -> None:
        super().__init__()
        self.pool = AdditiveAttention(size, query_size)
        self.project = nn.Linear(size, hidden_size)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, is_real: Tensor) -> Tensor:
        return self.dropout(self.project(self.pool(states, is_real)))


class HistoryAttention(nn.Module):
    """A user's vector: multi-head self-attention over titles, then additive attention."""

    def __init__(self, hidden_size: int, heads: int, query_size: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.pool = AdditiveAttention(hidden_size, query_size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, is_real: Tensor) -> Tensor:
        n, length, _ = x.shape
        q, k, v = self.qkv(x).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=is_real[:, None, None, :])
        return self.pool(self.dropout(mixed.transpose(1, 2).reshape(n, length, -1)), is_real)


class Mean(nn.Module):
    """The mean of the real places, scaled to length 1."""

    def forward(self, x: Tensor, is_real: Tensor) -> Tensor:
        return F.normalize((x.float() * is_real.unsqueeze(-1)).sum(1), dim=-1)


class NRMS(nn.Module):
    """A title encoder on a backbone and a user encoder over titles; `no_history` takes the place of an empty history's
    titles."""

    def __init__(self, config: NRMSConfig, context: Context) -> None:
        super().__init__()
        self.config, self.split, self.seed = config, context.split, context.seed
        items = context.split.dataset.items
        self.titles = Titles(items["title"].fillna("").tolist(), config.backbone, config.max_length)
        with torch.random.fork_rng(devices=[]):  # the unused pooler may be missing, and is then drawn
            folder = str(backbone_folder(config.backbone))
            bert: BertModel = load_pretrained(BertModel, folder, ("pooler.",), dtype=torch.float32)
        self.bert = PackedEncoder(bert)
        size = bert.config.hidden_size
        self.scale = 1.0
        if config.aggregation is Aggregation.mean:
            assert config.temperature is not None
            self.title_encoder: nn.Module = Mean()
            self.user_encoder: nn.Module = Mean()
            self.scale = 1 / config.temperature
        else:
            assert config.hidden_size and config.heads and config.query_size and config.dropout is not None
            sizes = config.hidden_size, config.query_size, config.dropout
            self.title_encoder = TitleAttention(size, *sizes)
            self.user_encoder = HistoryAttention(config.hidden_size, config.heads, *sizes[1:])
            size = config.hidden_size
        self.no_history = nn.Parameter(torch.empty(1, size).normal_(std=INITIAL_STD))
        self._forget_titles()

    @property
    def epsilon(self) -> float:
        return 1e-8

    def learning_rate_of(self, name: str, usual: float) -> float:
        return usual if name.startswith("bert.") else self.config.new_learning_rate

    def training_rows(self) -> ClickLists:
        return ClickLists(self.config, training_clicks(self.split), self.titles, self.seed)

    def forward(self, history: Tensor, n_history: Tensor, lists: Tensor, **titles: Any) -> dict[str, Any]:
        """Return the mean cross-entropy of the click among its list, of a batch of `ClickLists`."""
        vectors = self._encode(**titles)
        users = self._users(torch.cat([vectors, self.no_history.to(vectors.dtype)]), history, n_history)
        logits = (users.float().unsqueeze(1) * vectors[lists].float()).sum(-1) * self.scale
        first = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        return {"loss": F.cross_entropy(logits, first), "n_terms": len(logits)}

    def train(self, mode: bool = True) -> NRMS:
        self._forget_titles()  # weights may have changed since the last evaluation
        return super().train(mode)

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        items = np.arange(self.split.n_items) if examples.candidates is None else examples.candidates
        users, vectors = self._users_and_vectors(examples, items.ravel())
        title = torch.from_numpy(self.titles.of_item[items]).to(vectors.device)
        # A title is scored once: a product may round the same vector differently in two columns and break their tie.
        if examples.candidates is None:
            return (users @ vectors.t())[:, title]
        return (vectors[title] * users.unsqueeze(1)).sum(-1)

    @torch.no_grad()
    def score_shown(self, impressions: Impressions) -> Tensor:
        shown, offsets = impressions.shown()
        users, vectors = self._users_and_vectors(impressions, shown)
        row = torch.from_numpy(np.repeat(np.arange(len(impressions)), np.diff(offsets))).to(vectors.device)
        title = torch.from_numpy(self.titles.of_item[shown]).to(vectors.device)
        return torch.einsum("th,th->t", users[row], vectors[title])

    def _users_and_vectors(self, histories: Histories, items: IntArray) -> tuple[Tensor, Tensor]:
        """Return (n, size) the users of these histories, and (titles + 1, size) vectors, of these items' titles."""
        history, n_history = self.titles.histories(histories, self.config.titles)
        vectors = self._vectors(np.concatenate([history[history < len(self.titles)], self.titles.of_item[items]]))
        device = vectors.device
        users = self._users(vectors, torch.from_numpy(history).to(device), torch.from_numpy(n_history).to(device))
        return users, vectors

    def _forget_titles(self) -> None:
        self._encoded = np.zeros(len(self.titles), dtype=bool)
        self._table: Tensor | None = None

    def _vectors(self, titles: IntArray) -> Tensor:
        """Return (titles + 1, size) float32 vectors, `no_history` last; rows that nobody needed so far mean nothing."""
        if self._table is None:
            self._table = self.no_history.repeat(len(self.titles) + 1, 1)
        device = self._table.device
        missing = np.unique(titles[~self._encoded[titles]])
        order = missing[np.argsort(self.titles.tokens.lengths[missing], kind="stable")]
        for batch in token_batches(order, self.titles.tokens.lengths, device):
            packed: dict[str, Any] = on_device(pack_rows(self.titles.tokens.rows(batch)), device)
            with autocast(device, self.config.scoring):
                self._table[torch.from_numpy(batch).to(device)] = self._encode(**packed).float()
        self._encoded[missing] = True
        return self._table

    def _encode(self, groups: IntArray, lengths: IntArray, is_real: Tensor, starts: Tensor, **tokens: Tensor) -> Tensor:
        """Return (n, size) the vectors of packed titles, in the order of `starts`."""
        flat = self.bert.states(**tokens, is_real=is_real, groups=groups, lengths=lengths)
        if not on_cpu(flat):
            of_title = copied_to(torch.from_numpy(lengths), flat.device)[starts.argsort().argsort()]
            place = torch.arange(int(lengths.max()), device=flat.device)
            real = place < of_title[:, None]
            return self.title_encoder(flat[starts[:, None] + torch.where(real, place, 0)], real)
        shapes = group_shapes(groups)
        states = flat.split([rows * length for rows, length in shapes])
        vectors = []
        for (rows, length), part, mask in zip(shapes, states, padding_masks(shapes, lengths, is_real), strict=True):
            real = part.new_ones(rows, length, dtype=torch.bool) if mask is None else mask.flatten(1)
            vectors.append(self.title_encoder(part.view(rows, length, -1), real))
        return torch.cat(vectors)[starts.argsort().argsort()]

    def _users(self, vectors: Tensor, history: Tensor, n_history: Tensor) -> Tensor:
        """Return (n, size) user vectors, of padded titles and how many of them are real. The last row of `vectors` is
        `no_history`."""
        is_real = torch.arange(history.shape[1], device=history.device) < n_history[:, None]
        return self.user_encoder(vectors[history], is_real)


def build(context: Context) -> NRMS:
    return NRMS(context.config, context)
