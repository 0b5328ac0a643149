"""Train or select a run and evaluate it: on one task, or on every task of a training for all tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

from llm4rec_cli import processes
from llm4rec_cli.config.schema import Question
from llm4rec_cli.errors import DataError, UsageError, raise_first
from llm4rec_cli.results.result import Result, read_result
from llm4rec_cli.runs import marks, rules, stages
from llm4rec_cli.runs.folder import Outcome, locked, log_finished, recorded
from llm4rec_cli.runs.precision import resolve_precision
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.training import checkpoints, trained
from llm4rec_cli.training.run import run, run_floors

log = logging.getLogger(__name__)

ALL_TASKS = ("rating", "sequential", "direct", "explanation", "review_summary")  # of task=all


@dataclass(frozen=True)
class Evaluation:
    """A model evaluated on one task.

    Attributes:
        outcome: how its run ended.
        results: of the floors, then of the run itself.
        spec: of the run.
    """

    outcome: Outcome
    results: list[Result]
    spec: RunSpec


def train_and_evaluate(spec: RunSpec) -> Iterator[Evaluation]:
    """Yield a run, trained and evaluated unless it is finished; then each task, after a training for all tasks.

    Args:
        spec: checked.
    """
    # Problems are raised before anything is computed.
    origin = processes.from_first(lambda: trained.find_init_run(spec))
    outcome, results = run(spec, origin)
    yield Evaluation(outcome, results, spec)
    if spec.task.question is Question.all:
        yield from evaluate_all_tasks(processes.from_first(lambda: trained.open_run(outcome.folder, spec)))


def evaluate_trained(spec: RunSpec) -> Iterator[Evaluation]:
    """Yield the evaluation of the trained run that `run` names or that matches the overrides; of a training for all
    tasks one of each task. A model without training is run.

    Args:
        spec: unchecked.
    """
    if not spec.model.traits.trainable:
        if spec.config.run is not None:
            raise UsageError(f"run=PATH names a trained run, and {spec.model.name} is not trained", "leave run= out")
        spec = replace(spec, command="train")
        rules.check(spec)
        yield Evaluation(*run(spec), spec)
        return
    source = processes.from_first(lambda: trained.find(spec))
    if source.spec.task.question is Question.all:
        yield from evaluate_all_tasks(source)
    else:
        yield evaluate_run(source)


def evaluate_all_tasks(source: trained.TrainedRun) -> Iterator[Evaluation]:
    """Yield the evaluation of every task that the dataset has examples for.

    Raises:
        DataError: there is none.
    """
    n_evaluated = 0
    for task in ALL_TASKS:
        try:
            yield evaluate_run(trained.with_task(source, task))
            n_evaluated += 1
        except (DataError, UsageError) as error:  # no examples, no prompt, or settings that exclude one another there
            log.warning("%s: not evaluated: %s (%s)", task, error.problem, error.remedy)
    if not n_evaluated:
        raise DataError(f"{source.spec.config.dataset.name} has no examples for any task", "llm4rec list datasets")


def evaluate_run(source: trained.TrainedRun) -> Evaluation:
    """Evaluate a trained run as its spec says, after the floors of its task."""
    spec = source.spec
    settings = trained.settings_not_typed(source.status.overrides, spec.typed_keys)
    trained_with = f" with {' '.join(settings)}" if settings else ""
    log.info("evaluating %s, trained in %s%s", spec.model.name, source.folder, trained_with)
    clock = stages.Clock()
    dataset = stages.load(spec)
    raise_first(source.problems_with_data(dataset))
    split = stages.split_dataset(spec, dataset)
    clock.lap("prepare")
    weights = processes.from_first(lambda: checkpoints.selected(source.checkpoints))
    address = source.address(dataset, weights)
    floors = run_floors(spec, split)
    clock.lap("floors")
    with locked(address.folder):
        result = processes.from_first(lambda: read_result(address.folder))
        if result is not None and not spec.config.force:
            log_finished(spec.model.name, address.folder)
            result = marks.update_finished(result, spec, split.dataset, floors)
            return Evaluation(Outcome("skipped", address.folder), [*floors, result], spec)
        with recorded(address, spec):
            spec = resolve_precision(spec, address.folder, source=source.folder)
            model = stages.build(spec, split, is_loaded=True)
            raise_first(stages.problems_of_artifacts(model, source.folder))
            checkpoints.load(model, weights)
            clock.lap("build")
            result = stages.evaluate(
                spec,
                split,
                model,
                address,
                clock,
                floors,
                stages.Origin(
                    source.status.choices.get("experiment"),
                    source.overrides,
                    source.result.task,
                    trained_masked=source.trained_masked,
                    init_from=source.result.init_from,
                    imported=source.result.imported,
                    trained_run=source.folder.relative_to(spec.outputs).as_posix(),
                    training_seconds=source.result.seconds.get("train"),  # not known of imported weights
                ),
            )
    return Evaluation(Outcome("done", address.folder), [*floors, result], spec)
