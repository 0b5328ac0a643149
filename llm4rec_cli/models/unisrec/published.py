"""Weights of UniSRec's published code, a subclass of RecBole's SASRec, as weights of ours.

Theirs has one matrix each for queries, keys and values, and one module per expert; ours has one matrix for all three,
and one tensor for all experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from llm4rec_cli.errors import UsageError
from llm4rec_cli.models.unisrec.config import UniSRecConfig
from llm4rec_cli.models.unisrec.settings import Adaptor
from llm4rec_cli.text.weights import vector_size

LEFT_OUT = frozenset({"plm_embedding.weight"})  # the text vectors of a target dataset, which we compute
ATTENTION = "multi_head_attention"
# Of a Transformer layer: our name -> theirs.
LAYER = {
    "out": f"{ATTENTION}.dense",
    "norm_attention": f"{ATTENTION}.LayerNorm",
    "up": "feed_forward.dense_1",
    "down": "feed_forward.dense_2",
    "norm_feedforward": "feed_forward.LayerNorm",
}


def problems(config: UniSRecConfig) -> Iterator[UsageError]:
    if config.use_ids:
        yield UsageError(
            "published item ids follow the numbering of the authors' files, which differs from ours",
            "model.use_ids=false, with weights of text only",
        )
    if config.adaptor is not Adaptor.moe:
        yield UsageError("published weights have a mixture of experts", "model.adaptor=moe")


def shapes(config: UniSRecConfig) -> dict[str, tuple[int, ...]]:
    size, inner, text = config.hidden_size, config.inner_size, vector_size(config.encoder.name)
    result: dict[str, tuple[int, ...]] = {
        "position_embedding.weight": (config.max_length, size),
        "LayerNorm.weight": (size,),
        "LayerNorm.bias": (size,),
        "moe_adaptor.w_gate": (text, config.experts),
        "moe_adaptor.w_noise": (text, config.experts),
    }
    for i in range(config.experts):
        result[f"moe_adaptor.experts.{i}.bias"] = (text,)
        result[f"moe_adaptor.experts.{i}.lin.weight"] = (size, text)
    for i in range(config.layers):
        for name, n_in, n_out in (
            *((f"{ATTENTION}.{part}", size, size) for part in ("query", "key", "value", "dense")),
            ("feed_forward.dense_1", size, inner),
            ("feed_forward.dense_2", inner, size),
        ):
            result[f"trm_encoder.layer.{i}.{name}.weight"] = (n_out, n_in)
            result[f"trm_encoder.layer.{i}.{name}.bias"] = (n_out,)
        for part in (ATTENTION, "feed_forward"):
            result[f"trm_encoder.layer.{i}.{part}.LayerNorm.weight"] = (size,)
            result[f"trm_encoder.layer.{i}.{part}.LayerNorm.bias"] = (size,)
    return result


def imported_state(config: UniSRecConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    experts = [f"moe_adaptor.experts.{i}" for i in range(config.experts)]
    state = {
        "encoder.positions.weight": tensors["position_embedding.weight"],
        "encoder.norm.weight": tensors["LayerNorm.weight"],
        "encoder.norm.bias": tensors["LayerNorm.bias"],
        "adaptor.bias": torch.stack([tensors[f"{expert}.bias"] for expert in experts]),
        "adaptor.whiten": torch.stack([tensors[f"{expert}.lin.weight"].t() for expert in experts]),
        "adaptor.gate": tensors["moe_adaptor.w_gate"],
        "adaptor.noise": tensors["moe_adaptor.w_noise"],
    }
    for i in range(config.layers):
        theirs, ours = f"trm_encoder.layer.{i}", f"encoder.layers.{i}"
        for kind in ("weight", "bias"):
            parts = [tensors[f"{theirs}.{ATTENTION}.{part}.{kind}"] for part in ("query", "key", "value")]
            state[f"{ours}.qkv.{kind}"] = torch.cat(parts)
            state |= {f"{ours}.{name}.{kind}": tensors[f"{theirs}.{other}.{kind}"] for name, other in LAYER.items()}
    return state
