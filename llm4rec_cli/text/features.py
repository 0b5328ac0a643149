"""Frozen text features: a catalogue encoded once, and kept."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llm4rec_cli.config.schema import Pooling, Precision
from llm4rec_cli.errors import UsageError
from llm4rec_cli.files import sha256, write_once
from llm4rec_cli.text.weights import locate_weights, settings_in

log = logging.getLogger(__name__)

TOKENS_A_BATCH = 2048  # what a layer makes of them stays near the cache
TEXTS_AT_ONCE = 10_000  # tokenised
DTYPES = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16}  # worst cosine of the two measured: 0.9999
RECIPE_VERSION = 2  # raised when the same encoder and texts would give other vectors


def encode_texts(texts: list[str], config: Any, cache: Path, device: str) -> Tensor:
    """One vector a text from a frozen encoder, computed once and cached.

    Distinct texts are encoded once each, in batches of like length; permuting texts among items costs nothing.

    Args:
        texts: n texts.
        config: an EncoderConfig, its precision not `auto`.
        cache: folder; vectors are kept under features/.
        device: where the encoder runs.

    Returns:
        (n, size) float32 on the CPU.

    Raises:
        UsageError: the encoder is neither packaged, nor a folder, nor on the hub.
        DataError: the packaged weights are not those we know.
    """
    from safetensors.torch import load_file, save_file

    distinct = sorted(set(texts))
    place = {text: i for i, text in enumerate(distinct)}
    folder, weights = locate_weights(str(config.name))
    limit = json.loads((Path(folder) / "config.json").read_text()).get("max_position_embeddings", config.max_length)
    if config.max_length > limit:
        raise UsageError(
            f"model.encoder.max_length={config.max_length}, and {config.name} takes {limit} tokens at most",
            f"model.encoder.max_length={limit}",
        )
    settings = [[file.name, sha256(file)] for file in settings_in(folder)]
    decided = [RECIPE_VERSION, weights, settings, config.pooling.name, config.max_length]
    decided += [config.precision.name, _hash_texts(distinct)]
    key = hashlib.sha256(json.dumps(decided).encode()).hexdigest()
    path = cache / "features" / f"{key[:24]}.safetensors"

    def encode(aside: Path) -> None:
        dtype = DTYPES[config.precision]
        save_file({"vectors": _encode(distinct, folder, config.pooling, config.max_length, device, dtype)}, aside)

    write_once(path, encode)
    return load_file(path)["vectors"][[place[text] for text in texts]]


def _encode(
    texts: list[str],
    folder: str,
    pooling: Pooling,
    max_length: int,
    device: str,
    dtype: torch.dtype,
) -> Tensor:
    """(n, size) float32 vectors of distinct texts."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    from llm4rec_cli.progress import track

    transformers_logging.disable_progress_bar()  # loading takes a moment; encoding has a bar of ours
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.random.fork_rng(devices=[]):  # weights that a folder lacks are drawn: no seed may depend on that
        model = AutoModel.from_pretrained(folder, dtype=dtype, use_safetensors=True).to(device).eval()
    tokens = [
        np.array(ids, dtype=np.int32)  # a list of Python numbers takes fifty times as much
        for start in range(0, len(texts), TEXTS_AT_ONCE)
        for ids in tokenizer(texts[start : start + TEXTS_AT_ONCE], truncation=True, max_length=max_length)["input_ids"]
    ]
    lengths = np.array([len(t) for t in tokens])
    vectors = torch.empty(len(texts), model.config.hidden_size)
    log.info("encoding %d distinct texts (%d tokens) with %s", len(texts), lengths.sum(), folder)
    order = np.argsort(-lengths, kind="stable")
    with torch.inference_mode():
        for batch in track(_token_batches(order, lengths), "encoding item texts"):
            encoded = tokenizer.pad({"input_ids": [tokens[i] for i in batch]}, return_tensors="pt").to(device)
            states = model(**encoded).last_hidden_state
            if pooling == Pooling.cls:
                pooled = states[:, 0]
            else:
                mask = encoded["attention_mask"].unsqueeze(-1)
                pooled = (states.float() * mask).sum(1) / mask.sum(1)
            vectors[torch.from_numpy(batch)] = pooled.float().cpu()
    return vectors


def _token_batches(order: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Consecutive groups of `order` (longest first) of at most TOKENS_A_BATCH padded tokens, at least one text each."""
    batches, start = [], 0
    while start < len(order):
        end = start + max(1, TOKENS_A_BATCH // int(lengths[order[start]]))
        batches.append(order[start:end])
        start = end
    return batches


def _hash_texts(texts: list[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        raw = text.encode()
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()
