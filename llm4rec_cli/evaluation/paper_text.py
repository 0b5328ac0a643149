"""BLEU and ROUGE as P5's evaluation computes them, for comparison with its printed numbers only.

Texts are split at whitespace and keep their case. BLEU is that of the corpus, unsmoothed (0 without a match of some
order). ROUGE-1 and ROUGE-2 are F1 over *sets* of n-grams; ROUGE-L weights recall by beta = precision / recall. Source:
the scripts of PETER that P5's repository carries (jeykigung/P5 @1fa28ba). In 0..1; the paper prints percent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

from llm4rec_cli.progress import track

FloatArray = NDArray[np.floating[Any]]
Words = Sequence[str]

ORDERS = (1, 2, 3, 4)
BLEU_ORDERS = (2, 4)  # of review summaries, and of explanations
ROUGE = ("rouge1", "rouge2", "rougeL")


def paper_columns(generated: Sequence[str], references: Sequence[str]) -> dict[str, FloatArray]:
    """Return the columns, (n,) values each, whose sums `paper_metrics` takes."""
    pairs = [(text.split(), reference.split()) for text, reference in zip(generated, references, strict=True)]
    rows = [
        [*_counts(text, reference), *_rouge(text, reference)]
        for text, reference in track(pairs, "BLEU and ROUGE as the paper computes them")
    ]
    return dict(zip(_names(), np.array(rows, dtype=np.float64).T, strict=True))


def paper_metrics(sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return `paper/bleu2`, `paper/bleu4` and the means of `paper/rouge1`, `paper/rouge2` and `paper/rougeL`, in the
    shape of the sums: those of `paper_columns` over examples, and `n`, the number of examples."""
    metrics = {f"paper/bleu{order}": _bleu(sums, order) for order in BLEU_ORDERS}
    return metrics | {f"paper/{name}": sums[f"paper/{name}"] / sums["n"] for name in ROUGE}


def _names() -> list[str]:
    counts = ("length", "reference_length", *(f"{kind}{n}" for n in ORDERS for kind in ("matches", "ngrams")))
    return [f"paper/{name}" for name in (*counts, *ROUGE)]


def _ngrams(words: Words, order: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + order]) for i in range(len(words) - order + 1)]


def _counts(text: Words, reference: Words) -> list[int]:
    counts = [len(text), len(reference)]
    for order in ORDERS:
        ngrams = Counter(_ngrams(text, order))
        counts += [(ngrams & Counter(_ngrams(reference, order))).total(), ngrams.total()]
    return counts


def _bleu(sums: Mapping[str, FloatArray], order: int) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        precisions = [sums[f"paper/matches{n}"] / sums[f"paper/ngrams{n}"] for n in range(1, order + 1)]
        brevity = np.minimum(0, 1 - sums["paper/reference_length"] / sums["paper/length"])
        bleu = np.exp(np.mean(np.log(precisions), axis=0) + brevity)
    return np.nan_to_num(bleu)


def _rouge(text: Words, reference: Words) -> list[float]:
    if not text or not reference:
        return [0.0] * len(ROUGE)
    return [_set_f1(text, reference, 1), _set_f1(text, reference, 2), _rouge_l(text, reference)]


def _set_f1(text: Words, reference: Words, order: int) -> float:
    ours, theirs = set(_ngrams(text, order)), set(_ngrams(reference, order))
    if not ours or not theirs:
        return 0.0
    precision, recall = (len(ours & theirs) / len(side) for side in (ours, theirs))
    return 2 * precision * recall / (precision + recall + 1e-8)


def _rouge_l(text: Words, reference: Words) -> float:
    common = LCSseq.similarity(text, reference)
    if common == 0:
        return 0.0
    recall, precision = common / len(reference), common / len(text)
    beta = precision / recall
    return (1 + beta**2) * recall * precision / (recall + beta**2 * precision)
