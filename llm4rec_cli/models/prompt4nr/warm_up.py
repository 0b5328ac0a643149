"""Load the backbone, after a warm-up for published weights that lack the masked-language-model head.

The warm-up is masked-language-model training, as BERT's (15 % of the tokens are predicted; of these 80 % are masked,
10 % replaced, 10 % kept), on the titles that the training part shows or has in a history; clicks are not used. Like a
backbone it is independent of template and seed: trained once, and cached.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertForMaskedLM

from llm4rec_cli.arithmetic import autocast
from llm4rec_cli.config.schema import Precision
from llm4rec_cli.data.streams import stream
from llm4rec_cli.files import write_once
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.prompt4nr import templates
from llm4rec_cli.models.prompt4nr.bert import PackedBert
from llm4rec_cli.models.prompt4nr.config import Prompt4NRConfig
from llm4rec_cli.models.prompt4nr.sequences import clean_title
from llm4rec_cli.models.shared.batch import on_device
from llm4rec_cli.models.shared.tokens import Ragged, pack_rows
from llm4rec_cli.progress import track
from llm4rec_cli.text.backbone import backbone_folder
from llm4rec_cli.text.loading import load_pretrained
from llm4rec_cli.text.weights import backbone_identity

log = logging.getLogger(__name__)

VERSION = 3  # raised when the same titles would give other weights
PREDICTED, MASKED, REPLACED = 0.15, 0.8, 0.1  # shares of tokens (BERT)
SCHEDULE_WARM_UP, MAX_GRAD_NORM, WEIGHT_DECAY = 0.05, 1.0, 0.01
SEED = 0


def load_backbone(config: Prompt4NRConfig, context: Context, tokenizer: Tokenizer) -> BertForMaskedLM:
    """Return a masked language model. Weights found in neither file nor cache are drawn by torch's global generator.

    Raises:
        UsageError: the backbone does not exist.
    """
    bert = _load_published(config.backbone)
    if not config.warm_up.epochs or context.is_loaded:
        return bert
    items = context.split.dataset.items[context.split.seen_in_training()]
    titles = sorted({*map(clean_title, items["title"].fillna(""))} - {""})
    if not titles:
        return bert
    settings = [config.warm_up.epochs, config.warm_up.batch_size, config.warm_up.learning_rate]
    inputs = [VERSION, backbone_identity(config.backbone), settings, config.warm_up.precision.name]
    inputs += [config.new_learning_rate, titles]

    def train() -> PackedBert:
        model = PackedBert(_load_published(config.backbone), 0).to(context.device)
        longest = model.positions.num_embeddings
        rows = [encoding.ids[:longest] for encoding in tokenizer.encode_batch_fast(titles)]
        n_batches = min(len(titles), math.ceil(len(titles) / config.warm_up.batch_size))
        _train(model, Ragged.from_rows(rows), n_batches, tokenizer, config)
        return model

    key = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    weights = trained_once(context.cache, key, train)
    packed = PackedBert(bert, 0)  # shares its weights with `bert`
    packed.load_state_dict(weights)
    with torch.no_grad():
        bert.cls.predictions.bias.copy_(packed.bias)
        bert.bert.embeddings.token_type_embeddings.weight[0] = packed.kind
    return bert


def trained_once(cache: Path, key: str, train: Callable[[], PackedBert]) -> dict[str, Tensor]:
    """Return the cached weights with this key, or train them with SEED."""
    from safetensors.torch import load_file, save_file

    def write(part: Path) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            weights = train().state_dict()
        save_file({name: weight.contiguous().cpu() for name, weight in weights.items()}, part)

    path = cache / "backbones" / f"{key[:24]}.safetensors"
    write_once(path, write)
    return load_file(path)


def _load_published(name: str) -> BertForMaskedLM:
    """Return the published weights. A missing head is random, by torch's global generator."""
    may_be_random = () if templates.has_head(name) else ("cls.",)
    bert: BertForMaskedLM = load_pretrained(
        BertForMaskedLM, str(backbone_folder(name)), may_be_random, dtype=torch.float32
    )
    return bert


def _train(model: PackedBert, texts: Ragged, n_batches: int, tokenizer: Tokenizer, config: Prompt4NRConfig) -> None:
    settings, device = config.warm_up, model.bias.device
    ids = tokenizer.get_vocab(with_added_tokens=True)
    batches = [
        rows
        for epoch in range(settings.epochs)
        for rows in np.array_split(stream(SEED, "warm-up", epoch).permutation(len(texts)), n_batches)
    ]

    def loss_of(step: int) -> Tensor | None:
        inputs: dict[str, Any] = pack_rows(texts.rows(batches[step]))
        index, targets = mask_tokens(inputs["tokens"], ids, stream(SEED, "warm-up: blanks", step))
        if not len(index):
            return None
        del inputs["starts"]
        states = model.states_at(index.to(device), **on_device(inputs, device))
        return F.cross_entropy(F.linear(states, model.words.weight, model.bias).float(), targets.to(device))

    log.info("warm-up of the backbone on %s texts: %d steps", f"{len(texts):,}", len(batches))
    rates = {True: config.new_learning_rate, False: settings.learning_rate}
    new = () if templates.has_head(config.backbone) else ("transform", "bias")
    loss = fit(model, new, rates, len(batches), loss_of, settings.precision, "warm-up")
    log.info("warm-up finished: last loss %.3f", loss)


def fit(
    model: PackedBert,
    new: tuple[str, ...],
    rates: Mapping[bool, float],
    steps: int,
    loss_of: Callable[[int], Tensor | None],
    precision: Precision,
    title: str,
) -> float:
    """Train with AdamW, a linear schedule and clipped gradients. Return the last loss, NaN where no step had one.

    Args:
        new: prefixes of the names of new weights.
        rates: learning rates of new weights (True) and of the others.
        loss_of: returns the loss of a step; None where it has nothing to predict.
    """
    is_new: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, weight in model.named_parameters():
        is_new[name.startswith(new)].append(weight)
    optimizer = torch.optim.AdamW([{"params": is_new[k], "lr": rates[k]} for k in rates], weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / math.ceil(SCHEDULE_WARM_UP * steps), (steps - step) / steps)
    )
    model.train()
    last = torch.tensor(math.nan)
    for step in track(range(steps), title):
        with autocast(model.bias.device, precision):
            loss = loss_of(step)
        if loss is None:
            continue
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        schedule.step()
        last = loss.detach()
    model.eval()
    return last.item()


def mask_tokens(packed: Tensor, ids: Mapping[str, int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mask or replace some of the packed tokens, in place. Return (m,) flat indices of the tokens to predict, and
    their original ids."""
    tokens = packed.numpy()
    special = [ids[name] for name in (templates.CLS, templates.SEPARATOR)] + [0]  # 0 = padding
    index = np.flatnonzero((rng.random(len(tokens)) < PREDICTED) & ~np.isin(tokens, special))
    targets = tokens[index].copy()
    draw = rng.random(len(index))
    tokens[index[draw < MASKED]] = ids[templates.MASK_TOKEN]
    replaced = index[(draw >= MASKED) & (draw < MASKED + REPLACED)]
    tokens[replaced] = rng.integers(len(ids), size=len(replaced))
    return torch.from_numpy(index), torch.from_numpy(targets)
