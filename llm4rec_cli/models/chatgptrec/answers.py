"""What a chat model said, read: a rating, a list of titles, or a text, each with how much had to be mended.

A reading takes any string and time in proportion to its length: what repeats in a pattern gives nothing back (`*+`), or
is bounded.
"""

from __future__ import annotations

import ast
import html
import json
import math
import re
from collections.abc import Callable
from functools import cache
from itertools import takewhile
from typing import Any

from llm4rec_cli.llm.requests import Status

# --- what all answers may have around them

_FENCE = re.compile(r"```(?:\w++(?=[ \t]*+\n)|json|python)?")
_CLOSING = {'"': '"', "'": "'", "“": "”", "‘": "’", "*": "*", "_": "_"}
_ENUMERATED = re.compile(r"\(?([0-9]{1,3})(?:[.)][ \t]++|\ufe0f?\u20e3[ \t]*+)(?=\S)")  # "1. ", "(1) ", or on a key cap
_ENUMERATED_IN_TURN = re.compile(r"([0-9]{1,3})(?:[.)](?=[^\W\d])|:[ \t]++|[ \t][-–—][ \t]++)(?=\S)")
_BULLETED = re.compile(r"([ \t]*+)[-–—*•‣◦·+][ \t]++(?=\S)")
_DECODER = json.JSONDecoder(strict=False)  # a line may end inside a string


def _said(text: str) -> str:
    """An answer without the thoughts before it; nothing where they do not end. Half letters (surrogates) are `?`."""
    spoken = text.rpartition("</think>")[2].partition("<think>")[0]
    return spoken.encode("utf-8", "replace").decode().strip()


def _says(text: str) -> bool:
    """Whether there is a letter or a digit."""
    return any(c.isalnum() for c in text)


def _object(said: str, place: int) -> tuple[dict[Any, Any], int]:
    """The JSON object or flat Python dict that begins there, and where it ends; empty where it is torn or neither."""
    try:
        value, end = _DECODER.raw_decode(said, place)
        return value, end
    except (ValueError, RecursionError):
        end = said.find("}", place) + 1
    if not end:
        return {}, len(said)
    return (ast.literal_eval(said[place:end]) if _FLAT_DICT.fullmatch(said, place, end) else {}), end


_STRING = r"""(?:'(?:[^'\\\x00-\x1f]|\\['"\\nt])*+'|"(?:[^"\\\x00-\x1f]|\\['"\\nt])*+")"""
_PAIR = rf"{_STRING}[ \n]*+:[ \n]*+(?:{_STRING}|[1-9][0-9]{{0,9}}(?:\.[0-9]{{1,9}})?|None)"
_FLAT_LIST, _FLAT_DICT = (
    re.compile(rf"{opening}(?:[ \n]*+{element}[ \n]*+(?:,|(?={closing})))++[ \n]*+{closing}")
    for opening, element, closing in ((r"\[", _STRING, r"\]"), (r"\{", _PAIR, r"\}"))
)


# --- ratings

_STARS = "★⭐🌟"
_WORDS = dict(
    zip(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], range(11), strict=True)
)
_ONE = r"one(?= stars?\b| out of| and a half|$)"  # not "one of the best"
_WORD = re.compile(rf"\b(?:{'|'.join(word for word in _WORDS if word != 'one')}|{_ONE})\b", re.MULTILINE)
_NUMBER = r"(?<![\w.,$€£-])-?\d++(?:\.\d++)?+(?!-?[^\W\d])"  # not that of "3D", "2-in-1", "v2" or "$4.99"
_QUOTED = re.compile(r"""(?<!\w)(?:"[^"\n]{0,1000}"|“[^”\n]{0,1000}”|'[^'\n]{0,200}')(?!\w)""")
_NO_RATING = 1000  # from here on a number is a year or the like
_RATES = "rating|rated|rate|stars?|score|answer|prediction|predicted|predict|estimate"
_AT_END = rf" ?({_NUMBER})(?: stars)?[.!]?$"
_CREDIBLE = [
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        rf"^{_AT_END}",
        rf"\b(?:{_RATES})\b[^\n:=]{{0,40}}[:=]{_AT_END}",
        rf"(?:[:=→]| [-–—]){_AT_END}",
        rf"({_NUMBER}) stars",
        rf"\b(?:{_RATES}|give|gives|gave)\b[^\d\n.!?]{{0,40}}?({_NUMBER})",
    )
]
_ANY = re.compile(f"({_NUMBER})")


def rating(text: str, low: float = 1, high: float = 5, title: str = "") -> tuple[float, Status]:
    """The number of stars that an answer gives.

    The first of these that an answer has is believed: a number for a whole line; one at a line's end, after a label
    that speaks of ratings; after any label ("Toy Story 2: 4"); a number of stars, or out of `high`; one said to be
    given ("I rate it 4"); any on the scale. Where two of a kind differ it contradicts itself. A range ("3-4", "3 or 4")
    means its middle. Not believed are percentages, years, prices, what is quoted, what counts something else ("8 out of
    10"), and the scale where it is told again ("1 lowest to 5 highest").

    Args:
        text: the answer.
        low, high: ends of the scale.
        title: of the item in question; numbers in it, where it is repeated, are none of the rating.

    Returns:
        the stars, NaN where invalid; `ok` for a bare number with at most "stars", "/5" or a point behind it.
    """
    said = _said(text)
    bare = re.fullmatch(rf"({_NUMBER})(?: ?/ ?{high:g})?(?: ?stars?)?\.?", said, re.IGNORECASE)
    if bare and low <= float(bare[1]) <= high:
        return float(bare[1]), Status.ok
    told = _told_stars(said, low, high, title)
    credible = next((values for kind in _CREDIBLE if (values := _values(kind, told))), set())
    values = credible or {value for value in _values(_ANY, told) if low <= value <= high}
    stars = values.pop() if len(values) == 1 else math.nan
    return (stars, Status.repaired) if low <= stars <= high else (math.nan, Status.invalid)


def _values(kind: re.Pattern[str], told: str) -> set[float]:
    return {value for found in kind.findall(told) if (value := float(found)) < _NO_RATING}


def _told_stars(said: str, low: float, high: float, title: str) -> str:
    """An answer in lower case and without what is no rating; ratings that are sure to be some read "4 stars"."""
    field = _rating_field(said)
    lines = [" ".join(line.split()) for line in html.unescape(field or said).lower().replace("\ufe0f", "").splitlines()]
    told = "\n".join(lines)
    name = " ".join(html.unescape(title).lower().split())
    if any(c.isalpha() for c in name):
        told = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", told)
    unquoted = _QUOTED.sub(lambda found: found[0] if _is_stars(found[0][1:-1]) else " ", told)
    told = unquoted if re.search(rf"\d|{_WORD.pattern}|[{_STARS}]", unquoted, re.MULTILINE) else told
    told = re.sub(r"[*_`#>{}\[\]()\"“”]", " ", told)
    for pattern, put in _rewritings(low, high):
        told = re.sub(" {2,}", " ", pattern.sub(put, told))
    return told


def _is_stars(text: str) -> bool:
    return re.fullmatch(rf"(?:\d|{'|'.join(_WORDS)})(?:\.\d+)?(?: stars?)?", text) is not None


def _rating_field(said: str) -> str | None:
    """What a JSON object in the answer says of its rating."""
    place = said.find("{")
    value = _object(said, place)[0] if place >= 0 else {}
    return next((str(stars) for name, stars in value.items() if re.search(_RATES, str(name).lower())), None)


@cache
def _rewritings(low: float, high: float) -> list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]]:
    """What to put for what, in order."""
    digits = r"\d++(?:\.\d++)?+"
    bottom, top = (rf"{end:g}(?:\.0)?(?: stars| points?)?" for end in (low, high))
    extreme = r"(?:lowest|highest|minimum|maximum|worst|best(?! (?:guess|estimate|prediction|fit|match|bet)\b))"
    score = r"(?: possible)?(?: rating| score)?"

    def out_of(found: re.Match[str]) -> str:
        return f" {found[1]} stars " if float(found[2]) == high else " "

    def middle(found: re.Match[str]) -> str:
        start, end = float(found[1]), float(found[2])
        return f" {(start + end) / 2:g} stars " if low <= min(start, end) and max(start, end) <= high else " "

    no_digits = rf"[^\d{_STARS}]*+"
    rewritings: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        # numbers in digits, stars as a word
        (r"(?<![\d.,])(\d),(\d{1,2})(?!,?\d)", r"\1.\2"),
        (_WORD.pattern, lambda found: str(_WORDS[found[0]])),
        (r"(?<![\d.])(\d)(?: stars?)? ?(?:and a half|½|(?:and )?1/2(?!\d))", r"\1.5"),
        (rf"(?<=\d)[ -]?(?:stars?\b|[{_STARS}]++)", " stars"),
        (rf"\A{no_digits}([{_STARS}](?: ?[{_STARS}])*+){no_digits}\Z", lambda found: f"{_n_stars(found[1])} stars"),
        # no ratings: percentages, and the scale
        (rf"{_NUMBER} ?(?:%|percent\b|per cent\b)", " "),
        (rf"{_NUMBER}(?: stars)? ?(?:(?:is|being|as|means|meaning|for|=|:) ?)?(?:the )?{extreme}\b{score}", " "),
        (rf"\b{extreme}{score} ?(?:is|being|=|:) ?{_NUMBER}(?: stars)?", " "),
        (rf"(?<![\w.]){bottom} ?(?:-|–|—|to|and|through|\.{{2,3}}) ?{top}(?!\.?\d)(?:[ -]scale)?", " "),
        (rf"\b(?:scale of {top}|{high:g}[ -](?:stars?|points?)[ -]scale)", " "),
        # shares of a whole, and ranges
        (rf"({_NUMBER})(?: stars)? ?(?:/|out of(?: a(?: possible)?)?|of) ?({digits})(?: stars| points?)?", out_of),
        (rf"between ({_NUMBER})(?: stars)? and ({digits})(?: stars)?", middle),
        (rf"({_NUMBER})(?: stars)? ?(?:-|–|—|to|or) ?({digits})(?!-?[^\W\d])(?: stars)?", middle),
    ]
    return [(re.compile(pattern, re.MULTILINE), put) for pattern, put in rewritings]


def _n_stars(signs: str) -> int:
    return sum(signs.count(star) for star in _STARS)


# --- lists of titles

# What follows the quote that ends a title; after any other quote the title goes on: 'L'Oreal', "23" Hair".
_NEXT = r"""(?:["'“‘{\[\]#…]|\.\.\.|null\b|None\b|\d++(?:\.\d++)?+\s*+[,\]}]|\Z)"""
_END = rf"(?:\s*+(?:,\s*+{_NEXT}|[\])}}#]|\Z)|[^\S\n]*+\n|\s++%s(?=\w))"
_TITLES = {
    opening: re.compile(rf"{opening}((?:[^\\{closing}]|\\.|{closing}(?!{_END % opening}))*+){closing}", re.DOTALL)
    for opening, closing in (('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"))
}
_QUOTED_LIST = re.compile(r"""\[(?=\s*+["'“‘{])""")
_OPENING = re.compile(rf"\A\[|{_QUOTED_LIST.pattern}")
_BETWEEN = re.compile(r"(?:[\s,]|#[ \t][^\n]*+)*+")  # titles; comments too
_UNQUOTED = re.compile(r"[^,\[\]{}\n]++")
_UNNAMED = re.compile(r"[\W\d]*|null|none|nan|true|false|etc\.?", re.IGNORECASE)  # no title unless in quotes
_NAMED = re.compile("title|name", re.IGNORECASE)

_MARKED = re.compile(r"[ \t>#]*+(\*\*|__)?")
_YEAR = r"(?: ?\([12]\d{3}\))"
_BOLD = re.compile(rf"(\*\*|__)(?=\S)(.+?)\1({_YEAR}?)")
_LEADING_QUOTES = [  # up to the quote that ends the line or that a remark follows; or up to any
    re.compile(rf"[\"“'‘`](.+?)[\"”'’`]({_YEAR}?){after}") for after in (r"(?=[,.;]?$| ?[-–—:,(])", r"(?= )")
]
_DESCRIBED = re.compile(rf"(.*?\S{_YEAR}) ?(?:[-–—:] |[.,;]).*")
_LINK = re.compile(r"\[([^\]\n]{1,300})\]\([^)\n]{0,300}\)")
_TITLE_LABEL = re.compile(r"\A[*_]{0,2}(?:title|name|item|product|movie|film|book)[*_]{0,2}:[*_]{0,2} ", re.IGNORECASE)
_QUOTES = re.compile(r"\"([^\"\n]{1,300})\"|“([^”\n]{1,300})”")
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


def titles(text: str, limit: int, cut: bool = False) -> tuple[list[str], Status]:
    """The titles that an answer lists, best first.

    The first of these that an answer has is its list: nothing but a JSON list or Python list literal of strings (`ok`);
    the last list in brackets, whatever is around it, with titles in any quotes, in none, or in objects, with or without
    its end; JSON objects; numbered lines; bulleted lines; titles in double quotes, two at least; lines, two at least,
    that are no sentences; what stands between commas. Enumerators go, numbers that begin a title stay. A title that is
    torn off is dropped.

    Args:
        text: the answer.
        limit: how many at most; what is beyond is left out.
        cut: whether the answer ran into its limit of tokens. Of lines nothing else tells that the last one is torn.

    Returns:
        the titles, none where invalid; equal ones as often as they are listed.
    """
    said = _said(text)
    whole = _whole_list(said)
    found = whole or _mended_list(said)
    if cut and found and said.endswith(found[-1]):
        found = found[:-1]
    found = _without_enumeration(found)
    if not found:
        return [], Status.invalid
    return found[:limit], Status.ok if found == whole and len(found) <= limit else Status.repaired


def _whole_list(said: str) -> list[str]:
    """The strings of an answer that is nothing but a list of strings."""
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        found = ast.literal_eval(said) if _FLAT_LIST.fullmatch(said) else None
    if not isinstance(found, list) or not all(isinstance(title, str) and title.strip() for title in found):
        return []
    return [_plain(title) for title in found]


def _mended_list(said: str) -> list[str]:
    unfenced = _FENCE.sub("\n", said).strip()
    if _QUOTED_LIST.match(unfenced):
        return _in_brackets(unfenced)  # be it torn before its first title ends
    readings = (_in_brackets, _in_objects, _numbered, _bulleted, _in_quotes, _lines, _between_commas)
    return next((found for reading in readings if (found := reading(unfenced))), [])


def _without_enumeration(found: list[str]) -> list[str]:
    """Titles without the numbers 1, 2, … before them, where all have theirs."""
    numbers = [_ENUMERATED.match(title) for title in found]
    if len(found) > 1 and all(number and int(number[1]) == turn for turn, number in enumerate(numbers, start=1)):
        return [title[number.end() :] for title, number in zip(found, numbers, strict=True) if number]
    return found


def _plain(title: str) -> str:
    """On one line; half letters, which JSON can escape, as `?`."""
    return " ".join(title.encode("utf-8", "replace").decode().split())


def _in_brackets(said: str) -> list[str]:
    """The last list in brackets that holds a title; or what begins and ends with quotes, as if it stood in brackets."""
    if said[:1] in _TITLES and said[-1:] in "\"'”’":
        return _elements(f"{said}]", 0)[0]
    last: list[str] = []
    place = 0
    while opening := _OPENING.search(said, place):
        found, place = _elements(said, opening.end())
        last = found or last
    return last


def _elements(said: str, place: int) -> tuple[list[str], int]:
    """The titles of a list from there on, and where it ends; lists inside it are part of it."""
    found: list[str] = []
    depth = 1
    while depth and (place := _end(_BETWEEN, said, place)) < len(said):
        sign = said[place]
        if sign in "[]}":
            depth += {"[": 1, "]": -1, "}": 0}[sign]
            place += 1
        elif sign in _TITLES:
            title = _TITLES[sign].match(said, place)
            found += [_unescaped(title[1], sign)] if title else []
            place = title.end() if title else len(said)
        elif sign == "{":
            value, place = _object(said, place)
            found += _titles_of(value)
        else:
            start, place = place, _end(_UNQUOTED, said, place)
            bare = said[start:place].strip()
            found += [_plain(bare)] if place < len(said) and not _UNNAMED.fullmatch(bare) else []
    return [title for title in found if _says(title)], place


def _end(pattern: re.Pattern[str], said: str, place: int) -> int:
    found = pattern.match(said, place)
    assert found  # of patterns that match anything there
    return found.end()


def _unescaped(title: str, sign: str) -> str:
    """A title out of its quotes, those inside escaped, doubled, or left as they are."""
    inside = re.sub(r'(?<!\\)"', r"\"", title.replace(sign * 2, sign).replace("\\'", "'"))
    try:
        return _plain(json.loads(f'"{inside}"', strict=False))
    except ValueError:
        return _plain(re.sub(r"\\(.)", r"\1", inside))


def _titles_of(value: dict[Any, Any]) -> list[str]:
    """What an object names its title; of one whose names are numbers all texts, of another the first."""
    texts = {str(name): _plain(text) for name, text in value.items() if isinstance(text, str) and text.strip()}
    named = [text for name, text in texts.items() if _NAMED.search(name)]
    numbered = all(name.isdigit() for name in texts)
    return named[:1] or list(texts.values())[: None if numbered else 1]


def _in_objects(said: str) -> list[str]:
    found: list[str] = []
    place = said.find("{")
    while place >= 0:
        value, end = _object(said, place)
        found += _titles_of(value)
        place = said.find("{", end)
    return found


def _numbered(said: str) -> list[str]:
    """Lines that a number and a point begin, or the number that is next in turn and another sign."""
    found: list[str] = []
    turn = 1
    for line in said.splitlines():
        start = _end(_MARKED, line, 0)
        number = _ENUMERATED.match(line, start) or _ENUMERATED_IN_TURN.match(line, start)
        if number and (number.re is _ENUMERATED or int(number[1]) == turn):
            turn = int(number[1]) + 1
            bold = "**" if line[:start].endswith("**") else ""
            found.append(_line(bold + line[number.end() :]))
    return [title for title in found if title]


def _bulleted(said: str) -> list[str]:
    """Lines that a bullet begins, without those that are set in deeper."""
    bullets = [(line, bullet) for line in said.splitlines() if (bullet := _BULLETED.match(line))]
    outer = min((len(bullet[1]) for _, bullet in bullets), default=0)
    found = [_line(line[bullet.end() :]) for line, bullet in bullets if len(bullet[1]) == outer]
    return [title for title in found if title]


def _in_quotes(said: str) -> list[str]:
    found = [_plain(title) for pair in _QUOTES.findall(said) for title in pair if _says(title)]
    return found if len(found) > 1 else []


def _lines(said: str) -> list[str]:
    found = [title for line in said.splitlines() if not _is_prose(line) and (title := _line(line))]
    return found if len(found) > 1 else []


def _is_prose(line: str) -> bool:
    """Whether a line is a heading or a sentence about the list, or nothing."""
    bare = line.strip("*_ \t")
    return bare.endswith(":") or not _says(bare) or _PROSE.fullmatch(bare) is not None


def _line(line: str) -> str:
    """The title that a line begins with: what is bold or in quotes, or all of it; a year goes with it."""
    line = _TITLE_LABEL.sub("", _LINK.sub(r"\1", " ".join(line.split())))
    if bold := _BOLD.match(line):
        line = bold[2].rstrip(": ") + bold[3]
    if quoted := next((found for pattern in _LEADING_QUOTES if (found := pattern.match(line))), None):
        line = quoted[1] + quoted[2]
    elif described := _DESCRIBED.fullmatch(line):
        line = described[1]
    return line.strip("*_` ").rstrip(",; ")


def _between_commas(said: str) -> list[str]:
    """What stands between commas, if none of it begins as the middle of a sentence."""
    lines = [_LIST_LABEL.sub("", line.strip()) for line in said.splitlines()]
    listing = " ".join(line for line in lines if not _is_prose(line)).strip("[]()").rstrip(".")
    parts = listing.split(";" if ";" in listing else ",")
    found = [title for part in parts if (title := _line(re.sub("^and ", "", part.strip())))]
    listed = len(found) > 1 and not any(title[0].islower() or _UNNAMED.fullmatch(title) for title in found)
    return found if listed else []


# --- texts

_AGREED = r"(?:sure|certainly|of course|okay|ok|absolutely)\b"
_PREAMBLE = re.compile(rf"{_AGREED}.{{0,120}}[!.:]|.{{0,160}}:", re.IGNORECASE)
_ADJECTIVES = (
    r"(?:the|a|my|your|short|brief|review|final|suggested|possible|generated|product|user|user['’]s|\d{1,3}[- ]\w{1,9})"
)
_LABEL = re.compile(
    rf"\A(?:{_AGREED}[!,.]? ?)?(?:here(?:['’]s| is| are)\b[^:]{{0,100}}"
    rf"|(?:{_ADJECTIVES} ){{0,4}}(?:explanation|summary|headline|title|answer|response|output|review|sentence)"
    r"(?: \([^)]{0,40}\))?) ?: ?",
    re.IGNORECASE,
)
_MARK = re.compile(r"\A(?:(?:#{1,6}|>|[-*•]|\(?\d{1,3}[.)]) )+(?=\S)")
_COUNTED = re.compile(r" ?[(\[]\d{1,3} words?[)\]]\Z", re.IGNORECASE)


def text(answer: str) -> tuple[str, Status]:
    """The sentence or headline that an answer is, without what models put around one.

    Only its first paragraph counts, without lines that announce it ("Here is a headline:"), labels ("Summary:"),
    quotes, fences, JSON and the marks of Markdown.

    Returns:
        the text on one line, empty where invalid, which is one without a letter or a digit; `ok` where nothing was to
        be taken off.
    """
    said = _said(answer)
    found = _undressed(_first_paragraph(_json_text(_FENCE.sub("\n", said).strip())))
    if not _says(found):
        return "", Status.invalid
    return found, Status.ok if found == said else Status.repaired


def _json_text(said: str) -> str:
    """The first text of a JSON value; what is no JSON as it is."""
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return said
    values = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return next((_plain(of) for of in values if isinstance(of, str)), said)


def _first_paragraph(said: str) -> str:
    """On one line, without announcements where anything follows them."""
    lines = [" ".join(line.split()) for line in said.strip().splitlines()]
    start = 0
    while start < len(lines) - 1 and (not lines[start] or _PREAMBLE.fullmatch(lines[start].strip("*_ "))):
        start += 1
    return " ".join(takewhile(bool, lines[start:]))


def _undressed(line: str) -> str:
    """A line without quotes, labels and marks around it, whichever is outside."""
    line = re.sub(r"\*\*|__|`", "", line)
    for _ in range(3):  # a mark, a label and quotes at most
        line = _COUNTED.sub("", _LABEL.sub("", _MARK.sub("", line.strip())))
        line = _unquoted(line)
    return line.strip()


def _unquoted(line: str) -> str:
    """Without quotes around it, or a first one that is never closed; `"Great" and "good"` keeps its own."""
    first = line[:1]
    closing = _CLOSING.get(first)
    if not closing:
        return line
    if closing not in line[1:]:
        return line[1:] if first in '"“' else line
    around = line.endswith(closing) and not re.search(rf"(?<!\w){re.escape(first)}(?=\w)", line[1:-1])
    return line[1:-1] if around else line
