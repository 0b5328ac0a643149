"""How close written texts are to those that users wrote, and how varied they are.

All in 0..1, as every metric here; papers print BLEU and ROUGE in percent. BLEU is sacrebleu's, ROUGE that of
rouge-score, with the settings that `signatures` tells. Both are made for Latin script: ROUGE drops
all but its unaccented letters and digits, and BLEU parts words at spaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

BLEU_ORDERS = (2, 4)  # P5 prints BLEU-4 of explanations and BLEU-2 of review summaries
ROUGE = ("rouge1", "rouge2", "rougeL")
_LONGEST = max(BLEU_ORDERS)
_SMOOTHING = "exp"  # sacrebleu's own: only an order without a single match in the whole corpus is smoothed


@cache
def _bleu(order: int, of_sentences: bool = False) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(
        max_ngram_order=order,
        smooth_method=_SMOOTHING,
        tokenize="13a",
        lowercase=False,
        effective_order=of_sentences,  # of sentences only the counts are taken, which it does not touch
    )


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk: more than a second

    return RougeScorer(list(ROUGE), use_stemmer=False)


def signatures() -> dict[str, str]:
    """How each metric is computed: case, tokenisation, smoothing, and the library's version."""
    rouge = f"rouge-score {version('rouge-score')}|f|case:lc|tok:[a-z0-9]+|stem:no"
    return {**{f"bleu{n}": _bleu_signature(n) for n in BLEU_ORDERS}, **dict.fromkeys(ROUGE, rouge)}


def _bleu_signature(order: int) -> str:
    bleu = _bleu(order)
    bleu.corpus_score(["a"], [["a"]])  # it knows the number of references then
    return f"sacrebleu|order:{order}|{bleu.get_signature()}"


def text_values(
    written: Sequence[str], references: Sequence[str], features: Sequence[str | None] | None = None
) -> dict[str, FloatArray]:
    """What is scored of each example.

    Args:
        written: (n,) a model's texts.
        references: (n,) what users wrote.
        features: (n,) the word or phrase that each is about; None or empty where there is none.

    Returns:
        (n,) F-measures of `rouge1`, `rouge2`, `rougeL`; with features `feature_match`, 1 where the text holds the
        feature as a whole word or phrase, in whatever case, 0 where not, NaN where there is no feature.
    """
    scores = [_rouge().score(reference, text) for reference, text in zip(references, written, strict=True)]
    values = {name: np.array([score[name].fmeasure for score in scores]) for name in ROUGE}
    if features is not None:
        values["feature_match"] = np.array(
            [_holds(text, feature) if feature else np.nan for text, feature in zip(written, features, strict=True)]
        )
    return values


def _holds(text: str, feature: str) -> float:
    return float(re.search(rf"(?<!\w){re.escape(feature)}(?!\w)", text, re.IGNORECASE) is not None)


def text_columns(values: Mapping[str, FloatArray], counts: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """What `text_metrics` needs the sums of: (n,) values a column, one an example.

    Args:
        values: as of `text_values`.
        counts: as of `bleu_counts`.
    """
    columns = {"n": np.ones(len(values[ROUGE[0]])), **counts, **{name: values[name] for name in ROUGE}}
    if "feature_match" in values:
        matched = values["feature_match"]
        columns |= {"featured": (~np.isnan(matched)).astype(np.float64), "feature_match": np.nan_to_num(matched)}
    return columns


def bleu_counts(written: Sequence[str], references: Sequence[str]) -> dict[str, FloatArray]:
    """The counts whose sums over texts make BLEU: (n,) `length`, `reference_length`, and for each n-gram order
    `matches<n>` and `ngrams<n>`."""
    bleu = _bleu(_LONGEST, True)
    scores = [bleu.sentence_score(text, [reference]) for text, reference in zip(written, references, strict=True)]
    rows = [[score.sys_len, score.ref_len, *score.counts, *score.totals] for score in scores]
    return dict(zip(_counted(_LONGEST), np.array(rows, dtype=np.float64).T, strict=True))


def _counted(order: int) -> list[str]:
    orders = range(1, order + 1)
    return ["length", "reference_length", *(f"matches{n}" for n in orders), *(f"ngrams{n}" for n in orders)]


def text_metrics(sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """The metrics, of the sums of `text_columns` over examples.

    Returns:
        `bleu2` and `bleu4` of the corpus that the sums are of; the means of `rouge1`, `rouge2`, `rougeL`, and of
        `feature_match` over the examples that have a feature. Each has the shape that the sums have.
    """
    metrics = {f"bleu{order}": _corpus_bleu(sums, order) for order in BLEU_ORDERS}
    metrics |= {name: sums[name] / sums["n"] for name in ROUGE}
    if np.any(sums.get("featured", 0)):
        with np.errstate(invalid="ignore"):  # a resample without a feature: NaN
            metrics["feature_match"] = sums["feature_match"] / sums["featured"]
    return metrics


def _corpus_bleu(sums: Mapping[str, FloatArray], order: int) -> FloatArray:
    counts = np.stack([np.asarray(sums[name]) for name in _counted(order)], axis=-1).astype(np.int64)
    scores = [
        _bleu(order)
        .compute_bleu(
            correct=of[2 : 2 + order],
            total=of[2 + order :],
            sys_len=of[0],
            ref_len=of[1],
            smooth_method=_SMOOTHING,
            max_ngram_order=order,
        )
        .score
        for of in counts.reshape(-1, counts.shape[-1]).tolist()
    ]
    return np.array(scores).reshape(counts.shape[:-1]) / 100


def diversity(written: Sequence[str]) -> dict[str, float]:
    """How varied texts are among themselves, whatever they should say.

    Returns:
        `distinct1` and `distinct2`, the number of different words and of different pairs of neighbours over the number
        of all (lower case; 0 where there is none); `unique_sentences`, the number of different texts over that of all;
        `mean_length` in words. The first three fall with the number of texts: compare them on the same examples alone.
    """
    told = [re.findall(r"\w+(?:['’]\w+)*", text.lower()) for text in written]
    singles = [word for words in told for word in words]
    pairs = [pair for words in told for pair in pairwise(words)]
    return {
        "distinct1": len(set(singles)) / max(1, len(singles)),
        "distinct2": len(set(pairs)) / max(1, len(pairs)),
        "unique_sentences": len(set(written)) / len(written),
        "mean_length": len(singles) / len(written),
    }
