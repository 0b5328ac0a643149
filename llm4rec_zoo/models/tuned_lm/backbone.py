"""The causal language model that is tuned, with its adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from llm4rec_cli.config.schema import Precision
from llm4rec_cli.errors import UsageError
from llm4rec_cli.llm.attention import SUPPORTED_MODELS
from llm4rec_cli.text import weights
from llm4rec_zoo.models.tuned_lm.config import TunedLmConfig
from llm4rec_zoo.models.tuned_lm.packing import NAME
from llm4rec_zoo.models.tuned_lm.settings import Frozen, Initial, Tuning

SETTING = "model.backbone"


def folder_of(config: TunedLmConfig, cache: Path) -> Path:
    """Return the folder with the backbone's settings, tokenizer and weights."""
    return weights.model_folder(weights.locate_causal(config.backbone), cache)


def load(config: TunedLmConfig, folder: Path) -> Any:
    """Return the language model, with the weights that are tuned, and only those, requiring gradients.

    Raises:
        UsageError: the architecture is not supported, or has no layers of the names of `lora.modules`.
    """
    settings = AutoConfig.from_pretrained(folder)
    if settings.model_type not in SUPPORTED_MODELS or getattr(settings, "sliding_window", None):
        raise UsageError(
            f"{SETTING}={config.backbone} is a {settings.model_type} or has a sliding window, which cannot be packed",
            f"choose one of these without a window: {', '.join(SUPPORTED_MODELS)}",
        )
    if config.weights is Initial.random:
        model = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    else:
        model = weights.load_model(folder, Precision.fp32, "cpu", SETTING)
    model.set_attn_implementation(NAME)
    model.requires_grad_(config.tuning is Tuning.full)
    if config.frozen_weights is not Frozen.fp32:
        _quantise(model, config.frozen_weights)
    if config.tuning is Tuning.lora:
        _add_adapters(model, config)
    if config.gradient_checkpointing:
        name = "activation_checkpointing_enable"  # before transformers 5.20 `gradient_…`
        enable = getattr(model, name, None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return model


def _quantise(model: Any, frozen: Frozen) -> None:
    """Store the weights of all linear layers but the last, which reads the embeddings, in 8 or 4 bits.

    Raises:
        UsageError: products of int8 overflow on this CPU.
    """
    import bitsandbytes

    if frozen is Frozen.int8 and int8_overflows():
        raise UsageError(
            "model.frozen_weights=int8: products of int8 overflow on this CPU, which has AVX-512 without VNNI",
            "model.frozen_weights=nf4",
        )
    for name, layer in list(model.named_modules()):
        if not isinstance(layer, nn.Linear) or layer is model.get_output_embeddings():
            continue
        shape = layer.in_features, layer.out_features, layer.bias is not None
        quantised: nn.Module
        if frozen is Frozen.nf4:
            quantised = bitsandbytes.nn.Linear4bit(*shape, compress_statistics=True, quant_type="nf4")
            # With AVX512-BF16 it would pack the weights at the first score: for some widths only, with scales and
            # products in bf16, so that training would go on with other weights than before its first evaluation.
            quantised.support_avx512bf16_for_cpu = False
        else:
            quantised = bitsandbytes.nn.Linear8bitLt(*shape, has_fp16_weights=False, threshold=6.0)
        quantised.load_state_dict(layer.state_dict())
        model.set_submodule(name, quantised.requires_grad_(False).to("cpu"))  # a move to a device rounds the weights
    model.is_loaded_in_4bit = frozen is Frozen.nf4  # peft reads these
    model.is_loaded_in_8bit = frozen is Frozen.int8


def int8_overflows() -> bool:
    """Return whether this CPU multiplies int8 by AVX-512 without VNNI, which sums pairs of products in 16 bits.

    Without AVX-512 bitsandbytes multiplies in fp32.
    """
    if torch.accelerator.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    largest = torch.full((32, 64), 127, dtype=torch.int8)
    return bool((torch._int_mm(largest, largest.t()) != 127 * 127 * 64).any())


def _add_adapters(model: Any, config: TunedLmConfig) -> None:
    lora = config.lora
    adapters = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.modules)
    )
    try:
        inject_adapter_in_model(adapters, model)
    except ValueError as error:
        raise UsageError(
            f"model.lora.modules={list(lora.modules)}: {config.backbone} has no such layers",
            "for Llama and its relatives: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj",
        ) from error


@contextmanager
def untuned(model: Any) -> Iterator[None]:
    """Switch the adapters off within the block."""
    adapted = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    for layer in adapted:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in adapted:
            layer.enable_adapters(True)


@torch.no_grad()
def continued(model: Any, tokens: Sequence[int], n: int, end: int) -> list[int]:
    """Return up to n tokens that follow greedily, until `end`."""
    model.set_attn_implementation("sdpa")  # ours has no cache
    prompt = torch.tensor([tokens], device=model.device)
    written = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=n,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
    )
    model.set_attn_implementation(NAME)
    following: list[int] = written[0, len(tokens) :].tolist()
    return following


def keep_only_trained(module: nn.Module) -> None:
    """Let the state of a module hold only the weights that are trained: the others are those of the backbone."""
    module.register_state_dict_post_hook(_drop_frozen)
    module.register_load_state_dict_pre_hook(_fill_in_frozen)


def _trained(module: nn.Module, prefix: str = "") -> set[str]:
    return {prefix + name for name, weight in module.named_parameters() if weight.requires_grad}


def _drop_frozen(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    trained = _trained(module, prefix)
    for name in [name for name in state if name.startswith(prefix) and name not in trained]:
        del state[name]


def _fill_in_frozen(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Weights that are tied to a trained one are filled in as well."""
    trained = _trained(module, prefix)
    for name, weight in module.named_parameters(remove_duplicate=False):
        if prefix + name not in trained:
            state[prefix + name] = weight.detach()
