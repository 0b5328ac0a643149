"""`llm4rec recommend`: a model's top items for a user or for titles, or its rating or text for a user and an item.

The model is the trained run that `eval` would use, or a baseline that needs no training. A model that reads item text
takes any text as a title, and ranks the items of a file too. No run folder is written.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llm4rec_cli.commands import at_least
from llm4rec_cli.config.registry import config_class, models_with
from llm4rec_cli.config.schema import Candidates, Control, Question
from llm4rec_cli.errors import DataError, Llm4RecError, UsageError, raise_first

if TYPE_CHECKING:
    import pandas as pd

    from llm4rec_cli.config.compose import Composed
    from llm4rec_cli.data.examples import Examples
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.data.split import Split
    from llm4rec_cli.runs.spec import RunSpec
    from llm4rec_cli.training.trained import TrainedRun

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options: free text such as a title does not fit Hydra's override grammar."""
    options = argparse.ArgumentParser(
        "llm4rec recommend",
        usage="llm4rec recommend [overrides] (--user ID [--item ID] | --title TEXT …) [--k N] [--again] [--json]\n"
        "                         [--new-items FILE [--only-new]] [--explain]",
        add_help=False,
        allow_abbrev=False,
    )
    options.add_argument("--user", metavar="ID", action=_Once, help="a user of the dataset, by the id in the raw files")
    options.add_argument(
        "--item", metavar="ID", action=_Once, help="an item, for a task that predicts a rating or writes a text"
    )
    options.add_argument(
        "--title",
        metavar="TEXT",
        action="append",
        help="a title in the history, or any text if the model reads item text; repeat, oldest first",
    )
    options.add_argument("--k", metavar="N", type=at_least(1), default=10, help="number of items (default: 10)")
    options.add_argument("--again", action="store_true", help="also recommend items of the history")
    options.add_argument("--json", action="store_true", help="print one JSON object per line")
    options.add_argument(
        "--new-items",
        metavar="FILE",
        help="rank the items of a CSV, JSON lines or Parquet file (item_id, title) with the catalogue, if the model "
        "reads item text",
    )
    options.add_argument("--only-new", action="store_true", help="rank the items of --new-items alone")
    options.add_argument(
        "--explain", action="store_true", help="how much each item of the history adds to a score (leave-one-out)"
    )
    return options


class _Once(argparse.Action):
    """Stores a value, and refuses a second one."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if getattr(namespace, self.dest) is not None:
            raise UsageError(f"{option_string} is given twice", f"llm4rec recommend … {option_string} {values}")
        setattr(namespace, self.dest, values)


class Answer(NamedTuple):
    """What a model recommends.

    Attributes:
        rows: items, best first, as `recommendations.item_rows` describes them; or a user and an item, with the rating
            or text.
        heading: sentences on it.
        predicted: the column of a rating or text; None for items.
        in_training: the user's interaction with the item is in the training split.
    """

    rows: Sequence[Any]
    heading: list[str]
    predicted: str | None = None
    in_training: bool = False


def run(composed: Composed, options: argparse.Namespace) -> None:
    """Print the top items for `--user` or `--title`, or the rating or text for `--user` and `--item`."""
    from llm4rec_cli.studies.recommendations import print_items, print_prediction

    rows, heading, predicted, in_training = answer(composed, options)
    if predicted is None:
        print_items(rows, heading, options.again, options.json)
    else:
        print_prediction(rows[0], predicted, heading[0], in_training, options.json)


def answer(composed: Composed, options: argparse.Namespace) -> Answer:
    """Return the top items for `--user` or `--title`, or the rating or text for `--user` and `--item`."""
    if (options.user is None) == (options.title is None):
        raise UsageError("recommend needs either a user or titles", "--user ID, or --title TEXT")
    if options.only_new and options.new_items is None:
        raise UsageError("--only-new ranks the items of a file, and no file is named", "--new-items FILE --only-new")

    from llm4rec_cli.runs import rules, stages
    from llm4rec_cli.runs.spec import RunSpec
    from llm4rec_cli.training import trained

    spec, source = RunSpec.resolve_unchecked(composed, "recommend"), None
    raise_first(_problems(spec, options))
    if spec.model.traits.trainable:
        source = trained.find(spec)
        if source.spec.task.question is Question.all:
            source = trained.with_task(source, "sequential")
        spec = source.spec
        raise_first(_problems(spec, options))
    else:
        rules.check(spec)
    raise_first(_problems_of_item(spec, options))
    new_items = _read_new_items(spec, options)
    if not _is_about_item(spec):  # always rank the whole catalogue or file, whatever the task's candidates
        spec = spec.with_config(task={"candidates": Candidates.uniform if options.only_new else Candidates.full})
        raise_first(spec.model.problems(spec.config))

    dataset = stages.load(spec)
    if source:
        raise_first(source.problems_with_data(dataset))
    if dataset.impressions is not None:
        raise DataError(
            f"dataset {dataset.manifest['name']} is a click log: it has no interaction histories to recommend from",
            "choose a dataset of interactions: llm4rec list datasets",
        )
    heading = f"{spec.model.display_name()} on {spec.config.dataset.name}"
    if _is_about_item(spec):
        return _predict(spec, source, dataset, options, heading)
    return _recommend(spec, source, dataset, new_items, options, heading)


def _read_new_items(spec: RunSpec, options: argparse.Namespace) -> pd.DataFrame | None:
    """Return the items of `--new-items`, if it is set.

    Raises:
        UsageError: the model ranks only the catalogue.
    """
    if options.new_items is None:
        return None
    from llm4rec_cli.data.new_items import read_new_items
    from llm4rec_cli.runs import rules

    raise_first(rules.problems_with_new_items(spec.model))
    return read_new_items(Path(options.new_items).expanduser(), spec.config.dataset)


def _recommend(
    spec: RunSpec,
    source: TrainedRun | None,
    catalogue: RecDataset,
    new_items: pd.DataFrame | None,
    options: argparse.Namespace,
    heading: str,
) -> Answer:
    """Return the top items for a user or for titles.

    The new items and then the titles that are no item's are appended to the catalogue. The latter are only in the
    history, and never recommended.
    """
    import numpy as np

    from llm4rec_cli.data.new_items import with_new_items
    from llm4rec_cli.runs import rules, stages
    from llm4rec_cli.studies import recommendations

    with_new = catalogue
    if new_items is not None:
        with_new = with_new_items(catalogue, new_items, spec.config.dataset.text)
    texts: list[str] = []  # the titles that are no item's
    if options.user is None:
        dataset, example, texts = _example_of_titles(spec, with_new, options.title)
    else:
        dataset, example = with_new, _example_of_user(catalogue, options.user)
    new, as_text = np.arange(catalogue.n_items, with_new.n_items), np.arange(with_new.n_items, dataset.n_items)
    raise_first(rules.problems_with_dataset(spec, dataset))
    split = stages.split_dataset(spec, catalogue)
    model = _build(spec, split, source)
    # In two steps, so that text features of the file are cached whatever titles are typed.
    for smaller, larger in ((catalogue, with_new), (with_new, dataset)):
        if larger is not smaller:
            model.add_items(replace(split, dataset=larger))

    from llm4rec_cli.tasks.recommendation import history_effects, top_items

    history, _ = example.histories()
    if options.only_new:
        example = replace(example, candidates=new[None])
    top = top_items(model, example, options.k, as_text if options.again else np.union1d(history, as_text))
    rows = recommendations.item_rows(dataset, top.items, top.scores, history, new, texts)
    if options.explain and rows:
        items, effects = history_effects(model, example, top, spec.config.trainer.eval_batch_size)
        recommendations.add_effects(rows, dataset, items, effects)
    user_or_titles = "these titles" if options.user is None else f"user {options.user}"
    heading = f"{heading} for {user_or_titles}, {recommendations.history_summary(dataset, history)}"
    notes = recommendations.notes(texts, catalogue.n_items, len(new), options.only_new)
    return Answer(rows, [heading, *notes])


def _predict(
    spec: RunSpec, source: TrainedRun | None, dataset: RecDataset, options: argparse.Namespace, heading: str
) -> Answer:
    """Return the rating or text that a model predicts for a user and an item, and the true one where there is one.

    Raises:
        UsageError: the task or the prompt needs an interaction of the two, and the dataset has none.
    """
    from llm4rec_cli.data.lookup import SAMPLE_IDS, item_number, quoted, user_number
    from llm4rec_cli.data.split import TRAIN
    from llm4rec_cli.runs import stages
    from llm4rec_cli.studies.recommendations import item_fields
    from llm4rec_cli.tasks import base, rating, text

    user, item = user_number(dataset, options.user), item_number(dataset, options.item)
    example = _pair_example(dataset, user, item)
    row = int(example.row[0])
    interacted = row >= 0
    if spec.task.written is not None and not interacted:
        latest = dataset.sequence[dataset.offsets[user] : dataset.offsets[user + 1]][-SAMPLE_IDS:]
        raise UsageError(
            f"user {options.user} has no interaction with item {options.item}, and task={spec.task.name} needs one",
            f"--item with one of the user's items: {quoted(dataset.items['item_id'].iloc[latest])}",
        )
    if not interacted and "oracle_input" in spec.model.labels(spec.task.name):
        raise UsageError(
            f"the prompt contains part of the review, and user {options.user} has not reviewed item {options.item}",
            "choose a prompt without it: llm4rec list prompts",
        )
    split = stages.split_dataset(spec, dataset)
    model = _build(spec, split, source)
    if spec.task.written is None:
        prediction: Any = round(float(rating.rate(model, example, 1).value[0]), 4)
    else:
        (prediction,) = text.write(model, example, spec.task.written, 1)
    column = str(base.reference_column(spec.task))
    truth = split.dataset.interactions.iloc[row].get(column) if interacted else None
    if truth != truth:  # NaN: no rating or text
        truth = None
    row_of_pair = {"user_id": options.user, **item_fields(dataset, item), column: prediction, "given": truth}
    in_training = interacted and split.assignment[row] == TRAIN
    return Answer([row_of_pair], [heading], column, in_training)


# --- checks


def _is_about_item(spec: RunSpec) -> bool:
    """Return whether the task predicts a rating or text for one item, rather than ranks items."""
    return spec.task.question in (Question.rate, Question.write)


def _problems(spec: RunSpec, options: argparse.Namespace) -> Iterator[Llm4RecError]:
    """Yield why model and data cannot answer: the model cannot do it, or not with titles; a control destroys the data.

    It needs no data.
    """
    from llm4rec_cli.runs import rules

    if _is_about_item(spec):
        yield from rules.problems(spec.config) if spec.config.run is None else ()  # a run brings its own model
    else:
        ranking_spec = spec.with_config(task={"question": Question.rank, "candidates": Candidates.full})
        yield from rules.problems_of_capability(ranking_spec.config)
        if options.title is not None and spec.model.traits.needs_user:
            alternatives = [name for name in models_with("rank_catalogue") if not config_class(name).traits.needs_user]
            yield UsageError(
                f"model '{spec.model.name}' knows users by id and does not read histories: it cannot take --title",
                f"--user ID, or another model: {', '.join(alternatives)}",
            )
    control = spec.config.dataset.control
    if control is not Control.none:
        yield UsageError(
            f"dataset.control={control.name} destroys the signal that recommendations rely on", "dataset.control=none"
        )


def _problems_of_item(spec: RunSpec, options: argparse.Namespace) -> Iterator[UsageError]:
    """Yield a problem if the task needs `--user` and `--item` and one is missing, or takes no such option."""
    if _is_about_item(spec) and (options.user is None or options.item is None):
        yield UsageError(f"task={spec.task.name} needs a user and an item", "--user ID --item ID")
    if _is_about_item(spec) and (options.new_items is not None or options.explain):
        option = "--explain" if options.new_items is None else "--new-items"
        yield UsageError(f"{option} is for rankings, and task={spec.task.name} ranks nothing", "task=sequential")
    if options.item is not None and not _is_about_item(spec):
        yield UsageError(
            f"task={spec.task.name} ranks all items and takes no --item",
            "leave out --item, or task=rating, task=explanation, task=review_summary",
        )


# --- the model and its input


def _build(spec: RunSpec, split: Split, source: TrainedRun | None) -> Any:
    """Return the model, with the trained run's weights if there is one."""
    from llm4rec_cli.runs import stages
    from llm4rec_cli.runs.precision import resolve_precision

    spec = resolve_precision(spec, source=source.folder if source else None)
    model = stages.build(spec, split, is_loaded=source is not None)
    if source:
        from llm4rec_cli.training.checkpoints import load_best

        raise_first(stages.problems_of_artifacts(model, source.folder))
        load_best(model, source.checkpoints)
        log.info("%s as trained in %s", spec.model.name, source.folder)
    return model


def _example_of_user(dataset: RecDataset, user_id: str) -> Examples:
    """Return one example with all interactions of a user as its history."""
    from llm4rec_cli.data.examples import single_example
    from llm4rec_cli.data.lookup import user_number

    user = user_number(dataset, user_id)
    return single_example(user, dataset.sequence, dataset.offsets[user], dataset.offsets[user + 1])


def _example_of_titles(spec: RunSpec, dataset: RecDataset, typed: list[str]) -> tuple[RecDataset, Examples, list[str]]:
    """Return the dataset, one example with these titles as its history, and the titles that are no item's.

    The latter are appended to the dataset's catalogue.

    Raises:
        UsageError: a title is no item's, and the model cannot read it as a text.
    """
    import numpy as np

    from llm4rec_cli.data.examples import single_example
    from llm4rec_cli.data.lookup import items_by_title
    from llm4rec_cli.data.new_items import titled_items, with_new_items
    from llm4rec_cli.runs import rules

    reads_text = any(dataset.texts) and not any(rules.problems_with_new_items(spec.model))
    matches = items_by_title(dataset, typed, reads_text)
    unknown = list(dict.fromkeys(title for title, item in zip(typed, matches, strict=True) if item is None))
    numbers = {title: dataset.n_items + i for i, title in enumerate(unknown)}
    history = [numbers[title] if item is None else item for title, item in zip(typed, matches, strict=True)]
    if unknown:
        dataset = with_new_items(dataset, titled_items(unknown), spec.config.dataset.text)
    # Any user will do: the model does not read who it is.
    return dataset, single_example(0, np.array(history), 0, len(history)), unknown


def _pair_example(dataset: RecDataset, user: int, item: int) -> Examples:
    """Return one example for a user and an item.

    Its row is the user's last interaction with the item, and its history what precedes that. Without an interaction the
    row is -1 and the history complete.
    """
    import numpy as np

    from llm4rec_cli.data.examples import single_example

    start, end = dataset.offsets[user], dataset.offsets[user + 1]
    rows = start + np.flatnonzero(dataset.sequence[start:end] == item)
    row, end = (rows[-1], rows[-1]) if len(rows) else (-1, end)
    return single_example(user, dataset.sequence, start, end, item, row)
