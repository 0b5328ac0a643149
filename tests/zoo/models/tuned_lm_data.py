"""A tiny causal model with adapters, and datasets with titles."""

from __future__ import annotations

from dataclasses import replace

import torch
from transformers import AutoModelForCausalLM

from llm4rec_cli.conformance.builders import resolved, tiny_dataset, tiny_log
from llm4rec_cli.data.likes import labelled_rows
from llm4rec_cli.data.split import TRAIN, leave_one_out, split_dataset
from llm4rec_cli.models.base import Context
from llm4rec_zoo.models.tuned_lm.model import build

TITLES = ["Red Soap", "Red Soap", "Red Soap Bar", "Blue Hair Dryer", "Hair Brush", "Brush", "", "A &amp; B <|im_end|>"]
SEQUENCES = [[0, 3, 4, 5, 2], [1, 2, 3, 6, 7], [4, 7, 5, 0, 3], [2, 5, 3, 4, 1, 0, 7, 6, 2, 3, 5, 4]]
SHOWN = [
    ("train", 0, 0, [0, 3], "4-1 5-0 2-0"),
    ("train", 1, 1, [2], "3-0 6-1"),
    ("dev", 0, 2, [0, 3, 4], "5-1 1-0 0-0"),
]


def shop():
    stars = [float(1 + (3 * i) % 5) for i in range(sum(map(len, SEQUENCES)))]
    data = tiny_dataset(SEQUENCES, TITLES, rating=stars)
    return leave_one_out(replace(data, items=data.items.assign(title=TITLES)))


def log():
    return split_dataset(tiny_log(SHOWN, TITLES))


def likes(part=TRAIN):
    return labelled_rows(shop(), part, liked_above=3, history=10)


def config_of(backbone, *typed):
    config = resolved("model=tuned_lm", *typed).model
    return replace(config, backbone=str(backbone))


def built(backbone, *typed, split=None, seed=0, rows=None):
    """Return the model, with adapters that change something."""
    torch.manual_seed(seed)
    config = config_of(backbone, *typed)
    model = build(Context(config, split or shop(), seed, backbone.parent, "cpu", rows=rows))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    return model.eval()


def plain(backbone):
    """Return transformers' model without adapters, with its own attention."""
    return AutoModelForCausalLM.from_pretrained(backbone, attn_implementation="eager").eval()


def merged(model, backbone):
    """Return transformers' model with the adapters of ours added to its weights."""
    other = plain(backbone)
    scale = model.config.lora.alpha / model.config.lora.rank
    with torch.no_grad():
        for own, theirs in zip(model.lm.model.layers, other.model.layers, strict=True):
            for name in ("q_proj", "v_proj"):
                adapted = getattr(own.self_attn, name)
                low, high = adapted.lora_A["default"].weight, adapted.lora_B["default"].weight
                getattr(theirs.self_attn, name).weight += scale * high @ low
    return other


def log_probs(model, tokens):
    """Return (n, vocabulary) the log-probabilities of what follows each token of one row, read by itself."""
    with torch.no_grad():
        return model(torch.tensor([list(tokens)])).logits[0].log_softmax(-1)
