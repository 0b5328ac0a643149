"""One job from raw files to metrics, with the floors of its task; finished runs are reused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli import processes
from llm4rec_cli.config.schema import Question, SplitName
from llm4rec_cli.errors import DataError, DryRun, UsageError, raise_first
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.results.report import print_results
from llm4rec_cli.results.result import CHECKPOINTS, TRAIN_LOG, Number, Result, read_result
from llm4rec_cli.run import gpu, labels, rules, stages, trackers
from llm4rec_cli.run.advice import advised
from llm4rec_cli.run.folder import Outcome, locked, log_finished, recorded
from llm4rec_cli.run.identity import find_weights
from llm4rec_cli.run.job import Evaluation, Job, just_trained, of_task
from llm4rec_cli.run.next import next_command
from llm4rec_cli.run.precision import settled
from llm4rec_cli.run.stages import Clock
from llm4rec_cli.tasks import base as tasks

if TYPE_CHECKING:
    from llm4rec_cli.data.split import Split

log = logging.getLogger(__name__)

ALL_TASKS = ("rating", "sequential", "direct", "explanation", "review_summary")  # of task=all

OnEpoch = Callable[[int, float], None]  # takes the epoch, from 1, and its validation score, higher is better


def run_and_show(job: Job) -> Outcome:
    """Run a job, print the table of each of its results, and return all of them, with what to run next."""
    outcomes = []
    for outcome in run_all(job):
        comparison = print_results(outcome.results)
        outcomes.append(outcome)
    return Outcome(
        "done" if any(outcome.status == "done" for outcome in outcomes) else "skipped",
        outcomes[0].folder,
        tuple(result for outcome in outcomes for result in outcome.results),
        next_command(job, outcome.result, comparison),
    )


def run_all(job: Job) -> Iterator[Outcome]:
    """Run a job, and after a training for all tasks the evaluation of each task; yield each outcome.

    Raises:
        DataError: the dataset has no examples for any task.
    """
    trained = job.evaluated if isinstance(job, Evaluation) else None
    has_tasks = job.task.question == Question.all
    if trained is None or not has_tasks:
        yield (outcome := run(job))
    if not has_tasks:
        return
    trained = trained or just_trained(outcome.result, job)
    n_evaluated = 0
    for task in ALL_TASKS:
        try:
            yield run(of_task(trained, job.typed, task))
            n_evaluated += 1
        except (DataError, UsageError) as error:  # no examples, no prompt, or settings that exclude one another there
            log.warning("%s: not evaluated: %s (%s)", task, error.problem, error.remedy)
    if not n_evaluated:
        raise DataError(f"{job.config.dataset.name} has no examples for any task", "llm4rec list datasets")


def run(job: Job) -> Outcome:
    """Load the data, run the floors, and execute the job. All weights are located first, because data and floors may
    take long.

    Raises:
        DryRun: under `llm.dry_run`, once the requests are shown.
    """
    if job.introduction:
        log.info(job.introduction)
    if job.config.device not in ("auto", "cpu"):
        _ = job.device  # which this machine may lack; imports torch
    for each in (job, *job.floors):
        find_weights(each.config)
    raise_first(job.problems_with_weights())
    clock = Clock()
    split = stages.split_dataset(job, stages.load(job))
    job = advised(job, split)
    clock.lap("prepare")
    floors = run_floors(job, split)
    clock.lap("floors")
    return execute(job, split, floors, clock)


def run_floors(job: Job, split: Split) -> list[Result]:
    """Return the result of each of the task's floors, after running the unfinished ones.

    A floor that the dataset cannot fill is left out. A dry run computes nothing, and has none.
    """
    floors = []
    for floor in () if job.is_dry else job.floors:
        if problem := next(rules.problems_with_dataset(floor.config, split.dataset), None):
            log.info("floor left out: %s", problem.problem)
        else:
            floors.append(execute(floor, split).result)
    return floors


def execute(
    job: Job,
    split: Split,
    floors: Sequence[Result] = (),
    clock: Clock | None = None,
    on_epoch: OnEpoch | None = None,
) -> Outcome:
    """Return the finished run at the job's address, or build, fit, evaluate and save it.

    Args:
        floors: the results that it is compared with.
        clock: its laps so far become part of the run's seconds.
        on_epoch: called after each epoch with its validation score; ends training by raising an exception.
    """
    clock = clock or Clock()
    if job.is_dry:
        print(f"in all, as estimated: {stages.show_requests(job, split).in_words()}")
        raise DryRun("dry run: requests were printed, none was sent")
    address = job.address(split.dataset)
    with locked(address.folder):
        finished = processes.from_first(lambda: read_result(address.folder))
        if finished is not None and not job.starts_anew:
            log_finished(job.model.name, address.folder)
            result = labels.update_finished(finished, job.config, split.dataset, floors)
            return Outcome("skipped", address.folder, (*floors, result))
        with recorded(address, job) as folder:
            is_evaluation = isinstance(job, Evaluation)
            if not is_evaluation:
                log.info("%s on %s: %s", job.model.name, job.config.dataset.name, folder)
            job = settled(job, folder)
            meter = gpu.meter(job.device)
            model = stages.build(job, split, folder)
            clock.lap("build")
            with trackers.opened(job.config.trainer.report_to if job.trains else (), folder) as report:
                training = _fit(job, model, split, folder, clock, on_epoch) if job.trains else None
                if not is_evaluation:
                    clock.lap("train")
                result = stages.evaluate(job, split, model, address, training, clock, floors, meter)
                report([*floors, result])
    return Outcome("done", address.folder, (*floors, result))


def _fit(job: Job, model: Any, split: Split, folder: Path, clock: Clock, on_epoch: OnEpoch | None) -> dict[str, Number]:
    """Fit the weights; return the `training` entry of metrics.json. The clock gets the seconds of processes that were
    killed in training."""
    from llm4rec_cli.models.base import HasReferenceLosses
    from llm4rec_cli.run.fit import fit

    n_trainable = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
    n_frozen = sum(weights.numel() for weights in model.parameters()) - n_trainable
    log.info("%s parameters are trained, %s are frozen", f"{n_trainable:,}", f"{n_frozen:,}")
    config, task = job.config, job.task_module
    examples = task.examples(split, SplitName.valid, config, job.cache)
    examples = tasks.subset(examples, config.trainer.valid_examples, config.dataset.seed, "valid_examples")
    rows = model.training_rows()
    result = fit(
        model,
        rows,
        lambda: task.validation_score(model, split, examples, config),
        config.trainer,
        folder / CHECKPOINTS,
        folder / TRAIN_LOG,
        config.seed,
        on_epoch,
    )
    clock.seconds["train"] = result.earlier_seconds
    reference = model.reference_losses() if isinstance(model, HasReferenceLosses) else None
    return {
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        f"valid_{config.task.selection}": direction(config.task.selection) * result.best_score,
        "rows": len(rows),
        "loss": result.best_loss,
        **({f"{name}_loss": loss for name, loss in reference._asdict().items()} if reference else {}),
        **stages.gain_over_popularity(job, split, model, examples),
    }
