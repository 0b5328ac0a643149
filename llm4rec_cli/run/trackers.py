"""Trackers of experiments (`trainer.report_to`): the results of a run, next to the losses of its training.

The callbacks of transformers write the losses, and close their run of the tracker when training ends; results are known
only after that. So this module opens a run of the tracker before training, which the callbacks use, and closes it after
evaluation. A run that was killed and resumes continues the same run of the tracker. Nothing is sent over the network
unless the user's environment says so: wandb is offline by default, and telemetry is off.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from llm4rec_cli import processes
from llm4rec_cli.files import write_text
from llm4rec_cli.results.report import results
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.tables import Content, markdown
from llm4rec_cli.results.variants import groups, variants

OFF_BY_DEFAULT = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


@dataclass(frozen=True)
class Tracked:
    """What a tracker gets at the end of a run.

    Attributes:
        values: `test/ndcg@10` and the like -> value; with `/low` and `/high` the ends of its 95 % interval.
        labels: of the run.
        table: the floors and the run, as `report` shows them.
    """

    values: dict[str, float]
    labels: Sequence[str]
    table: Content


Write = Callable[[Tracked], None]


@contextmanager
def opened(names: Sequence[str], folder: Path) -> Iterator[Callable[[Sequence[Result]], None]]:
    """Open runs of these trackers; yield a function that writes the results of floors and run to them.

    Trackers that are not in TRACKERS get only the losses, from their callbacks.
    """
    with ExitStack() as stack:
        if names:
            stack.enter_context(
                _environment({name: value for name, value in OFF_BY_DEFAULT.items() if name not in os.environ})
            )
        known = [TRACKERS[name] for name in names if name in TRACKERS and processes.is_first()]
        writers = [stack.enter_context(tracker(folder)) for tracker in known]

        def write(runs: Sequence[Result]) -> None:
            for writer in writers:
                writer(_results(runs))

        yield write


def _results(runs: Sequence[Result]) -> Tracked:
    result, split = runs[-1], runs[-1].split
    values = {f"{split}/{name}": value for name, value in result.metrics.items()}
    for name, ends in result.intervals.items():
        values |= {f"{split}/{name}/{end}": value for end, value in zip(("low", "high"), ends, strict=True)}
    (group,) = groups(variants(runs))
    return Tracked(values, result.labels, results(group))


def _title(folder: Path) -> str:
    """Return `model/dataset/task/seed0-hash`."""
    return "/".join(folder.parts[-4:])


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _tensorboard(folder: Path) -> Iterator[Write]:
    """Write events to `tensorboard/` in the run folder, or to a folder of the run in TENSORBOARD_LOGGING_DIR."""
    from torch.utils.tensorboard import SummaryWriter

    typed = os.environ.get("TENSORBOARD_LOGGING_DIR")
    events = Path(typed).expanduser() / _title(folder) if typed else folder / "tensorboard"

    def write(results: Tracked) -> None:
        for earlier in events.glob("*.results"):  # of a run that was killed after it had written them
            earlier.unlink()
        with SummaryWriter(str(events), filename_suffix=".results") as writer:
            for name, value in results.values.items():
                writer.add_scalar(name, value)
            writer.add_text("labels", ", ".join(results.labels))
            writer.add_text("results", _as_text(results.table))

    with _environment({"TENSORBOARD_LOGGING_DIR": str(events)}):  # where the callback writes
        yield write


@contextmanager
def _wandb(folder: Path) -> Iterator[Write]:
    """Write to the project WANDB_PROJECT; offline unless WANDB_MODE says otherwise."""
    import wandb

    identity = folder / "wandb_id"
    if not identity.exists():
        write_text(identity, uuid.uuid4().hex)
    project = os.environ.get("WANDB_PROJECT", "llm4rec")
    settings = {"name": _title(folder), "id": identity.read_text(), "dir": str(folder)}
    with wandb.init(project=project, resume="allow", **settings) as run:

        def write(results: Tracked) -> None:
            run.tags = tuple(results.labels)
            rows = [list(row) for row in results.table.rows]
            run.summary.update({**results.values, "results": wandb.Table(list(results.table.columns), rows)})

        yield write


@contextmanager
def _mlflow(folder: Path) -> Iterator[Write]:
    """Write to the store MLFLOW_TRACKING_URI, by default mlflow's own: a folder or file of the working directory."""
    import mlflow

    identity = folder / "mlflow_id"
    run_id = identity.read_text() if identity.exists() else None
    if run_id is None and (experiment := os.environ.get("MLFLOW_EXPERIMENT_NAME")):
        mlflow.set_experiment(experiment)
    with mlflow.start_run(run_id=run_id, run_name=_title(folder)) as run:
        write_text(identity, run.info.run_id)

        def write(results: Tracked) -> None:
            if "labels" in run.data.tags:  # of a run that was killed after it had written them
                return
            mlflow.log_metrics({re.sub(r"[^\w\-. :/]", "_", name): value for name, value in results.values.items()})
            mlflow.log_text(_as_text(results.table), "results.md")
            mlflow.set_tag("labels", ", ".join(results.labels))

        yield write


def _as_text(table: Content) -> str:
    notes = "".join(f"\n- {note}" for note in table.notes)
    return f"{markdown(table.columns, table.rows)}\n{notes}\n"


TRACKERS: dict[str, Callable[[Path], AbstractContextManager[Write]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
