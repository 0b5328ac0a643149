"""Parse a completion as a rating."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable
from functools import cache

from llm4rec_cli.llm.parsing import parse_object, without_reasoning
from llm4rec_cli.llm.requests import Status

STARS = (1, 2, 3, 4, 5)
_SIGNS = "★⭐🌟"
_WORDS = dict(
    zip(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], range(11), strict=True)
)
_ONE = r"one(?= stars?\b| out of| and a half|$)"  # not "one of the best"
_WORD = re.compile(rf"\b(?:{'|'.join(word for word in _WORDS if word != 'one')}|{_ONE})\b", re.MULTILINE)
_NUMBER = r"(?<![\w.,$€£-])-?\d++(?:\.\d++)?+(?!-?[^\W\d])"  # not in "3D", "2-in-1", "v2" or "$4.99"
_QUOTED = re.compile(r"""(?<!\w)(?:"[^"\n]{0,1000}"|“[^”\n]{0,1000}”|'[^'\n]{0,200}')(?!\w)""")
_MIN_YEAR = 1000  # from here on a number is a year or the like
_RATING_WORDS = "rating|rated|rate|stars?|score|answer|prediction|predicted|predict|estimate"
_AT_LINE_END = rf" ?({_NUMBER})(?: stars)?[.!]?$"
_PATTERNS = [  # most credible first
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        rf"^{_AT_LINE_END}",
        rf"\b(?:{_RATING_WORDS})\b[^\n:=]{{0,40}}[:=]{_AT_LINE_END}",
        rf"(?:[:=→]| [-–—]){_AT_LINE_END}",
        rf"({_NUMBER}) stars",
        rf"\b(?:{_RATING_WORDS}|give|gives|gave)\b[^\d\n.!?]{{0,40}}?({_NUMBER})",
    )
]
_ANY_NUMBER = re.compile(f"({_NUMBER})")


def parse_rating(completion: str, title: str = "") -> tuple[float, Status]:
    """Return the number of stars in a completion.

    The first of these that occurs counts: a line with nothing but a number. A number at the end of a line, after a
    label about ratings; after any label ("Toy Story 2: 4"); a number of stars, or out of 5; a number after a verb
    ("I rate it 4"); any number on the scale. If two of the same kind differ, the completion is invalid. A range ("3-4",
    "3 or 4") counts as its middle. Ignored are percentages, years, prices, quotations, other units ("8 out of 10"), and
    a repeated scale ("1 lowest to 5 highest").

    Args:
        title: of the item in question. Where it is repeated, its numbers are ignored.

    Returns:
        the stars, NaN if invalid; `ok` for a bare number, followed at most by "stars", "/5" or a full stop.
    """
    answer = without_reasoning(completion)
    bare = re.fullmatch(rf"({_NUMBER})(?: ?/ ?{STARS[-1]})?(?: ?stars?)?\.?", answer, re.IGNORECASE)
    if bare and _is_on_scale(float(bare[1])):
        return float(bare[1]), Status.ok
    text = _normalise(answer, title)
    credible = next((numbers for pattern in _PATTERNS if (numbers := _numbers(pattern, text))), set())
    values = credible or set(filter(_is_on_scale, _numbers(_ANY_NUMBER, text)))
    stars = values.pop() if len(values) == 1 else math.nan
    return (stars, Status.repaired) if _is_on_scale(stars) else (math.nan, Status.invalid)


def _is_on_scale(number: float) -> bool:
    return STARS[0] <= number <= STARS[-1]


def _numbers(pattern: re.Pattern[str], text: str) -> set[float]:
    return {number for match in pattern.findall(text) if (number := float(match)) < _MIN_YEAR}


def _normalise(answer: str, title: str) -> str:
    """Return an answer in lower case and without numbers that are not ratings; certain ratings become "4 stars"."""
    source = html.unescape(_rating_field(answer) or answer).lower().replace("\ufe0f", "")
    text = "\n".join(" ".join(line.split()) for line in source.splitlines())
    name = " ".join(html.unescape(title).lower().split())
    if any(c.isalpha() for c in name):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", text)
    unquoted = _QUOTED.sub(lambda match: match[0] if _is_stars(match[0][1:-1]) else " ", text)
    text = unquoted if re.search(rf"\d|{_WORD.pattern}|[{_SIGNS}]", unquoted, re.MULTILINE) else text
    text = re.sub(r"[*_`#>{}\[\]()\"“”]", " ", text)
    for pattern, replacement in _replacements():
        text = re.sub(" {2,}", " ", pattern.sub(replacement, text))
    return text


def _is_stars(text: str) -> bool:
    return re.fullmatch(rf"(?:\d|{'|'.join(_WORDS)})(?:\.\d+)?(?: stars?)?", text) is not None


def _rating_field(answer: str) -> str | None:
    start = answer.find("{")
    fields = parse_object(answer, start)[0] if start >= 0 else {}
    return next((str(value) for name, value in fields.items() if re.search(_RATING_WORDS, str(name).lower())), None)


@cache
def _replacements() -> list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]]:
    digits = r"\d++(?:\.\d++)?+"
    bottom, top = (rf"{end}(?:\.0)?(?: stars| points?)?" for end in (STARS[0], STARS[-1]))
    extreme = r"(?:lowest|highest|minimum|maximum|worst|best(?! (?:guess|estimate|prediction|fit|match|bet)\b))"
    score = r"(?: possible)?(?: rating| score)?"

    def out_of(match: re.Match[str]) -> str:
        return f" {match[1]} stars " if float(match[2]) == STARS[-1] else " "

    def middle(match: re.Match[str]) -> str:
        start, end = float(match[1]), float(match[2])
        return f" {(start + end) / 2:g} stars " if _is_on_scale(start) and _is_on_scale(end) else " "

    no_digits = rf"[^\d{_SIGNS}]*+"
    replacements: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        # numbers as digits, stars as a word
        (r"(?<![\d.,])(\d),(\d{1,2})(?!,?\d)", r"\1.\2"),
        (_WORD.pattern, lambda match: str(_WORDS[match[0]])),
        (r"(?<![\d.])(\d)(?: stars?)? ?(?:and a half|½|(?:and )?1/2(?!\d))", r"\1.5"),
        (rf"(?<=\d)[ -]?(?:stars?\b|[{_SIGNS}]++)", " stars"),
        (
            rf"\A{no_digits}([{_SIGNS}](?: ?[{_SIGNS}])*+){no_digits}\Z",
            lambda match: f"{sum(map(match[1].count, _SIGNS))} stars",
        ),
        # percentages, and the scale
        (rf"{_NUMBER} ?(?:%|percent\b|per cent\b)", " "),
        (rf"{_NUMBER}(?: stars)? ?(?:(?:is|being|as|means|meaning|for|=|:) ?)?(?:the )?{extreme}\b{score}", " "),
        (rf"\b{extreme}{score} ?(?:is|being|=|:) ?{_NUMBER}(?: stars)?", " "),
        (rf"(?<![\w.]){bottom} ?(?:-|–|—|to|and|through|\.{{2,3}}) ?{top}(?!\.?\d)(?:[ -]scale)?", " "),
        (rf"\b(?:scale of {top}|{STARS[-1]}[ -](?:stars?|points?)[ -]scale)", " "),
        # fractions, and ranges
        (rf"({_NUMBER})(?: stars)? ?(?:/|out of(?: a(?: possible)?)?|of) ?({digits})(?: stars| points?)?", out_of),
        (rf"between ({_NUMBER})(?: stars)? and ({digits})(?: stars)?", middle),
        (rf"({_NUMBER})(?: stars)? ?(?:-|–|—|to|or) ?({digits})(?!-?[^\W\d])(?: stars)?", middle),
    ]
    return [(re.compile(pattern, re.MULTILINE), replacement) for pattern, replacement in replacements]
