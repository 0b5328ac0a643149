"""Prompt4NR (Zhang and Wang, SIGIR 2023, arXiv 2304.05263): click prediction as masked-word prediction."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.arithmetic import autocast
from llm4rec_cli.data.examples import Examples, Histories, Impressions, IntArray
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.prompt4nr import templates
from llm4rec_cli.models.prompt4nr.bert import PackedBert
from llm4rec_cli.models.prompt4nr.config import Prompt4NRConfig
from llm4rec_cli.models.prompt4nr.sequences import TemplateFiller
from llm4rec_cli.models.prompt4nr.settings import ClickLoss
from llm4rec_cli.models.prompt4nr.training_examples import ClickExamples
from llm4rec_cli.models.prompt4nr.warm_up import load_backbone
from llm4rec_cli.models.shared.batch import on_device
from llm4rec_cli.models.shared.clicks import training_clicks
from llm4rec_cli.models.shared.tokens import token_batches
from llm4rec_cli.text.backbone import backbone_folder, load_tokenizer

log = logging.getLogger(__name__)


class Prompt4NR(nn.Module):
    """Scores a template filled with a history and a candidate by the two answer words' logits at its mask."""

    answers: Tensor

    def __init__(self, config: Prompt4NRConfig, context: Context) -> None:
        super().__init__()
        self.config, self.split, self.seed = config, context.split, context.seed
        tokenizer = load_tokenizer(backbone_folder(config.backbone))
        template = templates.tokenize_template(config.prompts, tokenizer)
        titles = context.split.dataset.items["title"].fillna("").tolist()
        self.filler = TemplateFiller(template, tokenizer, titles, config)
        self.bert = PackedBert(load_backbone(config, context, tokenizer), len(template.new_tokens))
        self.register_buffer("answers", torch.tensor(template.answers), persistent=False)
        self.is_head_new = not templates.has_head(config.backbone)
        if config.prompt_only:
            self.bert.requires_grad_(False)
            self.bert.new.requires_grad_(True)

    @property
    def epsilon(self) -> float:
        return self.config.epsilon

    def learning_rate_of(self, name: str, usual: float) -> float:
        """Return `new_learning_rate` for weights that are not pre-trained, else the usual rate."""
        is_new = name == "bert.new" or (self.is_head_new and name.startswith(("bert.transform", "bert.bias")))
        return self.config.new_learning_rate if is_new else usual

    def training_rows(self) -> ClickExamples:
        return ClickExamples(self.config, training_clicks(self.split), self.filler, self.seed)

    def forward(self, is_click: Tensor, **batch: Any) -> dict[str, Any]:
        """Return the mean cross-entropy: pointwise over the two answer words, listwise over a click and its negatives.

        Listwise, each click of `is_click` (n,) is followed by its `negatives`. The batch is `FilledTemplates.packed`.
        """
        logits = self.bert.logits(self.bert(**batch), self.answers)
        log_odds = logits[:, 1] - logits[:, 0]
        if self.config.loss is ClickLoss.pointwise:
            lists = log_odds.view(1, -1)
            loss, n_terms = F.cross_entropy(logits, is_click.long()), len(logits)
        else:
            lists = log_odds.view(-1, 1 + self.config.negatives)
            first = torch.zeros(len(lists), dtype=torch.int64, device=lists.device)
            loss, n_terms = F.cross_entropy(lists, first), len(lists)
        detached = log_odds.detach()
        # Listwise within lists: the loss ignores what all log-odds of a list have in common.
        spread = lists.detach().std(1, correction=0).mean()
        sums = {
            "positive_accuracy": torch.stack([((detached > 0) & is_click).sum(), is_click.sum()]).double(),
            "spread": torch.stack([spread * n_terms, spread.new_full((), n_terms)]).double(),
        }
        return {"loss": loss, "n_terms": n_terms, "sums": sums}

    def epoch_metrics(self, means: Mapping[str, float]) -> dict[str, Any]:
        """Return no extra numbers; warn if every click of the epoch was answered negatively."""
        if self.config.loss is ClickLoss.pointwise and means.get("positive_accuracy") == 0:
            log.warning(
                "training has collapsed so far: none of the epoch's clicks was answered '%s'. If this persists, try "
                "model.loss=listwise, a higher model.new_learning_rate, or model.warm_up.epochs=1",
                self.config.prompts.positive,
            )
        return {}

    @torch.no_grad()
    def score_shown(self, impressions: Impressions) -> Tensor:
        """Return the probability of a click: pointwise per item, listwise by a softmax over the shown items."""
        items, offsets = impressions.shown()
        impression = np.repeat(np.arange(len(impressions)), np.diff(offsets))
        log_odds = self._log_odds(impressions, impression, items)
        if self.config.loss is ClickLoss.pointwise:
            return log_odds.sigmoid()
        return torch.cat([part.softmax(0) for part in log_odds.split(np.diff(offsets).tolist())])

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        """Return (n, c) the same for candidates."""
        assert examples.candidates is not None
        n, c = examples.candidates.shape
        log_odds = self._log_odds(examples, np.repeat(np.arange(n), c), examples.candidates.ravel()).view(n, c)
        return log_odds.sigmoid() if self.config.loss is ClickLoss.pointwise else log_odds.softmax(1)

    def _log_odds(self, histories: Histories, history: IntArray, items: IntArray) -> Tensor:
        """Return (n,) float32 log-odds of the positive word against the negative one, per pair of history and item."""
        device = self.answers.device
        # Candidates with the same tokens are scored once, so that rounding cannot break their tie.
        keys = np.stack([history, self.filler.same_title[items]])
        pairs, inverse = np.unique(keys, axis=1, return_inverse=True)
        filled = self.filler.fill(self.filler.tokenize_histories(histories), pairs[0], pairs[1])
        lengths = filled.tokens.lengths
        order = np.argsort(lengths, kind="stable")
        if filled.histories is not None:
            # Rows of one history follow one another; it is counted at the first.
            of_history = filled.histories.tokens.lengths[filled.histories.of_row]
            lengths = lengths + np.where(np.diff(filled.histories.of_row, prepend=-1) != 0, of_history, 0)
            order = np.arange(len(filled))
        log_odds = torch.empty(len(order))
        for batch in token_batches(order, lengths, device):
            inputs: dict[str, Any] = on_device(filled[batch].packed(), device)
            with autocast(device, self.config.scoring):
                logits = self.bert.logits(self.bert(**inputs), self.answers)
            log_odds[torch.from_numpy(batch)] = logits.diff(dim=1).squeeze(1).cpu()
        return log_odds[torch.from_numpy(inverse.ravel())]


def build(context: Context) -> Prompt4NR:
    return Prompt4NR(context.config, context)
