"""The numbers of the documentation, and the records that they come from.

    python scripts/page_numbers.py [PAGE …]    prints every number of README, docs/results/ and docs/papers/ without one

A decimal in prose, a table or a printed text is generated, or a reference holds it, or its section is marked:

    <!-- of b11dd8c0b0, b11dd8c0b0-4c15d30cb9 -->     a comment, which no page shows, in or before what it speaks of
    *Not recorded: 21 November 2026, two CPU cores, `scripts/bench_growth.py`.*     in a section: all of it
    *† Without a named record: 21 November 2026, two CPU cores, `COMMAND`.*        its rows and paragraphs with a †

References: the hash of a variant in docs/recorded (means and standard deviations of its metrics over seeds, and
intervals; with `:seeds` of each seed, with `:training` of validation, with `:slice` and the like of a part of its
breakdown), A+B (both as one, such as draws of candidates), A-B (the paired difference A minus B, and the ratio of A
to B), the name of a file in docs/recorded/searches, and a paper of llm4rec_cli/results/papers, as printed there. One
within a row of a table is of this row; one alone in a line is of what follows, up to the next such line or heading. A
number in a column whose heading is a metric has to be this metric. Prose may repeat what the tables of its section
have.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from llm4rec_cli.results.papers import printed, related
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.results import Results
from llm4rec_studies.comparison import compare

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "docs/recorded"
# A decimal, but no version such as 1.2.1, no number on arXiv, and no size of files and weights.
NUMBER = re.compile(r"(?<![\w.])(?<!\w-)(?!\d{4}\.\d{5})\d*\.\d+(?!\w|\.\d|\s+(?:[kMGT]i?B|[mb]illion)\b)")
REFERENCE = re.compile(r"<!-- of (.+?) -->")
GENERATED = re.compile(r"<!-- generated: .+? -->.*?<!-- end -->", re.DOTALL)
COMMANDS = re.compile(r"^```(?!text|console)\w+\n.*?^```", re.DOTALL | re.MULTILINE)
# Code, addresses of links, comments, HTML, versions of Python.
HIDDEN = re.compile(r"`[^`\n]*`|\]\([^)\n]*\)|<!--.*?-->|<[^>\n]*>|Python \d\.\d+(?: to \d\.\d+)?")
MARK, NOTE = (  # with a date, a machine, and a command or a link to it
    re.compile(rf"^\*{words}: .*\d{{1,2}} \w+ 20\d\d, [^,`]+, .*(?:`.+`|\]\(.+\)).*\*$")
    for words in ("Not recorded", "† Without a named record")
)
DAGGER = "†"
METRIC = re.compile(r"(?:NDCG|HR|AUC|MRR|RMSE|MAE)(?:@\d+)?", re.IGNORECASE)
DIFFERENCE = re.compile(r"^(\w+) ?- ?(\w+)$")


class Number(NamedTuple):
    """A decimal of a page without a record."""

    page: Path
    line: int
    text: str
    problem: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {self.text}: {self.problem}"


class Values(NamedTuple):
    """What a reference holds: all numbers, and those that are values of a metric."""

    all: frozenset[float]
    of_metric: Mapping[str, frozenset[float]]


def pages() -> list[Path]:
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs/results").glob("*.md")),
        *sorted((ROOT / "docs/papers").glob("*.md")),
    ]


def main() -> int:
    chosen = [Path(name).resolve() for name in sys.argv[1:]] or pages()
    found = [number for page in chosen for number in without_record(page, page.read_text(encoding="utf-8"))]
    for number in found:
        print(number)
    return 1 if found else 0


def without_record(page: Path, text: str) -> Iterator[Number]:
    """Yield the decimals of a page that no record holds."""
    for part in (GENERATED, COMMANDS):
        text = part.sub(lambda match: "\n" * match[0].count("\n"), text)
    for start, lines, is_marked in _sections(text):
        if not is_marked:
            yield from _of_section(page, start, lines)


def _sections(text: str) -> Iterator[tuple[int, list[str], bool]]:
    """Yield the number of the first line of each section, its lines, and whether it or one above it is marked."""
    lines, starts, in_fence = text.splitlines(), [0], False
    for number, line in enumerate(lines):
        in_fence ^= line.startswith("```")
        if number and line.startswith("#") and not in_fence:
            starts.append(number)
    marked: dict[int, bool] = {}  # of the section of each level that is open
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        level = len(lines[start]) - len(lines[start].lstrip("#"))
        marked = {higher: is_marked for higher, is_marked in marked.items() if higher < level}
        marked[level] = any(map(MARK.match, lines[start:end])) or any(marked.values())
        yield start, lines[start:end], marked[level]


def _of_section(page: Path, start: int, lines: list[str]) -> Iterator[Number]:
    of_section = [reference for line in lines for reference in _named(line)]
    has_note = any(NOTE.match(line) for line in lines)
    standing: list[str] = []
    headings: list[str] = []
    for first, block in _blocks(lines):
        text = "\n".join(block)
        named = _named(text)
        if named and not REFERENCE.sub("", text).strip():
            standing = named
        is_row = text.startswith("|")
        cells = text.strip().strip("|").split("|") if is_row else [text]
        headings = (headings or cells) if is_row else []
        if has_note and DAGGER in text:
            continue
        for column, cell in enumerate(cells):
            metric = METRIC.fullmatch(headings[column].strip()) if is_row and column < len(headings) else None
            shown = HIDDEN.sub(lambda match: " " + "\n" * match[0].count("\n"), cell)
            for position, match in enumerate(NUMBER.finditer(shown)):
                is_percent = shown[match.end() :].lstrip().startswith("%")
                wanted = metric[0].lower() if metric and position == 0 else None
                references = named or (standing if is_row else of_section)
                if problem := _problem(match[0], is_percent, wanted, references):
                    line = start + first + 1 + shown[: match.start()].count("\n")
                    yield Number(page, line, match[0], problem)


def _blocks(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line's position and the lines of each row of a table, item of a list, and paragraph."""
    block: list[str] = []
    for position, line in enumerate([*lines, ""]):
        if block and (not line.strip() or line.startswith(("|", "#")) or re.match(r"\s*(?:-|\d+\.) ", line)):
            yield position - len(block), block
            block = []
        if line.strip():
            block.append(line)
            if line.startswith(("|", "#", "<!-- of")):
                yield position, block
                block = []


def _named(text: str) -> list[str]:
    return [reference for names in REFERENCE.findall(text) for reference in names.split(", ")]


def _problem(printed: str, is_percent: bool, metric: str | None, references: Iterable[str]) -> str | None:
    """Return why no reference holds a printed number; None if one does."""
    half = 0.5000001 * 10 ** -len(printed.partition(".")[2])
    number = float(printed)
    nearest = None
    for reference in references:
        held = values(reference)
        candidates = held.of_metric.get(metric, frozenset()) if metric and held.of_metric else held.all
        for value in candidates:
            for scaled in (abs(value), 100 * abs(value)) if is_percent else (abs(value),):
                if abs(scaled - number) <= half:
                    return None
                if nearest is None or abs(scaled - number) < abs(nearest - number):
                    nearest = scaled
    if nearest is None:
        return "no record is named" if metric is None else f"no record with {metric} is named"
    return f"the records named have {nearest:.6g}" + (f" as {metric}" if metric else " as the nearest")


@cache
def values(reference: str) -> Values:
    """Return what a reference holds.

    Raises:
        ValueError: there is no such record.
    """
    if (file := RECORDED / "searches" / f"{reference}.json").exists():
        return Values(frozenset(_numbers(json.loads(file.read_text(encoding="utf-8")))), {})
    if pair := DIFFERENCE.match(reference):
        return _of_pair(pair[1], pair[2])
    hashes, _, part = reference.partition(":")
    if runs := [run for variant in hashes.split("+") for run in _variants().get(variant, [])]:
        return _of_variant(runs, part)
    if printed := _printed().get(reference):
        return Values(frozenset(printed), {})
    raise ValueError(f"'{reference}' is neither a recorded variant, nor a search, nor a paper")


@cache
def _variants() -> Mapping[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for run in sorted(Results.under(RECORDED, any_model=True), key=lambda run: run.seed):
        found.setdefault(run.variant, []).append(run)
    return found


def _of_variant(runs: list[Result], part: str) -> Values:
    """Return means, standard deviations and intervals of the metrics; or what each seed, or another part, has."""
    leaves = [_leaves(run, part) for run in runs]
    of_metric, held = dict[str, frozenset[float]](), set[float]()
    for at in leaves[0]:
        found = [of_run[at] for of_run in leaves if at in of_run]
        own = {*found} if part == "seeds" or at[0] == "intervals" else {statistics.fmean(found)}
        if at[0] == "metrics":
            of_metric[at[1]] = frozenset(own)
        held |= own | ({statistics.stdev(found)} if len(found) > 1 and at[0] != "intervals" else set())
    return Values(frozenset(held), of_metric)


def _leaves(run: Result, part: str) -> dict[tuple[str, ...], float]:
    """Return the numbers of a run by where they stand."""
    found: dict[tuple[str, ...], float] = {}

    def walk(at: tuple[str, ...], content: Any) -> None:
        if isinstance(content, Mapping):
            for name, inner in content.items():
                walk((*at, str(name)), inner)
        elif isinstance(content, (list, tuple)):
            for position, inner in enumerate(content):
                walk((*at, str(position)), inner)
        elif isinstance(content, (int, float)) and not isinstance(content, bool):
            found[at] = float(content)

    parts = ("metrics", "intervals", "intervals_over_seeds") if part in ("", "seeds") else ()
    for name in parts:
        walk((name,), getattr(run, name, None))
    if not parts:
        search = run.tuning and [run.tuning.score, run.tuning.expected_best]
        walk((part,), (run.training, search) if part == "training" else run.breakdown.get(part))
    return found


@cache
def _of_pair(a: str, b: str) -> Values:
    """Return the differences A minus B and ratios A to B of all metrics, with intervals and p."""
    runs = [_variants()[b][0], _variants()[a][0]]
    held = set[float]()
    (pair,) = compare(runs, RECORDED, None, seeds=True, draws=False, targets=None, margin=None, ratio=False).pairs
    for of in pair.metrics.values():
        held |= {*_numbers([of.difference, of.interval, of.p, of.p_holm, of.ratio, of.ratio_interval])}
    return Values(frozenset(held), {})


@cache
def _printed() -> Mapping[str, set[float]]:
    found: dict[str, set[float]] = {}
    for number in (*printed(), *related()):
        found.setdefault(number.paper, set()).add(number.value)
    return found


def _numbers(content: Any) -> Iterator[float]:
    if isinstance(content, Mapping):
        content = content.values()
    if isinstance(content, (int, float)) and not isinstance(content, bool):
        yield float(content)
    elif isinstance(content, Iterable) and not isinstance(content, str):
        for part in content:
            yield from _numbers(part)


if __name__ == "__main__":
    sys.exit(main())
