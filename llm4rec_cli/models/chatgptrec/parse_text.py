"""Parse a completion as a sentence or a headline."""

from __future__ import annotations

import json
import re
from itertools import takewhile

from llm4rec_cli.llm.parsing import FENCE, has_words, one_line, without_reasoning
from llm4rec_cli.llm.requests import Status

_CLOSING = {'"': '"', "'": "'", "“": "”", "‘": "’", "*": "*", "_": "_"}
_ASSENT = r"(?:sure|certainly|of course|okay|ok|absolutely)\b"
_PREAMBLE = re.compile(rf"{_ASSENT}.{{0,120}}[!.:]|.{{0,160}}:", re.IGNORECASE)
_ADJECTIVES = (
    r"(?:the|a|my|your|short|brief|review|final|suggested|possible|generated|product|user|user['’]s|\d{1,3}[- ]\w{1,9})"
)
_LABEL = re.compile(
    rf"\A(?:{_ASSENT}[!,.]? ?)?(?:here(?:['’]s| is| are)\b[^:]{{0,100}}"
    rf"|(?:{_ADJECTIVES} ){{0,4}}(?:explanation|summary|headline|title|answer|response|output|review|sentence)"
    r"(?: \([^)]{0,40}\))?) ?: ?",
    re.IGNORECASE,
)
_LIST_MARKER = re.compile(r"\A(?:(?:#{1,6}|>|[-*•]|\(?\d{1,3}[.)]) )+(?=\S)")
_WORD_COUNT = re.compile(r" ?[(\[]\d{1,3} words?[)\]]\Z", re.IGNORECASE)


def parse_text(completion: str) -> tuple[str, Status]:
    """Return the sentence or headline in a completion.

    Only the first paragraph counts, without a preamble ("Here is a headline:"), labels ("Summary:"), quotes, fences,
    JSON and Markdown.

    Returns:
        the text on one line, empty if invalid (without a letter or a digit); `ok` if nothing had to be removed.
    """
    answer = without_reasoning(completion)
    text = _strip(_first_paragraph(_json_text(FENCE.sub("\n", answer).strip())))
    if not has_words(text):
        return "", Status.invalid
    return text, Status.ok if text == answer else Status.repaired


def _json_text(answer: str) -> str:
    """Return the first string in a JSON value; the answer itself if it is not JSON."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return answer
    values = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return next((one_line(element) for element in values if isinstance(element, str)), answer)


def _first_paragraph(answer: str) -> str:
    """Return the first paragraph on one line, without preambles if anything follows them."""
    lines = [" ".join(line.split()) for line in answer.strip().splitlines()]
    start = 0
    while start < len(lines) - 1 and (not lines[start] or _PREAMBLE.fullmatch(lines[start].strip("*_ "))):
        start += 1
    return " ".join(takewhile(bool, lines[start:]))


def _strip(line: str) -> str:
    """Remove list markers, labels, word counts and quotes around a line, in any order of nesting."""
    line = re.sub(r"\*\*|__|`", "", line)
    for _ in range(3):  # a marker, a label and quotes at most
        line = _WORD_COUNT.sub("", _LABEL.sub("", _LIST_MARKER.sub("", line.strip())))
        line = _unquote(line)
    return line.strip()


def _unquote(line: str) -> str:
    """Remove quotes around a line, or an opening one that is never closed; `"Great" and "good"` keeps its quotes."""
    first = line[:1]
    closing = _CLOSING.get(first)
    if not closing:
        return line
    if closing not in line[1:]:
        return line[1:] if first in '"“' else line
    encloses_line = line.endswith(closing) and not re.search(rf"(?<!\w){re.escape(first)}(?=\w)", line[1:-1])
    return line[1:-1] if encloses_line else line
