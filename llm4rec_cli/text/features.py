"""Frozen text features: a catalogue is encoded once, and vectors of language models are cached."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from llm4rec_cli.arithmetic import at_once
from llm4rec_cli.config.schema import ENDPOINT, RANDOM, TFIDF, EncoderConfig, Pooling, Precision
from llm4rec_cli.files import sha256, write_once
from llm4rec_cli.text.encoders import encoder_folder
from llm4rec_cli.text.sentence import Dense, Recipe, frame_of, recipe_of
from llm4rec_cli.text.vectors import Vectors, fitted_pca, random_vectors, tfidf_vectors
from llm4rec_cli.text.weights import settings_files

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset

log = logging.getLogger(__name__)

TOKENS_PER_BATCH = {"cpu": 1 << 11, "accelerator": 1 << 16}  # on a CPU, a layer's activations stay near the cache
TEXTS_PER_CALL = 10_000  # of the tokenizer
DTYPES = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16}  # lowest cosine between the two: 0.9999
RECIPE_VERSION = 2  # raised when the same encoder and texts would give other vectors
DEFAULT_SIZE = 256  # of vectors by TF-IDF and random ones


def encode_texts(
    texts: list[str], config: EncoderConfig, cache: Path, device: str, dataset: RecDataset | None = None
) -> Tensor:
    """Return (n, size) float32, on the CPU, one vector per text. The encoder's precision is not `auto`.

    Args:
        dataset: to its texts TF-IDF, PCA and whitening are fitted, and its seed is that of random vectors. None = to
            these texts, seed 0.

    Raises:
        UsageError: the encoder is neither packaged, nor a folder, nor on the hub; max_length exceeds its limit; or the
            endpoint refuses.
        RunError: the endpoint cannot be reached.
        DataError: the packaged weights have another hash than expected.
    """
    catalogue = sorted(set(texts if dataset is None else dataset.texts))
    encode = _encoder(config, cache, device, catalogue, 0 if dataset is None else dataset.seed)
    vectors = encode(texts)
    if config.whiten or (config.dimension or vectors.shape[1]) < vectors.shape[1]:
        vectors = fitted_pca(encode(catalogue), config.dimension, config.whiten)(vectors)
    return torch.from_numpy(vectors)


def _encoder(
    config: EncoderConfig, cache: Path, device: str, catalogue: list[str], seed: int
) -> Callable[[list[str]], Vectors]:
    name, size = str(config.name), config.dimension or DEFAULT_SIZE
    if name == RANDOM:
        return lambda texts: random_vectors(texts, size, seed)
    if name == TFIDF:
        return lambda texts: tfidf_vectors(texts, catalogue, size)
    if name.startswith(ENDPOINT):
        from llm4rec_cli.llm.embeddings import embed

        model = name.removeprefix(ENDPOINT)
        return lambda texts: embed(_instructed(texts, config), model, config.base_url, cache)
    return lambda texts: _cached(_instructed(texts, config), config, cache, device).numpy()


def _instructed(texts: list[str], config: EncoderConfig) -> list[str]:
    frame = frame_of(config)
    return [frame.replace("{text}", text) for text in texts]


def _cached(texts: list[str], config: EncoderConfig, cache: Path, device: str) -> Tensor:
    """Return the vectors of a language model, computed once and cached.

    Distinct texts are encoded once each, in batches of similar length; permuting texts among items costs nothing.
    """
    distinct = sorted(set(texts))
    place = {text: i for i, text in enumerate(distinct)}
    folder, weights = encoder_folder(str(config.name), cache)
    recipe = recipe_of(config, Path(folder))
    settings = [[file.name, sha256(file)] for file in settings_files(folder)]
    key_parts = [RECIPE_VERSION, recipe.identity(weights), settings, config.pooling.name, config.max_length]
    key_parts += [config.precision.name, _hash_texts(distinct)]
    key = hashlib.sha256(json.dumps(key_parts).encode()).hexdigest()
    path = cache / "features" / f"{key[:24]}.safetensors"

    write_once(path, lambda aside: save_file({"vectors": _encode(distinct, folder, config, recipe, device)}, aside))
    return load_file(path)["vectors"][[place[text] for text in texts]]


def _encode(texts: list[str], folder: str, config: EncoderConfig, recipe: Recipe, device: str) -> Tensor:
    from transformers import AutoModel, AutoModelForTextEncoding, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

    from llm4rec_cli.progress import track
    from llm4rec_cli.text.loading import load_pretrained

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    kind = json.loads((Path(folder) / "config.json").read_text())["model_type"]
    model_class = (
        AutoModelForTextEncoding if kind in MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES else AutoModel
    )  # T5's encoder
    with torch.random.fork_rng(devices=[]):  # a pooler that is missing is drawn, and not used: seeds must not change
        model = load_pretrained(model_class, folder, ("pooler.",), dtype=DTYPES[config.precision]).to(device).eval()
    texts = [text.lower() for text in texts] if recipe.lower_case else texts
    tokens = [
        # A list of Python numbers takes fifty times the memory. A causal model has no token for an empty text.
        np.array(ids or [tokenizer.eos_token_id], dtype=np.int32)
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
            vectors[torch.from_numpy(batch)] = pooled(states, encoded["attention_mask"], config.pooling).cpu()
    for layer in recipe.layers:
        vectors = _through(layer, vectors) if layer else F.normalize(vectors)
    return vectors


def _through(layer: Dense, vectors: Tensor) -> Tensor:
    weights = {name: tensor.float() for name, tensor in load_file(layer.weights).items()}
    vectors = F.linear(vectors, weights["linear.weight"], weights.get("linear.bias"))
    return vectors.tanh() if layer.activation == "Tanh" else vectors


def pooled(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Return (n, size) float32, one vector per text, of states (n, length, size) padded at the right."""
    if pooling is Pooling.cls:
        return states[:, 0].float()
    if pooling is Pooling.last:
        return states[torch.arange(len(states)), mask.sum(1) - 1].float()
    mask = mask.unsqueeze(-1)
    return (states.float() * mask).sum(1) / mask.sum(1)


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
