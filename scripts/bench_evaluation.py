"""How fast targets are ranked among the whole catalogue, against scoring all users at once, in turns in one run.

Scoring all at once is the plainest way: one (users × items) matrix of scores, `topk` of its rows, and comparisons
summed over them; `in batches` is the same for 256 users at a time, as libraries do. Ours (`tasks.ranking.rank`) takes
blocks of rows that stay in the cache, users of like history length side by side, and looks for the best items in the
blocks of columns that can hold them. All ask the same model, whose weights are random: speed does not depend on them.
`evaluate` is `rank` with metrics, bootstrap intervals and predictions.

Operations are those that matrix products need without padding; a share is of this machine's measured rate. Memory is
the peak of a process of its own for each number of users.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from alone import Measured, alone
from machine import Timing, in_turns, machine_in_words, measured_rate, number, report
from synthetic import dataset

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import quoted
from llm4rec_cli.config.schema import Config, SplitName
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split, leave_one_out
from llm4rec_cli.models import base
from llm4rec_cli.models.unisrec.model import UniSRec
from llm4rec_cli.runs import stages
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.tasks import ranking

SIZES = {
    "sasrec": ["model.hidden_size=64"],  # RecBole's own default
    "unisrec": [],  # as shipped: 300-d
}
TEXT_SIZE = 384  # of MiniLM's vectors; here they are random
BEAUTY = 22_363, 12_101  # users and items of Amazon Beauty 5-core
AT_ONCE, IN_BATCHES, RANK, EVALUATE = "all users at once", "in batches", "rank", "evaluate"
SHARES = (0.25, 0.5, 1.0)  # of the users, for peaks of memory


def composed(model: str, dataset_name: str | None, raw_dir: str | None, overrides: Sequence[str]) -> RunSpec:
    """The config that `llm4rec eval` would compose; the demo's stands in for synthetic data."""
    chosen = [f"model={model}", f"dataset={dataset_name or 'demo'}", "task.mask_history=true", *SIZES[model]]
    at = [f"dataset.raw_dir={quoted(raw_dir)}"] if raw_dir else []
    return RunSpec.unchecked(compose([*chosen, *at, *overrides]), "eval")


def loaded(spec: RunSpec, synthetic: tuple[int, int] | None) -> Split:
    """The config's dataset, or a synthetic one of so many users and items."""
    if synthetic:
        return leave_one_out(dataset(*synthetic))
    return leave_one_out(stages.load(spec))


def built(spec: RunSpec, split: Split) -> Any:
    """The model with random weights, and random text vectors where it reads any."""
    torch.manual_seed(spec.config.seed)
    context = base.Context(spec.model, split, spec.config.seed, spec.cache, device="cpu")
    if spec.model.name == "unisrec":
        return UniSRec(context.config, torch.randn(split.n_items, TEXT_SIZE), context).eval()
    return base.build(context).eval()


def all_at_once(model: Any, asked: Examples, mask_history: bool, top_items: int) -> tuple[IntArray, IntArray, IntArray]:
    """n_better, n_tied and top items as in `ranking.Ranking`, from one matrix of all scores."""
    scores = model.score(asked)
    rows, target = torch.arange(len(asked)), torch.from_numpy(asked.target).long()
    wanted = scores[rows, target]
    if mask_history:
        flat, offsets = asked.histories()
        scores[rows.repeat_interleave(torch.from_numpy(np.diff(offsets))), torch.from_numpy(flat).long()] = -torch.inf
        scores[rows, target] = wanted
    n_better = (scores > wanted[:, None]).sum(1)
    n_tied = (scores == wanted[:, None]).sum(1)
    return n_better.numpy(), n_tied.numpy(), scores.topk(top_items).indices.numpy()


def contenders(model: Any, split: Split, asked: Examples, config: Config) -> dict[str, Callable[[], float]]:
    """Each ranks all users and returns how many they are."""
    task, batch_size = config.task, config.trainer.eval_batch_size

    def counted(work: Callable[[], object]) -> Callable[[], float]:
        def ranked() -> float:
            model.eval()  # as `rank` does: UniSRec adapts its catalogue anew, in every turn
            work()
            return len(asked)

        return ranked

    def in_batches() -> None:
        for start in range(0, len(asked), batch_size):
            all_at_once(model, asked[slice(start, start + batch_size)], task.mask_history, task.top_items)

    return {
        AT_ONCE: counted(lambda: all_at_once(model, asked, task.mask_history, task.top_items)),
        IN_BATCHES: counted(in_batches),
        RANK: counted(lambda: ranking.rank(model, asked, task.mask_history, task.top_items, batch_size)),
        EVALUATE: counted(lambda: ranking.evaluate(model, split, asked, config)),
    }


def needed_flops(model: Any, lengths: IntArray, n_items: int, text_size: int = 0) -> float:
    """Floating-point operations in matrix products that ranking one user needs, without padding, on average.

    The top layer needs keys and values of all items of a history, and the rest for the last one alone.

    Args:
        model: its config.
        lengths: (n,) items of each history, at most `max_length`.
        text_size: of a text vector, adapted once for all users; 0 = no adaptor.
    """
    h, n = model.hidden_size, lengths.astype(np.float64)
    token = 8 * h**2 + 4 * h * model.inner_size
    below = (model.layers - 1) * (token * n + 4 * h * n * (n + 1) / 2)
    top = 4 * h**2 * n + (token - 4 * h**2) + 4 * h * n
    adaptor = 2 * n_items * text_size * model.experts * (h + 1) if text_size else 0  # whitening, and the gate
    return float((below + top + 2 * h * n_items).mean() + adaptor / len(lengths))


def speed_rows(timings: dict[str, Timing], needed: float, rate: float) -> list[dict[str, str]]:
    """The table: one row a contender. `rate` is the machine's, in GFLOP/s."""
    return [
        {
            "ranking": name,
            "users/s: median (min–max)": str(timing),
            "times": number(timing.median / timings[AT_ONCE].median),
            "MFLOP a user: needed": number(needed / 1e6),
            "GFLOP/s": number(timing.median * needed / 1e9),
            "of the machine's": f"{100 * timing.median * needed / 1e9 / rate:.0f} %",
        }
        for name, timing in timings.items()
    ]


def set_up_memory(
    contender: str,
    share: float,
    model: str,
    dataset_name: str | None,
    raw_dir: str | None,
    overrides: Sequence[str],
    synthetic: tuple[int, int] | None,
) -> Callable[[], object]:
    """One contender on a share of the users, ready."""
    spec = composed(model, dataset_name, raw_dir, overrides)
    split = loaded(spec, synthetic)
    asked = split.examples(SplitName.test)
    some = asked[: round(share * len(asked))]
    return contenders(built(spec, split), split, some, spec.config)[contender]


def memory_rows(peaks: dict[tuple[str, float], Measured], n_users: int) -> list[dict[str, str]]:
    """One row a contender; peaks in MiB of what the work added to Python, torch, the data and the model."""
    return [
        {
            "peak MiB, added": contender,
            **{
                f"{round(share * n_users):,} users": number(m.peak_mb - m.before_mb)
                for (c, share), m in peaks.items()
                if c == contender
            },
        }
        for contender in dict.fromkeys(c for c, _ in peaks)
    ]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python scripts/bench_evaluation.py                                  random data of Beauty's size, needs no file
  python scripts/bench_evaluation.py --dataset amazon2014-beauty --raw-dir PATH --models sasrec --markdown
Run it on a quiet machine. OMP_NUM_THREADS sets the threads, of all contenders and of the measured rate alike.""",
    )
    parser.add_argument("overrides", nargs="*", help="of the config, as for llm4rec eval, e.g. task.mask_history=false")
    parser.add_argument("--dataset", help="a dataset of conf/dataset (default: a synthetic one)")
    parser.add_argument("--raw-dir", help="the folder of its raw files")
    parser.add_argument(
        "--synthetic", nargs=2, type=int, default=BEAUTY, metavar=("USERS", "ITEMS"), help="size of the synthetic one"
    )
    parser.add_argument("--models", nargs="+", choices=sorted(SIZES), default=list(SIZES), help="default: both")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each, after one to warm up (default 5)")
    parser.add_argument("--no-memory", action="store_true", help="leave out peaks of memory")
    parser.add_argument("--markdown", action="store_true", help="print Markdown sections, for docs/benchmarks.md")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    asked_for = parse(arguments)
    synthetic = None if asked_for.dataset else tuple(asked_for.synthetic)
    print(machine_in_words())
    for name in asked_for.models:
        data = asked_for.dataset, asked_for.raw_dir, asked_for.overrides
        spec = composed(name, *data)
        config, split = spec.config, loaded(spec, synthetic)
        model, asked = built(spec, split), split.examples(SplitName.test)
        before = measured_rate(torch.float32)
        timings = in_turns(contenders(model, split, asked, config), asked_for.rounds)
        rate = max(before, measured_rate(torch.float32))
        print(f"machine: {number(rate)} GFLOP/s in fp32 (2048³ matrix product)")
        lengths = np.minimum(asked.history_length, config.model.max_length)
        needed = needed_flops(config.model, lengths, split.n_items, TEXT_SIZE if name == "unisrec" else 0)
        where = f"{asked_for.dataset or 'synthetic data'}: {len(asked):,} users, {split.n_items:,} items"
        title = f"{name}, {config.model.hidden_size}-d, on {where}"
        report(title, speed_rows(timings, needed, rate), asked_for.markdown)
        if not asked_for.no_memory:
            peaks = {
                (contender, share): alone(set_up_memory, contender, share, name, *data, synthetic)
                for contender in (AT_ONCE, RANK)
                for share in SHARES
            }
            report(f"{name}: memory", memory_rows(peaks, len(asked)), asked_for.markdown)


if __name__ == "__main__":
    main()
