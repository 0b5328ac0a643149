"""What `llm4rec recommend` prints: a table of items, or a rating or text, each also as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.results.tables import Content, json_text, show

if TYPE_CHECKING:
    from llm4rec_cli.data.examples import IntArray
    from llm4rec_cli.data.recdataset import RecDataset

LATEST = 3  # items of the history that the heading names
REASONS = 3  # items of the history that are shown for a recommended item
WIDTH = 70  # characters of a title on the terminal


class ItemFields(TypedDict):
    """An item's raw id, and its title, or else its text; None where it has none."""

    item_id: str | None
    title: str | None


class Effect(ItemFields):
    """An item of the history, and how much it adds to a score; None if the item is not ranked without it."""

    effect: float | None


class ItemRow(ItemFields):
    """A recommended item.

    Attributes:
        rank: from 1.
        in_history, is_new: whether it is in the history, and in the file of new items.
        titles_as_text: the titles in the history that are no item's.
        because: what the items of the history add to its score, most first.
    """

    rank: int
    score: float
    in_history: bool
    is_new: bool
    titles_as_text: list[str]
    because: NotRequired[list[Effect]]


def item_rows(
    dataset: RecDataset,
    items: IntArray,
    scores: NDArray[np.float32],
    history: IntArray,
    new: IntArray,
    texts: Sequence[str],
) -> list[ItemRow]:
    """Return what is known of recommended items, best first.

    Args:
        dataset: with the new items and the titles that are no item's.
        items, scores: (k,) of the recommended items.
        history: item numbers.
        new: the numbers of new items.
        texts: the titles in the history that are no item's.
    """
    return [
        {
            "rank": rank,
            **item_fields(dataset, int(item)),
            "score": float(score),
            "in_history": bool(item in history),
            "is_new": bool(item in new),
            "titles_as_text": list(texts),
        }
        for rank, (item, score) in enumerate(zip(items, scores, strict=True), start=1)
    ]


def add_effects(rows: Sequence[ItemRow], dataset: RecDataset, items: IntArray, effects: NDArray[np.float32]) -> None:
    """Add to each row `because`: how much each item of the history adds to its score, most first.

    Args:
        items: (h,) of the history.
        effects: (h, k), as `tasks.recommendation.history_effects` returns them.
    """
    for row, column in zip(rows, effects.T, strict=True):
        order = np.argsort(-column, kind="stable")
        row["because"] = [
            {**item_fields(dataset, int(items[i])), "effect": float(column[i]) if np.isfinite(column[i]) else None}
            for i in order
        ]


def notes(texts: Sequence[str], n_catalogue: int, n_new: int, only_new: bool) -> list[str]:
    """Return sentences on the titles that are no item's, and on new items."""
    sentences = [f"'{text}' is not in the catalogue: its text is used" for text in texts]
    if only_new:
        sentences.append(f"only the {n_new:,} new items are ranked")
    elif n_new:
        sentences.append(f"{n_new:,} new items are ranked with the {n_catalogue:,} of the catalogue")
    return sentences


def print_items(rows: Sequence[ItemRow], heading: Sequence[str], with_history: bool, as_json: bool) -> None:
    """Print recommended items, best first, and what adds to their scores if the rows have it.

    Args:
        rows: as returned by `item_rows`.
        heading: lines above the table.
        with_history: items of the history may be among them, and are marked.
    """
    if as_json:
        for row in rows:
            print(json_text(row))
        return
    columns = {
        "rank": [str(row["rank"]) for row in rows],
        "item": [str(row["item_id"]) for row in rows],
        "title": [_shortened(row["title"] or "") for row in rows],
        "score": [f"{row['score']:.4f}" for row in rows],
        "in history": ["yes" if row["in_history"] else "" for row in rows],
        "new": ["yes" if row["is_new"] else "" for row in rows],
    }
    if not any(columns["title"]):
        del columns["title"]
    if not with_history:
        del columns["in history"]
    if not any(columns["new"]):
        del columns["new"]
    print(*heading, sep="\n")
    if not rows:
        print("the model ranks none of these items")
        return
    reasons = _reasons(rows) if "because" in rows[0] else []
    show(Content("", list(columns), list(zip(*columns.values(), strict=True)), reasons, whole=["item"]))


def _reasons(rows: Sequence[ItemRow]) -> list[str]:
    """Return lines that name the items of the history that add most to each score."""
    if all(reason["effect"] == 0 for row in rows for reason in row["because"]):
        return ["the history has no effect on these scores"]
    lines = ["because of the history: how much a score falls without an item"]
    for row in rows:
        lines.append(f"{row['rank']:>4}  {_shortened(row['title'] or str(row['item_id']))}")
        for reason in row["because"][:REASONS]:
            effect = "not ranked without it" if reason["effect"] is None else f"{reason['effect']:+.4f}"
            lines.append(f"        {effect}  {_shortened(reason['title'] or str(reason['item_id']))}")
    return lines


def print_prediction(row: Mapping[str, object], column: str, heading: str, in_training: bool, as_json: bool) -> None:
    """Print a model's rating or text for a user and an item, and the true one if the dataset has it.

    Args:
        row: user_id, item_id, title, `column` with the prediction, and `given` with the true value or None.
        in_training: the interaction belongs to the training split.
    """
    if as_json:
        print(json_text(row))
        return
    print(f"{heading}, {column}: user {row['user_id']}, '{row['title'] or row['item_id']}'")
    print(row[column])
    if row["given"] is not None:
        print(f"in the data: {row['given']}{' (used in training)' if in_training else ''}")


def item_fields(dataset: RecDataset, item: int) -> ItemFields:
    row = dataset.items.iloc[item]
    item_id, title, text = (row.get(name) for name in ("item_id", "title", "text"))
    names = [name.strip() for name in (title, text) if isinstance(name, str) and name.strip()]
    return {"item_id": item_id if isinstance(item_id, str) else None, "title": names[0] if names else None}


def history_summary(dataset: RecDataset, history: IntArray) -> str:
    """Return the length of a history and its latest items, in words."""
    fields = [item_fields(dataset, item) for item in history[-LATEST:]]
    latest = ", ".join(f"'{_shortened(field['title'] or str(field['item_id']))}'" for field in fields)
    if len(history) > LATEST:
        return f"{len(history)} items, the latest {latest}"
    return f"{len(history)} item{'s' if len(history) > 1 else ''}: {latest}"


def _shortened(title: str) -> str:
    return textwrap.shorten(title, WIDTH, placeholder=" …")
