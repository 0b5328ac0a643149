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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertForMaskedLM

from llm4rec_cli.arithmetic import autocast
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

    def write(part: Path) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            model = PackedBert(_load_published(config.backbone), 0).to(context.device)
            longest = model.positions.num_embeddings
            rows = [encoding.ids[:longest] for encoding in tokenizer.encode_batch_fast(titles)]
            _train(model, Ragged.from_rows(rows), tokenizer, config)
        save_file({name: weight.contiguous().cpu() for name, weight in model.state_dict().items()}, part)

    key = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    path = context.cache / "backbones" / f"{key[:24]}.safetensors"
    write_once(path, write)
    packed = PackedBert(bert, 0)  # shares its weights with `bert`
    packed.load_state_dict(load_file(path))
    with torch.no_grad():
        bert.cls.predictions.bias.copy_(packed.bias)
        bert.bert.embeddings.token_type_embeddings.weight[0] = packed.kind
    return bert


def _load_published(name: str) -> BertForMaskedLM:
    """Return the published weights. A missing head is random, by torch's global generator."""
    may_be_random = () if templates.has_head(name) else ("cls.",)
    bert: BertForMaskedLM = load_pretrained(
        BertForMaskedLM, str(backbone_folder(name)), may_be_random, dtype=torch.float32
    )
    return bert


def _train(model: PackedBert, texts: Ragged, tokenizer: Tokenizer, config: Prompt4NRConfig) -> None:
    """Train with AdamW, a linear schedule and clipped gradients, each row of `texts` once an epoch."""
    settings, device = config.warm_up, model.bias.device
    ids = tokenizer.get_vocab(with_added_tokens=True)
    n_batches = math.ceil(len(texts) / settings.batch_size)
    batches = [
        rows
        for epoch in range(settings.epochs)
        for rows in np.array_split(stream(SEED, "warm-up", epoch).permutation(len(texts)), n_batches)
    ]
    steps = len(batches)
    rates = {True: config.new_learning_rate, False: settings.learning_rate}
    new = () if templates.has_head(config.backbone) else ("transform", "bias")
    is_new: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, weight in model.named_parameters():
        is_new[name.startswith(new)].append(weight)
    optimizer = torch.optim.AdamW([{"params": is_new[k], "lr": rates[k]} for k in rates], weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / math.ceil(SCHEDULE_WARM_UP * steps), (steps - step) / steps)
    )
    log.info("warm-up of the backbone on %s texts: %d steps", f"{len(texts):,}", steps)
    model.train()
    loss = torch.tensor(math.nan)
    for step in track(range(steps), "warm-up"):
        inputs: dict[str, Any] = pack_rows(texts.rows(batches[step]))
        index, targets = mask_tokens(inputs["tokens"], ids, stream(SEED, "warm-up: blanks", step))
        if not len(index):
            continue
        del inputs["starts"]
        with autocast(device, settings.precision):
            states = model.states_at(index.to(device), **on_device(inputs, device))
            logits = F.linear(states, model.words.weight, model.bias)
            loss = F.cross_entropy(logits.float(), targets.to(device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        schedule.step()
    model.eval()
    log.info("warm-up finished: last loss %.3f", loss.item())


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
