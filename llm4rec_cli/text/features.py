"""Frozen text features: a catalogue is encoded once and cached."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llm4rec_cli.arithmetic import at_once
from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision
from llm4rec_cli.errors import UsageError
from llm4rec_cli.files import sha256, write_once
from llm4rec_cli.text.weights import locate_weights, settings_files

log = logging.getLogger(__name__)

TOKENS_PER_BATCH = {"cpu": 1 << 11, "accelerator": 1 << 16}  # on a CPU, a layer's activations stay near the cache
TEXTS_PER_CALL = 10_000  # of the tokenizer
DTYPES = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16}  # lowest cosine between the two: 0.9999
RECIPE_VERSION = 2  # raised when the same encoder and texts would give other vectors


def encode_texts(texts: list[str], config: EncoderConfig, cache: Path, device: str) -> Tensor:
    """Return (n, size) float32, on the CPU, one vector per text from a frozen encoder, computed once and cached.

    Distinct texts are encoded once each, in batches of similar length; permuting texts among items costs nothing. The
    encoder's precision is not `auto`.

    Raises:
        UsageError: the encoder is neither packaged, nor a folder, nor on the hub; or max_length exceeds its limit.
        DataError: the packaged weights have another hash than expected.
    """
    from safetensors.torch import load_file, save_file

    distinct = sorted(set(texts))
    place = {text: i for i, text in enumerate(distinct)}
    folder, weights = locate_weights(str(config.name))
    limit = json.loads((Path(folder) / "config.json").read_text()).get("max_position_embeddings", config.max_length)
    if config.max_length > limit:
        raise UsageError(
            f"model.encoder.max_length={config.max_length} is too large: {config.name} takes at most {limit} tokens",
            f"model.encoder.max_length={limit}",
        )
    settings = [[file.name, sha256(file)] for file in settings_files(folder)]
    key_parts = [RECIPE_VERSION, weights, settings, config.pooling.name, config.max_length]
    key_parts += [config.precision.name, _hash_texts(distinct)]
    key = hashlib.sha256(json.dumps(key_parts).encode()).hexdigest()
    path = cache / "features" / f"{key[:24]}.safetensors"

    write_once(path, lambda aside: save_file({"vectors": _encode(distinct, folder, config, device)}, aside))
    return load_file(path)["vectors"][[place[text] for text in texts]]


def _encode(texts: list[str], folder: str, config: EncoderConfig, device: str) -> Tensor:
    from transformers import AutoModel, AutoTokenizer

    from llm4rec_cli.progress import track
    from llm4rec_cli.text.loading import load_pretrained

    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.random.fork_rng(devices=[]):  # a pooler that is missing is drawn, and not used: seeds must not change
        model = load_pretrained(AutoModel, folder, ("pooler.",), dtype=DTYPES[config.precision]).to(device).eval()
    tokens = [
        np.array(ids, dtype=np.int32)  # a list of Python numbers takes fifty times the memory
        for start in track(range(0, len(texts), TEXTS_PER_CALL), "reading item texts")
        for ids in tokenizer(
            texts[start : start + TEXTS_PER_CALL], truncation=True, max_length=config.max_length
        ).input_ids
    ]
    lengths = np.array([len(t) for t in tokens])
    vectors = torch.empty(len(texts), model.config.hidden_size)
    log.info("encoding %d distinct texts (%d tokens) with %s", len(texts), lengths.sum(), folder)
    order = np.argsort(-lengths, kind="stable")
    with torch.inference_mode():
        for batch in track(_token_batches(order, lengths, at_once(TOKENS_PER_BATCH, device)), "encoding item texts"):
            encoded = tokenizer.pad({"input_ids": [tokens[i] for i in batch]}, return_tensors="pt").to(device)
            states = model(**encoded).last_hidden_state
            if config.pooling == Pooling.cls:
                pooled = states[:, 0]
            else:
                mask = encoded["attention_mask"].unsqueeze(-1)
                pooled = (states.float() * mask).sum(1) / mask.sum(1)
            vectors[torch.from_numpy(batch)] = pooled.float().cpu()
    return vectors


def _token_batches(order: np.ndarray, lengths: np.ndarray, limit: int) -> list[np.ndarray]:
    """Return consecutive groups of `order` (longest first), each one text or up to `limit` padded tokens."""
    batches, start = [], 0
    while start < len(order):
        end = start + max(1, limit // int(lengths[order[start]]))
        batches.append(order[start:end])
        start = end
    return batches


def _hash_texts(texts: list[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        raw = text.encode()
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()
