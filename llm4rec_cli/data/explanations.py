"""Explanations for data whose reviews come without: the sentence of a review that judges what people judge there.

How it is done, in order:
    sentences   of a review, split at full stops, question and exclamation marks and line ends;
    judgements  in a sentence: an opinion word and the noun that it is about ("great sound quality", "the sound quality
                is really great", "happy with the sound quality"), or nouns that it merely stands near;
    aspects     the nouns that training reviews judge often; an aspect's salience is how many of them do, times that
                number's share of all its mentions, so that "tone" goes before a "guitar" that is judged in passing;
    explanation the review's sentence, neither short nor long and no question, that judges the most salient aspect;
                where none does, the one where an opinion stands near the most salient;
    feature     that aspect, which is a word of the sentence.
The words that this goes by are English. It finds less than a parser would, and is the same on every machine. Where a
toolkit such as Sentires has found explanations, the `amazon` reader reads those, and this is not needed.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llm4rec_cli.data.opinion_words import (
    ABOUT,
    ADVERBS,
    BLAME,
    DEGREES,
    DETERMINERS,
    FEELINGS,
    GENERIC,
    HELPERS,
    LINKS,
    MADE,
    PRAISE,
    STOP_WORDS,
    VERBS,
)
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.errors import DataError
from llm4rec_cli.files import write_once

VERSION = 1  # raised when the same reviews would give other explanations
SHORTEST, LONGEST = 5, 30  # words of an explanation
NEAR = 4  # words from an opinion to a noun, at most, where no pattern says that they belong together
FEWEST = 5  # training reviews that judge an aspect, at least
RARELY = 0.001  # and at least this share of those that hold an opinion
NAMED = 0.04  # the share of a noun's mentions that follow an article or the like, at least: verbs have less

_SENTENCE_END = re.compile(
    r"(?<=[!?])\s+"
    r"|(?<![ (]e\.g\.)(?<![ (]i\.e\.)(?<! vs\.)(?<![.\s]\.)(?<=\.)\s+"
    r"|(?<=\.\.)\s+(?=[A-Z])"
    r"|(?<=[a-z)\d][.!?])(?=[A-Z][a-z' ])"  # Amazon lost the line ends of 2014: "sounds good.The neck"
    r"|\s*\n\s*"
)
_TOKEN = re.compile(r"[a-z]+(?:['-][a-z]+)*|\d[\d.,/]*|[,;:()!?.\"]")
_OPINIONS = PRAISE | BLAME
_MADE_SO = re.compile(rf"\b({'|'.join(sorted([*ADVERBS, 'solidly', 'cheaply']))}) ({'|'.join(sorted(MADE))})\b")
_OF_TWO_WORDS = frozenset(f"{how}-{made}" for how in (*ADVERBS, "solidly", "cheaply") for made in MADE)
_SAID = _OPINIONS | ADVERBS | _OF_TWO_WORDS  # may follow a link
_ANY = _SAID | VERBS | FEELINGS
_NO_ASPECT = STOP_WORDS | GENERIC | _ANY


class Judgement(NamedTuple):
    """A sentence with an opinion: its length, the nouns that are judged, and those that merely stand near."""

    sentence: str
    n_words: int
    judged: list[str]
    near: list[str]


def with_explanations(split: Split, cache: Path) -> Split:
    """The same with columns `explanation` and `feature`, found in the reviews as this module says.

    Which aspects there are is counted in training reviews alone. A review's explanation is of its own text, and null
    where no sentence of it is one. The manifest's `explanations` tells how many reviews have one.

    Args:
        split: of a dataset with `review_text`; explanations that it has are replaced.
        cache: the cache folder; what is found of one training part is kept there.

    Raises:
        DataError: there are no review texts.
    """
    rows = split.dataset.interactions
    if "review_text" not in rows:
        raise DataError(
            f"dataset '{split.dataset.manifest['name']}' has no review texts to find explanations in",
            "choose a dataset with reviews: llm4rec list datasets",
        )
    texts = rows["review_text"].fillna("").tolist()
    trained = split.assignment == TRAIN
    key = hashlib.sha256(f"{VERSION} {split.dataset.fingerprint} ".encode() + trained.tobytes()).hexdigest()
    path = cache / "explanations" / f"{key[:24]}.parquet"
    write_once(path, lambda aside: _found(texts, trained).to_parquet(aside, index=False))
    kept = pd.read_parquet(path)
    chosen = kept[["explanation", "feature"]].set_axis(rows.index)
    counted = {
        "reviews": sum(1 for text in texts if text.strip()),
        "explained": int(chosen["feature"].notna().sum()),
        "aspects": int(kept["aspects"].iloc[0]),
    }
    manifest = split.dataset.manifest | {"explanations": counted}
    dataset = replace(split.dataset, interactions=rows.assign(**chosen), manifest=manifest)
    return replace(split, dataset=dataset)


def _found(texts: list[str], trained: NDArray[np.bool_]) -> pd.DataFrame:
    """`explanation` and `feature` of each text, and in each row how many aspects there are."""
    judged = [list(judgements(text)) for text in texts]
    rows = np.flatnonzero(trained)
    salience = aspects([texts[row] for row in rows], [judged[row] for row in rows])
    found = pd.DataFrame([explain(of, salience) for of in judged], columns=["explanation", "feature"])
    return found.assign(aspects=len(salience))


def sentences(text: str) -> list[str]:
    """A review in sentences, entities resolved and spaces evened out."""
    return [" ".join(part.split()) for part in _SENTENCE_END.split(html.unescape(text)) if part.strip()]


def judgements(text: str) -> Iterator[Judgement]:
    """The sentences of a review that hold an opinion on something."""
    for sentence in sentences(text):
        tokens = _tokens(sentence)
        places = [place for place, token in enumerate(tokens) if token in _ANY]
        judged = [noun for place in places for noun in _judged(tokens, place)]
        near = [noun for place in places for noun in _near(tokens, place)]
        if judged or near:
            yield Judgement(sentence, sum(1 for token in tokens if token[0].isalnum()), judged, near)


def aspects(texts: Iterable[str], found: Sequence[Sequence[Judgement]]) -> dict[str, float]:
    """Which nouns are aspects, with their salience.

    Args:
        texts: training reviews.
        found: their judgements.
    """
    judging = Counter(noun for review in found for noun in {noun for one in review for noun in one.judged})
    fewest = max(FEWEST, RARELY * sum(1 for review in found if review))
    mentions: Counter[str] = Counter()
    named: Counter[str] = Counter()
    for text in texts:
        tokens = _tokens(text)
        mentions.update(tokens)
        named.update(after for token, after in pairwise(tokens) if token in DETERMINERS)
    return {
        noun: n * n / mentions[noun]
        for noun, n in judging.items()
        if n >= fewest and named[noun] >= NAMED * mentions[noun]
    }


def explain(found: Iterable[Judgement], salience: dict[str, float]) -> tuple[str | None, str | None]:
    """The explanation and the feature of a review with these judgements, of equal ones the first."""
    fitting = [one for one in found if SHORTEST <= one.n_words <= LONGEST and not one.sentence.endswith(("?", ":"))]
    for nouns in ([one.judged for one in fitting], [one.near for one in fitting]):
        places = [(salience[noun], -i, noun) for i, named in enumerate(nouns) for noun in named if noun in salience]
        if places:
            _, i, noun = max(places)
            return fitting[-i].sentence, noun
    return None, None


def _tokens(text: str) -> list[str]:
    """Words in lower case and punctuation; `well made` is one word, `well-made`."""
    return _TOKEN.findall(_MADE_SO.sub(r"\1-\2", text.lower().replace("’", "'")))


def _judged(tokens: Sequence[str], place: int) -> Iterator[str]:
    """What the opinion word at a place is about: the noun that ends the words after it, and the one it is said of."""
    word, ahead = tokens[place], place + 1
    if word in FEELINGS:
        ahead = ahead + 1 if "".join(tokens[ahead : ahead + 1]) in ABOUT else len(tokens)
    if word in FEELINGS or word in VERBS:
        ahead = _beyond(tokens, ahead, 1, DETERMINERS)
    if word not in ADVERBS and (noun := _head(tokens[ahead : ahead + 3])):
        yield noun
    link = _beyond(tokens, place - 1, -1, DEGREES)
    if word in _SAID and link > 0 and tokens[link] in LINKS:
        before = _beyond(tokens, link - 1, -1, HELPERS)
        if before >= 0 and _is_noun(tokens[before]):
            yield tokens[before]


def _near(tokens: Sequence[str], place: int) -> Iterator[str]:
    """The nouns near a place, no punctuation between."""
    for reach in (tokens[place + 1 : place + 1 + NEAR], tokens[max(place - NEAR, 0) : place][::-1]):
        for token in reach:
            if not token[0].isalnum():
                break
            if _is_noun(token) and token not in LINKS:
                yield token


def _beyond(tokens: Sequence[str], place: int, step: int, passed: frozenset[str]) -> int:
    """The first place, from this one on, whose word is not passed over."""
    while 0 <= place < len(tokens) and tokens[place] in passed:
        place += step
    return place


def _head(tokens: Sequence[str]) -> str | None:
    """The last of the nouns that these words begin with, opinions between; None if they begin with none."""
    head = None
    for token in tokens:
        if _is_noun(token):
            head = token
        elif token not in _OPINIONS:
            break
    return head


def _is_noun(token: str) -> bool:
    """Whether a word may be a noun that says something."""
    return len(token) > 2 and token[0].isalpha() and token not in _NO_ASPECT and not token.endswith(("ly", "n't"))
