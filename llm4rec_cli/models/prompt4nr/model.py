"""Prompt4NR (Zhang and Wang, SIGIR 2023, arXiv 2304.05263): a click as a blank that a masked language model fills."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.config.schema import Precision
from llm4rec_cli.data.examples import Examples, Histories, Impressions, IntArray
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.prompt4nr import templates
from llm4rec_cli.models.prompt4nr.bert import PackedBert
from llm4rec_cli.models.prompt4nr.config import Loss, Prompt4NRConfig
from llm4rec_cli.models.prompt4nr.rows import ClickRows, clicks_of
from llm4rec_cli.models.prompt4nr.sequences import Filler, cleaned, packed
from llm4rec_cli.models.prompt4nr.warm_up import backbone

log = logging.getLogger(__name__)

TOKENS_AT_ONCE = {"cpu": 1 << 12, "accelerator": 1 << 16}  # scored together


class Prompt4NR(nn.Module):
    """A template filled with a user's titles and a candidate's; the two answer words' logits at its blank."""

    answers: Tensor

    def __init__(self, config: Prompt4NRConfig, context: Context) -> None:
        super().__init__()
        self.config, self.split, self.seed = config, context.split, context.seed
        folder = templates.folder(config.backbone)
        tokenizer = templates.tokenizer(folder)
        pieces = templates.pieces(config.prompts, tokenizer)
        titles = context.split.dataset.items["title"].fillna("").tolist()
        self.filler = Filler(pieces, tokenizer, titles, config)
        self.bert = PackedBert(backbone(config, context, tokenizer, [*map(cleaned, titles)]), len(pieces.new))
        self.register_buffer("answers", torch.tensor(pieces.answers), persistent=False)
        self.is_head_new = not templates.has_head(config.backbone)
        if config.prompt_only:
            self.bert.requires_grad_(False)
            self.bert.new.requires_grad_(True)

    @property
    def epsilon(self) -> float:
        return self.config.epsilon

    def learning_rate_of(self, name: str, usual: float) -> float:
        """What is not pre-trained learns at a rate of its own."""
        is_new = name == "bert.new" or (self.is_head_new and name.startswith(("bert.transform", "bert.bias")))
        return self.config.new_learning_rate if is_new else usual

    def training_rows(self) -> ClickRows:
        return ClickRows(self.config, clicks_of(self.split), self.filler, self.seed)

    def forward(self, places: Tensor, is_click: Tensor, **batch: Tensor) -> dict[str, Any]:
        """The mean cross-entropy: pointwise of the two answer words, listwise of the click among its negatives.

        Args:
            places: (n,) where each blank stands.
            is_click: (n,) bool; listwise, one in `1 + negatives`, in front of its negatives.
            batch: as `sequences.packed` gives it.
        """
        logits = self.bert.logits(self.bert(places, **batch), self.answers).float()
        log_odds = logits[:, 1] - logits[:, 0]
        if self.config.loss is Loss.pointwise:
            loss, n_terms = F.cross_entropy(logits, is_click.long()), len(logits)
        else:
            lists = log_odds.view(-1, 1 + self.config.negatives)
            first = torch.zeros(len(lists), dtype=torch.int64, device=lists.device)
            loss, n_terms = F.cross_entropy(lists, first), len(lists)
        told = log_odds.detach()
        sums = {
            "positive_accuracy": torch.stack([(told[is_click] > 0).sum(), is_click.sum()]).double(),
            "spread": torch.stack([told.std(correction=0) * len(told), told.new_tensor(len(told))]).double(),
        }
        return {"loss": loss, "n_terms": n_terms, "sums": sums}

    def epoch_metrics(self, means: Mapping[str, float]) -> dict[str, Any]:
        """Nothing beside the means; but warns where every click of the epoch was answered negatively."""
        if self.config.loss is Loss.pointwise and means.get("positive_accuracy") == 0:
            log.warning(
                "collapsed so far: none of the epoch's clicks was answered '%s'. If it stays so: "
                "model.loss=listwise, a higher model.new_learning_rate, model.warm_up.epochs=1",
                self.config.prompts.positive,
            )
        return {}

    @torch.no_grad()
    def score_shown(self, impressions: Impressions) -> Tensor:
        """The probability of a click: pointwise of each item alone, listwise of all that were shown together."""
        items, offsets = impressions.shown()
        row = np.repeat(np.arange(len(impressions)), np.diff(offsets))
        log_odds = self._log_odds(impressions, row, items)
        if self.config.loss is Loss.pointwise:
            return log_odds.sigmoid()
        return torch.cat([part.softmax(0) for part in log_odds.split(np.diff(offsets).tolist())])

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        """The same of candidates."""
        assert examples.candidates is not None
        n, c = examples.candidates.shape
        log_odds = self._log_odds(examples, np.repeat(np.arange(n), c), examples.candidates.ravel()).view(n, c)
        return log_odds.sigmoid() if self.config.loss is Loss.pointwise else log_odds.softmax(1)

    def _log_odds(self, asked: Histories, user: IntArray, items: IntArray) -> Tensor:
        """(n,) float32 of the positive word against the negative one, of each pair of user and item."""
        device = self.answers.device
        # Candidates that read alike are asked about once: rounding must not tell them apart.
        pairs, back = np.unique(np.stack([user, self.filler.alike[items]]), axis=1, return_inverse=True)
        filled = self.filler.fill(self.filler.histories(asked), pairs[0], pairs[1])
        order = np.argsort(filled.tokens.lengths, kind="stable")
        limit = TOKENS_AT_ONCE["cpu" if device.type == "cpu" else "accelerator"]
        bounds = np.flatnonzero(np.diff(np.cumsum(filled.tokens.lengths[order]) // limit)) + 1
        found = torch.empty(len(order))
        for batch in np.split(order, bounds):
            part = filled[batch]
            inputs = {key: value.to(device) for key, value in packed(part.tokens).items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=self.config.scoring is Precision.bf16):
                states = self.bert(torch.from_numpy(part.mask).to(device), **inputs)
                logits = self.bert.logits(states, self.answers).float()
            found[torch.from_numpy(batch)] = logits.diff(dim=1).squeeze(1).cpu()
        return found[torch.from_numpy(back.ravel())]


def build(context: Context) -> Prompt4NR:
    return Prompt4NR(context.config, context)
