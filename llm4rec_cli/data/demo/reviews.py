"""Reviews that customers write about their purchases."""

from __future__ import annotations

from calendar import timegm
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.data.demo.words import Words, pick, shop_words

PRAISE_CHANCE = (0.05, 0.15, 0.5, 0.85, 0.97)  # that an aspect is praised, by stars
N_ASPECTS_SHARES = (0.07, 0.58, 0.35)  # of reviews that judge none, one, two
USES_HABIT = 0.6  # how often a reviewer starts with their favourite sentence form


@dataclass(frozen=True)
class Reviewer:
    """A customer who writes reviews."""

    user_id: str
    name: str
    habit: int  # their favourite sentence form, an index into `praising` and `blaming`
    care: NDArray[np.float64]  # (n_aspects,) logits of judging each aspect


@dataclass(frozen=True)
class Product:
    """A reviewed product: synonyms of its kind, its parts, what it is bought for, synonyms of its facets' values."""

    asin: str
    names: Words
    parts: Words
    purpose: str
    facets: dict[str, Words]


class Opinion(NamedTuple):
    """A judgement of one feature, and the review sentence that states it."""

    feature: str
    opinion: str
    sentence: str
    polarity: int


def review(
    reviewer: Reviewer, product: Product, stars: int, day: date, signal: float, rng: np.random.Generator
) -> tuple[dict[str, Any], list[Opinion]]:
    """Return a review in Amazon's 2014 format, and its opinions; with signal 0 the judged aspects are chance."""
    words = shop_words()
    aspects = list(words.aspects)
    interest = signal * reviewer.care + rng.gumbel(size=len(aspects))
    n_aspects = int(np.searchsorted(np.cumsum(N_ASPECTS_SHARES), rng.random()))
    judged = [aspects[i] for i in np.argsort(-interest)[:n_aspects]]
    forms = rng.permutation(len(words.praising))
    if rng.random() < USES_HABIT:
        forms = np.concatenate([[reviewer.habit], forms[forms != reviewer.habit]])
    opinions = [_judge(product, aspect, stars, form, rng) for aspect, form in zip(judged, forms, strict=False)]
    opening = pick(words.openings, rng).format(kind=pick(product.names, rng), purpose=product.purpose)
    verdict = pick(words.verdicts[stars], rng)
    votes = int(rng.geometric(0.5)) - 1
    record = {
        "reviewerID": reviewer.user_id,
        "asin": product.asin,
        "reviewerName": reviewer.name,
        "helpful": [int(rng.integers(votes + 1)), votes],
        "reviewText": " ".join([opening, *(opinion.sentence for opinion in opinions), verdict.sentence]),
        "overall": float(stars),
        "summary": _headline(verdict.headline, opinions, rng),
        "unixReviewTime": timegm(day.timetuple()),
        "reviewTime": f"{day:%m} {day.day}, {day.year}",
    }
    return record, opinions


def _judge(product: Product, aspect: str, stars: int, form: int, rng: np.random.Generator) -> Opinion:
    words = shop_words()
    praised = rng.random() < PRAISE_CHANCE[stars - 1]
    feature = pick(product.parts, rng) if aspect == "part" else aspect
    opinion = pick(words.aspects[aspect].praise if praised else words.aspects[aspect].blame, rng)
    sentence = (words.praising if praised else words.blaming)[form]
    facet = {"look": "style", "color": "palette"}.get(aspect)
    phrase = f"{pick(product.facets[facet], rng)} {feature}" if facet else feature
    return Opinion(feature, opinion, sentence.format(feature=phrase, opinion=opinion), 1 if praised else -1)


def _headline(verdict: str, opinions: list[Opinion], rng: np.random.Generator) -> str:
    if not opinions:
        return verdict
    noun = f"{opinions[0].opinion} {opinions[0].feature}"
    return pick((verdict, f"{verdict}: {noun}", f"{noun.capitalize()}. {verdict}"), rng)
