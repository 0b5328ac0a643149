"""Teach a new head the order in which frozen text ranks, before it sees clicks.

A backbone whose head is new has to learn from clicks what its own vectors know: that news similar to the history are
clicked. A few thousand clicks do not teach it. What they teach first is which items were clicked on the days of the
log, and other days show other items. Similarities cost no clicks: any history can be compared with any item.

The teacher is `frozen_text` on the backbone's own vectors of the items' texts, by default centred and with a weighted
history. The loss is the divergence of two softmaxes over the candidates: of the teacher's similarities over a
temperature, and of the log-odds of the answer words. Histories and candidates come from the training part; whether a
candidate was clicked is not used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llm4rec_cli.config.schema import EncoderConfig, Pooling
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.prompt4nr import templates, warm_up
from llm4rec_cli.models.prompt4nr.bert import PackedBert
from llm4rec_cli.models.prompt4nr.config import Prompt4NRConfig
from llm4rec_cli.models.prompt4nr.sequences import TemplateFiller
from llm4rec_cli.models.shared.batch import on_device
from llm4rec_cli.models.shared.clicks import Clicks, training_clicks
from llm4rec_cli.models.shared.frozen_text import FrozenText
from llm4rec_cli.text.features import RECIPE_VERSION, encode_texts
from llm4rec_cli.text.weights import backbone_identity

log = logging.getLogger(__name__)

VERSION = 3  # raised when the same data would give other weights
MAX_LENGTH = 256  # tokens of an item's text that the teacher reads
FAILED = 0.9  # of the divergence of equal log-odds, which rank nothing


def distilled(
    build: Callable[[], PackedBert], filler: TemplateFiller, config: Prompt4NRConfig, context: Context
) -> PackedBert:
    """Return the model that `build` returns after distillation, which runs once for all seeds and is cached."""
    clicks = training_clicks(context.split)

    def train() -> PackedBert:
        bert = build().to(context.device)  # by `warm_up.SEED`, a head that is neither in the weights nor warmed up
        torch.manual_seed(config.warm_up.distillation.seed)  # of dropout, whether a warm-up was trained or cached
        _train(bert, filler, config, context, clicks)
        return bert

    weights = warm_up.trained_once(context.cache, _key(config, clicks, filler, context.split), train)
    bert = build()
    bert.load_state_dict(weights)
    return bert


def _key(config: Prompt4NRConfig, clicks: Clicks, filler: TemplateFiller, split: Split) -> str:
    template = config.prompts
    settings = {
        "versions": [VERSION, warm_up.VERSION, RECIPE_VERSION],
        "backbone": backbone_identity(config.backbone),
        "template": [template.text, template.positive, template.negative],
        "warm-up": asdict(config.warm_up),
        **{name: getattr(config, name) for name in ("attention", "titles", "history_tokens", "max_length")},
        "new_learning_rate": config.new_learning_rate,
        "longest_candidate": filler.longest_candidate,  # the positions of a shared history depend on it
    }
    digest = hashlib.sha256(json.dumps(settings, default=str).encode())
    arrays = [clicks.sequence, clicks.start, clicks.end, clicks.item, clicks.others, split.seen_in_training()]
    for titles in (filler.candidates, filler.history_titles):
        arrays += [titles.flat, titles.offsets]
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    for text in split.dataset.texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def _train(bert: PackedBert, filler: TemplateFiller, config: Prompt4NRConfig, context: Context, clicks: Clicks) -> None:
    settings, device = config.warm_up.distillation, bert.bias.device
    answers = torch.tensor(filler.template.answers, device=device)
    longest = min(MAX_LENGTH, bert.positions.num_embeddings)
    encoder = EncoderConfig(config.backbone, Pooling.mean, longest, config.warm_up.precision)
    teacher = FrozenText(
        lambda texts: encode_texts(texts, encoder, context.cache, context.device),
        context.split,
        settings.centred,
        settings.history_temperature,
    )
    items = np.concatenate([clicks.item, clicks.others])

    recent: deque[Tensor] = deque(maxlen=math.ceil(settings.steps / 10))

    def loss_of(step: int) -> Tensor:
        rng = stream(settings.seed, "distillation", step)
        rows = rng.integers(len(clicks), size=settings.histories)
        candidates = rng.choice(items, (settings.histories, settings.candidates))
        similarity = teacher.score(_examples(clicks[rows], candidates)).to(device)
        of_row = np.repeat(np.arange(len(rows)), settings.candidates)
        filled = filler.fill(filler.tokenize_histories(clicks[rows]), of_row, candidates.ravel())
        states = bert(**on_device(filled.packed(), device))
        log_odds = bert.logits(states, answers).diff(dim=1).view(candidates.shape)
        loss = divergence(log_odds, similarity, settings.temperature)
        untaught = divergence(torch.zeros_like(log_odds), similarity, settings.temperature)
        recent.append(torch.stack([loss.detach(), untaught]))
        return loss

    log.info("distillation of frozen text: %d steps", settings.steps)
    rates = {True: config.new_learning_rate, False: settings.learning_rate}
    new = ("new",) if templates.has_head(config.backbone) else ("new", "transform", "bias")
    warm_up.fit(bert, new, rates, settings.steps, loss_of, config.warm_up.precision, "distillation")
    last, untaught = torch.stack([*recent]).mean(0).tolist()
    log.info("distillation finished: divergence %.3f in its last tenth, %.3f for equal log-odds", last, untaught)
    if last > FAILED * untaught:
        log.warning(
            "the distillation has hardly learned the order of frozen text; more steps may, model.warm_up.distillation"
            ".steps=%d, or another draw, model.warm_up.distillation.seed=%d",
            2 * settings.steps,
            settings.seed + 1,
        )


def divergence(log_odds: Tensor, similarity: Tensor, temperature: float) -> Tensor:
    """Return the mean over rows of KL(softmax(similarity / temperature) ‖ softmax(log_odds)), both (n, candidates)."""
    target = (similarity / temperature).log_softmax(1)
    return F.kl_div(log_odds.log_softmax(1), target, log_target=True, reduction="batchmean")


def _examples(clicks: Clicks, candidates: IntArray) -> Examples:
    zeros = np.zeros(len(clicks), dtype=np.int64)
    return Examples(clicks.user, zeros, clicks.sequence, clicks.start, clicks.end, zeros, candidates=candidates)
