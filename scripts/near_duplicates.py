"""Where a gain lies: the slices of `inspect result`, and near-duplicates by TF-IDF and by a frozen text encoder.

By a measure, a target is a near-duplicate if the most similar other item of its history is very similar: the n most
similar targets count, where n is the size of the slice `near_duplicate`, which compares words of titles. For each slice
the script prints the number of targets, both means, and the absolute contribution to the difference of means over all
targets, with its 95 % interval over users and seeds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision, SplitName
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.results import tables
from llm4rec_cli.results.pairing import pair_runs
from llm4rec_cli.results.results import Results, named_results
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.text.features import encode_texts
from llm4rec_cli.text.vectors import Tfidf
from llm4rec_studies.inspection.audit import parts_of_gain

EXAMPLE = """example:
  python scripts/near_duplicates.py UNISREC_RUN RULE_RUN dataset=amazon2018-scientific dataset.raw_dir=PATH"""
WORDS, METRIC = "near_duplicate", "ndcg@10"
ENCODER = EncoderConfig("minilm", Pooling.mean, 256, Precision.bf16)


def most_similar(examples: Examples, vectors: NDArray[np.float32] | csr_array) -> NDArray[np.float32]:
    """Return (n,) the highest inner product of a target with another item of its history; -1 without such an item."""
    flat, offsets = examples.histories()
    row = np.repeat(np.arange(len(examples)), np.diff(offsets))
    target = examples.target[row]
    pairs = vectors[target] * vectors[flat]
    similarity = np.asarray(pairs.sum(axis=1), dtype=np.float32)
    similarity[target == flat] = -1
    result = np.full(len(examples), -1, dtype=np.float32)
    np.maximum.at(result, row, similarity)
    return result


def similarities(overrides: list[str]) -> pd.DataFrame:
    """Return user_id, target, and the similarity of each test target by measure, ordered by user and target."""
    job = Job.resolve(compose(["model=transition_text", "task=sequential", *overrides]), "train")
    split = stages.split_dataset(job, stages.load(job)).for_ranking()
    examples = split.examples(SplitName.test)
    vectors = encode_texts(split.dataset.texts, ENCODER, job.cache, "cpu").numpy()
    columns = {
        "TF-IDF": most_similar(examples, Tfidf(split.dataset.texts).catalogue),
        ENCODER.name: most_similar(examples, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)),
    }
    users, items = split.dataset.user_ids[examples.user], split.dataset.items["item_id"].to_numpy()[examples.target]
    return pd.DataFrame({"user_id": users, "target": items, **columns}).sort_values(["user_id", "target"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a finished run; all seeds of its variant count")
    parser.add_argument("over", help="the run that it is compared with")
    parser.add_argument("overrides", nargs="*", help="of the dataset, as in the runs")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    arguments = parser.parse_intermixed_args()
    by_variant = Results.under(arguments.outputs).by_variant()
    named = named_results([arguments.run, arguments.over], arguments.outputs)
    b, a = ([*by_variant[run.variant].values()] for run in named)
    paired = pair_runs(a, b, [METRIC])
    measured = similarities(arguments.overrides)
    if not np.array_equal(measured["user_id"].to_numpy(), paired.user):
        raise SystemExit("the runs are not of these data: type the dataset overrides of the runs")
    n, slices = int(paired.slices[WORDS].sum()), dict(paired.slices)
    for measure in measured.columns[2:]:
        inside = np.zeros(len(measured), dtype=bool)
        inside[np.argsort(-measured[measure].to_numpy(), kind="stable")[:n]] = True
        slices[f"{WORDS}, {measure}"] = inside
    slices |= {f"not {name}": ~inside for name, inside in slices.items() if name.startswith(WORDS)}
    rows = []
    for part in parts_of_gain(replace(paired, slices=slices), METRIC):
        low, high = part.interval
        contribution = f"{part.gain:+.4f} ({low:+.4f} to {high:+.4f})"
        rows.append([part.name, f"{part.n:,}", f"{part.b:.4f}", f"{part.a:.4f}", contribution])
    title = f"{METRIC} of {b[0].shown_as} ({len(b)}) and {a[0].shown_as} ({len(a)})"
    tables.show(tables.Content(title, ["slice", "n", "run", "over", "contribution (95 % CI)"], rows, []))


if __name__ == "__main__":
    main()
