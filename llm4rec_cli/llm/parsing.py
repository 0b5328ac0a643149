"""What the parsers of a chat model's answers share.

A parser accepts any string, in time proportional to its length: repeats in patterns are possessive (`*+`) or bounded.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

FENCE = re.compile(r"```(?:\w++(?=[ \t]*+\n)|json|python)?")
_DECODER = json.JSONDecoder(strict=False)  # allows line breaks inside strings

_STRING = r"""(?:'(?:[^'\\\x00-\x1f]|\\['"\\nt])*+'|"(?:[^"\\\x00-\x1f]|\\['"\\nt])*+")"""
_PAIR = rf"{_STRING}[ \n]*+:[ \n]*+(?:{_STRING}|[1-9][0-9]{{0,9}}(?:\.[0-9]{{1,9}})?|None)"
FLAT_LIST, _FLAT_DICT = (
    re.compile(rf"{opening}(?:[ \n]*+{element}[ \n]*+(?:,|(?={closing})))++[ \n]*+{closing}")
    for opening, element, closing in ((r"\[", _STRING, r"\]"), (r"\{", _PAIR, r"\}"))
)


def without_reasoning(completion: str) -> str:
    """Return a completion without its `<think>` block; empty if the block does not end. Lone surrogates are `?`."""
    answer = completion.rpartition("</think>")[2].partition("<think>")[0]
    return answer.encode("utf-8", "replace").decode().strip()


def has_words(text: str) -> bool:
    return any(c.isalnum() for c in text)


def one_line(text: str) -> str:
    """Return a text on one line; lone surrogates, which JSON can escape, become `?`."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def parse_object(text: str, start: int) -> tuple[dict[Any, Any], int]:
    """Return the JSON object or flat Python dict that starts there, and its end; empty if it is cut off or neither."""
    try:
        value, end = _DECODER.raw_decode(text, start)
        return value, end
    except (ValueError, RecursionError):
        end = text.find("}", start) + 1
    if not end:
        return {}, len(text)
    return (ast.literal_eval(text[start:end]) if _FLAT_DICT.fullmatch(text, start, end) else {}), end
