"""Show the result of scored sheets: tables for the console, or CSV."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from llm4rec_cli.results import tables
from llm4rec_cli.results.tables import Content, comma_separated, json_text, say
from llm4rec_cli.results.words import SYNTHETIC_NOTE
from llm4rec_studies.human.agreement import MIN_EXAMPLES, MIN_RATERS, Estimate, Scale
from llm4rec_studies.human.judge_check import FOREIGN, SHUFFLED, Preference
from llm4rec_studies.human.score import CriterionResult, SheetResult

ESTIMATES = ("mean_rank", "first", "mean_score")  # of a system on a criterion
CSV_COLUMNS = (
    *("criterion", "system"),
    *(f"{name}{suffix}" for name in ESTIMATES for suffix in ("", "_low", "_high")),
    *("n", "raters", "examples", "alpha", "judged_by"),
)


def show(result: SheetResult, file: Path, form: str) -> None:
    """Print a result as `table`, `csv` or `json`; `file` is where it was written."""
    if form == "json":
        print(json_text(msgspec.to_builtins(result), indent=2))
    elif form == "csv":
        print(_csv(result), end="")
    else:
        _print_tables(result, file)


def _csv(result: SheetResult) -> str:
    """Return one row per criterion and system; cells of scores are empty where texts were ranked."""
    rows = []
    for name, criterion in result.criteria.items():
        counts = [criterion.judgements, criterion.raters, criterion.examples, criterion.alpha]
        for system, estimates in criterion.systems.items():
            cells = [[e.mean, *e.interval] if (e := getattr(estimates, key)) else [""] * 3 for key in ESTIMATES]
            rows.append([name, system, *itertools.chain(*cells), *counts, " ".join(result.judges) or "people"])
    return comma_separated(CSV_COLUMNS, rows)


def _print_tables(result: SheetResult, file: Path) -> None:
    estimated = [name for name in ESTIMATES if name != "mean_score" or result.scale is Scale.score]
    columns = ["system", *(heading for name in estimated for heading in (name.replace("_", " "), "95 % CI")), "n"]
    for name, criterion in result.criteria.items():
        rows = [
            [
                system,
                *(cell for key in estimated for cell in _mean_and_interval(getattr(estimates, key))),
                f"{criterion.judgements}",
            ]
            for system, estimates in criterion.systems.items()
        ]
        title = f"{name} · {result.dataset} · {result.task} · {result.split}"
        tables.show(Content(title, columns, rows, [_evidence(criterion, result.judges)]))
        print()
    say(*_notes(result), f"written: {file}")


def show_check(judge: str, result: Mapping[str, Mapping[str, Preference]]) -> None:
    """Print the check of a chat model that judges, as `judge_check.preferences` returns it."""
    kinds = (SHUFFLED, FOREIGN)
    rows = [[name, f"{check[SHUFFLED].n}", *(_share(check[kind]) for kind in kinds)] for name, check in result.items()]
    note = (
        "> shuffled, > foreign: share of examples in which a text is judged better than itself with shuffled words, "
        "and than the text of another example; ties half, chance 0.50"
    )
    columns = ["criterion", "judged", "> shuffled", "> foreign"]
    tables.show(Content(f"check of {judge} as a judge", columns, rows, [note]))


def _share(share: Preference) -> str:
    return f"{share.mean:.2f} ({share.interval[0]:.2f}–{share.interval[1]:.2f})" if share.interval else "-"


def _mean_and_interval(estimate: Estimate) -> tuple[str, str]:
    low, high = estimate.interval
    return f"{estimate.mean:.2f}", f"{low:.2f}–{high:.2f}"


def _evidence(criterion: CriterionResult, judges: Sequence[str]) -> str:
    """Return a line on the number of raters and examples, the agreement, and why the result is not conclusive."""
    counts = ((criterion.raters, "chat model" if judges else "rater"), (criterion.examples, "example"))
    counted = " and ".join(f"{n:,} {noun}{'' if n == 1 else 's'}" for n, noun in counts)
    alpha = "undefined" if criterion.alpha is None else f"{criterion.alpha:.2f}"
    line = f"{counted}; Krippendorff's alpha (ordinal): {alpha}"
    if judges:
        return f"{line}; not conclusive: judged by {', '.join(judges)} (llm-judge), not by people"
    if not criterion.enough:
        return f"{line}; not conclusive: at least {MIN_EXAMPLES} examples with {MIN_RATERS} raters each are needed"
    return line


def _notes(result: SheetResult) -> list[str]:
    notes = [
        "mean rank: 1 is best, ties share the mean of their ranks; first: share of first places, split among ties",
        "alpha: 1 = perfect agreement, 0 = chance; the intervals are over examples, not over raters",
    ]
    unfilled = [
        f"{rater.rater} {n:,} on {criterion}" for rater in result.raters for criterion, n in rater.unfilled.items() if n
    ]
    if unfilled:
        notes.append(f"examples left out because not all texts were judged: {', '.join(unfilled)}")
    if result.synthetic:
        notes.append(SYNTHETIC_NOTE)
    return notes
