"""What a model recommends: its top items for a user or for titles, or its rating or text for a user and an item."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.config.compose import Composed
from llm4rec_cli.config.registry import config_class, models_with
from llm4rec_cli.config.schema import Candidates, Control, Question
from llm4rec_cli.data.examples import Examples, IntArray, single_example
from llm4rec_cli.data.lookup import SAMPLE_IDS, item_number, items_by_title, quoted, user_number
from llm4rec_cli.data.new_items import read_new_items, titled_items, with_new_items
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.errors import DataError, Llm4RecError, UsageError, raise_first
from llm4rec_cli.run import rules, stages
from llm4rec_cli.run.job import Evaluation, Job, evaluation, of_task
from llm4rec_cli.run.precision import settled
from llm4rec_cli.tasks import base

if TYPE_CHECKING:
    import pandas as pd


log = logging.getLogger(__name__)

LATEST = 3  # items of the history that the heading names
WIDTH = 70  # characters of a title on the terminal


@dataclass(frozen=True)
class Query:
    """What is wanted: top items for a user or for titles, or a rating or text for a user and an item."""

    user: str | None = None  # a raw id, as of `item`
    item: str | None = None
    titles: Sequence[str] | None = None  # of a history, oldest first; any texts if the model reads item text
    k: int = 10
    again: bool = False  # whether items of the history may be recommended
    new_items: str | None = None  # a file of items that are ranked with the catalogue
    only_new: bool = False  # whether these are ranked alone
    explain: bool = False  # whether to measure how much each item of the history adds to a score


class ItemFields(TypedDict):
    """An item's raw id, and its title, or else its text; None where it has none."""

    item_id: str | None
    title: str | None


class Effect(ItemFields):
    """An item of the history, and how much it adds to a score; None if the item is not ranked without it."""

    effect: float | None


class ItemRow(ItemFields):
    rank: int  # from 1
    score: float
    in_history: bool  # whether it is in the history
    is_new: bool  # whether it is in the file of new items
    titles_as_text: list[str]  # titles in the history that match no item
    because: NotRequired[list[Effect]]  # what the items of the history add to its score, most first


class Answer(NamedTuple):
    """What a model recommends."""

    rows: Sequence[Any]  # an `ItemRow` for each item, best first; or a user and an item, with the rating or text
    heading: list[str]  # sentences on it
    predicted: str | None = None  # the column of a rating or text; None for items
    in_training: bool = False  # the user's interaction with the item is in the training split


def answer(composed: Composed, query: Query) -> Answer:
    """Return the top items for a user or for titles, or the rating or text for a user and an item."""
    if (query.user is None) == (query.titles is None):
        raise UsageError("recommend needs either a user or titles", "--user ID, or --title TEXT")
    if query.only_new and query.new_items is None:
        raise UsageError("--only-new ranks the items of a file, and no file is named", "--new-items FILE --only-new")
    job = Job.unchecked(composed, "recommend")
    raise_first(_problems(job, query))
    job = evaluation(job)
    if isinstance(job, Evaluation) and job.task.question == Question.all:
        job = of_task(job.evaluated, job.typed, "sequential")
    raise_first(_problems(job, query))
    raise_first(_problems_of_item(job, query))
    new_items = None
    if query.new_items is not None:
        raise_first(rules.problems_with_new_items(job.model))
        new_items = read_new_items(Path(query.new_items).expanduser(), job.config.dataset)
    if not _is_about_item(job):  # always rank the whole catalogue or file, whatever the task's candidates
        job = job.with_config(task={"candidates": Candidates.uniform if query.only_new else Candidates.full})
        raise_first(job.model.problems(job.config))
    dataset = stages.load(job)
    if dataset.impressions is not None:
        raise DataError(
            f"dataset {dataset.manifest['name']} is a click log: it has no interaction histories to recommend from",
            "choose a dataset of interactions: llm4rec list datasets",
        )
    heading = f"{job.model.display_name()} on {job.config.dataset.name}"
    if _is_about_item(job):
        return _predict(job, dataset, query, heading)
    return _recommend(job, dataset, new_items, query, heading)


def _recommend(
    job: Job,
    catalogue: RecDataset,
    new_items: pd.DataFrame | None,
    query: Query,
    heading: str,
) -> Answer:
    """Return the top items for a user or for titles.

    New items, and then titles that match no item, are appended to the catalogue. The latter are only in the
    history, and never recommended.
    """
    with_new = catalogue
    if new_items is not None:
        with_new = with_new_items(catalogue, new_items, job.config.dataset.text)
    texts: list[str] = []  # titles that match no item
    if query.titles is not None:
        dataset, example, texts = _example_of_titles(job, with_new, query.titles)
    else:
        user = user_number(catalogue, str(query.user))
        start, end = catalogue.offsets[user : user + 2]
        dataset, example = with_new, single_example(user, catalogue.sequence, start, end)
    new, as_text = np.arange(catalogue.n_items, with_new.n_items), np.arange(with_new.n_items, dataset.n_items)
    raise_first(rules.problems_with_dataset(job.config, dataset))
    split = stages.split_dataset(job, catalogue)
    model = _build(job, split)
    # In two steps, so that text features of the file are cached whatever titles are typed.
    for smaller, larger in ((catalogue, with_new), (with_new, dataset)):
        if larger is not smaller:
            model.add_items(replace(split, dataset=larger))

    from llm4rec_cli.tasks.recommendation import history_effects, top_items

    history, _ = example.histories()
    if query.only_new:
        example = replace(example, candidates=new[None])
    top = top_items(model, example, query.k, as_text if query.again else np.union1d(history, as_text))
    rows = _item_rows(dataset, top.items, top.scores, history, new, texts)
    if query.explain and rows:
        items, effects = history_effects(model, example, top, job.config.trainer.eval_batch_size)
        _add_effects(rows, dataset, items, effects)
    user_or_titles = "these titles" if query.user is None else f"user {query.user}"
    heading = f"{heading} for {user_or_titles}, {_history_summary(dataset, history)}"
    notes = _notes(texts, catalogue.n_items, len(new), query.only_new)
    return Answer(rows, [heading, *notes])


def _predict(job: Job, dataset: RecDataset, query: Query, heading: str) -> Answer:
    """Return the rating or text that a model predicts for a user and an item, and the true one where there is one.
    Raises UsageError if the task or the prompt needs an interaction of the two, and the dataset has none."""
    from llm4rec_cli.tasks import rating, text

    assert query.user is not None and query.item is not None
    user, item = user_number(dataset, query.user), item_number(dataset, query.item)
    example = _pair_example(dataset, user, item)
    row = int(example.row[0])
    interacted = row >= 0
    if job.task.written is not None and not interacted:
        latest = dataset.sequence[dataset.offsets[user] : dataset.offsets[user + 1]][-SAMPLE_IDS:]
        raise UsageError(
            f"user {query.user} has no interaction with item {query.item}, and task={job.task.name} needs one",
            f"--item with one of the user's items: {quoted(dataset.items['item_id'].iloc[latest])}",
        )
    if not interacted and "oracle_input" in job.model.labels(job.task.name):
        raise UsageError(
            f"the prompt contains part of the review, and user {query.user} has not reviewed item {query.item}",
            "choose a prompt without it: llm4rec list prompts",
        )
    split = stages.split_dataset(job, dataset)
    model = _build(job, split)
    if job.task.written is None:
        prediction: Any = round(float(rating.rate(model, example, 1).value[0]), 4)
    else:
        (prediction,) = text.write(model, example, job.task.written, 1)
    column = str(base.reference_column(job.task))
    truth = split.dataset.interactions.iloc[row].get(column) if interacted else None
    if truth != truth:  # NaN: no rating or text
        truth = None
    row_of_pair = {"user_id": query.user, **_item_fields(dataset, item), column: prediction, "given": truth}
    in_training = interacted and split.assignment[row] == TRAIN
    return Answer([row_of_pair], [heading], column, in_training)


# --- checks


def _is_about_item(job: Job) -> bool:
    """Return whether the task predicts a rating or text for one item, rather than ranks items."""
    return job.task.question in (Question.rate, Question.write)


def _problems(job: Job, query: Query) -> Iterator[Llm4RecError]:
    """Yield why model and data cannot answer: the model cannot do it, or not with titles; a control destroys the data.

    It needs no data.
    """
    if _is_about_item(job):
        yield from rules.problems(job.config) if job.config.run is None else ()  # a run brings its own model
    else:
        ranking_spec = job.with_config(task={"question": Question.rank, "candidates": Candidates.full})
        yield from rules.problems_of_capability(ranking_spec.config)
        if query.titles is not None and job.model.traits.needs_user:
            alternatives = [name for name in models_with("rank_catalogue") if not config_class(name).traits.needs_user]
            yield UsageError(
                f"model '{job.model.name}' knows users by id and does not read histories: it cannot take --title",
                f"--user ID, or another model: {', '.join(alternatives)}",
            )
    control = job.config.dataset.control
    if control is not Control.none:
        yield UsageError(
            f"dataset.control={control.name} destroys the signal that recommendations rely on", "dataset.control=none"
        )


def _problems_of_item(job: Job, query: Query) -> Iterator[UsageError]:
    """Yield a problem if the task needs `--user` and `--item` and one is missing, or takes no such option."""
    if _is_about_item(job) and (query.user is None or query.item is None):
        yield UsageError(f"task={job.task.name} needs a user and an item", "--user ID --item ID")
    if _is_about_item(job) and (query.new_items is not None or query.explain):
        option = "--explain" if query.new_items is None else "--new-items"
        yield UsageError(f"{option} is for rankings, and task={job.task.name} ranks nothing", "task=sequential")
    if query.item is not None and not _is_about_item(job):
        yield UsageError(
            f"task={job.task.name} ranks all items and takes no --item",
            "leave out --item, or task=rating, task=explanation, task=review_summary",
        )


# --- the model and its input


def _build(job: Job, split: Split) -> Any:
    """Return the model, with the trained run's weights if there is one."""
    model = stages.build(settled(job), split)
    if isinstance(job, Evaluation):
        log.info("%s as trained in %s", job.model.name, job.evaluated.folder)
    return model


def _example_of_titles(job: Job, dataset: RecDataset, typed: Sequence[str]) -> tuple[RecDataset, Examples, list[str]]:
    """Return the dataset, one example with these titles as its history, and titles that match no item, which are
    appended to the dataset's catalogue. Raises UsageError if the model cannot read these as a text."""
    reads_text = any(dataset.texts) and not any(rules.problems_with_new_items(job.model))
    matches = items_by_title(dataset, typed, reads_text)
    unknown = list(dict.fromkeys(title for title, item in zip(typed, matches, strict=True) if item is None))
    numbers = {title: dataset.n_items + i for i, title in enumerate(unknown)}
    history = [numbers[title] if item is None else item for title, item in zip(typed, matches, strict=True)]
    if unknown:
        dataset = with_new_items(dataset, titled_items(unknown), job.config.dataset.text)
    # Any user will do: the model does not read who it is.
    return dataset, single_example(0, np.array(history), 0, len(history)), unknown


def _pair_example(dataset: RecDataset, user: int, item: int) -> Examples:
    """Return one example for a user and an item.

    Its row is the user's last interaction with the item, and its history what precedes that. Without an interaction the
    row is -1 and the history complete.
    """
    start, end = dataset.offsets[user], dataset.offsets[user + 1]
    rows = start + np.flatnonzero(dataset.sequence[start:end] == item)
    row, end = (rows[-1], rows[-1]) if len(rows) else (-1, end)
    return single_example(user, dataset.sequence, start, end, item, row)


# --- rows


def _item_rows(
    dataset: RecDataset,
    items: IntArray,
    scores: NDArray[np.float32],
    history: IntArray,
    new: IntArray,
    texts: Sequence[str],
) -> list[ItemRow]:
    """Return what is known of recommended items, best first; `dataset` includes the new items and the `texts` that are
    no item's."""
    return [
        {
            "rank": rank,
            **_item_fields(dataset, int(item)),
            "score": float(score),
            "in_history": bool(item in history),
            "is_new": bool(item in new),
            "titles_as_text": list(texts),
        }
        for rank, (item, score) in enumerate(zip(items, scores, strict=True), start=1)
    ]


def _add_effects(rows: Sequence[ItemRow], dataset: RecDataset, items: IntArray, effects: NDArray[np.float32]) -> None:
    """Add to each row `because`: how much each item of the history adds to its score, most first.

    Args:
        items, effects: (h,) and (h, k), as `tasks.recommendation.history_effects` returns them.
    """
    for row, column in zip(rows, effects.T, strict=True):
        order = np.argsort(-column, kind="stable")
        row["because"] = [
            {**_item_fields(dataset, int(items[i])), "effect": float(column[i]) if np.isfinite(column[i]) else None}
            for i in order
        ]


def _notes(texts: Sequence[str], n_catalogue: int, n_new: int, only_new: bool) -> list[str]:
    """Return sentences on titles that match no item, and on new items."""
    sentences = [f"'{text}' is not in the catalogue: its text is used" for text in texts]
    if only_new:
        sentences.append(f"only the {n_new:,} new items are ranked")
    elif n_new:
        sentences.append(f"{n_new:,} new items are ranked with the {n_catalogue:,} of the catalogue")
    return sentences


def _item_fields(dataset: RecDataset, item: int) -> ItemFields:
    row = dataset.items.iloc[item]
    item_id, title, text = (row.get(name) for name in ("item_id", "title", "text"))
    names = [name.strip() for name in (title, text) if isinstance(name, str) and name.strip()]
    return {"item_id": item_id if isinstance(item_id, str) else None, "title": names[0] if names else None}


def _history_summary(dataset: RecDataset, history: IntArray) -> str:
    """Return the length of a history and its latest items, in words."""
    fields = [_item_fields(dataset, item) for item in history[-LATEST:]]
    latest = ", ".join(f"'{shortened(field['title'] or str(field['item_id']))}'" for field in fields)
    if len(history) > LATEST:
        return f"{len(history)} items, the latest {latest}"
    return f"{len(history)} item{'s' if len(history) > 1 else ''}: {latest}"


def shortened(title: str) -> str:
    return textwrap.shorten(title, WIDTH, placeholder=" …")
