"""How time and memory grow with the data. Each number is measured in a fresh process, on random interactions.

Claims, each checked at the end:
- preparing data, a training epoch and an evaluation take time linear in the number of interactions;
- a training step and an evaluation take time linear in the number of items;
- their memory grows with items × dim (weights, gradients, the optimiser's moments), never with batch × items.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_common import Verdict, machine_description, number, print_table
from fresh_process import Measurement, measure_in_fresh_process
from synthetic import MEAN, dataset, interactions

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import DatasetConfig, SplitName
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.data.split import Split, leave_one_out
from llm4rec_cli.models import base
from llm4rec_cli.run.fit import fit
from llm4rec_cli.run.job import Job
from llm4rec_cli.tasks import ranking

MULTIPLES = (1, 4, 16)  # of the smallest number of interactions
WIDER = 4  # factor by which the number of users in a batch grows
LINEAR = 1.25  # the highest exponent that counts as linear: larger data leave the cache
WARM_UP = (500, 500)  # users and items of a first call, untimed, in the same process
VECTORS = 10  # the most fp32 vectors per item that count as items × dim
FLAT = 0.05  # the most that a larger batch may add, as a share of a batch × items matrix in fp32

SetUp = Callable[[int, int], Callable[[], object]]  # (users, items) -> the work to measure


@dataclass(frozen=True)
class Sizes:
    """Sizes of the data.

    Attributes:
        interactions: the smallest number, multiplied by MULTIPLES.
        items: in the catalogue while interactions grow.
        catalogues: numbers of items while items grow.
        users: in a batch while items grow.
    """

    interactions: int
    items: int
    catalogues: tuple[int, ...]
    users: int


FULL = Sizes(50_000, 2_000, (10_000, 100_000, 1_000_000), 64)
QUICK = Sizes(2_000, 100, (1_000, 10_000), 16)


def sasrec_job() -> Job:
    """Return a training run of SASRec at RecBole's default size, in fp32, for one epoch."""
    trainer = ["trainer=default", "trainer.precision=fp32", "trainer.epochs=1"]
    return Job.unchecked(compose(["model=sasrec", "model.hidden_size=64", *trainer]), "train")


def synthetic_model(job: Job, n_users: int, n_items: int) -> tuple[Split, Any]:
    """Return random data and a model with random weights."""
    split = leave_one_out(dataset(n_users, n_items))
    torch.manual_seed(0)
    context = base.Context(job.model, split, 0, job.cache, device="cpu")
    return split, base.build(context)


def preparation(n_users: int, n_items: int) -> Callable[[], object]:
    """Prepare a raw file, store the dataset, and read it again."""
    folder = tempfile.TemporaryDirectory()
    log = interactions(n_users, n_items)
    log.columns = ["user_id:token", "item_id:token"]
    log.to_csv(Path(folder.name) / "random.inter", sep="\t", index=False)
    config = DatasetConfig(
        name="synthetic",
        reader="recbole",
        domains={"random": {"interactions": "random.inter"}},
        raw_dir=folder.name,
        user_core=5,
        item_core=5,
    )
    return lambda: prepare(config, Path(folder.name) / "cache")


def epoch(n_users: int, n_items: int) -> Callable[[], object]:
    """Train for one epoch with its checkpoint, without validation."""
    job = sasrec_job()
    _, model = synthetic_model(job, n_users, n_items)
    trainer = job.config.trainer

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            checkpoints, log = Path(folder) / "checkpoints", Path(folder) / "log.jsonl"
            fit(model, model.training_rows(), lambda: 0.0, trainer, checkpoints, log, 0)

    return work


def step(n_users: int, n_items: int) -> Callable[[], object]:
    """Take one step of the optimiser on all users' sequences at once."""
    _, model = synthetic_model(sasrec_job(), n_users, n_items)
    rows = model.training_rows()
    batch = rows.batch(0, list(range(len(rows))))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def work() -> None:
        model(**batch)["loss"].backward()
        optimiser.step()

    return work


def evaluation(n_users: int, n_items: int) -> Callable[[], object]:
    """Compute ranks, metrics, intervals and predictions."""
    job = sasrec_job()
    split, model = synthetic_model(job, n_users, n_items)
    return lambda: ranking.evaluate(model, split, split.examples(SplitName.test), job.config)


BY_INTERACTIONS: dict[str, SetUp] = {"prepare": preparation, "training epoch": epoch, "evaluation": evaluation}
BY_ITEMS: dict[str, SetUp] = {"training step": step, "evaluation": evaluation}


def linear(work: str, quantity: str, series: Mapping[int, Measurement]) -> Verdict:
    """Check that time grows no faster than linearly in `quantity`, between the two largest sizes: smaller ones have a
    share of fixed cost."""
    fewer, more = sorted(series)[-2:]
    exponent = np.log(series[more].seconds / series[fewer].seconds) / np.log(more / fewer)
    return Verdict(exponent <= LINEAR, f"{work}: seconds ~ {quantity}^{exponent:.2f} (exponent at most {LINEAR})")


def items_by_dim(work: str, series: Mapping[int, Measurement], dim: int) -> Verdict:
    """Check that memory grows by a few vectors per item between the two largest catalogues."""
    fewer, more = sorted(series)[-2:]
    added = (series[more].peak_mb - series[fewer].peak_mb) * 2**20
    vectors = added / (more - fewer) / (4 * dim)
    return Verdict(vectors <= VECTORS, f"{work}: {vectors:.1f} fp32 vectors per item (at most {VECTORS})")


def flat_in_batch(work: str, narrow: Measurement, wide: Measurement, n_users: int, n_items: int) -> Verdict:
    """Check that WIDER times n_users take hardly more memory."""
    added, product = wide.peak_mb - narrow.peak_mb, (WIDER - 1) * n_users * n_items * 4 / 2**20
    details = f"{work}: {WIDER * n_users} instead of {n_users} users at once add {number(max(added, 0))} MiB"
    aim = f"at most {100 * FLAT:.0f} % of the {number(product)} MiB of a users × items matrix in fp32"
    return Verdict(added <= FLAT * product, f"{details} ({aim})")


def row(work: str, data: str, users: int, m: Measurement) -> dict[str, str]:
    """Return one row of a table; the peak is of the whole process, of which the work added a part."""
    numbers = {"seconds": m.seconds, "peak MiB": m.peak_mb, "added MiB": m.added_mb}
    return {"work": work, "data": data, "users": f"{users:,}", **{k: number(v) for k, v in numbers.items()}}


def warmed_up(set_up: SetUp, n_users: int, n_items: int) -> Callable[[], object]:
    """Return the work on this data, after the same on small data."""
    set_up(*WARM_UP)()
    return set_up(n_users, n_items)


def measure(name: str, set_up: SetUp, n_users: int, n_items: int) -> Measurement:
    measurement = measure_in_fresh_process(warmed_up, set_up, n_users, n_items)
    print(f"{name}, {n_users:,} users, {n_items:,} items: {measurement.seconds:.1f} s", file=sys.stderr)
    return measurement


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python scripts/bench_growth.py                 a few minutes on one core, 4 GB
  python scripts/bench_growth.py --quick         a quick check: too small for meaningful verdicts
Exits with status 1 if a claim fails.""",
    )
    parser.add_argument("--quick", action="store_true", help="tiny data")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    dim = sasrec_job().model.hidden_size  # type: ignore[attr-defined]
    print(machine_description())
    verdicts, rows = [], []

    for name, set_up in BY_INTERACTIONS.items():
        users = {times * sizes.interactions: round(times * sizes.interactions / MEAN) for times in MULTIPLES}
        series = {n: measure(name, set_up, users[n], sizes.items) for n in users}
        rows += [row(name, f"{n:,} interactions", users[n], m) for n, m in series.items()]
        verdicts.append(linear(name, "interactions", series))
    print_table(f"interactions grow, {sizes.items:,} items", rows)

    rows = []
    for name, set_up in BY_ITEMS.items():
        series = {n: measure(name, set_up, sizes.users, n) for n in sizes.catalogues}
        largest = sizes.catalogues[-1]
        wide = measure(name, set_up, WIDER * sizes.users, largest)
        rows += [row(name, f"{n:,} items", sizes.users, m) for n, m in series.items()]
        rows.append(row(name, f"{largest:,} items", WIDER * sizes.users, wide))
        verdicts += [
            linear(name, "items", series),
            items_by_dim(name, series, dim),
            flat_in_batch(name, series[largest], wide, sizes.users, largest),
        ]
    print_table(f"items grow, {dim}-d", rows)

    print(*verdicts, sep="\n")
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
