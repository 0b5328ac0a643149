"""Blind sheets: texts labelled with shuffled letters, written as CSV and as a web page, and read when filled.

Only the key maps letters to systems. Identical texts of an example are shown and judged once.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from llm4rec_cli.data import rawfiles
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError, UsageError, raise_first
from llm4rec_cli.results.tables import comma_separated
from llm4rec_studies.human.agreement import BEST_SCORE, Scale

PAGE, TABLE, KEY_FILE = "sheet.html", "sheet.csv", "key.json"  # raters get one of the first two, and never the key
JUDGE_COLUMN = "llm-judge"  # names the chat model that filled a sheet
COLUMNS = ("example", "item", "stars", "review", "label", "text", "scale")  # followed by one column per criterion
# The texts below are also part of the prompts of `judge`: another wording would give other answers.
CRITERIA = {
    "clarity": "Is it well put, and understood at once?",
    "reasonableness": "Does it fit the item, and the stars and review where they are shown?",
}
INSTRUCTIONS = {  # by the column of the dataset that the texts resemble
    "explanation": "Each text says what somebody likes or dislikes about the item shown.",
    "review_title": "Each text is a heading for the review shown.",
}
SCALES = {
    Scale.score: f"1 = poor to {BEST_SCORE} = good",
    Scale.rank: "1 = best, each rank once",
}

Systems = Mapping[str, Mapping[str, Sequence[str]]]  # example -> label -> systems that wrote the text
Judgements = Mapping[str, Mapping[str, Mapping[str, float]]]  # criterion -> example -> label -> score or rank


@dataclass(frozen=True)
class Example:
    item: str
    stars: str  # the user's rating; empty if there is none
    review: str  # the user's own; empty where it is not shown
    texts: Mapping[str, str]  # by system, or by label once the example is blinded
    name: str = ""  # empty until the example is blinded


@dataclass(frozen=True)
class Sheet:
    """What raters see."""

    name: str  # a hash of the content; example names begin with it
    column: str  # the column of the dataset that the texts resemble, a key of INSTRUCTIONS
    scale: Scale
    criteria: Sequence[str]
    examples: Sequence[Example]  # blinded, in the order shown


@dataclass(frozen=True, kw_only=True)
class SheetRun:
    """A run whose texts are judged. Earlier versions recorded no chat model."""

    system: str
    run: str
    model: str
    seed: int
    config_hash: str
    labels: Sequence[str]
    chat_model: str | None = None


@dataclass(frozen=True, kw_only=True)
class SheetFacts:
    """What key.json, human.json and judge.json say of a sheet."""

    schema: int = 1
    sheet: str
    dataset: str
    dataset_fingerprint: str
    task: str
    split: str
    protocol: str
    seed: int
    scale: Scale


@dataclass(frozen=True, kw_only=True)
class Key(SheetFacts):
    """What raters do not see: key.json."""

    criteria: Sequence[str]
    runs: Sequence[SheetRun]
    systems: Sequence[str]  # those of the runs, and the users' own texts if they are shown
    examples: Systems  # which systems wrote each text


@dataclass(frozen=True)
class FilledSheet:
    rater: str  # stem of the file's name
    values: Judgements  # judgements of the examples in which all texts are judged on the criterion
    unfilled: Mapping[str, int]  # criterion -> number of the other examples
    judge: str = ""  # the chat model that filled the sheet; empty for a person


# --- writing


def blind(
    examples: Sequence[Example], column: str, scale: Scale, criteria: Sequence[str], seed: int
) -> tuple[Sheet, Systems]:
    """Return a sheet and its key; labels are shuffled in each example by the seed."""
    content, systems_by_label = [], []
    for i, example in enumerate(examples):
        systems_by_text = defaultdict(list)
        for system, text in example.texts.items():
            systems_by_text[text].append(system)
        order = stream(seed, "human: labels", i).permutation(len(systems_by_text))
        shuffled = np.array(list(systems_by_text), dtype=object)[order]
        texts = dict(zip(string.ascii_uppercase, shuffled, strict=False))
        content.append((example.item, example.stars, example.review, texts))
        systems_by_label.append({label: systems_by_text[text] for label, text in texts.items()})
    hashed = json.dumps([column, scale.value, list(criteria), content])
    sheet = hashlib.sha256(hashed.encode()).hexdigest()[:6]
    blinded = [Example(*parts, name=f"{sheet}-{i}") for i, parts in enumerate(content, start=1)]
    key = {example.name: systems for example, systems in zip(blinded, systems_by_label, strict=True)}
    return Sheet(sheet, column, scale, criteria, blinded), key


def to_csv(sheet: Sheet, judgements: Judgements | None = None, judge: str = "") -> str:
    """Return the sheet as CSV: one row per text, one column per criterion, empty or filled by `judgements`, of the chat
    model `judge` if it made them.

    It begins with a byte order mark, without which Excel misreads UTF-8.
    """
    filled = judgements or {}
    mark = [_without_formula(judge)] if judge else []
    rows = []
    for example in sheet.examples:
        about = [example.name, *map(_without_formula, (example.item, example.stars, example.review))]
        for label, text in example.texts.items():
            cells = [filled.get(name, {}).get(example.name, {}).get(label, "") for name in sheet.criteria]
            rows.append([*about, label, _without_formula(text), SCALES[sheet.scale], *cells, *mark])
    columns = [*COLUMNS, *sheet.criteria, *([JUDGE_COLUMN] if judge else [])]
    return "\ufeff" + comma_separated(columns, rows)


def to_html(sheet: Sheet) -> str:
    """Return the sheet as a self-contained web page. Its data are JSON that the page's script displays."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    data = {
        "sheet": sheet.name,
        "scale": sheet.scale.value,
        "best": BEST_SCORE,
        "criteria": list(sheet.criteria),
        "examples": [vars(example) for example in sheet.examples],
    }
    templates = Environment(
        loader=PackageLoader("llm4rec_studies.human"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return templates.get_template(PAGE).render(
        data=data,
        instruction=INSTRUCTIONS[sheet.column],
        ranked=sheet.scale is Scale.rank,
        best=BEST_SCORE,
        criteria={name: CRITERIA.get(name, "") for name in sheet.criteria},
    )


def _without_formula(text: str) -> str:
    """Return a text that spreadsheets do not evaluate as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


# --- reading


def read_key(folder: Path) -> Key:
    """Return key.json of an exported folder. Raises UsageError if the file is missing."""
    try:
        return msgspec.json.decode((folder / KEY_FILE).read_bytes(), type=Key)
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {KEY_FILE}", "name a folder written by llm4rec human export") from None


def read_page(page: Path, key: Systems) -> list[Example]:
    """Return the blinded examples that a page shows. Raises DataError if the page is missing, or does not belong to the
    key."""
    remedy = "name a folder as written by llm4rec human export"
    if not page.is_file():
        raise DataError(f"{page} is missing", remedy)
    script = re.search(r'<script type="application/json" id="shown">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    examples = [Example(**example) for example in json.loads(script[1])["examples"]] if script else []
    if {example.name: example.texts.keys() for example in examples} != {name: key[name].keys() for name in key}:
        raise DataError(f"{page} and {KEY_FILE} have different examples", remedy)
    return examples


def read_filled(path: Path, key: Systems, scale: Scale, criteria: Sequence[str]) -> FilledSheet:
    """Read a filled sheet: CSV with commas, semicolons or tabs. Other columns are ignored.

    Raises:
        DataError: a column is missing; a row's text is not on this sheet or repeated; a value is not on the scale; a
            rank is used twice; or no example is fully judged.
    """
    _, first_line = next(rawfiles.lines(path, "cp1252"))
    delimiter = max(",;\t", key=first_line.count)
    rows = rawfiles.rows(path, delimiter, quoted=True, fallback="cp1252")  # Excel's default encoding
    header = [name.strip() for name in next(rows)[1]]
    raise_first(_problems_of_columns(path, header, ("example", "label", *criteria)))
    judge = ""
    line_of: dict[tuple[str, str], int] = {}
    values: dict[str, dict[str, dict[str, float]]] = {criterion: defaultdict(dict) for criterion in criteria}
    for line, fields in rows:
        if not any(fields):
            continue  # spreadsheets may append empty rows
        if len(fields) != len(header):
            raise _malformed(path, line, f"{len(fields)} fields, expected {len(header)}", "correct that row")
        row = dict(zip(header, map(str.strip, fields), strict=True))
        example, label = row["example"], row["label"]
        if example not in key:
            what = f"no example '{example}' on this sheet, which has {next(iter(key))} and so on"
            raise _malformed(path, line, what, "name the folder that this sheet was exported to")
        if label not in key[example]:
            what, remedy = f"example {example} has no label '{label}'", f"its labels: {', '.join(key[example])}"
            raise _malformed(path, line, what, remedy)
        if (example, label) in line_of:
            what = f"{label} of example {example} is already on line {line_of[example, label]}"
            raise _malformed(path, line, what, "keep one of the two rows")
        line_of[example, label] = line
        judge = judge or row.get(JUDGE_COLUMN, "").removeprefix("'")
        for criterion in criteria:
            if row[criterion]:
                value = _value(path, line, f"{criterion} of {label}", row[criterion], scale, len(key[example]))
                ranked = {rank: other for other, rank in values[criterion][example].items()}
                if scale is Scale.rank and value in ranked:
                    what = f"{criterion} of example {example}: rank {value:g} is already given to {ranked[value]}"
                    raise _malformed(path, line, what, f"rank its texts 1 to {len(key[example])}, each rank once")
                values[criterion][example][label] = value
    complete = {
        criterion: {example: labels for example, labels in by_example.items() if labels.keys() == key[example].keys()}
        for criterion, by_example in values.items()
    }
    if not any(complete.values()):
        raise DataError(
            f"{path} has no fully judged example", f"fill a column ({', '.join(criteria)}), or omit the file"
        )
    unfilled = {criterion: len(key) - len(by_example) for criterion, by_example in complete.items()}
    return FilledSheet(path.stem, complete, unfilled, judge)


def _problems_of_columns(path: Path, header: Sequence[str], required: Sequence[str]) -> Iterator[DataError]:
    for name in required:
        if header.count(name) != 1:
            count = "several columns" if name in header else "no column"
            what = f"{count} '{name}' (columns: {', '.join(header)})"
            yield _malformed(path, 1, what, f"keep the columns {', '.join(required)} of {TABLE}")


def _value(path: Path, line: int, cell: str, text: str, scale: Scale, n_texts: int) -> float:
    """Return the whole number in a cell; `4.0` counts as one."""
    highest = BEST_SCORE if scale is Scale.score else n_texts
    value = rawfiles.parse_number(text)
    if value is None or not value.is_integer() or not 1 <= value <= highest:
        remedy = f"enter a whole number from 1 to {highest} ({SCALES[scale]}), or leave the cell empty"
        raise _malformed(path, line, f"{cell} is '{text[:40]}'", remedy)
    return value


def _malformed(path: Path, line: int, what: str, remedy: str) -> DataError:
    return DataError(f"{path}, line {line}: {what}", remedy)
