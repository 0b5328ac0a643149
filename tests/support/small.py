"""Overrides that make a run of any model small."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import fields

from llm4rec_cli.config.registry import config_class
from llm4rec_cli.conformance.suite import SIZES

SMALL = {
    **SIZES,
    "max_length": 10,
    "encoder": "{name:minilm,pooling:mean,max_length:8}",  # the same for all models; needs no download
}
SMALL_P5 = [  # its training examples are prompts per user and interaction, so max_examples alone is not enough
    "model.backbone=tiny",
    "model.samples.sequential_candidates=1",
    "model.samples.direct_candidates=1",
    "dataset.train_users=0.01",
    "trainer.valid_examples=5",
]
SMALL_PROMPT4NR = ["model.titles=2", "model.negatives=1", "model.max_length=128", "trainer.valid_examples=5"]
SMALL_TUNED_LM = ["model.rows=8", "model.titles=3", "trainer.valid_examples=5"]
SMALL_NRMS = ["model.titles=2", "model.negatives=1", "trainer.valid_examples=5"]
SMALL_IDS = ["model.ids.codes=4", "model.ids.codebook=16"]
SMALL_CHAT = [
    "model.controls=0",
    *("llm.context=512", "llm.max_tokens=8", "prompt.history_tokens=40", "prompt.review_tokens=40"),
    "task.negatives=3",  # as many candidates as its prompt can hold
]
QUICK = ("trainer.epochs=1", "trainer.batch_size=512", "task.max_examples=20", "task.floors=[]")


def sizes(model: str, unused: Container[str] = ()) -> list[str]:
    """Return the overrides that make a model small, for the settings that it has and that have an effect."""
    # A group that is null by default is read only with another setting.
    read = (field for field in fields(config_class(model)) if field.name not in unused and field.default is not None)
    settings = {field.name for field in read}
    of_models = {
        **{"p5": SMALL_P5, "chatgptrec": SMALL_CHAT, "prompt4nr": SMALL_PROMPT4NR},
        **{"nrms": SMALL_NRMS, "tuned_lm": SMALL_TUNED_LM},
        **dict.fromkeys(("rpg", "tiger", "sid_gpt"), SMALL_IDS),
    }
    more = of_models.get(model, [])
    return [f"model.{key}={value}" for key, value in SMALL.items() if key in settings] + more
