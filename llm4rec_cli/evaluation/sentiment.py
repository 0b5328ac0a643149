"""Whether a text sounds like the stars that its user gave: a classifier of words, fitted on the training part.

Logistic regression on TF-IDF of words and pairs of words, with equal weight for liked and disliked. It is fitted on
users' own texts of the same kind, so that it knows the words of this catalogue, and needs no list of words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.evaluation.rating import LIKED

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FloatArray = NDArray[np.floating[Any]]
LEAST = 10  # training texts of liked and of disliked interactions, each


def sentiment_classifier(texts: Sequence[str], stars: FloatArray) -> Pipeline | None:
    """Fit a classifier of texts as liked or not. None if either class has too few texts, or no usable words.

    Args:
        texts: (n,) users' texts; empty where there is none.
        stars: (n,) their ratings; NaN where there is none.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # takes a second, and rankings need none of it
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    usable = ~np.isnan(stars) & np.array([bool(text.strip()) for text in texts], dtype=bool)
    liked = stars[usable] >= LIKED
    if min(liked.sum(), (~liked).sum()) < LEAST:
        return None
    words = TfidfVectorizer(token_pattern=r"\w+", ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    classifier = make_pipeline(words, LogisticRegression(class_weight="balanced", C=10, max_iter=1000))
    try:
        return classifier.fit([text for text, keep in zip(texts, usable, strict=True) if keep], liked)
    except ValueError:  # no word occurs twice
        return None


def sentiment_columns(classifier: Pipeline, texts: Sequence[str], stars: FloatArray) -> dict[str, FloatArray]:
    """Return the columns, (n,) values each, whose sums `sentiment` takes; `stars` are NaN where there is no rating."""
    sounds_liked = classifier.predict(list(texts))
    liked, disliked = stars >= LIKED, stars < LIKED  # both false for NaN
    columns = (liked, liked & sounds_liked, disliked, disliked & ~sounds_liked)
    names = ("liked", "liked/agree", "disliked", "disliked/agree")
    return {name: column.astype(np.float64) for name, column in zip(names, columns, strict=True)}


def sentiment(sums: Mapping[str, FloatArray]) -> FloatArray:
    """Return the mean of two shares: of liked items whose text sounds liked, and of disliked whose text does not.

    The same text for everybody has 0.5. NaN where one of the two is missing.
    """
    with np.errstate(invalid="ignore"):
        agreement = (sums["liked/agree"] / sums["liked"] + sums["disliked/agree"] / sums["disliked"]) / 2
    return np.asarray(agreement)
