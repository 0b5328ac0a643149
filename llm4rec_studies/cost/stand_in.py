"""A dataset of random interactions and texts with given counts, in place of one that is not on this machine.

What a training costs follows from counts and lengths and not from who bought what.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from llm4rec_cli.config.schema import DatasetConfig, PaperStatistics, SplitRule
from llm4rec_cli.data.recdataset import IntArray, RecDataset
from llm4rec_cli.data.split import p5_reviews
from llm4rec_cli.data.streams import stream
from llm4rec_cli.data.texts import with_texts

SHORTEST = 5  # interactions of a user: the papers' data are 5-core
# Words of a text, about as many as in Amazon's reviews and MIND's titles. Assumed, as papers do not print them.
WORDS_OF = {"title": 10, "categories": 8, "review_text": 60, "review_title": 4, "explanation": 10}
HISTORY, SHOWN = 33, 37  # news of an impression: about MIND's means
DEV_SHARE = 0.32  # of MIND-small's impressions, which are test
DISTINCT = 997  # review texts
_LISTED = (
    "red blue green small large soft bright dark clean fresh old new warm cold light heavy strong quiet "
    "fast slow simple rich pure wild sweet round flat deep high low music water paper garden kitchen "
    "metal wood glass stone silver gold brush cream oil soap hair skin nail face hand foot ball game book "
    "film song story news team city school office market price power energy health food fruit bread "
    "coffee tea sugar salt fish meat dog cat bird horse tree flower"
)
WORDS = _LISTED.split()


@dataclass(frozen=True)
class Counts:
    """How large a dataset is. `interactions` or, of a click log, `impressions` are 0."""

    users: int
    items: int
    interactions: int = 0
    impressions: int = 0

    @classmethod
    def printed(cls, paper: PaperStatistics) -> Counts:
        return cls(paper.users, paper.items, paper.interactions or 0, paper.impressions or 0)

    def limited(self, users: int) -> Counts:
        """Return the counts with at most so many users, and interactions or impressions in proportion."""
        share = min(1.0, users / self.users)
        users, interactions, impressions = (round(share * n) for n in (self.users, self.interactions, self.impressions))
        return Counts(users, self.items, interactions, impressions)


def stand_in(config: DatasetConfig, counts: Counts, seed: int = 0, history: int = HISTORY) -> RecDataset:
    """Return a dataset with these counts, about as many interactions for each user, or `history` news before each
    impression, and the texts of `config.text`."""
    rng = stream(seed, "stand-in")
    domains = list(config.domains)
    items = _items(counts.items, domains, rng)
    impressions = _impressions(counts, history, rng) if counts.impressions else None
    interactions = _interactions(counts, len(domains), config, rng)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(interactions["user"], minlength=counts.users))])
    split: dict[str, Any] = {"rule": config.split.value, "seed": config.seed}
    split |= {"cuts": list(config.cuts)} if config.split is SplitRule.temporal else {}
    split |= {"test_domain": config.test_domain} if config.split is SplitRule.transfer else {}
    user_ids = np.array([f"u{user}" for user in range(counts.users)], dtype=object)
    name = f"stand-in of {config.name}"
    manifest = {"name": name, "fingerprint": f"{name} {counts}", "synthetic": True, "split": split}
    dataset = RecDataset(items, interactions, user_ids, offsets, manifest, impressions)
    if config.split is SplitRule.p5_reviews:
        dataset.interactions["part"] = p5_reviews(dataset, config.seed)
    elif config.split is SplitRule.given:
        parts = rng.choice(["train", "valid", "test"], len(interactions), p=[0.8, 0.1, 0.1])
        dataset.interactions["part"] = parts
    return with_texts(dataset, config.text)


def _items(n: int, domains: list[str], rng: np.random.Generator) -> pd.DataFrame:
    columns = {name: _texts(n, WORDS_OF[name], rng) for name in ("title", "categories")}
    columns["title"] = [f"{title} {i}" for i, title in enumerate(columns["title"])]
    brand = rng.choice(WORDS, n)
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(n)], **columns, "brand": brand, "price": "12.99"})
    return items.assign(domain=np.repeat(domains, -(-n // len(domains)))[:n]) if len(domains) > 1 else items


def _texts(n: int, words: int, rng: np.random.Generator) -> list[str]:
    return [" ".join(row) for row in rng.choice(WORDS, (n, words))]


def _interactions(counts: Counts, n_domains: int, config: DatasetConfig, rng: np.random.Generator) -> pd.DataFrame:
    """Draw interactions: geometric lengths, low item numbers of a domain popular. Each user has one domain, but several
    under `transfer`."""
    mixed, stars = config.split is SplitRule.transfer, (1, 6) if config.liked_above >= 1 else (0, 2)
    if not counts.interactions:
        return pd.DataFrame({"user": np.zeros(0, dtype=np.int32), "item": np.zeros(0, dtype=np.int32)})
    mean = max(SHORTEST + 1.0, counts.interactions / counts.users)
    length = SHORTEST - 1 + rng.geometric(1 / (mean - SHORTEST + 1), counts.users)
    user = np.repeat(np.arange(counts.users, dtype=np.int32), length)
    domain = rng.integers(0, n_domains, len(user) if mixed else counts.users)
    first = (domain if mixed else domain[user]) * (counts.items // n_domains)
    item = first + ((counts.items // n_domains) * rng.random(len(user)) ** 2).astype(np.int64)
    texts = {
        name: rng.choice(_texts(DISTINCT, WORDS_OF[name], rng), len(user))
        for name in ("review_text", "review_title", "explanation")
    }
    return pd.DataFrame(
        {
            "user": user,
            "item": item.astype(np.int32),
            "timestamp": np.arange(len(user), dtype=np.float64),
            "rating": rng.integers(*stars, len(user)).astype(np.float64),
            **texts,
            "feature": rng.choice(WORDS, len(user)),
        }
    )


def _impressions(counts: Counts, n_history: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw impressions of SHOWN items, one of them clicked."""
    n = counts.impressions
    shown: IntArray = rng.integers(0, counts.items, (n, SHOWN), dtype=np.int32)
    history: IntArray = rng.integers(0, counts.items, (n, n_history), dtype=np.int32)
    return pd.DataFrame(
        {
            "impression_id": np.arange(n).astype(str),
            "user": rng.integers(0, counts.users, n, dtype=np.int32),
            "timestamp": np.arange(n, dtype=np.float64),
            "history": list(history),
            "candidates": list(shown),
            "clicks": list(shown[:, :1]),
            "part": np.where(np.arange(n) < (1 - DEV_SHARE) * n, "train", "dev"),
        }
    )
