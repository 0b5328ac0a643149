"""Copies existing texts.

Explanation: the item's most typical training explanation, which shares the most words with its others; for an item
without any, the most typical of all. Review title: the first words of the review's first or last sentence. The sentence
and the number of words are chosen on validation.
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

VALIDATION_REVIEWS = 1000  # maximum number used to choose the title rule


class Retrieval:
    """Looks up explanations of the training part, and copies titles from reviews."""

    def __init__(self, split: Split, words: Sequence[int]) -> None:
        self.split, self.words = split, words

    def write(self, examples: Examples, written: Written) -> list[str]:
        if written == Written.explanation:
            return [self.typical_explanations[item] for item in examples.target]
        return [title_from_review(review, *self.title_rule) for review in self._column("review_text", examples)]

    def _column(self, name: str, examples: Examples) -> list[str]:
        return self.split.dataset.interactions[name].iloc[examples.row].fillna("").tolist()

    @cached_property
    def title_rule(self) -> tuple[int, int]:
        """The sentence, 0 or -1, and number of words with the highest ROUGE-1 on validation."""
        examples = self.split.examples(SplitName.valid)
        drawn = stream(self.split.dataset.seed, "retrieval").permutation(len(examples))[:VALIDATION_REVIEWS]
        reviews, titles = (self._column(name, examples[drawn]) for name in ("review_text", "review_title"))
        scores = {
            rule: text_values([title_from_review(review, *rule) for review in reviews], titles)["rouge1"].mean()
            for rule in product((0, -1), self.words)
        }
        best = max(scores, key=lambda rule: scores[rule])
        where = "last" if best[0] else "first"
        log.info("%d words of the %s sentence: ROUGE-1 %.4f on validation", best[1], where, scores[best])
        return best

    @cached_property
    def typical_explanations(self) -> list[str]:
        """Each item's most typical training explanation, or the most typical of all for an item without any."""
        rows = self.split.dataset.interactions[["item", "explanation"]][self.split.assignment == TRAIN]
        rows = rows[rows["explanation"].fillna("").str.strip() != ""]
        texts = rows["explanation"].tolist()
        words = word_sets(texts)
        fallback = texts[int(typicality(words, np.zeros(len(texts), dtype=np.int64)).argmax())]
        item = rows["item"].to_numpy()
        order = np.lexsort((-typicality(words, item), item))  # by item, best first, then earliest
        items, first = np.unique(item[order], return_index=True)
        best = dict(zip(items.tolist(), order[first].tolist(), strict=True))
        return [texts[best[i]] if i in best else fallback for i in range(self.split.n_items)]


def word_sets(texts: list[str]) -> csr_array:
    """Return (n, words) rows of length 1 with equal weights for a text's distinct words; 0 for a text without words."""
    vectorizer = CountVectorizer(binary=True, token_pattern=r"\w+", dtype=np.float64)
    counts = csr_array(vectorizer.fit_transform(texts))
    length = np.sqrt(np.maximum(counts.sum(axis=1), 1))
    return csr_array(diags_array(1 / length) @ counts)


def typicality(words: csr_array, group: IntArray) -> NDArray[np.float64]:
    """Return (n,) the mean cosine similarity of each text, a row of `word_sets`, to the other texts of its group, a
    number from 0; 0 for a group of one.

    A sum of cosines is the product with a sum of vectors, so no pairs are formed.
    """
    n = len(group)
    members = csr_array((np.ones(n), (group, np.arange(n))))
    to_all = (words * (members @ words)[group]).sum(axis=1)
    to_itself = words.power(2).sum(axis=1)
    n_others = np.bincount(group)[group] - 1
    return np.round((to_all - to_itself) / np.maximum(n_others, 1), 12)  # so that ties survive rounding


def title_from_review(review: str, sentence: int, words: int) -> str:
    """Return the first `words` words of a sentence of a review; sentences end with ".", "!" or "?"."""
    return " ".join(re.split(r"(?<=[.!?])\s+", review.strip())[sentence].split()[:words])


def build(context: Context) -> Writer:
    return Retrieval(context.split, list(context.config.words))
