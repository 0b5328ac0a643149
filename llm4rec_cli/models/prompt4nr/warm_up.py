"""The backbone: published weights, and where they lack the head that fills blanks, one that a warm-up has trained.

The warm-up is masked-language-model training (as BERT's: 15 % of the tokens are asked for, of which 80 % are blanked,
10 % replaced, 10 % left) on the titles that the training part shows or has in a history; no click is looked at. It is
an artefact of the data as any backbone is one of its: done once, kept in the cache, and the same for all templates and
seeds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertForMaskedLM
from transformers.utils import logging as transformers_logging

from llm4rec_cli.config.schema import Precision
from llm4rec_cli.data.streams import stream
from llm4rec_cli.files import write_once
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.prompt4nr import templates
from llm4rec_cli.models.prompt4nr.bert import PackedBert
from llm4rec_cli.models.prompt4nr.config import Prompt4NRConfig
from llm4rec_cli.models.prompt4nr.sequences import Ragged, packed
from llm4rec_cli.progress import track
from llm4rec_cli.text.weights import backbone_identity

log = logging.getLogger(__name__)

VERSION = 1  # raised when the same titles would give other weights
ASKED, BLANKED, REPLACED = 0.15, 0.8, 0.1  # BERT's
WARM, CLIP, DECAY = 0.05, 1.0, 0.01
SEED = 0


def backbone(config: Prompt4NRConfig, context: Context, tokenizer: Tokenizer, titles: Sequence[str]) -> BertForMaskedLM:
    """A masked language model with all its parts; drawn by torch's own generator is what neither file nor cache has.

    Raises:
        UsageError: there is no such backbone.
    """
    bert = _loaded(config.backbone)
    if not config.warm_up.epochs:
        return bert
    shown = sorted({titles[i] for i in np.flatnonzero(context.split.seen_in_training()).tolist()} - {""})
    if not shown:
        return bert
    from safetensors.torch import load_file, save_file

    settings = {**vars(config.warm_up), "precision": config.warm_up.precision.name}
    decided = [VERSION, backbone_identity(config.backbone), settings, config.new_learning_rate, shown]
    key = hashlib.sha256(json.dumps(decided).encode()).hexdigest()
    path = context.cache / "backbones" / f"{key[:24]}.safetensors"

    def train(aside: Path) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = PackedBert(_loaded(config.backbone), 0).to(context.device)
            most = model.positions.num_embeddings
            read = [found.ids[:most] for found in tokenizer.encode_batch_fast(shown)]
            _train(model, Ragged.of(read), tokenizer, config)
        save_file({name: weight.contiguous().cpu() for name, weight in model.state_dict().items()}, aside)

    write_once(path, train)
    warmed = PackedBert(bert, 0)  # shares the weights of what is returned
    warmed.load_state_dict(load_file(path))
    with torch.no_grad():
        bert.cls.predictions.bias.copy_(warmed.bias)
        bert.bert.embeddings.token_type_embeddings.weight[0] = warmed.kind
    return bert


def _loaded(name: str) -> BertForMaskedLM:
    """The published weights; a head that they lack is drawn by torch's own generator."""
    transformers_logging.disable_progress_bar()
    spoken = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # of weights that it lacks, and has for other heads, a page is told
    try:
        return BertForMaskedLM.from_pretrained(str(templates.folder(name)), dtype=torch.float32, use_safetensors=True)
    finally:
        transformers_logging.set_verbosity(spoken)


def _train(model: PackedBert, titles: Ragged, tokenizer: Tokenizer, config: Prompt4NRConfig) -> None:
    """Trains it on all titles, `warm_up.epochs` times."""
    settings, device = config.warm_up, model.bias.device
    is_head: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, weight in model.named_parameters():
        is_head[name.startswith(("transform", "bias"))].append(weight)
    rates = {True: config.new_learning_rate, False: settings.learning_rate}
    optimizer = torch.optim.AdamW([{"params": is_head[k], "lr": rates[k]} for k in rates], weight_decay=DECAY)
    steps = settings.epochs * -(-len(titles) // settings.batch_size)
    pace = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / math.ceil(WARM * steps), (steps - step) / steps)
    )
    log.info("warming the head up: %s titles, %d steps", f"{len(titles):,}", steps)
    model.train()
    number = tokenizer.get_vocab(with_added_tokens=True)
    loss = torch.tensor(math.nan)  # of titles so few that no token is asked for
    batches = [
        rows
        for epoch in range(settings.epochs)
        for rows in np.array_split(
            stream(SEED, "warm-up", epoch).permutation(len(titles)), -(-len(titles) // settings.batch_size)
        )
    ]
    for step, rows in enumerate(track(batches, "warming up")):
        inputs = packed(titles.rows(rows))
        places, wanted = blanked(inputs, number, stream(SEED, "warm-up: blanks", step))
        if not len(places):
            continue
        inputs = {key: value.to(device) for key, value in inputs.items() if key != "begins"}
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision is Precision.bf16):
            states = model.everywhere(places.to(device), **inputs)
            loss = F.cross_entropy(F.linear(states, model.words.weight, model.bias).float(), wanted.to(device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        pace.step()
    log.info("warmed up: the last loss is %.3f", loss.item())
    model.eval()


def blanked(inputs: dict[str, Tensor], number: Mapping[str, int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Hides some of the packed tokens, in place.

    Args:
        number: token -> its number.

    Returns:
        (m,) where they stand, and what stood there.
    """
    tokens = inputs["tokens"].numpy()
    special = [number[name] for name in (templates.CLS, templates.SEPARATOR)] + [0]  # 0 = padding
    places = np.flatnonzero((rng.random(len(tokens)) < ASKED) & ~np.isin(tokens, special))
    wanted = tokens[places].copy()
    fate = rng.random(len(places))
    tokens[places[fate < BLANKED]] = number[templates.BLANK]
    replaced = places[(fate >= BLANKED) & (fate < BLANKED + REPLACED)]
    tokens[replaced] = rng.integers(len(number), size=len(replaced))
    return torch.from_numpy(places), torch.from_numpy(wanted)
