"""Sheets for people who judge texts: drawn, blinded, written as CSV and as a page for a browser, and read when filled.

A sheet shows of each example what it is about and its texts under letters. Which letter is whose stands in the key
alone. Texts that are the same to the letter stand once: to judge them twice would tell nothing.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import string
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llm4rec_cli.data import rawfiles
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.evaluation.human import BEST_SCORE, Scale
from llm4rec_cli.reporting.tables import comma_separated

PAGE, KEY = "sheet.html", "key.json"  # of an export: what raters see, and what they must not
JUDGE = "llm-judge"  # a column of sheets that a chat model filled: which one
COLUMNS = ("example", "item", "stars", "review", "label", "text", "scale")  # then one a criterion, to be filled
CRITERIA = {
    "clarity": "Is it well put, and understood at once?",
    "reasonableness": "Does it fit the item, and the stars and review where they are shown?",
}
ASKED = {  # by the column that the texts resemble
    "explanation": "Each text says what somebody likes or dislikes about the item shown.",
    "review_title": "Each text is a heading for the review shown.",
}
SCALES = {
    Scale.score: f"1 = poor to {BEST_SCORE} = good",
    Scale.rank: "1 = best, each rank once",
}
NOTHING = "(no text)"  # an empty answer is judged like any other

Key = dict[str, dict[str, list[str]]]  # example -> label -> the systems whose text it is


@dataclass(frozen=True)
class Example:
    """What one example shows, and each system's text.

    Attributes:
        item: the item's title.
        stars: as the user gave them; empty where there are none.
        review: the user's own; empty where it is not shown.
        texts: system -> text.
    """

    item: str
    stars: str
    review: str
    texts: Mapping[str, str]


@dataclass(frozen=True)
class Blind:
    """An example as raters see it: its name and what it shows; `texts` stand under labels."""

    name: str
    item: str
    stars: str
    review: str
    texts: Mapping[str, str]


@dataclass(frozen=True)
class Sheet:
    """What a rater gets.

    Attributes:
        name: tells sheets apart; each example's name begins with it.
        written: what the texts are; one of ASKED.
        scale, criteria: how they are judged.
        examples: in the order in which they are shown.
    """

    name: str
    written: str
    scale: Scale
    criteria: Sequence[str]
    examples: Sequence[Blind]


def key_of(folder: Path) -> dict[str, Any]:
    """key.json of an export.

    Raises:
        UsageError: the folder is none.
    """
    try:
        return dict(json.loads((folder / KEY).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no {KEY}", "name the folder that llm4rec human export wrote") from None


def plain(text: str) -> str:
    """A text as it is shown: entities resolved and spaces evened out, so that neither tells where it comes from."""
    return " ".join(html.unescape(text).split()) or NOTHING


def drawn(examples: Sequence[Example], n: int, seed: int) -> tuple[list[Example], int]:
    """At most n of the examples, in random order, and how many could not be drawn as all of their texts are the same.

    Raises:
        DataError: so it is with all of them.
    """
    differing = [example for example in examples if len(set(example.texts.values())) > 1]
    if not differing:
        raise DataError(
            f"in all {len(examples):,} examples that these runs share the texts are the same",
            "choose runs whose texts differ: there is nothing to judge",
        )
    order = stream(seed, "human: examples").permutation(len(differing))[:n]
    return [differing[i] for i in order], len(examples) - len(differing)


def blinded(
    examples: Sequence[Example], written: str, scale: Scale, criteria: Sequence[str], seed: int
) -> tuple[Sheet, Key]:
    """The examples under labels that are shuffled for each by the seed, and whose each label is."""
    shown, whose = [], []
    for i, example in enumerate(examples):
        systems = defaultdict(list)
        for system, text in example.texts.items():
            systems[text].append(system)
        order = stream(seed, "human: labels", i).permutation(len(systems))
        texts = dict(zip(string.ascii_uppercase, np.array(list(systems), dtype=object)[order], strict=False))
        shown.append((example.item, example.stars, example.review, texts))
        whose.append({label: systems[text] for label, text in texts.items()})
    told = json.dumps([written, scale.value, list(criteria), shown])
    sheet = hashlib.sha256(told.encode()).hexdigest()[:6]
    names = [f"{sheet}-{i}" for i in range(1, len(examples) + 1)]
    blind = [Blind(name, *example) for name, example in zip(names, shown, strict=True)]
    return Sheet(sheet, written, scale, criteria, blind), dict(zip(names, whose, strict=True))


def as_csv(sheet: Sheet, given: Sequence[Mapping[str, Mapping[str, int]]] | None = None, judge: str = "") -> str:
    """One row a text, a cell to fill a criterion. It begins with a byte order mark, or Excel would misread it.

    Args:
        given: of each example, criterion -> label -> score or rank; None: all cells are left to be filled.
        judge: the chat model that gave them.
    """
    columns = [*COLUMNS, *sheet.criteria, *([JUDGE] if judge else [])]
    rows = []
    for i, example in enumerate(sheet.examples):
        about = [example.name, *map(_cell, (example.item, example.stars, example.review))]
        for label, text in example.texts.items():
            values = [given[i].get(name, {}).get(label, "") if given else "" for name in sheet.criteria]
            rows.append([*about, label, _cell(text), SCALES[sheet.scale], *values, *([_cell(judge)] if judge else [])])
    return "\ufeff" + comma_separated(columns, rows)


def as_page(sheet: Sheet) -> str:
    """The same as one page of HTML that needs nothing else; what it holds of data is JSON until its script shows it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    shown = {
        "sheet": sheet.name,
        "scale": sheet.scale.value,
        "best": BEST_SCORE,
        "criteria": list(sheet.criteria),
        "examples": [vars(example) for example in sheet.examples],
    }
    templates = Environment(
        loader=PackageLoader("llm4rec_cli.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return templates.get_template("sheet.html").render(
        shown=shown,
        asked=ASKED[sheet.written],
        ranked=sheet.scale is Scale.rank,
        best=BEST_SCORE,
        criteria={name: CRITERIA.get(name, "") for name in sheet.criteria},
    )


def _cell(text: str) -> str:
    """A text that a spreadsheet will not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def shown_on(page: Path, key: Key) -> list[Blind]:
    """The examples as a page shows them to raters.

    Raises:
        DataError: it is not the page that was exported with this key.
    """
    remedy = "name the folder as llm4rec human export wrote it"
    if not page.is_file():
        raise DataError(f"there is no {page}", remedy)
    found = re.search(r'<script type="application/json" id="shown">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    examples = [Blind(**example) for example in json.loads(found[1])["examples"]] if found else []
    if {example.name: set(example.texts) for example in examples} != {
        name: set(labels) for name, labels in key.items()
    }:
        raise DataError(f"{page} does not show the examples of its key", remedy)
    return examples


@dataclass(frozen=True)
class Filled:
    """A sheet that came back.

    Attributes:
        rater: the file's name.
        values: criterion -> example -> label -> score or rank, of examples whose texts were all judged by it.
        unfilled: criterion -> how many examples it was left out of, in part or whole.
        judge: the chat model that filled it; empty where a person did.
    """

    rater: str
    values: dict[str, dict[str, dict[str, float]]]
    unfilled: dict[str, int]
    judge: str = ""


def filled(path: Path, key: Key, scale: Scale, criteria: Sequence[str]) -> Filled:
    """Reads a filled sheet: of CSV with commas, semicolons or tabs, whatever other columns it has.

    Raises:
        DataError: a column is missing, or a row is of no text of this sheet, or comes twice; a score or rank is none,
            or a rank is given twice; or nothing is filled.
    """
    rows = rawfiles.rows(path, _delimiter(path), quoted=True, fallback="cp1252")  # as Excel writes where it is told not
    _, header = next(rows)
    place = _places(path, header, ("example", "label", *criteria))
    judges = [i for i, name in enumerate(header) if name.strip() == JUDGE]
    judge = ""
    seen: dict[tuple[str, str], int] = {}
    given: dict[str, dict[str, dict[str, float]]] = {criterion: defaultdict(dict) for criterion in criteria}
    for line, fields in rows:
        if not any(fields):
            continue  # a spreadsheet may leave rows of nothing at the end
        if len(fields) != len(header):
            raise _wrong(path, line, f"{len(fields)} fields, expected {len(header)}", "mend that row")
        example, label = (fields[place[name]].strip() for name in ("example", "label"))
        _check_row(path, line, example, label, key)
        if (example, label) in seen:
            raise _wrong(
                path, line, f"{label} of example {example} stands in line {seen[example, label]} too", "keep one"
            )
        seen[example, label] = line
        judge = judge or "".join(fields[i].strip().removeprefix("'") for i in judges)
        for criterion in criteria:
            said = fields[place[criterion]].strip()
            if not said:
                continue
            value = _value(path, line, f"{criterion} of {label}", said, scale, len(key[example]))
            others = given[criterion][example]
            if scale is Scale.rank and value in others.values():
                other = next(other for other, rank in others.items() if rank == value)
                what = f"{criterion} of example {example}: rank {said} is that of {other} too"
                raise _wrong(path, line, what, f"rank its texts 1 to {len(key[example])}, each rank once")
            others[label] = value
    values = {
        criterion: {example: of for example, of in by_example.items() if of.keys() == key[example].keys()}
        for criterion, by_example in given.items()
    }
    if not any(values.values()):
        raise DataError(
            f"{path.name} judges no example in full", f"fill a column ({', '.join(criteria)}), or leave the file out"
        )
    return Filled(path.stem, values, {criterion: len(key) - len(of) for criterion, of in values.items()}, judge)


def _delimiter(path: Path) -> str:
    _, header = next(rawfiles.lines(path, "cp1252"))
    return max(",;\t", key=header.count)


def _places(path: Path, header: Sequence[str], needed: Sequence[str]) -> dict[str, int]:
    """Where the columns that count stand."""
    names = [name.strip() for name in header]
    for name in needed:
        if names.count(name) != 1:
            found = f"{'several columns' if name in names else 'no column'} '{name}' (found {', '.join(names)})"
            raise _wrong(path, 1, found, f"keep the columns {', '.join(needed)} of sheet.csv")
    return {name: names.index(name) for name in needed}


def _check_row(path: Path, line: int, example: str, label: str, key: Key) -> None:
    if example not in key:
        raise _wrong(
            path,
            line,
            f"no example '{example}' in this sheet, whose examples are {next(iter(key))} and so on",
            "name the folder that this sheet was exported to",
        )
    if label not in key[example]:
        raise _wrong(path, line, f"no label '{label}' in example {example}", f"its labels: {', '.join(key[example])}")


def _value(path: Path, line: int, what: str, said: str, scale: Scale, n_texts: int) -> float:
    """The whole number that a cell holds; `4.0` is one, too."""
    most = BEST_SCORE if scale is Scale.score else n_texts
    value = rawfiles.parse_number(said)
    if value is None or not value.is_integer() or not 1 <= value <= most:
        remedy = f"a whole number, 1 to {most} ({SCALES[scale]}), or nothing"
        raise _wrong(path, line, f"{what} is '{said[:40]}'", remedy)
    return value


def _wrong(path: Path, line: int, what: str, remedy: str) -> DataError:
    return DataError(f"{path.name}, line {line}: {what}", remedy)
