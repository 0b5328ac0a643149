"""How fast targets are ranked in the whole catalogue, compared with scoring all users at once.

- `all users at once`: one (users × items) score matrix, `topk` of its rows, and comparisons summed over them.
- `rank`: ours (`tasks.ranking.rank`). Each thread ranks batches of its own, users with similar history lengths share a
  batch, blocks of scores stay in the cache, and the best items are searched for only in the columns that can hold them.
- `evaluate`: `rank` with metrics, bootstrap intervals and predictions.

All use the same model with random weights, which do not affect speed. Contenders take turns in one run.

Peak memory is measured in a fresh process for each number of users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from bench_common import (
    machine_description,
    memory_rows,
    option_parser,
    print_table,
    run_job,
    speed_rows,
    time_in_turns,
)
from fresh_process import measure_in_fresh_process
from synthetic import dataset

from llm4rec_cli import processes
from llm4rec_cli.config.schema import Config, SplitName
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split, leave_one_out
from llm4rec_cli.models import base
from llm4rec_cli.models.unisrec.model import UniSRec
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.tasks import ranking

SIZES = {
    "sasrec": ["model.hidden_size=64"],  # RecBole's default
    "unisrec": [],  # as shipped: 300-d
}
TEXT_SIZE = 384  # of MiniLM's vectors; here they are random
BEAUTY = 22_363, 12_101  # users and items of Amazon Beauty 5-core
AT_ONCE, RANK, EVALUATE = "all users at once", "rank", "evaluate"
SHARES = (0.25, 0.5, 1.0)  # of the users, for peak memory


def evaluation_job(model: str, dataset_name: str | None, raw_dir: str | None, overrides: Sequence[str]) -> Job:
    """Return what `llm4rec eval` would run; synthetic data uses the demo's config."""
    defaults = [f"model={model}", "task.mask_history=true", *SIZES[model]]
    return run_job("eval", dataset_name or "demo", raw_dir, *defaults, *overrides)


def load_split(job: Job, synthetic: tuple[int, int] | None) -> Split:
    """Load the config's dataset, or draw a synthetic one with this number of users and items."""
    return leave_one_out(dataset(*synthetic) if synthetic else stages.load(job))


def random_model(job: Job, split: Split) -> Any:
    """Build the model with random weights, and random text vectors if it reads any."""
    torch.manual_seed(job.config.seed)
    context = base.Context(job.model, split, job.config.seed, job.cache, device="cpu")
    if job.model.name == "unisrec":
        return UniSRec(context.config, torch.randn(split.n_items, TEXT_SIZE), context).eval()
    model: Any = base.build(context)
    return model.eval()


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


def contenders(model: Any, split: Split, examples: Examples, config: Config) -> dict[str, Callable[[], float]]:
    """Return functions that each rank all users and return the number of users."""
    task, batch_size = config.task, config.trainer.eval_batch_size

    def counting_users(work: Callable[[], object]) -> Callable[[], float]:
        def count() -> float:
            model.eval()  # as `rank` does: UniSRec then adapts its catalogue again in every turn
            work()
            return len(examples)

        return count

    return {
        AT_ONCE: counting_users(lambda: rank_at_once(model, examples, task.masked, task.top_items)),
        RANK: counting_users(lambda: ranking.rank(model, examples, task.masked, task.top_items, batch_size)),
        EVALUATE: counting_users(lambda: ranking.evaluate(model, split, examples, config)),
    }


def set_up_memory(
    contender: str,
    share: float,
    model: str,
    dataset_name: str | None,
    raw_dir: str | None,
    overrides: Sequence[str],
    synthetic: tuple[int, int] | None,
) -> Callable[[], object]:
    """Return one contender, ready to rank a share of the users."""
    job = evaluation_job(model, dataset_name, raw_dir, overrides)
    split = load_split(job, synthetic)
    examples = split.examples(SplitName.test)
    return contenders(random_model(job, split), split, examples[: round(share * len(examples))], job.config)[contender]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = option_parser(
        __doc__,
        """\
  python scripts/bench_evaluation.py                                  random data of Beauty's size, needs no file
  python scripts/bench_evaluation.py --dataset amazon2014-beauty --raw-dir PATH""",
        rounds=5,
    )
    parser.add_argument("overrides", nargs="*", help="as for llm4rec eval, e.g. task.mask_history=false")
    parser.add_argument("--dataset", help="a dataset of conf/dataset (default: a synthetic one)")
    parser.add_argument("--raw-dir", help="folder with the dataset's raw files")
    parser.add_argument("--synthetic", nargs=2, type=int, default=BEAUTY, help="users and items of the synthetic data")
    options = parser.parse_args(arguments)
    synthetic = None if options.dataset else tuple(options.synthetic)
    print(machine_description())
    processes.keep_freed_memory()  # as commands do
    for name in SIZES:
        data = options.dataset, options.raw_dir, options.overrides
        job = evaluation_job(name, *data)
        settings: Any = job.model
        split = load_split(job, synthetic)
        model, examples = random_model(job, split), split.examples(SplitName.test)
        work = contenders(model, split, examples, job.config)
        timings = time_in_turns(work, options.rounds)
        data_size = f"{options.dataset or 'synthetic data'}: {len(examples):,} users, {split.n_items:,} items"
        rows = speed_rows("ranking", "user", timings)
        print_table(f"{name}, {settings.hidden_size}-d, on {data_size}", rows)
        peaks = {
            (contender, f"{round(share * len(examples)):,} users"): measure_in_fresh_process(
                set_up_memory, contender, share, name, *data, synthetic
            )
            for contender in (AT_ONCE, RANK)
            for share in SHARES
        }
        print_table(f"{name}: memory", memory_rows(peaks))


if __name__ == "__main__":
    main()
