"""Extract explanations from reviews: the sentence that judges the aspect that people judge most.

For data without explanations of its own. The method, in order:
    sentences   of a review: split at full stops, question and exclamation marks and line ends;
    judgements  in a sentence: an opinion word with the noun that it judges ("great sound quality", "the sound quality
                is really great", "happy with the sound quality"), or with nouns that are only near it;
    aspects     nouns that training reviews often judge. The salience of an aspect is the number of reviews that judge
                it, times that number's share of all its mentions, so "tone" outranks a "guitar" judged in passing;
    explanation the review's sentence (neither short nor long, not a question) that judges the most salient aspect. If
                none does, the one with an opinion near the most salient aspect;
    feature     that aspect, a word of the sentence.
The word lists are English. The method misses more than a parser would, and gives the same result on every machine. For
explanations extracted by a toolkit such as Sentires, use the `amazon` reader instead.
"""

from __future__ import annotations

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

from llm4rec_cli.data import opinion_words as words
from llm4rec_cli.data import store
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.errors import DataError
from llm4rec_cli.progress import track

VERSION = 2  # raised when the same reviews would give different explanations
MIN_WORDS, MAX_WORDS = 5, 30  # length of an explanation
MAX_DISTANCE = 4  # words between an opinion and a noun that no pattern connects
MIN_REVIEWS = 5  # training reviews that judge an aspect
MIN_REVIEW_SHARE = 0.001  # the same, as a share of the training reviews with an opinion
MIN_NOUN_SHARE = 0.04  # share of a noun's mentions that follow a determiner; verbs have less

_SENTENCE_END = re.compile(
    r"(?<=[!?])\s+"
    r"|(?<![ (]e\.g\.)(?<![ (]i\.e\.)(?<! vs\.)(?<![.\s]\.)(?<=\.)\s+"
    r"|(?<=\.\.)\s+(?=[A-Z])"
    r"|(?<=[a-z)\d][.!?])(?=[A-Z][a-z' ])"  # Amazon's data of 2014 lost its line ends: "sounds good.The neck"
    r"|\s*\n\s*"
)
_TOKEN = re.compile(r"[a-z]+(?:['-][a-z]+)*|\d[\d.,/]*|[,;:()!?.\"]")
_OPINIONS = words.PRAISE | words.BLAME
_MANNER = sorted([*words.OPINION_ADVERBS, "solidly", "cheaply"])
_TWO_WORD_OPINION = re.compile(rf"\b({'|'.join(_MANNER)}) ({'|'.join(sorted(words.PARTICIPLES))})\b")
_JOINED_OPINIONS = frozenset(f"{adverb}-{participle}" for adverb in _MANNER for participle in words.PARTICIPLES)
_PREDICATES = _OPINIONS | words.OPINION_ADVERBS | _JOINED_OPINIONS  # may follow a linking verb
_ANY_OPINION = _PREDICATES | words.OPINION_VERBS | words.FEELINGS
_NOT_ASPECTS = words.STOP_WORDS | words.GENERIC_NOUNS | _ANY_OPINION


class Judgement(NamedTuple):
    """A sentence with an opinion: its length, the nouns that it judges, and nouns that are only near the opinion."""

    sentence: str
    n_words: int
    judged: list[str]
    near: list[str]


def with_explanations(split: Split, cache: Path) -> Split:
    """Return the split with columns `explanation` and `feature`, extracted from the reviews and cached.

    Aspects are counted in training reviews only. An explanation comes from the review's own text, and is null if no
    sentence qualifies; existing explanations are replaced. The manifest's `explanations` has the number of reviews with
    one. Raises DataError if the dataset has no review texts.
    """
    rows = split.dataset.interactions
    if "review_text" not in rows:
        raise DataError(
            f"dataset '{split.dataset.manifest['name']}' has no review texts to extract explanations from",
            "choose a dataset with reviews: llm4rec list datasets",
        )

    def extracted() -> pd.DataFrame:
        return _extracted(rows["review_text"].fillna("").tolist(), split.assignment == TRAIN)

    cached = store.kept(cache, f"explanations/{split.digest(VERSION)}", len(rows), extracted)
    columns = cached[["explanation", "feature"]].set_axis(rows.index)
    explained = int(columns["feature"].notna().sum())
    counts = {"explained": explained, **{name: int(cached[name].iloc[0]) for name in ("reviews", "aspects")}}
    manifest = split.dataset.manifest | {"explanations": counts}
    dataset = replace(split.dataset, interactions=rows.assign(**columns), manifest=manifest)
    return replace(split, dataset=dataset)


def _extracted(texts: list[str], in_train: NDArray[np.bool_]) -> pd.DataFrame:
    """Return `explanation` and `feature` of each text, and in every row the number of aspects and that of reviews."""
    reviews = [list(judgements(text)) for text in track(texts, "reading opinions in reviews")]
    rows = np.flatnonzero(in_train)
    salience = aspects([texts[row] for row in rows], [reviews[row] for row in rows])
    explained = [explain(review, salience) for review in track(reviews, "extracting explanations")]
    frame = pd.DataFrame(explained, columns=["explanation", "feature"])
    return frame.assign(aspects=len(salience), reviews=sum(1 for text in texts if text.strip()))


def sentences(text: str) -> list[str]:
    """Split a review into sentences, with HTML entities resolved and whitespace normalised."""
    return [" ".join(part.split()) for part in _SENTENCE_END.split(html.unescape(text)) if part.strip()]


def judgements(text: str) -> Iterator[Judgement]:
    """Yield the sentences of a review that express an opinion on something."""
    for sentence in sentences(text):
        tokens = _tokens(sentence)
        opinions = [i for i, token in enumerate(tokens) if token in _ANY_OPINION]
        judged = [noun for i in opinions for noun in _judged(tokens, i)]
        near = [noun for i in opinions for noun in _near(tokens, i)]
        if judged or near:
            yield Judgement(sentence, sum(1 for token in tokens if token[0].isalnum()), judged, near)


def aspects(texts: Sequence[str], reviews: Sequence[Sequence[Judgement]]) -> dict[str, float]:
    """Return the nouns that are aspects, with their salience."""
    judged = [{noun for sentence in review for noun in sentence.judged} for review in reviews]
    n_judging = Counter(noun for nouns in judged for noun in nouns)
    min_reviews = max(MIN_REVIEWS, MIN_REVIEW_SHARE * sum(1 for review in reviews if review))
    mentions: Counter[str] = Counter()
    after_determiner: Counter[str] = Counter()
    for text in track(texts, "counting aspects in reviews"):
        tokens = _tokens(html.unescape(text))
        mentions.update(tokens)
        after_determiner.update(after for token, after in pairwise(tokens) if token in words.DETERMINERS)
    return {
        noun: n * n / mentions[noun]
        for noun, n in n_judging.items()
        if n >= min_reviews and after_determiner[noun] >= MIN_NOUN_SHARE * mentions[noun]
    }


def explain(review: Iterable[Judgement], salience: dict[str, float]) -> tuple[str | None, str | None]:
    """Return the explanation and the feature of a review with these judgements; among equals, the first."""
    candidates = [j for j in review if MIN_WORDS <= j.n_words <= MAX_WORDS and not j.sentence.endswith(("?", ":"))]
    for nouns in ([j.judged for j in candidates], [j.near for j in candidates]):
        scored = [(salience[noun], -i, noun) for i, own in enumerate(nouns) for noun in own if noun in salience]
        if scored:
            _, i, noun = max(scored)
            return candidates[-i].sentence, noun
    return None, None


def _tokens(text: str) -> list[str]:
    """Return lower-case words and punctuation; `well made` becomes one word, `well-made`."""
    return _TOKEN.findall(_TWO_WORD_OPINION.sub(r"\1-\2", text.lower().replace("’", "'")))


def _judged(tokens: Sequence[str], position: int) -> Iterator[str]:
    """Yield the nouns that the opinion at a position judges: the head of the words after it, and its subject."""
    word, ahead = tokens[position], position + 1
    if word in words.FEELINGS:
        ahead = ahead + 1 if "".join(tokens[ahead : ahead + 1]) in words.PREPOSITIONS else len(tokens)
    if word in words.FEELINGS or word in words.OPINION_VERBS:
        ahead = _skip(tokens, ahead, 1, words.DETERMINERS)
    if word not in words.OPINION_ADVERBS and (noun := _head(tokens[ahead : ahead + 3])):
        yield noun
    link = _skip(tokens, position - 1, -1, words.DEGREE_WORDS)
    if word in _PREDICATES and link > 0 and tokens[link] in words.LINKING_VERBS:
        subject = _skip(tokens, link - 1, -1, words.AUXILIARIES)
        if subject >= 0 and _is_noun(tokens[subject]):
            yield tokens[subject]


def _near(tokens: Sequence[str], position: int) -> Iterator[str]:
    """Yield the nouns near a position, with no punctuation in between."""
    after = tokens[position + 1 : position + 1 + MAX_DISTANCE]
    before = tokens[max(position - MAX_DISTANCE, 0) : position][::-1]
    for neighbours in (after, before):
        for token in neighbours:
            if not token[0].isalnum():
                break
            if _is_noun(token) and token not in words.LINKING_VERBS:
                yield token


def _skip(tokens: Sequence[str], position: int, step: int, skipped: frozenset[str]) -> int:
    """Return the first position, from this one in direction `step`, whose word is not skipped."""
    while 0 <= position < len(tokens) and tokens[position] in skipped:
        position += step
    return position


def _head(tokens: Sequence[str]) -> str | None:
    """Return the last of the leading nouns, which may have opinions between them; None if there is none."""
    head = None
    for token in tokens:
        if _is_noun(token):
            head = token
        elif token not in _OPINIONS:
            break
    return head


def _is_noun(token: str) -> bool:
    """Return whether a word may be a meaningful noun."""
    return len(token) > 2 and token[0].isalpha() and token not in _NOT_ASPECTS and not token.endswith(("ly", "n't"))
