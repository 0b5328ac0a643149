"""Parse a completion as a list of titles."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from llm4rec_cli.llm.parsing import FENCE, FLAT_LIST, has_words, one_line, parse_object, without_reasoning
from llm4rec_cli.llm.requests import Status

_ENUMERATOR = re.compile(r"\(?([0-9]{1,3})(?:[.)][ \t]++|\ufe0f?\u20e3[ \t]*+)(?=\S)")  # "1. ", "(1) ", or a keycap
_CONSECUTIVE_NUMBER = re.compile(r"([0-9]{1,3})(?:[.)](?=[^\W\d])|:[ \t]++|[ \t][-–—][ \t]++)(?=\S)")
_BULLET = re.compile(r"([ \t]*+)[-–—*•‣◦·+][ \t]++(?=\S)")

# What may follow a title's closing quote; any other quote is part of the title: 'L'Oreal', "23" Hair".
_AFTER_COMMA = r"""(?:["'“‘{\[\]#…]|\.\.\.|null\b|None\b|\d++(?:\.\d++)?+\s*+[,\]}]|\Z)"""
_AFTER_TITLE = rf"(?:\s*+(?:,\s*+{_AFTER_COMMA}|[\])}}#]|\Z)|[^\S\n]*+\n|\s++%s(?=\w))"
_QUOTED_TITLE = {
    opening: re.compile(
        rf"{opening}((?:[^\\{closing}]|\\.|{closing}(?!{_AFTER_TITLE % opening}))*+){closing}", re.DOTALL
    )
    for opening, closing in (('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"))
}
_LIST_OF_STRINGS = re.compile(r"""\[(?=\s*+["'“‘{])""")
_LIST_START = re.compile(rf"\A\[|{_LIST_OF_STRINGS.pattern}")
_BETWEEN = re.compile(r"(?:[\s,]|#[ \t][^\n]*+)*+")  # separators and comments
_UNQUOTED = re.compile(r"[^,\[\]{}\n]++")
_NO_TITLE = re.compile(r"[\W\d]*|null|none|nan|true|false|etc\.?", re.IGNORECASE)  # unless in quotes
_TITLE_KEY = re.compile("title|name", re.IGNORECASE)

_LINE_MARKUP = re.compile(r"[ \t>#]*+(\*\*|__)?")
_YEAR = r"(?: ?\([12]\d{3}\))"
_BOLD = re.compile(rf"(\*\*|__)(?=\S)(.+?)\1({_YEAR}?)")
_LEADING_QUOTED = [  # up to a quote at the end of the line or before a remark; or up to any quote
    re.compile(rf"[\"“'‘`](.+?)[\"”'’`]({_YEAR}?){after}") for after in (r"(?=[,.;]?$| ?[-–—:,(])", r"(?= )")
]
_TITLE_WITH_YEAR = re.compile(rf"(.*?\S{_YEAR}) ?(?:[-–—:] |[.,;]).*")
_LINK = re.compile(r"\[([^\]\n]{1,300})\]\([^)\n]{0,300}\)")
_TITLE_LABEL = re.compile(r"\A[*_]{0,2}(?:title|name|item|product|movie|film|book)[*_]{0,2}:[*_]{0,2} ", re.IGNORECASE)
_DOUBLE_QUOTED = re.compile(r"\"([^\"\n]{1,300})\"|“([^”\n]{1,300})”")
_PROSE = re.compile(
    r"(?:i|i['’][md]|i['’]ve|sure|sorry|unfortunately|here|these|those|this|they|note|please|let|hope|enjoy|based|since|as"
    r"|of course|certainly|okay|the user|if|each|all|my|you|your|thank|thanks)\b.*[.!?:]",
    re.IGNORECASE,
)
_LIST_LABEL = re.compile(
    r"\A[^:]{0,200}\b(?:here|recommend\w{0,9}|answers?|list|top|titles?|suggest\w{0,9}|items?|products?|movies?|films?"
    r"|books?|next|picks?|output|result|candidates)\b[^:]{0,100}: ",
    re.IGNORECASE,
)


def parse_titles(completion: str, limit: int, cut: bool = False) -> tuple[list[str], Status]:
    """Return the titles that a completion lists, best first.

    The first of these formats that occurs counts: nothing but a JSON list or Python list literal of strings (`ok`). The
    last list in brackets, whatever is around it, with titles in any quotes, in none, or in objects, complete or cut
    off; JSON objects; numbered lines; bulleted lines; at least two titles in double quotes; at least two lines that are
    no sentences. A comma-separated list. Enumerators are removed, numbers that belong to a title are kept. A title that
    is cut off is dropped.

    Titles beyond `limit` are dropped, and repeated ones kept. `cut` says whether the completion reached its token
    limit: in formats without closing marks only this shows that the last title is cut off.
    """
    answer = without_reasoning(completion)
    literal = _parse_literal(answer)
    titles = literal or _parse_other_format(answer)
    if cut and titles and answer.endswith(titles[-1]):
        titles = titles[:-1]
    titles = _remove_enumeration(titles)
    if not titles:
        return [], Status.invalid
    return titles[:limit], Status.ok if titles == literal and len(titles) <= limit else Status.repaired


def _parse_literal(answer: str) -> list[str]:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        value = ast.literal_eval(answer) if FLAT_LIST.fullmatch(answer) else None
    if not isinstance(value, list) or not all(isinstance(title, str) and title.strip() for title in value):
        return []
    return [one_line(title) for title in value]


def _parse_other_format(answer: str) -> list[str]:
    text = FENCE.sub("\n", answer).strip()
    if _LIST_OF_STRINGS.match(text):
        return _bracketed(text)  # and nothing else, even if it is cut off within its first title
    parsers = (_bracketed, _objects, _numbered_lines, _bulleted_lines, _double_quoted, _plain_lines, _comma_separated)
    return next((titles for parse in parsers if (titles := parse(text))), [])


def _remove_enumeration(titles: list[str]) -> list[str]:
    """Remove the numbers 1, 2, … before titles, if all have theirs."""
    numbers = [_ENUMERATOR.match(title) for title in titles]
    if len(titles) > 1 and all(number and int(number[1]) == place for place, number in enumerate(numbers, start=1)):
        return [title[number.end() :] for title, number in zip(titles, numbers, strict=True) if number]
    return titles


def _bracketed(text: str) -> list[str]:
    """Return the last list in brackets with a title; or what starts and ends with quotes, as if in brackets."""
    if text[:1] in _QUOTED_TITLE and text[-1:] in "\"'”’":
        return _list_elements(f"{text}]", 0)[0]
    last: list[str] = []
    position = 0
    while opening := _LIST_START.search(text, position):
        titles, position = _list_elements(text, opening.end())
        last = titles or last
    return last


def _list_elements(text: str, position: int) -> tuple[list[str], int]:
    """Return the titles of a list from there on, and its end; nested lists are flattened."""
    titles: list[str] = []
    depth = 1
    while depth and (position := _match_end(_BETWEEN, text, position)) < len(text):
        char = text[position]
        if char in "[]}":
            depth += {"[": 1, "]": -1, "}": 0}[char]
            position += 1
        elif char in _QUOTED_TITLE:
            quoted = _QUOTED_TITLE[char].match(text, position)
            titles += [_unescape(quoted[1], char)] if quoted else []
            position = quoted.end() if quoted else len(text)
        elif char == "{":
            value, position = parse_object(text, position)
            titles += _object_titles(value)
        else:
            start, position = position, _match_end(_UNQUOTED, text, position)
            bare = text[start:position].strip()
            titles += [one_line(bare)] if position < len(text) and not _NO_TITLE.fullmatch(bare) else []
    return [title for title in titles if has_words(title)], position


def _match_end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    assert match  # of patterns that match anywhere
    return match.end()


def _unescape(title: str, quote: str) -> str:
    """Return a quoted title whose inner quotes may be escaped, doubled, or neither."""
    inside = re.sub(r'(?<!\\)"', r"\"", title.replace(quote * 2, quote).replace("\\'", "'"))
    try:
        return one_line(json.loads(f'"{inside}"', strict=False))
    except ValueError:
        return one_line(re.sub(r"\\(.)", r"\1", inside))


def _object_titles(value: dict[Any, Any]) -> list[str]:
    """Return the value of an object's title key; without one, all texts if the keys are numbers, else the first."""
    texts = {str(key): one_line(text) for key, text in value.items() if isinstance(text, str) and text.strip()}
    titles = [text for key, text in texts.items() if _TITLE_KEY.search(key)]
    numbered = all(key.isdigit() for key in texts)
    return titles[:1] or list(texts.values())[: None if numbered else 1]


def _objects(text: str) -> list[str]:
    titles: list[str] = []
    start = text.find("{")
    while start >= 0:
        value, end = parse_object(text, start)
        titles += _object_titles(value)
        start = text.find("{", end)
    return titles


def _numbered_lines(text: str) -> list[str]:
    """Return titles after a number with a point or a bracket, or after the next number with another sign."""
    titles: list[str] = []
    next_number = 1
    for line in text.splitlines():
        start = _match_end(_LINE_MARKUP, line, 0)
        number = _ENUMERATOR.match(line, start) or _CONSECUTIVE_NUMBER.match(line, start)
        if number and (number.re is _ENUMERATOR or int(number[1]) == next_number):
            next_number = int(number[1]) + 1
            bold = "**" if line[:start].endswith("**") else ""
            titles.append(_line_title(bold + line[number.end() :]))
    return [title for title in titles if title]


def _bulleted_lines(text: str) -> list[str]:
    """Return titles after bullets; indented lines are skipped."""
    bullets = [(line, bullet) for line in text.splitlines() if (bullet := _BULLET.match(line))]
    indent = min((len(bullet[1]) for _, bullet in bullets), default=0)
    titles = [_line_title(line[bullet.end() :]) for line, bullet in bullets if len(bullet[1]) == indent]
    return [title for title in titles if title]


def _double_quoted(text: str) -> list[str]:
    titles = [one_line(title) for pair in _DOUBLE_QUOTED.findall(text) for title in pair if has_words(title)]
    return titles if len(titles) > 1 else []


def _plain_lines(text: str) -> list[str]:
    titles = [title for line in text.splitlines() if not _is_prose(line) and (title := _line_title(line))]
    return titles if len(titles) > 1 else []


def _is_prose(line: str) -> bool:
    """Return whether a line is a heading, a sentence about the list, or blank."""
    bare = line.strip("*_ \t")
    return bare.endswith(":") or not has_words(bare) or _PROSE.fullmatch(bare) is not None


def _line_title(line: str) -> str:
    """Return the title at the start of a line: its bold or quoted part with a year, else the whole line."""
    line = _TITLE_LABEL.sub("", _LINK.sub(r"\1", " ".join(line.split())))
    if bold := _BOLD.match(line):
        line = bold[2].rstrip(": ") + bold[3]
    if quoted := next((match for pattern in _LEADING_QUOTED if (match := pattern.match(line))), None):
        line = quoted[1] + quoted[2]
    elif with_year := _TITLE_WITH_YEAR.fullmatch(line):
        line = with_year[1]
    return line.strip("*_` ").rstrip(",; ")


def _comma_separated(text: str) -> list[str]:
    """Return what is separated by commas or semicolons, unless a part starts like the middle of a sentence."""
    lines = [_LIST_LABEL.sub("", line.strip()) for line in text.splitlines()]
    listing = " ".join(line for line in lines if not _is_prose(line)).strip("[]()").rstrip(".")
    parts = listing.split(";" if ";" in listing else ",")
    titles = [title for part in parts if (title := _line_title(re.sub("^and ", "", part.strip())))]
    is_list = len(titles) > 1 and not any(title[0].islower() or _NO_TITLE.fullmatch(title) for title in titles)
    return titles if is_list else []
