"""How seconds and memory grow with the data: each number from a process of its own, on interactions drawn at random.

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
from alone import Measured, alone
from machine import machine_in_words, number, report
from synthetic import MEAN, dataset, interactions

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import DatasetConfig, SplitName
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.data.split import Split, leave_one_out
from llm4rec_cli.models import base
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.tasks import ranking
from llm4rec_cli.training.fit import fit

TIMES = (1, 4, 16)  # as many interactions
WIDER = 4  # times as many users in a batch
LINEAR = 1.15  # the highest exponent that passes for linear
VECTORS = 10  # the most fp32 vectors an item that pass for items × dim
FLAT = 0.05  # of what batch × items would take in fp32: the most that a larger batch may add

SetUp = Callable[[int, int], Callable[[], object]]  # of so many users and items: the work that is measured


@dataclass(frozen=True)
class Sizes:
    """How large the data are.

    Attributes:
        interactions: the fewest; TIMES multiplies them.
        items: where interactions grow.
        catalogues: where items grow.
        users: of a batch, where items grow.
    """

    interactions: int
    items: int
    catalogues: tuple[int, ...]
    users: int


FULL = Sizes(50_000, 2_000, (10_000, 100_000, 1_000_000), 64)
QUICK = Sizes(2_000, 100, (1_000, 10_000), 16)


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds, and the numbers in words."""

    holds: bool
    words: str

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'DOES NOT HOLD'}: {self.words}"


def composed() -> RunSpec:
    """SASRec at RecBole's default size, in fp32, one epoch."""
    overrides = [
        "model=sasrec",
        "model.hidden_size=64",
        "trainer=default",
        "trainer.precision=fp32",
        "trainer.epochs=1",
    ]
    return RunSpec.unchecked(compose(overrides), "train")


def built(spec: RunSpec, n_users: int, n_items: int) -> tuple[Split, Any]:
    """Data and a model with random weights."""
    split = leave_one_out(dataset(n_users, n_items))
    torch.manual_seed(0)
    context = base.Context(spec.model, split, 0, spec.cache, device="cpu")
    return split, base.build(context)


def preparation(n_users: int, n_items: int) -> Callable[[], object]:
    """From a raw file to a stored dataset, read again."""
    folder = tempfile.TemporaryDirectory()
    drawn = interactions(n_users, n_items)
    drawn.columns = ["user_id:token", "item_id:token"]
    drawn.to_csv(Path(folder.name) / "drawn.inter", sep="\t", index=False)
    config = DatasetConfig(
        name="synthetic",
        reader="recbole",
        domains={"drawn": {"interactions": "drawn.inter"}},
        raw_dir=folder.name,
        user_core=5,
        item_core=5,
    )
    return lambda: prepare(config, Path(folder.name) / "cache")


def epoch(n_users: int, n_items: int) -> Callable[[], object]:
    """One epoch by the Trainer, with its checkpoint, without validation."""
    spec = composed()
    _, model = built(spec, n_users, n_items)
    trainer = spec.config.trainer

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            checkpoints, log = Path(folder) / "checkpoints", Path(folder) / "log.jsonl"
            fit(model, model.training_rows(), lambda: 0.0, trainer, checkpoints, log, 0)

    return work


def step(n_users: int, n_items: int) -> Callable[[], object]:
    """One step of the optimiser on all users' sequences at once."""
    _, model = built(composed(), n_users, n_items)
    rows = model.training_rows()
    batch = rows.batch(0, list(range(len(rows))))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def work() -> None:
        model(**batch)["loss"].backward()
        optimiser.step()

    return work


def evaluation(n_users: int, n_items: int) -> Callable[[], object]:
    """Ranks, metrics, intervals and predictions."""
    spec = composed()
    split, model = built(spec, n_users, n_items)
    return lambda: ranking.evaluate(model, split, split.examples(SplitName.test), spec.config)


BY_INTERACTIONS: dict[str, SetUp] = {"prepare": preparation, "training epoch": epoch, "evaluation": evaluation}
BY_ITEMS: dict[str, SetUp] = {"training step": step, "evaluation": evaluation}


def linear(work: str, what: str, series: Mapping[int, Measured]) -> Verdict:
    """Time grows in proportion to `what`, or less: the exponent by least squares of the logarithms."""
    exponent = np.polyfit(np.log([*series]), np.log([m.seconds for m in series.values()]), 1)[0]
    return Verdict(exponent <= LINEAR, f"{work}: seconds ~ {what}^{exponent:.2f} (linear: at most {LINEAR})")


def items_by_dim(work: str, series: Mapping[int, Measured], dim: int) -> Verdict:
    """Memory grows by a few vectors an item, between the two largest catalogues."""
    fewer, more = sorted(series)[-2:]
    added = (series[more].peak_mb - series[fewer].peak_mb) * 2**20
    vectors = added / (more - fewer) / (4 * dim)
    return Verdict(vectors <= VECTORS, f"{work}: {vectors:.1f} fp32 vectors an item (at most {VECTORS})")


def flat_in_batch(work: str, narrow: Measured, wide: Measured, n_users: int, n_items: int) -> Verdict:
    """WIDER times n_users take next to no more memory."""
    added, product = wide.peak_mb - narrow.peak_mb, (WIDER - 1) * n_users * n_items * 4 / 2**20
    words = f"{work}: {WIDER * n_users} users at once for {n_users} add {number(max(added, 0))} MiB"
    limit = f"at most {100 * FLAT:.0f} % of the {number(product)} that users × items in fp32 would"
    return Verdict(added <= FLAT * product, f"{words} ({limit})")


def row(work: str, what: str, users: int, m: Measured) -> dict[str, str]:
    """One line of a table; memory in MiB, of the whole process and of what the work added to what was set up for it."""
    numbers = {"seconds": m.seconds, "peak MiB": m.peak_mb, "of it added by the work": m.peak_mb - m.before_mb}
    return {"work": work, "data": what, "users": f"{users:,}", **{k: number(v) for k, v in numbers.items()}}


def measured(name: str, set_up: SetUp, n_users: int, n_items: int) -> Measured:
    found = alone(set_up, n_users, n_items)
    print(f"{name}, {n_users:,} users, {n_items:,} items: {found.seconds:.1f} s", file=sys.stderr)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python scripts/bench_growth.py                 a few minutes on one core, 4 GB
  python scripts/bench_growth.py --quick         whether it runs: too small for its verdicts to mean much
Ends with status 1 where a claim does not hold.""",
    )
    parser.add_argument("--quick", action="store_true", help="tiny data")
    parser.add_argument("--markdown", action="store_true", help="print Markdown sections, for docs/benchmarks.md")
    asked = parser.parse_args(arguments)
    sizes = QUICK if asked.quick else FULL
    dim = composed().model.hidden_size  # type: ignore[attr-defined]
    print(machine_in_words())
    verdicts, rows = [], []

    for name, set_up in BY_INTERACTIONS.items():
        users = {times * sizes.interactions: round(times * sizes.interactions / MEAN) for times in TIMES}
        series = {n: measured(name, set_up, users[n], sizes.items) for n in users}
        rows += [row(name, f"{n:,} interactions", users[n], m) for n, m in series.items()]
        verdicts.append(linear(name, "interactions", series))
    report(f"interactions grow, {sizes.items:,} items", rows, asked.markdown)

    rows = []
    for name, set_up in BY_ITEMS.items():
        series = {n: measured(name, set_up, sizes.users, n) for n in sizes.catalogues}
        largest = sizes.catalogues[-1]
        wide = measured(name, set_up, WIDER * sizes.users, largest)
        rows += [row(name, f"{n:,} items", sizes.users, m) for n, m in series.items()]
        rows.append(row(name, f"{largest:,} items", WIDER * sizes.users, wide))
        verdicts += [
            linear(name, "items", series),
            items_by_dim(name, series, dim),
            flat_in_batch(name, series[largest], wide, sizes.users, largest),
        ]
    report(f"items grow, {dim}-d", rows, asked.markdown)

    print(*verdicts, sep="\n")
    return 0 if all(verdict.holds for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
