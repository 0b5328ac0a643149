"""How time and memory grow with reviews.

    python scripts/bench_growth.py        needs 10 GB of disk

Reviews with texts and items with titles are made in the format of Amazon 2014. Each work on one size of data is
measured in a fresh process. An epoch is extrapolated from its first steps. Exponents are of seconds, between the two
largest sizes. The aim for `prepare` is at most 1.1.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bench_common import Measurement, machine_description, measure_in_fresh_process, number, print_table

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.tasks import ranking

REVIEWS, ITEMS = [1_000_000, 3_000_000, 10_000_000], 100_000
SHORTEST, MEAN = 3, 8.9  # interactions per user; the mean is Beauty's
WORDS, PHRASES, PHRASE = 5_000, 20_000, 12  # of reviews: the vocabulary, the phrases that texts consist of, their words
BATCH = 256  # sequences
STEPS, SECONDS = 200, 20.0  # of an epoch: no more steps, and after one none once these seconds have passed
USERS = 10_000  # evaluated


def interactions(n_users: int, n_items: int) -> pd.DataFrame:
    """Draw columns `user` and `item`, sorted by user; lengths are geometric, low item numbers are popular."""
    rng = np.random.default_rng(0)
    length = SHORTEST - 1 + rng.geometric(1 / (MEAN - SHORTEST + 1), n_users)
    user = np.repeat(np.arange(n_users, dtype=np.int32), length)
    return pd.DataFrame({"user": user, "item": (n_items * rng.random(len(user)) ** 2).astype(np.int32)})


def write_reviews(folder: Path, n_reviews: int, n_items: int) -> None:
    """Write `reviews.json` and `metadata.json` in the format of Amazon 2014: JSON lines, 0.4 kB a review.

    A text has three random phrases, and a title is half of one. Reviews are in the order of items, as in the official
    files, at random times.
    """
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(WORDS)])
    phrases = [" ".join(row) for row in words[(WORDS * rng.random((PHRASES, PHRASE)) ** 3).astype(np.int64)]]
    titles = [" ".join(phrase.split()[: PHRASE // 2]) for phrase in phrases]
    log = interactions(round(n_reviews / MEAN), n_items).sort_values("item", kind="stable")
    with (folder / "reviews.json").open("w", encoding="utf-8") as file:
        drawn = rng.integers([PHRASES, PHRASES, PHRASES, PHRASES, 100_000, 5], size=(len(log), 6))
        for user, item, row in zip(log["user"], log["item"], drawn, strict=True):
            a, b, c, d, hours, rating = row.tolist()
            file.write(
                f'{{"reviewerID": "A{user:013d}", "asin": "B{item:09d}", "reviewText": "{phrases[a]} {phrases[b]} '
                f'{phrases[c]}", "overall": {rating + 1}.0, "summary": "{titles[d]}", "unixReviewTime": '
                f"{10**9 + 3600 * hours}}}\n"
            )
    with (folder / "metadata.json").open("w", encoding="utf-8") as file:
        for item, phrase in zip(range(n_items), itertools.cycle(phrases), strict=False):
            record = {"asin": f"B{item:09d}", "title": f"{phrase} {item}", "categories": [["Made", f"word{item % 97}"]]}
            file.write(json.dumps(record) + "\n")


def job(folder: Path, model: str) -> Job:
    """Return a training run on the made reviews."""
    of_model = {
        "sasrec": ["model.hidden_size=64", "trainer.precision=fp32"],
        "unisrec": ["model.use_ids=false", "model.encoder.name=random", "model.encoder.dimension=256"],
    }
    files = ["dataset.domains.instruments.reviews=reviews.json", "+dataset.domains.instruments.metadata=metadata.json"]
    places = [f"dataset.raw_dir={folder}", f"paths.cache={folder / 'cache'}", "dataset.item_core=1"]
    typed = [f"model={model}", "dataset=amazon2014-musical-instruments", *of_model.get(model, [])]
    return Job.unchecked(compose([*typed, *files, *places]), "train")


def loading(folder: Path, model: str) -> Callable[[], object]:
    """Load the data with the items' texts; what is not in the cache is made."""
    own = job(folder, model)
    return lambda: stages.load(own)


def evaluating(folder: Path, model: str) -> Callable[[], object]:
    """Rank for USERS users with a model that is not trained, or a floor with its counting."""
    own = job(folder, model)
    split = stages.split_dataset(own, stages.load(own))
    scorer = stages.build(own, split)
    examples = split.examples(SplitName.test)[:USERS]
    return lambda: ranking.evaluate(scorer, split, examples, own.config)


def training(folder: Path, model: str) -> Callable[[], float]:
    """Return work that takes the first steps of an epoch, after one to warm up, and returns their share of it."""
    own = job(folder, model)
    network = stages.build(own, stages.split_dataset(own, stages.load(own)))
    rows = network.training_rows()
    order = np.random.default_rng(0).permutation(len(rows))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

    def step(i: int) -> None:
        optimiser.zero_grad()
        batch = rows.batch(0, order[(i * BATCH + np.arange(BATCH)) % len(order)].tolist())
        network(**batch)["loss"].backward()
        optimiser.step()

    def work() -> float:
        start, steps = time.perf_counter(), 0
        while steps < STEPS and (steps == 0 or time.perf_counter() - start < SECONDS):
            steps += 1
            step(steps)
        return steps / -(-len(rows) // BATCH)

    step(0)
    return work


WORKS: dict[str, tuple[Callable[..., Callable[[], object]], str]] = {
    "prepare": (loading, "unisrec"),
    "second start": (loading, "unisrec"),
    "popularity": (evaluating, "popularity"),
    "evaluation": (evaluating, "sasrec"),
    "epoch of sasrec": (training, "sasrec"),
    "epoch of unisrec": (training, "unisrec"),
}


def measured(n_reviews: int) -> dict[str, Measurement]:
    """Return each work on so many made reviews; an epoch's seconds are those of the whole."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        write_reviews(Path(folder), n_reviews, ITEMS)
        for work, (set_up, model) in WORKS.items():
            m = measure_in_fresh_process(set_up, Path(folder), model)
            seconds = m.seconds / m.returned if set_up is training else m.seconds
            results[work] = m._replace(seconds=seconds)
            print(f"{work}, {n_reviews:,} reviews: {number(seconds)} s", file=sys.stderr, flush=True)
    return results


def exponent(points: Sequence[tuple[int, float]]) -> float:
    """Return the exponent of seconds between the two largest of (size, seconds)."""
    (fewer, less), (more, longer) = sorted(points)[-2:]
    return float(np.log(longer / less) / np.log(more / fewer))


def main() -> None:
    print(machine_description())
    results = {n: measured(n) for n in REVIEWS}
    rows = []
    for work in WORKS:
        own = {n: by_work[work] for n, by_work in results.items()}
        cells = {f"{n:,} reviews": f"{number(m.seconds)} s, {number(m.added_mb)} MiB" for n, m in own.items()}
        growth = exponent([(n, m.seconds) for n, m in own.items()])
        rows.append({"work": work, **cells, "exponent": f"{growth:.2f}"})
    print_table(f"growth, {ITEMS:,} items", rows)


if __name__ == "__main__":
    main()
