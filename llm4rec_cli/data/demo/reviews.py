"""What customers write about what they bought."""

from __future__ import annotations

from calendar import timegm
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import llm4rec_cli.data.demo.words as words
from llm4rec_cli.data.demo.words import Words, pick

PRAISE_CHANCE = (0.05, 0.15, 0.5, 0.85, 0.97)  # that an aspect is praised, by stars
N_ASPECTS_SHARES = (0.07, 0.58, 0.35)  # of reviews that judge none, one, two
TRUE_TO_HABIT = 0.6  # how often a reviewer uses the sentence they like best
_ASPECTS = tuple(words.ASPECTS)


@dataclass(frozen=True)
class Reviewer:
    """Who writes: `habit` is the sentence they like best, `care` what they look at, in logits, an aspect each."""

    user_id: str
    name: str
    habit: int
    care: NDArray[np.float64]


@dataclass(frozen=True)
class Product:
    """What is written about: synonyms of its kind, its parts, what it is bought for, synonyms of its facets' values."""

    asin: str
    names: Words
    parts: Words
    purpose: str
    facets: dict[str, Words]


class Opinion(NamedTuple):
    """A judgement on one aspect and the sentence of the review that states it."""

    feature: str
    opinion: str
    sentence: str
    polarity: int


def review(
    reviewer: Reviewer, product: Product, stars: int, day: date, signal: float, rng: np.random.Generator
) -> tuple[dict[str, Any], list[Opinion]]:
    """A review in Amazon's 2014 format, and the opinions it holds.

    With signal 0 what reviewers look at is chance.
    """
    interest = signal * reviewer.care + rng.gumbel(size=len(_ASPECTS))
    n_aspects = int(np.searchsorted(np.cumsum(N_ASPECTS_SHARES), rng.random()))
    judged = [_ASPECTS[i] for i in np.argsort(-interest)[:n_aspects]]
    forms = rng.permutation(len(words.PRAISING))
    if rng.random() < TRUE_TO_HABIT:
        forms = np.concatenate([[reviewer.habit], forms[forms != reviewer.habit]])
    opinions = [_judge(product, aspect, stars, form, rng) for aspect, form in zip(judged, forms, strict=False)]
    opening = pick(words.OPENINGS, rng).format(kind=pick(product.names, rng), purpose=product.purpose)
    verdict = words.VERDICTS[stars][rng.integers(len(words.VERDICTS[stars]))]
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
    praised = rng.random() < PRAISE_CHANCE[stars - 1]
    feature = pick(product.parts, rng) if aspect == "part" else aspect
    opinion = pick(words.ASPECTS[aspect].praise if praised else words.ASPECTS[aspect].blame, rng)
    sentence = (words.PRAISING if praised else words.BLAMING)[form]
    facet = {"look": "style", "color": "palette"}.get(aspect)
    phrase = f"{pick(product.facets[facet], rng)} {feature}" if facet else feature
    return Opinion(feature, opinion, sentence.format(feature=phrase, opinion=opinion), 1 if praised else -1)


def _headline(verdict: str, opinions: list[Opinion], rng: np.random.Generator) -> str:
    if not opinions:
        return verdict
    noun = f"{opinions[0].opinion} {opinions[0].feature}"
    return pick((verdict, f"{verdict}: {noun}", f"{noun.capitalize()}. {verdict}"), rng)
