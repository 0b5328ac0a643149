"""Texts that are there already.

Explanation: the item's most typical one of the training part, which shares most words with its others; for an item
without any, the most typical of all. Heading of a review: the first words of its first or its last sentence, whichever,
and how many, comes closer to the headings of validation.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from sklearn.feature_extraction.text import CountVectorizer

from llm4rec_cli.capabilities import Writer
from llm4rec_cli.config.schema import SplitName, Written
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.evaluation.text import text_values
from llm4rec_cli.models.base import Context

log = logging.getLogger(__name__)

CHOSEN_ON = 1000  # reviews of validation at most


class Retrieval:
    """Looks up explanations, and copies from reviews.

    Args:
        split: whose training part holds the explanations.
        words: how many of a sentence make a heading, if it has so many: one of these is chosen.
    """

    def __init__(self, split: Split, words: Sequence[int]) -> None:
        self.split, self.words = split, words

    def write(self, examples: Examples, written: Written) -> list[str]:
        if written == Written.explanation:
            return [self.typical[item] for item in examples.target]
        return [heading(review, *self.headed) for review in self._column("review_text", examples)]

    def _column(self, name: str, examples: Examples) -> list[str]:
        return self.split.dataset.interactions[name].fillna("").iloc[examples.row].tolist()

    @cached_property
    def headed(self) -> tuple[int, int]:
        """Which sentence heads a review, 0 or -1, and how many of its words: the highest ROUGE-1 on validation."""
        asked = self.split.examples(SplitName.valid)
        drawn = stream(self.split.dataset.seed, "retrieval").permutation(len(asked))[:CHOSEN_ON]
        reviews, titles = (self._column(name, asked[drawn]) for name in ("review_text", "review_title"))
        scores = {
            choice: text_values([heading(review, *choice) for review in reviews], titles)["rouge1"].mean()
            for choice in product((0, -1), self.words)
        }
        best = max(scores, key=lambda choice: scores[choice])
        where = "last" if best[0] else "first"
        log.info("%d words of the %s sentence: ROUGE-1 %.4f on validation", best[1], where, scores[best])
        return best

    @cached_property
    def typical(self) -> list[str]:
        """Each item's most typical explanation of the training part, or that of all."""
        rows = self.split.dataset.interactions[self.split.assignment == TRAIN]
        rows = rows[rows["explanation"].fillna("").str.strip() != ""]
        texts = rows["explanation"].tolist()
        words = word_sets(texts)
        of_all = texts[int(typicality(words, np.zeros(len(texts), dtype=np.int64)).argmax())]
        item = rows["item"].to_numpy()
        order = np.lexsort((-typicality(words, item), item))  # the best of each item first; of equals the earliest
        found, first = np.unique(item[order], return_index=True)
        best = dict(zip(found.tolist(), order[first].tolist(), strict=True))
        return [texts[best[i]] if i in best else of_all for i in range(self.split.n_items)]


def word_sets(texts: list[str]) -> csr_array:
    """(n, words) rows of length 1: the different words of each text, all of one weight; 0 for a text without words."""
    vectorizer = CountVectorizer(binary=True, token_pattern=r"\w+", dtype=np.float64)
    counts = csr_array(vectorizer.fit_transform(texts))
    length = np.sqrt(np.maximum(counts.sum(axis=1), 1))
    return csr_array(diags_array(1 / length) @ counts)


def typicality(words: csr_array, group: IntArray) -> NDArray[np.float64]:
    """How much each text is like the others of its group: the mean cosine of their words; 0 for a single one.

    A sum of cosines is the cosine with a sum, so it takes no pairs.

    Args:
        words: (n, words) as of `word_sets`.
        group: (n,) numbers from 0.
    """
    n = len(group)
    members = csr_array((np.ones(n), (group, np.arange(n))))
    with_all = (words * (members @ words)[group]).sum(axis=1)
    with_itself = words.power(2).sum(axis=1)
    others = np.bincount(group)[group] - 1
    return np.round((with_all - with_itself) / np.maximum(others, 1), 12)  # equal ones stay equal in any order of sums


def heading(review: str, sentence: int, words: int) -> str:
    """The first words of a sentence of a review; sentences end with a point, an exclamation or a question mark."""
    return " ".join(re.split(r"(?<=[.!?])\s+", review.strip())[sentence].split()[:words])


def build(context: Context) -> Writer:
    return Retrieval(context.split, list(context.config.words))
