"""Log-likelihoods of several continuations of one prompt under a causal language model, which reads the prompt once."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from llm4rec_cli.errors import UsageError, raise_first

ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
PACK_TOKENS = 256  # tokens of continuations per forward pass: each pays for masked attention to all others


@torch.inference_mode()
def log_likelihoods(model: Any, prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> Tensor:
    """Return log-probabilities of continuations, conditional on the prompt; without an end-of-text token.

    The prompt is read once, and its keys and values are cached. Continuations are then packed into one sequence, in
    which each token attends to the prompt and to the earlier tokens of its own continuation, at the position that it
    would have by itself. Logits are computed only for those tokens and for the prompt's last.

    Args:
        model: a causal language model of transformers with nothing but (full or sliding-window) attention layers.
        continuations: n lists of token ids. An empty one has log-probability 0.

    Returns:
        (n,) float32 sums over each continuation's tokens, on the CPU.

    Raises:
        UsageError: the model has other layers.
    """
    raise_first(problems_of_layers(model))
    device, prompt_length = model.device, len(prompt)
    prompt_cache, logits = read_prompt(model, torch.tensor(prompt, device=device))
    first_token = logits.float().log_softmax(-1)
    scores = []
    for pack in _packs(continuations, PACK_TOKENS):
        inputs = [tokens[:-1] for tokens in pack]
        logits = _logits_after(model, prompt_cache, prompt_length, inputs)
        targets = torch.tensor([token for tokens in pack for token in tokens[1:]], device=device, dtype=torch.long)
        log_probs = logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(1)
        for tokens, later in zip(pack, log_probs.split([len(tokens) for tokens in inputs]), strict=True):
            scores.append(later.sum() + (first_token[tokens[0]] if tokens else 0))
    return torch.stack(scores).cpu()


def problems_of_layers(model: Any) -> Iterator[UsageError]:
    """Yield a problem if the model has other layers than attention, as keys of later tokens must be masked."""
    unsupported = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - ATTENTION_LAYERS
    if unsupported:
        yield UsageError(
            "likelihoods and constrained answers need a model of only attention layers, and this one has "
            f"{', '.join(sorted(unsupported))} layers",
            "choose another llm.model, or model.answer=generate",
        )


def read_prompt(model: Any, prompt: Tensor) -> tuple[Any, Tensor]:
    """Return the prompt's key-value cache, and (vocabulary,) logits of the next token."""
    from transformers import DynamicCache

    cache = DynamicCache()  # made without the model's config, so that sliding windows drop nothing
    logits = model(prompt[None], **{cache_argument(model): cache}, logits_to_keep=1).logits
    return cache, logits[0, -1]


def _logits_after(model: Any, prompt_cache: Any, prompt_length: int, inputs: Sequence[Sequence[int]]) -> Tensor:
    """Return (m, vocabulary) float32 logits at all m tokens of lists that each follow the prompt."""
    from transformers import DynamicCache

    device = model.device
    lengths = torch.tensor([len(tokens) for tokens in inputs], device=device)
    if not lengths.sum():
        return torch.empty(0, model.config.get_text_config().vocab_size, device=device)
    owner = torch.arange(len(inputs), device=device).repeat_interleave(lengths)
    position = prompt_length + torch.cat([torch.arange(len(tokens), device=device) for tokens in inputs])
    distance = position[:, None] - torch.cat([torch.arange(prompt_length, device=device), position])
    own = owner[:, None] == torch.cat([owner.new_full((prompt_length,), -1), owner])
    visible = (own | (torch.arange(own.shape[1], device=device) < prompt_length)) & (distance >= 0)
    cache = DynamicCache()
    for index, layer in enumerate(prompt_cache.layers):
        cache.update(layer.keys, layer.values, index)  # a copy: the next pack starts from the prompt again
    tokens = torch.tensor([token for tokens in inputs for token in tokens], device=device)
    masks = _additive(model, masks_by_layer(model, visible[None], distance[None]))
    output = model(tokens[None], position_ids=position[None], attention_mask=masks, **{cache_argument(model): cache})
    return output.logits[0].float()


def masks_by_layer(model: Any, visible: Tensor, distance: Tensor) -> Any:
    """Return boolean masks (batch, 1, tokens, keys): one for all layers, or one per layer type where the model has
    several.

    Args:
        visible: (batch, tokens, keys) whether a token may attend to a key.
        distance: (batch, tokens, keys) the token's position minus the key's.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    in_window = visible & (distance < window) if window else visible
    if getattr(config, "layer_types", None):
        return {"full_attention": visible[:, None], "sliding_attention": in_window[:, None]}
    return in_window[:, None]


def _additive(model: Any, masks: Any) -> Any:
    """Return what boolean masks add to scores, in the model's precision."""
    if isinstance(masks, dict):
        return {layer_type: _additive(model, mask) for layer_type, mask in masks.items()}
    zeros = torch.zeros(masks.shape, dtype=model.dtype, device=masks.device)
    return zeros.masked_fill(~masks, torch.finfo(model.dtype).min)


def _packs(continuations: Sequence[Sequence[int]], size: int) -> list[list[Sequence[int]]]:
    """Split continuations, in order, into packs of at most `size` tokens. A longer one is a pack of its own."""
    packs: list[list[Sequence[int]]] = []
    room = 0
    for tokens in continuations:
        if not packs or len(tokens) > room:
            packs.append([])
            room = size
        packs[-1].append(tokens)
        room -= len(tokens)
    return packs


def cache_argument(model: Any) -> str:
    """Return the name of forward's cache argument: transformers 5 renamed `past_key_values` to `cache`."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
