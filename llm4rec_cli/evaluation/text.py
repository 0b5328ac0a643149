"""Overlap of generated texts with users' texts, and diversity of generated texts.

All metrics are in 0..1; papers report BLEU and ROUGE in percent. BLEU is sacrebleu's, ROUGE is rouge-score's, with the
settings in `signatures`. Both suit Latin script: ROUGE drops all but unaccented letters and digits, and BLEU separates
words at spaces.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from llm4rec_cli.evaluation.paper_text import BLEU_ORDERS, ROUGE, paper_metrics
from llm4rec_cli.evaluation.sentiment import sentiment
from llm4rec_cli.progress import track

FloatArray = NDArray[np.floating[Any]]

FITS = ("fits_user", "fits_item")
_PARTIAL = ("feature_match", *FITS)  # means over the examples that have a value
_LONGEST = max(BLEU_ORDERS)
_SMOOTHING = "exp"  # sacrebleu's default: smooths only orders without any match in the whole corpus


@cache
def _bleu(order: int, effective_order: bool = False) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(
        max_ngram_order=order,
        smooth_method=_SMOOTHING,
        tokenize="13a",
        lowercase=False,
        effective_order=effective_order,
    )


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk: more than a second

    return RougeScorer(list(ROUGE), use_stemmer=False)


@cache
def _rouge_l() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=False)


def signatures() -> dict[str, str]:
    """Return how each metric is computed: case, tokenisation, smoothing, and the library's version."""
    rouge = f"rouge-score {version('rouge-score')}|f|case:lc|tok:[a-z0-9]+|stem:no"
    return {**{f"bleu{n}": _bleu_signature(n) for n in BLEU_ORDERS}, **dict.fromkeys((*ROUGE, *FITS), rouge)}


def _bleu_signature(order: int) -> str:
    bleu = _bleu(order)
    bleu.corpus_score(["a"], [["a"]])  # sets the number of references
    return f"sacrebleu|order:{order}|{bleu.get_signature()}"


def text_values(
    generated: Sequence[str], references: Sequence[str], features: Sequence[str | None] | None = None
) -> dict[str, FloatArray]:
    """Return (n,) F-measures of `rouge1`, `rouge2` and `rougeL`; with features also `feature_match`.

    The latter is 1 where the text contains the feature as a whole word or phrase, ignoring case, 0 where not, and NaN
    where there is no feature.
    """
    pairs = track(list(zip(references, generated, strict=True)), "ROUGE")
    scores = [_rouge().score(reference, text) for reference, text in pairs]
    values = {name: np.array([score[name].fmeasure for score in scores]) for name in ROUGE}
    if features is not None:
        values["feature_match"] = np.array(
            [_contains(text, feature) if feature else np.nan for text, feature in zip(generated, features, strict=True)]
        )
    return values


def rouge_l(a: str, b: str) -> float:
    """Return the F-measure of `rougeL`, rounded so that ties survive."""
    return round(float(_rouge_l().score(a, b)["rougeL"].fmeasure), 12)


def nearer_shares(
    generated: Sequence[str],
    references: Sequence[str],
    others: Sequence[Sequence[str]],
    similarity: Callable[[str, str], float] = rouge_l,
) -> FloatArray:
    """Return (n,) the share of each example's other texts to which the generated text is less similar than to its
    reference. A tie counts half, so by ROUGE-L an empty text has 0.5; NaN without other texts.
    """
    shares = np.full(len(generated), np.nan)
    examples = list(zip(generated, references, others, strict=True))
    for i, (text, reference, other_texts) in enumerate(track(examples, "similarity to other texts")):
        if len(other_texts):
            own = similarity(reference, text)
            shares[i] = np.mean([(np.sign(own - similarity(other, text)) + 1) / 2 for other in other_texts])
    return shares


def rouge1_matrix(texts: Sequence[str]) -> FloatArray:
    """Return (n, n) the `rouge1` of each text with each, as `text_values` computes it, at once: O(n²) memory."""
    # The k-th occurrence of a word is a word of its own, so that a product of rows is the sum of the smaller counts.
    numbers: dict[tuple[str, int], int] = {}
    counts = [Counter(re.findall("[a-z0-9]+", text.lower())) for text in texts]
    rows = [
        [numbers.setdefault((word, k), len(numbers)) for word in count for k in range(count[word])] for count in counts
    ]
    length = np.array([len(row) for row in rows])
    columns = np.array([number for row in rows for number in row], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(length)])
    words = csr_array((np.ones(len(columns)), columns, offsets), shape=(len(texts), max(len(numbers), 1)))
    values: FloatArray = 2 * (words @ words.T).toarray() / np.maximum(length[:, None] + length, 1)
    return values


def _contains(text: str, feature: str) -> float:
    return float(re.search(rf"(?<!\w){re.escape(feature)}(?!\w)", text, re.IGNORECASE) is not None)


def text_columns(values: Mapping[str, FloatArray], counts: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the columns, (n,) values each, whose sums `text_metrics` takes.

    Args:
        values: from `text_values`; `fits_user` and `fits_item` from `nearer_shares`, if they are computed too.
        counts: from `bleu_counts`, and `paper_columns` if the paper's metrics are computed too.
    """
    columns = {"n": np.ones(len(values[ROUGE[0]])), **counts, **{name: values[name] for name in ROUGE}}
    for name in _PARTIAL:
        if name in values:
            columns |= {f"{name}/n": (~np.isnan(values[name])).astype(np.float64), name: np.nan_to_num(values[name])}
    return columns


def bleu_counts(generated: Sequence[str], references: Sequence[str]) -> dict[str, FloatArray]:
    """Return the counts whose sums over texts give BLEU: (n,) `length`, `reference_length`, and for each n-gram order
    `matches<n>` and `ngrams<n>`."""
    bleu = _bleu(_LONGEST, effective_order=True)  # spares a warning; the counts do not depend on it
    pairs = track(list(zip(generated, references, strict=True)), "BLEU")
    scores = [bleu.sentence_score(text, [reference]) for text, reference in pairs]
    rows = [[score.sys_len, score.ref_len, *score.counts, *score.totals] for score in scores]
    return dict(zip(_count_names(_LONGEST), np.array(rows, dtype=np.float64).T, strict=True))


def _count_names(order: int) -> list[str]:
    orders = range(1, order + 1)
    return ["length", "reference_length", *(f"matches{n}" for n in orders), *(f"ngrams{n}" for n in orders)]


def text_metrics(sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the metrics from the sums of `text_columns` over examples, in the shape of the sums.

    `feature_match` is over the examples with a feature, `fits_user` and `fits_item` over those with other texts, with
    their share as `…/coverage`; `sentiment` and those of `paper_metrics` are there if the sums have their columns.
    """
    metrics = {f"bleu{order}": _corpus_bleu(sums, order) for order in BLEU_ORDERS}
    metrics |= {name: sums[name] / sums["n"] for name in ROUGE}
    with np.errstate(invalid="ignore"):  # a resample without such an example: NaN
        metrics |= {name: sums[name] / sums[f"{name}/n"] for name in _PARTIAL if np.any(sums.get(f"{name}/n", 0))}
    metrics |= {f"{name}/coverage": sums[f"{name}/n"] / sums["n"] for name in FITS if name in sums}
    if np.any(sums.get("liked", 0)) and np.any(sums["disliked"]):
        metrics["sentiment"] = sentiment(sums)
    return metrics | (paper_metrics(sums) if "paper/length" in sums else {})


def _corpus_bleu(sums: Mapping[str, FloatArray], order: int) -> FloatArray:
    counts = np.stack([np.asarray(sums[name]) for name in _count_names(order)], axis=-1).astype(np.int64)
    scores = [
        _bleu(order)
        .compute_bleu(
            correct=row[2 : 2 + order],
            total=row[2 + order :],
            sys_len=row[0],
            ref_len=row[1],
            smooth_method=_SMOOTHING,
            max_ngram_order=order,
        )
        .score
        for row in counts.reshape(-1, counts.shape[-1]).tolist()
    ]
    return np.array(scores).reshape(counts.shape[:-1]) / 100


def diversity(generated: Sequence[str]) -> dict[str, float]:
    """Return the diversity of the texts, which does not depend on the references.

    `distinct1` and `distinct2`: distinct unigrams and bigrams as a share of all (lower case; 0 where there is none);
    `unique_sentences`: distinct texts as a share of all; `mean_length` in words. The first three fall with the number
    of texts: compare them on the same examples only.
    """
    words = [re.findall(r"\w+(?:['’]\w+)*", text.lower()) for text in generated]
    unigrams = [word for text in words for word in text]
    bigrams = [pair for text in words for pair in pairwise(text)]
    return {
        "distinct1": len(set(unigrams)) / max(1, len(unigrams)),
        "distinct2": len(set(bigrams)) / max(1, len(bigrams)),
        "unique_sentences": len(set(generated)) / len(generated),
        "mean_length": len(unigrams) / len(generated),
    }
