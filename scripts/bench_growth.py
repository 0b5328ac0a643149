"""How time and memory grow with reviews, items and impressions.

Reviews with texts and items with titles are made in the format of Amazon 2014, as plain JSON lines, and a click log in
MIND's. Each cell of the tables, a work on one size of data, is measured in a fresh process and written to a JSON file.
Cells that are in the file are not measured again. An epoch is extrapolated from its first steps. At a million items
the losses of `sasrec` are sampled. `unisrec` reads random vectors of 256 dimensions in place of an encoder's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from bench_common import machine_description, number, print_table
from fresh_process import measure_in_fresh_process
from synthetic import write_click_log, write_reviews

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.files import fill_once, write_json
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.tasks import ranking

REVIEWS = [1_000_000, 3_000_000, 10_000_000]  # the first while items grow
ITEMS = [10_000, 100_000, 1_000_000]  # the middle one while reviews grow
IMPRESSIONS = 2_200_000  # mind-large's training part; a sixth as many are added for its dev part
SAMPLED_FROM = 1_000_000  # items, from which on sasrec samples its losses
BATCH = 256  # sequences
STEPS, SECONDS = 200, 20.0  # of an epoch: no more steps, and after one none once these seconds have passed
USERS = 10_000  # evaluated

SetUp = Callable[..., Callable[[], object]]


class Cell(NamedTuple):
    work: str
    rows: int  # reviews, or impressions
    items: int

    @property
    def name(self) -> str:
        return f"{self.work}/{self.rows}/{self.items}"


def job(folder: Path, n_items: int, model: str) -> Job:
    """Return a training run on the made reviews."""
    sampled = ["model.loss=sampled_softmax", "model.negatives=256"] if n_items >= SAMPLED_FROM else []
    of_model = {
        "sasrec": ["model.hidden_size=64", "trainer.precision=fp32", *sampled],
        "unisrec": ["model.use_ids=false", "model.encoder.name=random", "model.encoder.dimension=256"],
    }
    files = ["dataset.domains.instruments.reviews=reviews.json", "+dataset.domains.instruments.metadata=metadata.json"]
    places = [f"dataset.raw_dir={folder}", f"paths.cache={folder / 'cache'}", "dataset.item_core=1"]
    typed = [f"model={model}", "dataset=amazon2014-musical-instruments", *of_model.get(model, [])]
    return Job.unchecked(compose([*typed, *files, *places]), "train")


def click_log(folder: Path, n_items: int) -> Callable[[], object]:
    """Prepare the click log."""
    own = Job.unchecked(compose(["dataset=mind-large", f"dataset.raw_dir={folder}"]), "prepare")
    return lambda: prepare(own.config.dataset, folder / "cache")


def loading(folder: Path, n_items: int) -> Callable[[], object]:
    """Load the data with the items' texts; what is not in the cache is made."""
    own = job(folder, n_items, "unisrec")
    return lambda: stages.load(own)


def splitting(folder: Path, n_items: int) -> Callable[[], object]:
    own = job(folder, n_items, "sasrec")
    dataset = stages.load(own)
    return lambda: stages.split_dataset(own, dataset)


def evaluating(folder: Path, n_items: int, model: str) -> Callable[[], object]:
    own = job(folder, n_items, model)
    split = stages.split_dataset(own, stages.load(own))
    scorer = stages.build(own, split)
    examples = split.examples(SplitName.test)[:USERS]
    return lambda: ranking.evaluate(scorer, split, examples, own.config)


def training(folder: Path, n_items: int, model: str) -> Callable[[], dict[str, int]]:
    """Return work that takes the first steps of an epoch, after one to warm up, and says how many of how many."""
    own = job(folder, n_items, model)
    network = stages.build(own, stages.split_dataset(own, stages.load(own)))
    rows = network.training_rows()
    order = np.random.default_rng(0).permutation(len(rows))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

    def step(i: int) -> None:
        optimiser.zero_grad()
        batch = rows.batch(0, order[(i * BATCH + np.arange(BATCH)) % len(order)].tolist())
        network(**batch)["loss"].backward()
        optimiser.step()

    def work() -> dict[str, int]:
        start, steps = time.perf_counter(), 0
        while steps < STEPS and (steps == 0 or time.perf_counter() - start < SECONDS):
            steps += 1
            step(steps)
        return {"steps": steps, "epoch": -(-len(rows) // BATCH)}

    step(0)
    return work


CLICK_LOG = "click log"
WORKS: dict[str, tuple[SetUp, list[str], str]] = {  # function, its last arguments, what it is
    "prepare": (loading, [], "hash, read, filter, sort and store reviews and item texts"),
    "second start": (loading, [], "load what is stored, after Python's imports"),
    "split": (splitting, [], "leave-one-out"),
    **{floor: (evaluating, [floor], f"rank for {USERS:,} users") for floor in ("popularity", "next_id")},
    "evaluation": (evaluating, ["sasrec"], f"sasrec ranks for {USERS:,} users"),
    **{model: (training, [model], f"an epoch, {BATCH} sequences a step") for model in ("sasrec", "unisrec")},
}


def cells(reviews: Sequence[int], items: Sequence[int], impressions: int) -> list[Cell]:
    """Return the cells, those of small data first."""
    sizes = {(n, items[len(items) // 2]) for n in reviews} | {(reviews[0], n) for n in items}
    log = Cell(CLICK_LOG, impressions, items[len(items) // 2])
    in_order = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return [log, *(Cell(work, *size) for size in in_order for work in WORKS)]


def measured(cell: Cell, folder: Path) -> dict[str, Any]:
    """Return what is written of a cell; the data are made if they are not in the folder."""
    is_log = cell.work == CLICK_LOG
    set_up, arguments, _ = (click_log, [], "") if is_log else WORKS[cell.work]
    write = write_click_log if is_log else write_reviews
    fill_once(folder, lambda aside: write(aside, cell.rows, cell.items))
    if is_log or cell.work == "prepare":
        shutil.rmtree(folder / "cache", ignore_errors=True)
    elif not (folder / "cache").exists():
        measure_in_fresh_process(loading, folder, cell.items)
    m = measure_in_fresh_process(set_up, folder, cell.items, *arguments)
    seconds = m.seconds * m.notes.get("epoch", 1) / m.notes.get("steps", 1)
    memory = {"private_mb": m.private_mb, "peak_mb": m.peak_mb}
    return {"seconds": seconds, **memory, **m.notes, "machine": machine_description()}


def series(records: dict[str, Any], work: str, by: str, fixed: dict[str, int]) -> list[tuple[int, Any]]:
    """Return (size, record) of the cells of a work in which `by` (rows or items) grows, in the order of size."""
    points = []
    for name, record in records.items():
        own, rows, items = name.split("/")
        size = {"rows": int(rows), "items": int(items)}
        if own == work and all(size[other] == n for other, n in fixed.items() if other != by):
            points.append((size[by], record))
    return sorted(points, key=lambda point: point[0])


def exponent(points: Sequence[tuple[int, Any]]) -> float:
    """Return the exponent of seconds between the two largest sizes."""
    (fewer, less), (more, longer) = points[-2:]
    return float(np.log(longer["seconds"] / less["seconds"]) / np.log(more / fewer))


def show(records: dict[str, Any], fixed: dict[str, int]) -> None:
    """Print a table for each quantity that grows, and that of the click log."""
    print(*dict.fromkeys(record["machine"] for record in records.values()), "", sep="\n")
    for by, other in (("rows", "items"), ("items", "rows")):
        table = []
        every = sorted({size for work in WORKS for size, _ in series(records, work, by, fixed)})
        for work, (*_, words) in WORKS.items():
            if points := series(records, work, by, fixed):
                seconds = {size: number(record["seconds"]) for size, record in points}
                sizes = {f"{size:,}": seconds.get(size, "") for size in every}
                growth = f"{exponent(points):.2f}" if len(points) > 1 else ""
                steps = "/".join(str(record["steps"]) for _, record in points if "steps" in record)
                memory = "/".join(number(record["private_mb"]) for _, record in points)
                what = f"{words}; extrapolated from {steps} steps" if steps else words
                table.append({"work": work, "what": what, **sizes, "exponent": growth, "private MiB": memory})
        if table:
            title = f"{_of(by)} grow, {fixed[other]:,} {_of(other)}: seconds, and peak private memory"
            print_table(title, table)
    for name, record in records.items():
        work, rows, items = name.split("/")
        if work == CLICK_LOG:
            memory = f"{number(record['seconds'])} s, {number(record['private_mb'])} MiB private"
            print(f"click log of {int(rows):,} + {int(rows) // 6:,} impressions, {int(items):,} news: {memory}")


def _of(by: str) -> str:
    return "reviews" if by == "rows" else by


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python scripts/bench_growth.py growth.json                           25 minutes on two cores, 20 GB of memory and disk
  python scripts/bench_growth.py growth.json --only 'prepare/*' 'second start/*'
  python scripts/bench_growth.py tiny.json --reviews 1500 3000 --items 50 --impressions 500
Data are made in a folder beside the JSON file, and deleted when their cells are measured.""",
    )
    parser.add_argument("json", type=Path, help="file of the cells: what it has is not measured again")
    parser.add_argument("--only", nargs="*", default=["*"], metavar="PATTERN", help="cells, as WORK/ROWS/ITEMS")
    parser.add_argument("--reviews", type=int, nargs="+", default=REVIEWS, help="numbers of reviews")
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS, help="numbers of items")
    parser.add_argument("--impressions", type=int, default=IMPRESSIONS, help="training impressions of the click log")
    options = parser.parse_args(arguments)
    records = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
    wanted = [
        cell
        for cell in cells(options.reviews, options.items, options.impressions)
        if cell.name not in records and any(fnmatch(cell.name, pattern) for pattern in options.only)
    ]
    for i, cell in enumerate(wanted):
        start = time.perf_counter()
        kind = "click-log" if cell.work == CLICK_LOG else "reviews"
        folder = options.json.with_suffix("").absolute() / f"{kind}-{cell.rows}-{cell.items}"
        try:
            records[cell.name] = measured(cell, folder)
            write_json(options.json, records)
            result = f"{number(records[cell.name]['seconds'])} s"
        except BrokenProcessPool:
            result = "its process was killed, as when memory does not suffice"
        print(f"{cell.name}: {result}, took {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        if cell[1:] not in [later[1:] for later in wanted[i + 1 :]] or cell.work == CLICK_LOG:
            shutil.rmtree(folder)
    fixed = {"rows": options.reviews[0], "items": options.items[len(options.items) // 2]}
    show(records, fixed)


if __name__ == "__main__":
    main()
