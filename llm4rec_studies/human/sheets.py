"""Blind sheets: CSV files of texts under codes, and the key that names the system that wrote each text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pandas as pd

from llm4rec_cli.data import rawfiles
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.files import write_text
from llm4rec_cli.results.tables import comma_separated

SHEET, KEY_FILE = "sheet.csv", "key.json"  # raters get the first, and never the second
JUDGE_COLUMN = "llm-judge"  # names the chat model that filled a sheet
COLUMNS = ("code", "item", "stars", "review", "text", "scale")  # followed by one column per criterion
BEST_SCORE = 5
SCALE = f"1 = poor to {BEST_SCORE} = good"

Row = dict[str, str]  # column -> cell


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """What raters do not see: key.json."""

    column: str  # the column of the dataset that the texts resemble
    synthetic: bool
    criteria: list[str]
    runs: dict[str, str]  # system -> run folder; without the users' own texts
    codes: dict[str, str]  # code -> system


def write_sheet(path: Path, rows: Sequence[Row]) -> None:
    """Write a sheet in which no cell is a formula. Its byte order mark lets Excel read it as UTF-8."""
    cells = [[f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell for cell in row.values()] for row in rows]
    write_text(path, "\ufeff" + comma_separated(list(rows[0]), cells))


def read_key(folder: Path) -> Key:
    """Return key.json of an exported folder. Raises UsageError if it is missing or of another version."""
    try:
        return msgspec.json.decode((folder / KEY_FILE).read_bytes(), type=Key)
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise UsageError(f"{folder} has no valid {KEY_FILE}", "name a folder of llm4rec human export") from error


def read_rows(path: Path, key: Key, columns: Sequence[str]) -> dict[str, tuple[int, Row]]:
    """Return the rows of a sheet, with their lines, by code. It is CSV with commas, semicolons or tabs, which may have
    further columns.

    Raises:
        UsageError: the sheet is missing.
        DataError: a column is missing, or a row is not of this sheet, or is repeated.
    """
    if not path.is_file():
        raise UsageError(f"{path} is not a file", "name a sheet of llm4rec human export")
    _, first_line = next(rawfiles.lines(path, "cp1252"))
    delimiter = max(",;\t", key=first_line.count)
    lines = rawfiles.rows(path, delimiter, quoted=True, fallback="cp1252")  # Excel's default encoding
    header = [name.strip() for name in next(lines)[1]]
    if any(header.count(name) != 1 for name in columns):
        problem = f"expected each of the columns {', '.join(columns)} once, got {', '.join(header)}"
        raise rawfiles.malformed(path, 1, problem)
    rows: dict[str, tuple[int, Row]] = {}
    for line, fields in lines:
        if not any(fields):
            continue  # spreadsheets may append empty rows
        if len(fields) != len(header):
            raise rawfiles.wrong_field_count(path, line, fields, header)
        row = dict(zip(header, map(str.strip, fields), strict=True))
        code = row["code"]
        if code not in key.codes:
            raise rawfiles.malformed(path, line, f"no code '{code}' in {KEY_FILE}, only {min(key.codes)} and so on")
        if code in rows:
            raise rawfiles.malformed(path, line, f"code {code} is already on line {rows[code][0]}")
        rows[code] = line, row
    return rows


def read_scores(path: Path, key: Key) -> pd.DataFrame:
    """Return the scores on a filled sheet, on which cells may be empty, with rater, judge (the chat model, empty for a
    person), criterion, code and system. Raises UsageError and DataError as `read_rows`, and a DataError if a score is
    not on the scale or there are none."""
    scores = []
    for code, (line, row) in read_rows(path, key, ("code", *key.criteria)).items():
        facts = {"rater": path.stem, "judge": row.get(JUDGE_COLUMN, "").removeprefix("'")}
        for name in key.criteria:
            if row[name]:
                if not (score := valid_score(row[name])):
                    problem = f"{name} is '{row[name]}', expected a whole number from 1 to {BEST_SCORE}, or nothing"
                    raise rawfiles.malformed(path, line, problem)
                scores.append({**facts, "criterion": name, "code": code, "system": key.codes[code], "score": score})
    if not scores:
        raise DataError(f"{path} has no scores", f"fill a column ({', '.join(key.criteria)}), or omit the file")
    return pd.DataFrame(scores)


def valid_score(value: object) -> int | None:
    """Return a whole number on the scale, which may be text or `4.0`; None for anything else."""
    number = rawfiles.parse_number(value)
    return int(number) if number is not None and number in range(1, BEST_SCORE + 1) else None
