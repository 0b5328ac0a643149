"""How fast a catalogue's texts are encoded, against sentence-transformers' default on the same texts, in turns.

Sentence-transformers runs as its documentation shows: `SentenceTransformer(folder).encode(texts)`, which is fp32 in
batches of 32 texts of like length. Ours is `text.features.encode_texts`, as `llm4rec train` calls it, into an empty
cache. Both load the same weights within the time, and both cut at 256 tokens. Equal texts are encoded once by ours; as
that is no matter of speed, all contenders get distinct texts, and what it saves on this catalogue stands in a row of
its own. Operations are those of matrix products, counted by torch as they run; a share is of this machine's measured
rate in the same arithmetic.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import Timing, executed, in_turns, machine_in_words, measured_rate, number, report
from numpy.typing import NDArray

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import quoted
from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision
from llm4rec_cli.runs import stages
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.text import features, weights

DEFAULT, FP32, BF16 = "sentence-transformers, fp32", "ours, fp32", "ours, bf16"
ONCE = "ours, bf16, equal texts once"
MEANING = {DEFAULT: "batches of 32 texts", FP32: "algorithm", BF16: "algorithm + precision"}

Vectors = NDArray[np.float32]


def texts_of(dataset: str, raw_dir: str | None) -> list[str]:
    """The item texts of a dataset, as `llm4rec train model=unisrec` encodes them."""
    at = [f"dataset.raw_dir={quoted(raw_dir)}"] if raw_dir else []
    return stages.load(RunSpec.unchecked(compose(["model=unisrec", f"dataset={dataset}", *at]), "train")).texts


def contenders(texts: list[str], encoder: EncoderConfig) -> dict[str, Callable[[], Vectors]]:
    """Each encodes all texts, its model loaded anew.

    Args:
        texts: distinct ones.
        encoder: its name is a folder, or one that `weights.locate_weights` knows.
    """
    folder, _ = weights.locate_weights(encoder.name)

    def default() -> Vectors:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(folder, device="cpu")
        return np.asarray(model.encode(texts, show_progress_bar=False))

    def fp32() -> Vectors:
        vectors = features._encode(texts, folder, encoder.pooling, encoder.max_length, "cpu", torch.float32)
        return np.asarray(vectors)

    def bf16() -> Vectors:
        with tempfile.TemporaryDirectory() as cache:
            return np.asarray(features.encode_texts(texts, encoder, Path(cache), "cpu"))

    return {DEFAULT: default, FP32: fp32, BF16: bf16}


def worst_cosine(vectors: Vectors, others: Vectors) -> float:
    """The smallest cosine between a text's two vectors."""
    cosines = (vectors * others).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(others, axis=1)
    return float(cosines.min())


def needed_flops(config: Any, lengths: NDArray[np.int64]) -> float:
    """Floating-point operations in matrix products that a text needs on average: no padding, and no pooler.

    Args:
        config: of the encoder, as transformers has it.
        lengths: (n,) tokens of each text.
    """
    h, n = config.hidden_size, lengths.astype(np.float64)
    return float((config.num_hidden_layers * (n * (8 * h**2 + 4 * h * config.intermediate_size) + 4 * h * n**2)).mean())


def rows_of(
    timings: dict[str, Timing],
    flops: dict[str, float],
    needed: float,
    cosines: dict[str, float],
    repeats: float,
    rates: dict[str, float],
) -> list[dict[str, str]]:
    """The table.

    Args:
        flops: contender -> operations a text, as executed.
        needed: operations a text.
        cosines: contender -> the worst cosine to the default's vectors.
        repeats: how many items share a text on average.
        rates: the machine's, in GFLOP/s, by arithmetic.
    """
    found = []
    for name, timing in timings.items():
        reached = timing.median * flops[name] / 1e9
        limit = rates["bf16" if name == BF16 else "fp32"]
        found.append(
            {
                "encoding": name,
                "is": MEANING[name],
                "texts/s: median (min–max)": str(timing),
                "times": number(timing.median / timings[DEFAULT].median),
                "worst cosine": f"{cosines[name]:.5f}",
                "GFLOP a text: executed": number(flops[name] / 1e9),
                "needed": number(needed / 1e9),
                "GFLOP/s": number(reached),
                "of the machine's": f"{100 * reached / limit:.0f} %",
            }
        )
    if repeats > 1:
        texts, times = repeats * timings[BF16].median, repeats * timings[BF16].median / timings[DEFAULT].median
        found.append(
            dict.fromkeys(found[0], "")
            | {"encoding": ONCE, "is": f"{number(repeats)} items a text", "times": number(times)}
            | {"texts/s: median (min–max)": number(texts)}
        )
    return found


def _count(encode: Callable[[], Vectors]) -> float:
    return len(encode())


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python scripts/bench_features.py                                    the demo, a minute on two cores
  python scripts/bench_features.py --dataset amazon2018-scientific --raw-dir PATH --texts 2000 --markdown
Run it on a quiet machine. OMP_NUM_THREADS sets the threads, of all contenders and of the measured rate alike.""",
    )
    parser.add_argument(
        "--dataset", default="demo", help="a dataset of conf/dataset (default: demo, which needs no file)"
    )
    parser.add_argument("--raw-dir", help="the folder of its raw files")
    parser.add_argument("--texts", type=int, help="encode a random sample of so many items' texts (default: all)")
    parser.add_argument("--encoder", default="minilm", help="as model.encoder.name (default: minilm, the packaged one)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="turns of each contender, after one to warm up (default 3)"
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown section, for docs/benchmarks.md")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils import logging

    asked = parse(arguments)
    logging.disable_progress_bar()
    print(machine_in_words())
    encoder = EncoderConfig(asked.encoder, Pooling.mean, max_length=256, precision=Precision.bf16)
    texts = texts_of(asked.dataset, asked.raw_dir)
    if asked.texts and asked.texts < len(texts):
        texts = [texts[i] for i in np.random.default_rng(0).choice(len(texts), asked.texts, replace=False)]
    distinct = sorted(set(texts))
    work = contenders(distinct, encoder)

    vectors = {name: encode() for name, encode in work.items()}
    cosines = {name: worst_cosine(found, vectors[DEFAULT]) for name, found in vectors.items()}
    counted = {name: partial(_count, encode) for name, encode in work.items()}
    flops = {name: executed(encode) for name, encode in counted.items()}

    folder, _ = weights.locate_weights(encoder.name)
    tokens = AutoTokenizer.from_pretrained(folder)(distinct, truncation=True, max_length=encoder.max_length)
    lengths = np.array([len(ids) for ids in tokens["input_ids"]])
    needed = needed_flops(AutoConfig.from_pretrained(folder), lengths)

    rates = {"fp32": measured_rate(torch.float32), "bf16": measured_rate(torch.bfloat16)}
    timings = in_turns(counted, asked.rounds)
    rates["fp32"] = max(rates["fp32"], measured_rate(torch.float32))
    rates["bf16"] = max(rates["bf16"], measured_rate(torch.bfloat16))
    print(f"machine: {number(rates['fp32'])} GFLOP/s in fp32, {number(rates['bf16'])} in bf16 (2048³ matrix product)")
    report(
        f"{len(distinct):,} distinct texts of {asked.dataset}, {number(float(lengths.mean()))} tokens on average",
        rows_of(timings, flops, needed, cosines, len(texts) / len(distinct), rates),
        asked.markdown,
    )


if __name__ == "__main__":
    main()
