"""How fast a catalogue's texts are encoded, compared with sentence-transformers' default on the same texts.

Sentence-transformers runs as documented: `SentenceTransformer(folder).encode(texts)`, in fp32 and in batches of 32
texts of similar length. Ours is `text.features.encode_texts`, as `llm4rec train` calls it, with an empty cache. Loading
the weights counts for both, and both cut at 256 tokens. Contenders take turns in one run. Ours encodes equal texts only
once, which is not encoding speed, so all contenders get distinct texts. FLOP are those of matrix products, counted by
torch as they run; shares are of this machine's measured rate in the same precision.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from bench_common import (
    Verdict,
    flops_per_unit,
    machine_description,
    number,
    option_parser,
    print_table,
    run_job,
    speed_rows,
    time_with_machine_rate,
)
from numpy.typing import NDArray

from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision
from llm4rec_cli.run import stages
from llm4rec_cli.text import features, weights

DEFAULT, FP32, BF16 = "sentence-transformers, fp32", "ours, fp32", "ours, bf16"
DESCRIPTIONS = {DEFAULT: "batches of 32 texts", FP32: "algorithm", BF16: "algorithm + precision"}
ENCODER = EncoderConfig("minilm", Pooling.mean, max_length=256, precision=Precision.fp32)
SPEED_UP, COSINE = 2.0, 0.9995  # aims, in bf16

Vectors = NDArray[np.float32]


def contenders(texts: list[str]) -> dict[str, Callable[[], Vectors]]:
    """Return functions that each load the model and encode all texts."""
    folder, _ = weights.locate_weights(ENCODER.name)

    def default() -> Vectors:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(folder, device="cpu")
        return np.asarray(model.encode(texts, show_progress_bar=False))

    def ours(precision: Precision) -> Vectors:
        with tempfile.TemporaryDirectory() as cache:
            return np.asarray(features.encode_texts(texts, replace(ENCODER, precision=precision), Path(cache), "cpu"))

    return {DEFAULT: default, FP32: partial(ours, Precision.fp32), BF16: partial(ours, Precision.bf16)}


def worst_cosine(vectors: Vectors, others: Vectors) -> float:
    """Return the smallest cosine between a text's two vectors."""
    cosines = (vectors * others).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(others, axis=1)
    return float(cosines.min())


def _count(encode: Callable[[], Vectors]) -> float:
    return len(encode())


def main(arguments: Sequence[str] | None = None) -> int:
    from transformers.utils import logging

    parser = option_parser(
        __doc__,
        """\
  python scripts/bench_features.py                                    the demo, a minute on two cores
  python scripts/bench_features.py --dataset amazon2018-scientific --raw-dir PATH --texts 1000""",
        rounds=3,
    )
    parser.add_argument("--dataset", default="demo", help="a dataset of conf/dataset (default: demo)")
    parser.add_argument("--raw-dir", help="folder with the dataset's raw files")
    parser.add_argument("--texts", type=int, default=1000, help="a random sample of so many (default 1000)")
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    print(machine_description())
    texts = sorted(set(stages.load(run_job("train", options.dataset, options.raw_dir, "model=unisrec")).texts))
    texts = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[: options.texts]]
    encoders = contenders(texts)
    work = {name: partial(_count, encode) for name, encode in encoders.items()}
    flops = {name: flops_per_unit(encode) for name, encode in work.items()}
    timings, rates = time_with_machine_rate(work, options.rounds, {DEFAULT: "fp32", FP32: "fp32", BF16: "bf16"})
    rows = speed_rows("encoding", "text", timings, rates, flops, DESCRIPTIONS)
    print_table(f"{len(texts):,} distinct texts of {options.dataset}", rows)
    speed_up = timings[BF16].median / timings[DEFAULT].median
    cosine = worst_cosine(encoders[BF16](), encoders[DEFAULT]())
    verdict = Verdict(
        speed_up >= SPEED_UP and cosine >= COSINE,
        f"speed-up {number(speed_up)} (at least {SPEED_UP:g}), worst cosine {cosine:.5f} (at least {COSINE:g})",
    )
    print(verdict)
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
