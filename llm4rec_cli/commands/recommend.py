"""`llm4rec recommend`: print the top items for a user or for titles, or predict a rating or text.

llm4rec recommend model=unisrec --user ASASDIE2W9UHU                  a user of the demo data
llm4rec recommend model=unisrec --title "garden hose" --explain       any text, if the model reads item text
llm4rec recommend model=unisrec --user ID --new-items new.csv         rank items of a file with the catalogue
llm4rec recommend model=sasrec dataset=ml-100k --title "Toy Story" --title "Star Wars" --k 5
llm4rec recommend run=PATH --user 196 --json                          a trained run by its folder
llm4rec recommend task=rating model=mf --user ID --item ID            predict the user's rating of the item
llm4rec recommend task=explanation model=retrieval --user ID --item ID      write an explanation for the user

The model is the trained run that `eval` would use, or a baseline that needs no training. A model that reads item text
takes any text as a title, and ranks the items of a file too. No run folder is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llm4rec_cli.commands import at_least
from llm4rec_cli.errors import printable
from llm4rec_cli.results.tables import Content, json_text, show

if TYPE_CHECKING:
    from llm4rec_cli.config.compose import Composed
    from llm4rec_cli.run.recommendations import ItemRow

REASONS = 3  # items of the history that are shown for a recommended item


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options: free text such as a title does not fit Hydra's override grammar."""
    options = argparse.ArgumentParser(
        "llm4rec recommend",
        usage="llm4rec recommend [overrides] (--user ID [--item ID] | --title TEXT …) [--k N] [--again] [--json]\n"
        "                         [--new-items FILE [--only-new]] [--explain]",
        add_help=False,
        allow_abbrev=False,
    )
    options.add_argument("--user", metavar="ID", help="a user of the dataset, by the id in the raw files")
    options.add_argument("--item", metavar="ID", help="an item, for a task that predicts a rating or writes a text")
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


def run(composed: Composed, options: argparse.Namespace) -> None:
    """Print the top items for `--user` or `--title`, or the rating or text for `--user` and `--item`."""
    from llm4rec_cli.run.recommendations import Query, answer

    wanted = {name: value for name, value in vars(options).items() if name not in ("title", "json")}
    rows, heading, predicted, in_training = answer(composed, Query(titles=options.title, **wanted))
    if predicted is None:
        _print_items(rows, heading, options.again, options.json)
    else:
        _print_prediction(rows[0], predicted, heading[0], in_training, options.json)


def _print_items(rows: Sequence[ItemRow], heading: Sequence[str], with_history: bool, as_json: bool) -> None:
    """Print recommended items, best first, and what adds to their scores if the rows have it.

    Args:
        heading: lines above the table.
        with_history: items of the history may be among them, and are marked.
    """
    from llm4rec_cli.run.recommendations import shortened

    if as_json:
        for row in rows:
            print(json_text(row))
        return
    columns = {
        "rank": [str(row["rank"]) for row in rows],
        "item": [str(row["item_id"]) for row in rows],
        "title": [shortened(row["title"] or "") for row in rows],
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
    print(*map(printable, heading), sep="\n")
    if not rows:
        print("the model ranks none of these items")
        return
    reasons = _reasons(rows) if "because" in rows[0] else []
    show(Content("", list(columns), list(zip(*columns.values(), strict=True)), reasons, whole=["item"]))


def _reasons(rows: Sequence[ItemRow]) -> list[str]:
    """Return lines that name the items of the history that add most to each score."""
    from llm4rec_cli.run.recommendations import shortened

    if all(reason["effect"] == 0 for row in rows for reason in row["because"]):
        return ["the history has no effect on these scores"]
    lines = ["because of the history: how much a score falls without an item"]
    for row in rows:
        lines.append(f"{row['rank']:>4}  {shortened(row['title'] or str(row['item_id']))}")
        for reason in row["because"][:REASONS]:
            effect = "not ranked without it" if reason["effect"] is None else f"{reason['effect']:+.4f}"
            lines.append(f"        {effect}  {shortened(reason['title'] or str(reason['item_id']))}")
    return lines


def _print_prediction(row: Mapping[str, object], column: str, heading: str, in_training: bool, as_json: bool) -> None:
    """Print a model's rating or text for a user and an item, and the true one if the dataset has it.

    Args:
        row: user_id, item_id, title, `column` with the prediction, and `given` with the true value or None.
        in_training: the interaction belongs to the training split.
    """
    if as_json:
        print(json_text(row))
        return
    print(printable(f"{heading}, {column}: user {row['user_id']}, '{row['title'] or row['item_id']}'\n{row[column]}"))
    if row["given"] is not None:
        print(printable(f"in the data: {row['given']}{' (used in training)' if in_training else ''}"))
