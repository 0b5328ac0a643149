"""Read the codes of items that another system made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from llm4rec_cli.data.rawfiles import read_json
from llm4rec_cli.errors import DataError, UsageError

CODE = re.compile(r"<[^<>]+>|[^\s,;<>\[\]()'\"]+")  # of `<a_12><b_3>`, `[12, 3]` or `12 3`


def find_ids(name: str) -> None:
    """Find a file of codes without reading it.

    Raises:
        UsageError: it does not exist.
    """
    if not Path(name).is_file():
        raise UsageError(f"model.ids.file={name} does not exist", "check the path")


def read_codes(file: Path) -> dict[str, list[str]]:
    """Return item -> codes of a JSON object with a list of codes, or a text of them, for each item.

    Raises:
        UsageError: there is no such file.
        DataError: it is not such an object.
    """
    content = read_json(file)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{file.name} is not an object of items and their codes", '{"item": ["<a_1>", "<b_2>"], …}')
    return {str(item): codes_in(as_text(codes)) for item, codes in content.items()}


def codes_in(text: str) -> list[str]:
    return CODE.findall(text)


def as_text(item: Any) -> str:
    """Return an item of a JSON list as text: a list is the codes of one item."""
    return " ".join(map(str, item)) if isinstance(item, list) else str(item)
