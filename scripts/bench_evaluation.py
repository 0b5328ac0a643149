"""How fast targets are ranked in the whole catalogue, compared with scoring all users at once.

    python scripts/bench_evaluation.py dataset=amazon2014-beauty dataset.raw_dir=PATH

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
import torch
from bench_common import (
    machine_description,
    measure_in_fresh_process,
    number,
    print_table,
    speed_rows,
    time_in_turns,
    typed_overrides,
)

from llm4rec_cli import processes
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split, leave_one_out
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.tasks import ranking

SIZE = ["model=sasrec", "model.hidden_size=64", "task.mask_history=true"]
AT_ONCE, RANK, EVALUATE = "all users at once", "rank", "evaluate"
SHARES = (0.25, 0.5, 1.0)  # of the users, for peak memory


def set_up(overrides: Sequence[str]) -> tuple[Job, Split, Any]:
    """Return what `llm4rec eval` would run with these overrides, with a random model."""
    job = Job.unchecked(compose([*SIZE, *overrides]), "eval")
    split = leave_one_out(stages.load(job))
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


def set_up_memory(contender: str, share: float, overrides: Sequence[str]) -> Callable[[], object]:
    """Return one contender, ready to rank a share of the users."""
    job, split, model = set_up(overrides)
    examples = split.examples(SplitName.test)
    return contenders(job, split, model, examples[: round(share * len(examples))])[contender]


def main(overrides: Sequence[str]) -> None:
    print(machine_description())
    processes.keep_freed_memory()  # as commands do
    job, split, model = set_up(overrides)
    examples = split.examples(SplitName.test)

    def counting_users(work: Callable[[], object]) -> Callable[[], float]:
        return lambda: (work(), float(len(examples)))[1]

    work = {name: counting_users(one) for name, one in contenders(job, split, model, examples).items()}
    title = f"sasrec on {job.config.dataset.name}: {len(examples):,} users, {split.n_items:,} items"
    print_table(title, speed_rows("ranking", "user", time_in_turns(work)))
    rows = [
        {"added MiB": name}
        | {
            f"{share:.0%} of users": number(measure_in_fresh_process(set_up_memory, name, share, overrides).added_mb)
            for share in SHARES
        }
        for name in (AT_ONCE, RANK)
    ]
    print_table("sasrec: memory", rows)


if __name__ == "__main__":
    main(typed_overrides(__doc__))
