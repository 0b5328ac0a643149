"""What `llm4rec recommend` prints: a table of items, or a rating or text, each also as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llm4rec_cli.reporting.tables import console, json_text, table

if TYPE_CHECKING:
    from llm4rec_cli.data.examples import IntArray
    from llm4rec_cli.data.recdataset import RecDataset

LATEST = 3  # items of the history that the heading names


def print_items(rows: Sequence[dict[str, Any]], heading: str, with_history: bool, as_json: bool) -> None:
    """Print recommended items, best first.

    Args:
        rows: rank, item_id, title (may be None), score and in_history of each.
        with_history: items of the history may be among them, and are marked.
    """
    if as_json:
        for row in rows:
            print(json_text(row))
        return
    columns = {
        "rank": [str(row["rank"]) for row in rows],
        "item": [row["item_id"] for row in rows],
        "title": [row["title"] or "" for row in rows],
        "score": [f"{row['score']:.4f}" for row in rows],
        "in history": ["yes" if row["in_history"] else "" for row in rows],
    }
    if not any(columns["title"]):
        del columns["title"]
    if not with_history:
        del columns["in history"]
    out = console()
    out.print(heading, soft_wrap=True, highlight=False)
    out.print(table("", list(columns), list(zip(*columns.values(), strict=True))))


def print_prediction(row: dict[str, Any], column: str, heading: str, in_training: bool, as_json: bool) -> None:
    """Print a model's rating or text for a user and an item, and the true one if the dataset has it.

    Args:
        row: user_id, item_id, title, `column` with the prediction, and `given` with the true value or None.
        in_training: the interaction belongs to the training split.
    """
    if as_json:
        print(json_text(row))
        return
    out = console()
    out.print(f"{heading}, {column}: user {row['user_id']}, '{row['title'] or row['item_id']}'")
    out.print(str(row[column]), soft_wrap=True, highlight=False)
    if row["given"] is not None:
        note = " (used in training)" if in_training else ""
        out.print(f"in the data: {row['given']}{note}", soft_wrap=True, highlight=False)


def item_fields(dataset: RecDataset, item: int) -> dict[str, str | None]:
    """Return an item's raw id and its title, None if it has none."""
    row = dataset.items.iloc[item]
    title = row.get("title")
    return {"item_id": row["item_id"], "title": title if isinstance(title, str) else None}


def history_summary(dataset: RecDataset, history: IntArray) -> str:
    """Return the length of a history and its latest items, in words."""
    fields = [item_fields(dataset, item) for item in history[-LATEST:]]
    latest = ", ".join(f"'{field['title'] or field['item_id']}'" for field in fields)
    if len(history) > LATEST:
        return f"{len(history)} items, the latest {latest}"
    return f"{len(history)} item{'s' if len(history) > 1 else ''}: {latest}"
