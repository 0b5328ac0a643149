"""How fast targets are ranked in the whole catalogue, compared with scoring all users at once.

- `all users at once`: one (users × items) score matrix, `topk` of its rows, and comparisons summed over them.
- `rank`: ours (`tasks.ranking.rank`), in batches and blocks.
- `evaluate`: `rank` with metrics, bootstrap intervals and predictions.

All use SASRec in RecBole's size with random weights, which do not affect speed. Contenders take turns in one run. Peak
memory is measured in a fresh process for each number of users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from bench_common import (
    interactions,
    machine_description,
    measure_in_fresh_process,
    memory_rows,
    option_parser,
    print_table,
    run_job,
    speed_rows,
    time_in_turns,
)

from llm4rec_cli import processes
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.split import Split, leave_one_out
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.tasks import ranking

SIZE = ["model=sasrec", "model.hidden_size=64", "task.mask_history=true"]
BEAUTY = 22_363, 12_101  # users and items of Amazon Beauty 5-core
AT_ONCE, RANK, EVALUATE = "all users at once", "rank", "evaluate"
SHARES = (0.25, 0.5, 1.0)  # of the users, for peak memory


def random_dataset(n_users: int, n_items: int) -> RecDataset:
    """Return random interactions with items that have no text."""
    log = interactions(n_users, n_items)
    return RecDataset(
        items=pd.DataFrame({"item_id": np.arange(n_items).astype(str), "text": ""}),
        interactions=log,
        user_ids=np.arange(n_users).astype(str).astype(object),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(log["user"], minlength=n_users))]),
        manifest={"name": "random", "fingerprint": "", "synthetic": True, "split": {"rule": "leave_one_out"}},
    )


def set_up(
    dataset: str | None, raw_dir: str | None, overrides: Sequence[str], size: tuple[int, int]
) -> tuple[Job, Split, Any]:
    """Return what `llm4rec eval` would run on a dataset, or on a random one of this size, with a random model."""
    job = run_job("eval", dataset or "demo", raw_dir, *SIZE, *overrides)
    split = leave_one_out(stages.load(job) if dataset else random_dataset(*size))
    return job, split, stages.build(job, split).eval()


def rank_at_once(
    model: Any, examples: Examples, mask_history: bool, top_items: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Return n_better, n_tied and top items as in `ranking.Ranking`, from one matrix of all scores."""
    scores = model.score(examples)
    rows, target = torch.arange(len(examples)), torch.from_numpy(examples.target).long()
    target_scores = scores[rows, target]
    if mask_history:
        flat, offsets = examples.histories()
        scores[rows.repeat_interleave(torch.from_numpy(np.diff(offsets))), torch.from_numpy(flat).long()] = -torch.inf
        target_scores = scores[rows, target]
    n_better = (scores > target_scores[:, None]).sum(1)
    n_tied = (scores == target_scores[:, None]).sum(1)
    missed = target_scores == -torch.inf  # the target is in the masked history
    n_better[missed], n_tied[missed] = (scores > -torch.inf).sum(1)[missed] - 1, 0
    return n_better.numpy(), n_tied.numpy(), scores.topk(top_items).indices.numpy()


def contenders(job: Job, split: Split, model: Any, examples: Examples) -> dict[str, Callable[[], object]]:
    task, batch_size = job.config.task, job.config.trainer.eval_batch_size
    return {
        AT_ONCE: lambda: rank_at_once(model, examples, task.masked, task.top_items),
        RANK: lambda: ranking.rank(model, examples, task.masked, task.top_items, batch_size),
        EVALUATE: lambda: ranking.evaluate(model, split, examples, job.config),
    }


def set_up_memory(contender: str, share: float, *arguments: Any) -> Callable[[], object]:
    """Return one contender, ready to rank a share of the users."""
    job, split, model = set_up(*arguments)
    examples = split.examples(SplitName.test)
    return contenders(job, split, model, examples[: round(share * len(examples))])[contender]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = option_parser(
        __doc__,
        """\
  python scripts/bench_evaluation.py                                  random data of Beauty's size, needs no file
  python scripts/bench_evaluation.py --dataset amazon2014-beauty --raw-dir PATH""",
        rounds=5,
    )
    parser.add_argument("overrides", nargs="*", help="as for llm4rec eval, e.g. task.mask_history=false")
    parser.add_argument("--dataset", help="a dataset of conf/dataset (default: a random one)")
    parser.add_argument("--raw-dir", help="folder with the dataset's raw files")
    parser.add_argument("--size", nargs=2, type=int, default=BEAUTY, help="users and items of the random data")
    options = parser.parse_args(arguments)
    print(machine_description())
    processes.keep_freed_memory()  # as commands do
    data = options.dataset, options.raw_dir, options.overrides, options.size
    job, split, model = set_up(*data)
    examples = split.examples(SplitName.test)

    def counting_users(work: Callable[[], object]) -> Callable[[], float]:
        return lambda: (work(), float(len(examples)))[1]

    work = {name: counting_users(one) for name, one in contenders(job, split, model, examples).items()}
    data_size = f"{options.dataset or 'random data'}: {len(examples):,} users, {split.n_items:,} items"
    print_table(f"sasrec on {data_size}", speed_rows("ranking", "user", time_in_turns(work, options.rounds)))
    peaks = {
        (name, f"{round(share * len(examples)):,} users"): measure_in_fresh_process(set_up_memory, name, share, *data)
        for name in (AT_ONCE, RANK)
        for share in SHARES
    }
    print_table("sasrec: memory", memory_rows(peaks))


if __name__ == "__main__":
    main()
