"""How fast a catalogue's texts are encoded, compared with sentence-transformers' default on the same texts.

Sentence-transformers runs as documented: `SentenceTransformer(folder).encode(texts)`, in fp32 and in batches of 32
texts of similar length. Ours is `text.features.encode_texts`, as `llm4rec train` calls it, with an empty cache. Loading
the weights counts for both, and both cut at 256 tokens. Contenders take turns in one run. Ours encodes equal texts only
once; since this is not encoding speed, all contenders get distinct texts, and a row of its own shows what it saves on
this catalogue. FLOP are those of matrix products, counted by torch as they run; shares are of this machine's measured
rate in the same precision.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_common import (
    Timing,
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
ONCE = "ours, bf16, equal texts once"
DESCRIPTIONS = {DEFAULT: "batches of 32 texts", FP32: "algorithm", BF16: "algorithm + precision"}

Vectors = NDArray[np.float32]


def contenders(texts: list[str], encoder: EncoderConfig) -> dict[str, Callable[[], Vectors]]:
    """Return functions that each load the model and encode all texts.

    Args:
        texts: distinct.
        encoder: its name is a folder or one that `weights.locate_weights` resolves.
    """
    folder, _ = weights.locate_weights(encoder.name)

    def default() -> Vectors:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(folder, device="cpu")
        return np.asarray(model.encode(texts, show_progress_bar=False))

    def ours(precision: Precision) -> Vectors:
        with tempfile.TemporaryDirectory() as cache:
            return np.asarray(features.encode_texts(texts, replace(encoder, precision=precision), Path(cache), "cpu"))

    return {DEFAULT: default, FP32: partial(ours, Precision.fp32), BF16: partial(ours, Precision.bf16)}


def worst_cosine(vectors: Vectors, others: Vectors) -> float:
    """Return the smallest cosine between a text's two vectors."""
    cosines = (vectors * others).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(others, axis=1)
    return float(cosines.min())


def needed_flops(config: Any, lengths: NDArray[np.int64]) -> float:
    """Return the mean FLOP in matrix products that a text needs, without padding and pooler.

    Args:
        config: of the encoder, from transformers.
        lengths: (n,) tokens of each text.
    """
    h, n = config.hidden_size, lengths.astype(np.float64)
    return float((config.num_hidden_layers * (n * (8 * h**2 + 4 * h * config.intermediate_size) + 4 * h * n**2)).mean())


def equal_texts_row(rows: Sequence[Mapping[str, str]], timings: Mapping[str, Timing], repeats: float) -> dict[str, str]:
    """Return the table's last row: the speed in items when equal texts are encoded once.

    Args:
        repeats: mean number of items that share a text.
    """
    rate = repeats * timings[BF16].median
    return dict.fromkeys(rows[0], "") | {
        "encoding": ONCE,
        "description": f"{number(repeats)} items per text",
        "texts/s: median (min–max)": number(rate),
        "speed-up": number(rate / timings[DEFAULT].median),
    }


def _count(encode: Callable[[], Vectors]) -> float:
    return len(encode())


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = option_parser(
        __doc__,
        """\
  python scripts/bench_features.py                                    the demo, a minute on two cores
  python scripts/bench_features.py --dataset amazon2018-scientific --raw-dir PATH --texts 2000 --markdown""",
        rounds=3,
    )
    parser.add_argument(
        "--dataset", default="demo", help="a dataset of conf/dataset (default: demo, which needs no file)"
    )
    parser.add_argument("--raw-dir", help="folder with the dataset's raw files")
    parser.add_argument("--texts", type=int, help="encode a random sample of this many items' texts (default: all)")
    parser.add_argument("--encoder", default="minilm", help="as model.encoder.name (default: minilm, the packaged one)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils import logging

    options = parse(arguments)
    logging.disable_progress_bar()
    print(machine_description())
    encoder = EncoderConfig(options.encoder, Pooling.mean, max_length=256, precision=Precision.bf16)
    texts = stages.load(run_job("train", options.dataset, options.raw_dir, "model=unisrec")).texts
    if options.texts and options.texts < len(texts):
        texts = [texts[i] for i in np.random.default_rng(0).choice(len(texts), options.texts, replace=False)]
    distinct = sorted(set(texts))
    encoders = contenders(distinct, encoder)

    vectors = {name: encode() for name, encode in encoders.items()}
    cosines = {name: f"{worst_cosine(values, vectors[DEFAULT]):.5f}" for name, values in vectors.items()}
    work = {name: partial(_count, encode) for name, encode in encoders.items()}
    executed = {name: flops_per_unit(encode) for name, encode in work.items()}

    folder, _ = weights.locate_weights(encoder.name)
    tokens = AutoTokenizer.from_pretrained(folder)(distinct, truncation=True, max_length=encoder.max_length)
    lengths = np.array([len(ids) for ids in tokens["input_ids"]])
    needed = dict.fromkeys(work, needed_flops(AutoConfig.from_pretrained(folder), lengths))

    timings, rates = time_with_machine_rate(work, options.rounds, {DEFAULT: "fp32", FP32: "fp32", BF16: "bf16"})
    flops, extra = {"executed": executed, "needed": needed}, {"worst cosine": cosines}
    rows = speed_rows("encoding", "text", timings, rates, flops, DESCRIPTIONS, extra)
    if len(distinct) < len(texts):
        rows.append(equal_texts_row(rows, timings, len(texts) / len(distinct)))
    title = f"{len(distinct):,} distinct texts of {options.dataset}, {number(float(lengths.mean()))} tokens on average"
    print_table(title, rows, options.markdown)


if __name__ == "__main__":
    main()
