"""The vocabulary of the demo data, from `shop_words.yaml` and `news_words.yaml`. Each file is read once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import yaml

Words = Sequence[str]
Option = TypeVar("Option")


def pick(options: Sequence[Option], rng: np.random.Generator) -> Option:
    """Return one of the options, drawn uniformly."""
    return options[int(rng.integers(len(options)))]


class Pursuit(NamedTuple):
    """An activity that people shop for.

    Attributes:
        kinds: in the order in which people come to need them; `name/synonym` -> two parts that reviews judge.
    """

    category: str  # its shelf in the shop
    purpose: str  # completes `I bought it for …`
    kinds: dict[str, Words]


class Department(NamedTuple):
    """A shop's assortment."""

    category: str
    pursuits: tuple[Pursuit, ...]


class Opinions(NamedTuple):
    """Words of praise and of blame."""

    praise: Words
    blame: Words


class Verdict(NamedTuple):
    """A review's closing sentence, and the same as a headline."""

    sentence: str
    headline: str


class ShopWords(NamedTuple):
    """The sections of shop_words.yaml, which describes each."""

    facets: dict[str, Sequence[Words]]
    brands: Sequence[Words]
    sizes: Words
    descriptions: Words
    departments: dict[str, Department]
    aspects: dict[str, Opinions]
    praising: Words
    blaming: Words
    openings: Words
    verdicts: dict[int, Sequence[Verdict]]
    first_names: Words
    last_names: Words


class Topic(NamedTuple):
    """Who does what in the stories of a subcategory."""

    subjects: Words
    actions: Words


class NewsWords(NamedTuple):
    """The sections of news_words.yaml, which describes each."""

    categories: dict[str, dict[str, Topic]]
    angles: Sequence[Words]
    regions: Sequence[Words]
    abstracts: Words


@cache
def shop_words() -> ShopWords:
    content = _read("shop_words.yaml")
    return ShopWords(
        **content
        | {
            "departments": {
                name: Department(department["category"], tuple(Pursuit(**p) for p in department["pursuits"]))
                for name, department in content["departments"].items()
            },
            "aspects": {name: Opinions(**opinions) for name, opinions in content["aspects"].items()},
            "verdicts": {stars: [Verdict(**v) for v in verdicts] for stars, verdicts in content["verdicts"].items()},
        }
    )


@cache
def news_words() -> NewsWords:
    content = _read("news_words.yaml")
    categories = {
        category: {name: Topic(**topic) for name, topic in subcategories.items()}
        for category, subcategories in content["categories"].items()
    }
    return NewsWords(**content | {"categories": categories})


def _read(name: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built
    return yaml.load(Path(__file__).with_name(name).read_text(encoding="utf-8"), loader)
