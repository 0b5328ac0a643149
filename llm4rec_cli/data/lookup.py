"""User and item numbers from the ids and titles that a person types."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from llm4rec_cli.config.registry import models_with
from llm4rec_cli.errors import UsageError

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.data.titles import Titles

log = logging.getLogger(__name__)

CHOICES = 5  # similar titles to choose from on a terminal
SAMPLE_IDS = 3  # ids that an error shows as examples


def user_number(dataset: RecDataset, user_id: str) -> int:
    return _number(dataset, "user", dataset.user_ids.tolist(), user_id)


def item_number(dataset: RecDataset, item_id: str) -> int:
    return _number(dataset, "item", dataset.items["item_id"].tolist(), item_id)


def _number(dataset: RecDataset, kind: str, ids: list[str], raw_id: str) -> int:
    """Return the position of an id. Raises UsageError with the nearest id and a few others if it is not in the
    dataset."""
    from rapidfuzz import process

    if raw_id in ids:
        return ids.index(raw_id)
    nearest, *_ = process.extractOne(raw_id, ids)
    raise UsageError(
        f"dataset {dataset.manifest['name']} has no {kind} '{raw_id}'",
        f"did you mean '{nearest}'? Ids look like {quoted(ids[:SAMPLE_IDS])}; rare ones may be left out "
        f"(dataset.{kind}_core)",
    )


def items_by_title(dataset: RecDataset, typed_titles: Sequence[str], reads_text: bool) -> list[int | None]:
    """Return the item number of each typed title; asks on a terminal where a title is ambiguous, and logs elsewhere.

    Args:
        reads_text: whether the model takes a title that is not in the dataset as a text. Its number is then None.

    Raises:
        UsageError: otherwise, if the dataset has no titles, or none close enough.
    """
    from llm4rec_cli.data.titles import Titles

    if "title" not in dataset.items:
        if reads_text:
            return [None] * len(typed_titles)
        ids = dataset.items["item_id"].head(SAMPLE_IDS)
        raise UsageError(
            f"dataset {dataset.manifest['name']} has no titles, only item ids such as {quoted(ids)}", "--user ID"
        )
    counts = np.bincount(dataset.sequence, minlength=dataset.n_items)
    titles = Titles(dataset.items["title"].fillna("").tolist(), counts)
    return [_item_by_title(typed, titles, dataset, reads_text) for typed in typed_titles]


def _item_by_title(typed: str, titles: Titles, dataset: RecDataset, reads_text: bool) -> int | None:
    from llm4rec_cli.data.titles import MIN_SIMILARITY
    from llm4rec_cli.progress import console

    if matches := titles.exact_matches(typed):
        if len(matches) > 1:
            ids = dataset.items["item_id"]
            best, *less_frequent = (f"{ids[item]} '{titles.titles[item]}'" for item in matches)
            log.info(
                "%d items are titled '%s': using the most frequent, %s, not %s",
                *(len(matches), typed, best, ", ".join(less_frequent)),
            )
        return matches[0]
    match = titles.correct_misspelling(typed)
    if console.is_terminal and sys.stdin.isatty():
        candidates = titles.suggest(typed, CHOICES, MIN_SIMILARITY)
        if match is not None:
            candidates = [match, *(item for item in candidates if item != match)]
        match = _choose(typed, candidates, titles, reads_text) if candidates else None
    elif match is not None:
        log.info("using '%s' for '%s'", titles.titles[match], typed)
    if match is None and not reads_text:
        nearest = quoted(titles.titles[item] for item in titles.suggest(typed, 3))
        raise UsageError(
            f"no title in dataset {dataset.manifest['name']} is '{typed}', and this model cannot read it as a text",
            f"the nearest are {nearest}; models that read any text: {', '.join(models_with('rank_new_items'))}",
        )
    return match


def _choose(typed: str, candidates: Sequence[int], titles: Titles, reads_text: bool) -> int | None:
    """Ask the user to choose a candidate; None if they decline."""
    from rich.prompt import IntPrompt

    from llm4rec_cli.progress import console

    console.print(f"No title is '{typed}'. Similar titles:", markup=False, highlight=False)
    for number, item in enumerate(candidates, start=1):
        console.print(f"  {number}  {titles.titles[item]}", markup=False, highlight=False)
    console.print(f"  0  none of these{': use the text itself' if reads_text else ''}", highlight=False)
    choices = [str(number) for number in range(len(candidates) + 1)]
    try:
        number = IntPrompt.ask("Which one", console=console, choices=choices, show_choices=False, default=1)
    except EOFError:
        return None
    return candidates[number - 1] if number else None


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
