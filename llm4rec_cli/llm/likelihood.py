"""How likely a causal language model finds several continuations of one prompt, which it reads once."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llm4rec_cli.errors import UsageError

ATTENDING = {"full_attention", "sliding_attention"}  # kinds of layers
PACKED = 256  # tokens of continuations read at once: each costs all others an attention that is masked away


@torch.inference_mode()
def log_likelihoods(model: Any, prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities of continuations, each given the prompt and its own earlier tokens; nothing is said of an end.

    The prompt is read once, and its keys and values are kept. Behind it continuations are read several at a time, as
    one sequence in which each token sees the prompt and those before it of its own continuation, and stands where it
    would stand alone. Logits are computed for those tokens and for the prompt's last, and no others.

    Args:
        model: a causal language model of transformers whose layers all attend, to everything or within a window.
        prompt: token ids, at least one.
        continuations: n lists of token ids; an empty one is certain.

    Returns:
        (n,) float32 sums over each continuation's tokens, on the CPU.

    Raises:
        UsageError: the model has other layers.
    """
    others = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - ATTENDING
    if others:
        raise UsageError(
            f"likelihoods need a model whose layers all attend, and this one's are {', '.join(sorted(others))} too",
            "another llm.model, or answers that are generated",
        )
    device, begin = model.device, len(prompt)
    keys_and_values, logits = _read_prompt(model, torch.tensor(prompt, device=device))
    first = logits.float().log_softmax(-1)
    scores = []
    for pack in _packs(continuations, PACKED):
        read = [tokens[:-1] for tokens in pack]  # whose successors are judged
        told = _behind(model, keys_and_values, begin, read)
        judged = torch.tensor([token for tokens in pack for token in tokens[1:]], device=device, dtype=torch.long)
        found = told.gather(1, judged[:, None]).squeeze(1) - told.logsumexp(1)
        for tokens, rest in zip(pack, found.split([len(tokens) for tokens in read]), strict=True):
            scores.append(rest.sum() + (first[tokens[0]] if tokens else 0))
    return torch.stack(scores).cpu()


def _read_prompt(model: Any, prompt: Tensor) -> tuple[Any, Tensor]:
    """What the layers keep of a prompt, and (vocabulary,) logits of what follows it."""
    from transformers import DynamicCache

    kept = DynamicCache()  # not told of the model's windows, it keeps all
    logits = model(prompt[None], **{cache_argument(model): kept}, logits_to_keep=1).logits
    return kept, logits[0, -1]


def _behind(model: Any, kept: Any, begin: int, read: Sequence[Sequence[int]]) -> Tensor:
    """(m, vocabulary) float32 logits at the m tokens of lists that each follow the prompt.

    Args:
        kept: of the prompt, by `_read_prompt`.
        begin: tokens of the prompt.
    """
    from transformers import DynamicCache

    device = model.device
    lengths = torch.tensor([len(tokens) for tokens in read], device=device)
    if not lengths.sum():
        return torch.empty(0, model.config.get_text_config().vocab_size, device=device)
    owner = torch.arange(len(read), device=device).repeat_interleave(lengths)
    position = begin + torch.cat([torch.arange(len(tokens), device=device) for tokens in read])
    distance = position[:, None] - torch.cat([torch.arange(begin, device=device), position])
    own = owner[:, None] == torch.cat([owner.new_full((begin,), -1), owner])
    visible = (own | (torch.arange(own.shape[1], device=device) < begin)) & (distance >= 0)
    cache = DynamicCache()
    for number, layer in enumerate(kept.layers):
        cache.update(layer.keys, layer.values, number)  # copied: the next pack begins with them again
    tokens = torch.tensor([token for tokens in read for token in tokens], device=device)
    return (
        model(
            tokens[None],
            position_ids=position[None],
            attention_mask=_masks(model, visible, distance),
            **{cache_argument(model): cache},
        )
        .logits[0]
        .float()
    )


def _masks(model: Any, visible: Tensor, distance: Tensor) -> Any:
    """What transformers takes as a mask: one of all layers, or one a kind of layers.

    Args:
        visible: (tokens, keys) whether a token may attend to a key.
        distance: (tokens, keys) how many tokens lie between them.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    near = visible & (distance < window) if window else visible

    def additive(allowed: Tensor) -> Tensor:
        mask = torch.zeros(allowed.shape, dtype=model.dtype, device=allowed.device)
        return mask.masked_fill(~allowed, torch.finfo(model.dtype).min)[None, None]

    if getattr(config, "layer_types", None):
        return {"full_attention": additive(visible), "sliding_attention": additive(near)}
    return additive(near)


def _packs(continuations: Sequence[Sequence[int]], size: int) -> list[list[Sequence[int]]]:
    """Continuations in order, together as long as their tokens are no more than `size`; at least one each."""
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
    """transformers 5 came to call `past_key_values` `cache`."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
