"""How long a trained P5 takes for an answer of each task: the paper's table of inference times.

The weights are those of a finished run, since a text takes as long as it is. Tasks take turns. A task is left out if
the run was not trained for it or the dataset lacks its columns. Reading the data and computing metrics are not timed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bench_common import machine_description, number, option_parser, print_table, time_in_turns

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import Question
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.errors import DataError, RunError, UsageError
from llm4rec_cli.models.p5.model import P5
from llm4rec_cli.run import choose, stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from llm4rec_cli.tasks.modules import task_module

EXAMPLES = """  python scripts/bench_p5_inference.py +experiment=p5/demo
  python scripts/bench_p5_inference.py --batch 16 +experiment=p5/paper dataset.raw_dir=PATH"""
TASKS = {  # the paper's rows
    "sequential": ["task=sequential"],
    "direct": ["task=direct"],
    "rating": ["task=rating"],
    "explanation": ["task=explanation"],
    "review summary": ["task=review_summary"],
    "review preference": ["task=rating", "model.ask.rating=4-2"],
}


def load(typed: list[str]) -> tuple[P5, Job, Examples]:
    """Return the trained model of the newest run that matches, with its task's examples.

    Raises:
        DataError, RunError, UsageError: there is no such run, or it cannot be evaluated on the task.
    """
    job = settled(choose.evaluation(Job.unchecked(compose(typed), "eval")))
    split = stages.split_dataset(job, stages.load(job))
    model: Any = stages.build(job, split)
    examples = task_module(job.task).examples(split, job.config.split, job.config, job.cache)
    return model.eval(), job, examples


def answer(model: P5, job: Job, examples: Examples, batch: int) -> float:
    """Answer all examples, `batch` at a time; return their number."""
    for start in range(0, len(examples), batch):
        part = examples[slice(start, start + batch)]
        if job.task.question is Question.rank:
            model.score(part)
        elif job.task.question is Question.rate:
            model.rate(part)
        elif job.task.written is not None:
            model.write(part, job.task.written)
    return len(examples)


def main() -> None:
    parser = option_parser(__doc__, EXAMPLES, rounds=3)
    parser.add_argument("overrides", nargs="+", help="of the trained run, as for llm4rec eval")
    parser.add_argument("--examples", type=int, default=64, help="of each task and turn (default 64)")
    parser.add_argument("--batch", type=int, default=16, help="examples answered at once (default 16)")
    options = parser.parse_args()
    contenders: dict[str, Callable[[], float]] = {}
    prompts: dict[str, str] = {}
    for name, overrides in TASKS.items():
        try:
            model, job, examples = load([*options.overrides, *overrides, f"task.max_examples={options.examples}"])
        except (DataError, RunError, UsageError) as error:
            print(f"{name}: left out: {error.problem}")
            continue
        settings: Any = job.model
        prompts[name] = getattr(settings.ask, job.task.name)
        contenders[name] = partial(answer, model, job, examples, options.batch)
    if not contenders:
        parser.error("no trained run answers any task")
    timings = time_in_turns(contenders, options.rounds)
    print(machine_description())
    rows = [
        {
            "task": name,
            "prompt": prompts[name],
            "milliseconds an answer": f"{number(1000 / t.median)} ({number(1000 / t.high)}–{number(1000 / t.low)})",
        }
        for name, t in timings.items()
    ]
    print_table(f"inference, {options.batch} at a time", rows, options.markdown)


if __name__ == "__main__":
    main()
