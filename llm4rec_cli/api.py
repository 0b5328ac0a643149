"""The Python API: train, evaluate, recommend and report, in one process and with results as pandas DataFrames.

    from llm4rec_cli.api import evaluate, load_split, recommend, report, train

    table = train(model="unisrec", trainer={"epochs": 5})      # the floors of the task, then the model
    table = evaluate(model="unisrec", task="direct")           # the trained run that matches
    table = recommend(model="unisrec", titles=["camp stove"])  # its top items
    table = report(dataset="demo", metrics=["ndcg@10"])        # all finished runs, averaged over seeds
    split = load_split(dataset="demo", task="direct")          # training rows, examples and candidates, for your model

Settings are keys of the command line: `trainer={"epochs": 5}` sets `trainer.epochs`, a list, a bool or None is one in
YAML, and `experiment="p5/demo"` is `+experiment=p5/demo`. Overrides are typed as there, one string each, without shell
quotes, and come before the settings: `train("model=unisrec", seed=1)`. The last one of a key counts. Runs are stored in
the same folders, so that commands and calls reuse each other's finished runs. A sweep is a loop over calls.
Comparisons, audits and exports of finished runs: `llm4rec_studies.api`.

Problems are raised as `UsageError`, `DataError` or `RunError` of `llm4rec_cli.errors`, each with a `problem` and a
`remedy`. Nothing is printed unless `progress=True`. A run sets the seeds of `random`, `numpy.random` and `torch`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.errors import Llm4RecError, UsageError, as_environment_error, raise_first
from llm4rec_cli.labels import NOT_ABOVE_POPULARITY
from llm4rec_cli.paths import default_outputs
from llm4rec_cli.run.job import Job

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LoadedSplit", "evaluate", "load_split", "recommend", "report", "train"]

logging.getLogger("llm4rec_cli").addHandler(logging.NullHandler())  # otherwise Python prints warnings to stderr


class LoadedSplit(NamedTuple):
    """What `load_split` returns: DataFrames with the ids of the raw files."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    candidates: pd.DataFrame | None
    items: pd.DataFrame


def train(
    *overrides: str, metrics: Sequence[str] | None = None, progress: bool = False, **settings: object
) -> pd.DataFrame:
    """Train a model and evaluate it and the floors of its task, as `llm4rec train` does.

    A finished run is not repeated. After a training for all tasks (`task=all`) there are rows for each task.

    Args:
        overrides: as on the command line, such as `model=unisrec` or `trainer.epochs=5`. The last one of a key counts.
        metrics: names of metrics, such as `recall@20`; None = those that the command prints.
        progress: whether to show log lines and progress on stderr.
        settings: overrides as keywords, such as `model="unisrec"` or `trainer={"epochs": 5}`.

    Returns:
        one row per model, the floors first. Columns: `model`; the metrics; `dataset`, `task`, `split`, `protocol`,
        `seed`; `n`, the number of examples; `labels`, separated by spaces; `METRIC low` and `METRIC high`, the ends of
        the 95 % intervals over users; `folder`, the run folder, with `metrics.json` and `predictions.parquet`.

    Raises:
        UsageError: an override or a metric is wrong.
        DataError: a file is missing or malformed, or the data lack what the model or the task needs.
        RunError: the run cannot continue.
    """
    return _run("train", with_settings(overrides, settings), metrics, progress)


def evaluate(
    *overrides: str, metrics: Sequence[str] | None = None, progress: bool = False, **settings: object
) -> pd.DataFrame:
    """Evaluate a trained model on another task, split or protocol, as `llm4rec eval` does.

    The trained run is `run=PATH`, its folder or the end of its path, or of those that match the overrides the one with
    the fewest other settings. A model without training needs none.

    Args:
        overrides: as on the command line, such as `model=unisrec`, `task=direct` or `split=valid`.
        metrics: names of metrics; None = those that the command prints.
        progress: whether to show log lines and progress on stderr.
        settings: overrides as keywords.

    Returns:
        one row per model, the floors first, with the columns of `train`.

    Raises:
        RunError: no trained run matches; the remedy is the command that trains one.
        UsageError, DataError: as for `train`.
    """
    return _run("eval", with_settings(overrides, settings), metrics, progress)


def recommend(
    *overrides: str,
    user: str | int | None = None,
    item: str | int | None = None,
    titles: Sequence[str] | None = None,
    k: int = 10,
    again: bool = False,
    new_items: str | Path | None = None,
    only_new: bool = False,
    progress: bool = False,
    **settings: object,
) -> pd.DataFrame:
    """Return a trained model's top items for a user or for titles, as `llm4rec recommend` does.

    Args:
        overrides: as on the command line. The trained run is found as in `evaluate`.
        user: a user of the dataset, by the id in the raw files.
        item: an item, for a task that predicts a rating or writes a text.
        titles: of a history, oldest first; any texts if the model reads item text.
        k: number of items.
        again: also recommend items of the history.
        new_items: a CSV, JSON lines or Parquet file of items that are ranked with the catalogue.
        only_new: rank only these new items.
        progress: whether to show log lines and progress on stderr.
        settings: overrides as keywords.

    Returns:
        one row per item, best first: `rank`, `item_id`, `title`, `score`, `in_history`, `is_new` and `titles_as_text`,
        typed titles that match no item. For a task with `item` one row: `user_id`, `item_id`, `title`, a column with
        the rating or text, and `given`, the true one or None.

    Raises:
        RunError: no trained run matches.
        UsageError: a user, title or item is unknown, or the model cannot answer.
        DataError: as for `train`.
    """
    import pandas as pd

    from llm4rec_cli.run.recommendations import Query, answer

    if k < 1:
        raise UsageError(f"k={k} is below 1", "k=10")
    if isinstance(titles, str):
        raise UsageError(f"titles is a list of texts, not '{titles}'", f"titles=['{titles}']")
    overrides = with_settings(overrides, settings)
    of_user, about, file = (None if value is None else str(value) for value in (user, item, new_items))
    query = Query(of_user, about, titles, k, again, file, only_new)
    with typed_errors(), messages(progress):
        return pd.DataFrame(answer(compose([hydra_override(override) for override in overrides]), query).rows)


def report(
    *filters: str,
    outputs: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    draws: bool = False,
    **settings: object,
) -> pd.DataFrame:
    """Return all finished runs, averaged over seeds, as `llm4rec report` shows them.

    Args:
        filters: `key=value[,value…]`, such as `model=unisrec,sasrec`; with the keys of `llm4rec report`.
        settings: filters as keywords, such as `model=["unisrec", "sasrec"]`.
        outputs: the folder of the runs; None = the commands' default.
        metrics: names of metrics; None = those that the command shows.
        draws: whether runs with sampled candidates are averaged over `task.draw`, as by `report --draws`.

    Returns:
        one row per variant, which is runs that differ only in their seed. Columns: `dataset`, `task`, `protocol`,
        `model`, `variant`; `n`, the number of seeds; the metrics, averaged over seeds; `labels`, separated by spaces;
        `METRIC sd`, over seeds; `METRIC low` and `METRIC high`, the ends of the 95 % intervals; `folders`, the run
        folder of each seed and draw.

    Raises:
        RunError: no run matches.
        UsageError: a filter or a metric is unknown.
    """
    from llm4rec_cli.results.frames import report_frame
    from llm4rec_cli.results.selection import select_groups

    keywords = (f"{key}={_filtered(value)}" for key, value in _flat(settings))
    with typed_errors():
        return report_frame(select_groups(outputs_folder(outputs), [*filters, *keywords], metrics, draws))


def load_split(*overrides: str, progress: bool = False, **settings: object) -> LoadedSplit:
    """Return a dataset as it is split for training and evaluation, for models outside this project.

    Examples, candidates and their order are those of `train` and `eval` with the same overrides. Scores of the test
    examples are evaluated by `llm4rec score FILE` with these overrides.

    Args:
        overrides: as on the command line, such as `dataset=mine`, `task=direct`, `dataset.split=temporal`.
        progress: whether to show log lines and progress on stderr.
        settings: overrides as keywords.

    Returns:
        `train`: one row per interaction, by user and time: `user_id`, `item_id` and what the data have of `timestamp`,
        `rating`, `review_text`, …. `validation` and `test`: one row per example, which is the interaction to predict,
        with its `history`, an array of item ids, oldest first. `candidates`: one row per candidate of each example
        (`split`, `user_id`, `target`, `item_id`), the target first; None where the whole catalogue is ranked. `items`:
        one row per item, `item_id`, `title`, `text`, …. Of a click log all three parts have one row per impression,
        with `history`, and with `items` and `clicked`, arrays of equal length; `candidates` is None.

    Raises:
        UsageError: an override is wrong.
        DataError: a file is missing or malformed, or a part is empty.
    """
    import numpy as np

    from llm4rec_cli.data import frames
    from llm4rec_cli.data.split import TRAIN
    from llm4rec_cli.run import stages

    overrides = with_settings(overrides, settings)
    with typed_errors(), messages(progress):
        job = Job.unchecked(compose([hydra_override(override) for override in overrides]), "prepare")
        split, examples = stages.load_examples(job)
        items = split.dataset.items
        if split.impression_assignment is not None:
            training = frames.impressions_frame(split, split.impressions(TRAIN))
            valid, test = (frames.impressions_frame(split, part) for part in examples.values())
            return LoadedSplit(training, valid, test, None, items)
        training = frames.interactions_frame(split, np.flatnonzero(split.assignment == TRAIN))
        valid, test = (frames.examples_frame(split, part) for part in examples.values())
        return LoadedSplit(training, valid, test, frames.candidates_frame(split, examples), items)


def _run(command: str, overrides: Sequence[str], metrics: Sequence[str] | None, progress: bool) -> pd.DataFrame:
    """Return what a command evaluates, of the config that these overrides compose, as one table."""
    from llm4rec_cli.results.frames import evaluations_frame
    from llm4rec_cli.results.selection import problems_of_metrics
    from llm4rec_cli.run.execute import run_all
    from llm4rec_cli.run.job import evaluation

    if isinstance(metrics, str):
        raise UsageError(f"metrics is a list of names, not '{metrics}'", f"metrics=['{metrics}']")
    with typed_errors(), messages(progress):
        composed = compose([hydra_override(override) for override in overrides])
        job = Job.resolve(composed, command) if command == "train" else evaluation(Job.unchecked(composed, command))
        runs = [result for outcome in run_all(job) for result in outcome.results]
        raise_first(problems_of_metrics(metrics, runs))
        table = evaluations_frame(runs, metrics)
    for run in runs:
        if NOT_ABOVE_POPULARITY in run.labels:
            warnings.warn(f"{run.model}: {run.warnings[0]}", stacklevel=3)
    return table


def with_settings(overrides: Sequence[str], settings: Mapping[str, object]) -> tuple[str, ...]:
    """Return overrides and, after them, settings given as keywords.

    Raises:
        UsageError: one is not a string, or is an option of the command line.
    """
    keywords = ((f"+{key}" if key == "experiment" else key, value) for key, value in _flat(settings))
    typed = (*overrides, *(f"{key}={_typed(value)}" for key, value in keywords))
    for override in typed:
        if not isinstance(override, str):
            raise UsageError(f"an override must be a string, not {override}", "write 'model=unisrec', 'seed=1'")
        if override.startswith("-"):
            raise UsageError(f"{override} is an option of the command line", "overrides only, such as 'model=unisrec'")
    return typed


def _flat(settings: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield the settings of nodes given as mappings by their whole keys: `trainer.epochs`."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            yield key, value


def _typed(value: object) -> str:
    """Return a Python value as it is typed in an override."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_typed, value))}]"
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def _filtered(value: object) -> str:
    """Return a Python value, or the values of a list, as typed in a filter."""
    return ",".join(map(_typed, value)) if isinstance(value, (list, tuple)) else _typed(value)


def outputs_folder(typed: str | Path | None) -> Path:
    return Path(typed or default_outputs()).expanduser()


@contextmanager
def typed_errors() -> Iterator[None]:
    """Raise errors of a full disk and of unusable paths as this project's own."""
    try:
        yield
    except Llm4RecError as error:
        error.add_note(f"try: {error.remedy}")
        raise
    except Exception as error:
        if known := as_environment_error(error):
            raise known from error
        raise


@contextmanager
def messages(shown: bool) -> Iterator[None]:
    """Show log lines and progress on stderr, or neither, while the block lasts."""
    from llm4rec_cli.progress import console, log_to_stderr

    log = logging.getLogger("llm4rec_cli")
    handlers, level, propagate, quiet = log.handlers[:], log.level, log.propagate, console.quiet
    console.quiet = not shown
    if shown:
        log_to_stderr()
    try:
        with warnings.catch_warnings():
            # tqdm, when transformers imports it in a notebook without ipywidgets.
            warnings.filterwarnings("ignore", message="IProgress not found")
            yield
    finally:
        console.quiet = quiet
        log.handlers[:], log.propagate = handlers, propagate
        log.setLevel(level)
