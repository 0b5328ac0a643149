"""Faster attention on a CPU for chat models that read padded prompts: the same results as transformers' `sdpa`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "left_padded_causal"  # of this implementation in transformers' registry
FEW_TOKENS = 64  # of queries that are one product with more keys
# Their code passes nothing but query, key, value and mask, and does not check the implementation's name.
SUPPORTED_MODELS = ("gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3", "smollm3")


def use_fast_attention(model: Any) -> None:
    """Switch a supported model on a CPU from transformers' `sdpa` to `attend`."""
    config = model.config
    if model.device.type == "cpu" and config.model_type in SUPPORTED_MODELS and config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Compute scaled dot-product attention of grouped queries.

    For left-padded prompts `sdpa` multiplies all queries with all keys, and masks more than half of the products: here
    each prompt is computed without its padding, by the kernel for causal attention. For the queries of few tokens
    `sdpa` copies the keys for each query head and calls a kernel made for many: here they are one product with the keys
    of each head. All other cases go to `sdpa`.

    Returns:
        (batch, n, heads, d).
    """
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scaling = options.get("scaling") or query.shape[-1] ** -0.5
        if query.shape[2] == 1:
            return _attend_few_tokens(query, key, value, attention_mask, scaling), None
        if (starts := _prompt_starts(attention_mask.expand(len(query), -1, -1, -1))) is not None:
            return _attend_prompts(query, key, value, starts, scaling), None
        if query.shape[2] <= FEW_TOKENS < key.shape[2]:
            return _attend_few_tokens(query, key, value, attention_mask, scaling), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def _attend_few_tokens(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float) -> Tensor:
    """In bf16 scores are rounded, as by transformers' `eager`. Over 92 generated tokens SmolLM2's logits were as close
    to those in fp32 as with `sdpa`: root mean square errors of 0.18 and 0.19."""
    batch, heads, n, d = query.shape
    key_heads, m = key.shape[1:3]
    grouped = query.reshape(batch, key_heads, -1, d)
    scores = (grouped @ key.transpose(2, 3)).float() * scaling
    scores = scores.view(batch, key_heads, -1, n, m).masked_fill(~mask[:, None], torch.finfo(torch.float).min)
    weights = scores.softmax(-1).to(value.dtype).view(batch, key_heads, -1, m)
    return (weights @ value).view(batch, heads, n, -1).transpose(1, 2)


def _attend_prompts(query: Tensor, key: Tensor, value: Tensor, starts: list[int], scaling: float) -> Tensor:
    batch, heads, n, _ = query.shape
    output = query.new_zeros(batch, n, heads, value.shape[-1])
    for row, start in enumerate(starts):
        prompt = (slice(row, row + 1), slice(None), slice(start, n))
        attended = scaled_dot_product_attention(
            query[prompt], key[prompt], value[prompt], is_causal=True, scale=scaling, enable_gqa=True
        )
        output[row, start:] = attended[0].transpose(0, 1)
    return output


def _prompt_starts(mask: Tensor) -> list[int] | None:
    """Return where each prompt starts, if the mask is causal from there on and empty elsewhere; otherwise None."""
    n = mask.shape[2]
    causal = mask.new_ones(n, n).tril()
    starts: list[int] = mask[:, 0, -1].int().argmax(1).tolist()
    for row_mask, start in zip(mask[:, 0], starts, strict=True):
        length = n - start
        if not torch.equal(row_mask[start:, start:n], causal[:length, :length]):
            return None
        if row_mask.count_nonzero() != length * (length + 1) // 2:
            return None
    return starts


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
