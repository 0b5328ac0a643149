"""A small shop with reviews, and P5's parts built on it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from llm4rec_cli.config.schema import Index
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import Split, leave_one_out
from llm4rec_cli.ids.index import index_items
from llm4rec_cli.models.p5.config import P5Config
from llm4rec_cli.models.p5.filler import PromptFiller, named_pieces
from llm4rec_cli.models.p5.model import prompt_texts, training_texts
from llm4rec_cli.models.p5.vocabulary import Vocabulary, load_tokenizer
from tests.support.driver import compose

N_ITEMS = 120  # a prompt lists 100 candidates
KINDS = ("lamp", "chair", "mirror", "table")


@cache
def shop(n_users: int = 25) -> Split:
    """Users with 4 to 12 items; every interaction has stars, a review, its title, an explanation and a feature."""
    rng = np.random.default_rng(5)
    sequences = [rng.choice(N_ITEMS, rng.integers(4, 13), replace=False).tolist() for _ in range(n_users)]
    dataset = tiny_dataset(sequences, n_items=N_ITEMS)
    n = len(dataset.interactions)
    dataset.items["title"] = [f"{KINDS[i % 4]} of make {i % 7}" for i in range(N_ITEMS)]
    dataset.items["brand"] = [f"maker {i % 3}" for i in range(N_ITEMS)]
    kind = [KINDS[i % 4] for i in dataset.sequence]
    stars = rng.integers(1, 6, n).astype(float)
    dataset.interactions["rating"] = stars
    dataset.interactions["review_text"] = [
        f"I bought this {k} . It is worth {s:.0f} stars ." for k, s in zip(kind, stars, strict=True)
    ]
    dataset.interactions["review_title"] = [f"a {k} worth {s:.0f}" for k, s in zip(kind, stars, strict=True)]
    dataset.interactions["explanation"] = [f"the {k} is what I wanted" for k in kind]
    dataset.interactions["feature"] = kind
    dataset.interactions["user_name"] = [f"name{u}" for u in dataset.interactions["user"]]
    return leave_one_out(dataset)


@cache
def config(*overrides: str) -> P5Config:
    """The settings of P5 by the paper's method on the demo, with overrides."""
    settings: Any = OmegaConf.to_object(compose("+experiment=p5/demo", "model.vocabulary=500", *overrides).model)
    assert isinstance(settings, P5Config)
    return replace(settings)


def prompt_filler(settings: P5Config, split: Split, folder: Path) -> PromptFiller:
    """A filler with a tokenizer trained on the shop."""
    names = split.user_names()
    index = index_items(Index(settings.index), split, 0, settings.digits, folder)
    of_prompts = prompt_texts(settings)
    corpus = [*of_prompts, *training_texts(split, names)]
    tokenizer = load_tokenizer("tiny", lambda: corpus, split.digest(of_prompts), settings.vocabulary, folder)
    vocabulary = Vocabulary(tokenizer, named_pieces(settings, split.n_users, index))
    return PromptFiller(settings, split, names, index, vocabulary, folder)
