"""Score filled sheets: results of each system on each criterion, and agreement of the raters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import msgspec
import numpy as np

from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import UsageError
from llm4rec_cli.files import write_json
from llm4rec_cli.results.result import Interval, Result
from llm4rec_studies.human.agreement import (
    MIN_EXAMPLES,
    MIN_RATERS,
    FloatArray,
    SystemResult,
    krippendorff_alpha,
    system_results,
)
from llm4rec_studies.human.sheets import FilledSheet, Key, SheetFacts, SheetRun, read_filled, read_key

RESULT, JUDGE_RESULT = "human.json", "judge.json"  # of people; of chat models


class Rater(msgspec.Struct, frozen=True, omit_defaults=True):
    """A filled sheet: who filled it, the number of examples left out by criterion, and the chat model if it was one."""

    rater: str
    unfilled: Mapping[str, int]
    judge: str = ""


@dataclass(frozen=True)
class CriterionResult:
    """The results on one criterion, with the numbers of raters, examples and judgements."""

    raters: int
    examples: int
    enough: bool  # whether people judged enough for a conclusion
    judgements: int
    alpha: float | None  # Krippendorff's; None where it is undefined
    systems: Mapping[str, SystemResult]


@dataclass(frozen=True, kw_only=True)
class SheetResult(SheetFacts):
    """What scored sheets say: human.json, or judge.json if chat models filled them."""

    runs: Sequence[SheetRun]
    labels: Sequence[str]
    synthetic: bool
    examples: int
    raters: Sequence[Rater]
    criteria: Mapping[str, CriterionResult]

    @property
    def judges(self) -> list[str]:
        """The chat models that judged; empty if people did."""
        return [rater.judge for rater in self.raters if rater.judge]


def read_scores(file: Path) -> SheetResult:
    return msgspec.json.decode(file.read_bytes(), type=SheetResult)


def score(folder: Path, paths: Sequence[Path]) -> tuple[SheetResult, Path]:
    """Score filled sheets, write the result to the exported folder, and return it with its path, human.json or
    judge.json.

    Raises:
        UsageError: the folder has no key, a sheet is missing, two sheets have the same rater, or people filled some and
            chat models others.
        DataError: a sheet is malformed.
    """
    key = read_key(folder)
    sheets = _read_sheets(paths, key)
    by_judge = bool(sheets[0].judge)
    result = SheetResult(
        **{own.name: getattr(key, own.name) for own in fields(SheetFacts)},
        runs=key.runs,
        labels=["llm-judge"] if by_judge else [],
        synthetic=any("synthetic" in run.labels for run in key.runs),
        examples=len(key.examples),
        raters=[Rater(sheet.rater, sheet.unfilled, sheet.judge) for sheet in sheets],
        criteria={name: _criterion_result(key, name, sheets) for name in key.criteria},
    )
    file = folder / (JUDGE_RESULT if by_judge else RESULT)
    write_json(file, msgspec.to_builtins(result))
    return result, file


def _read_sheets(paths: Sequence[Path], key: Key) -> list[FilledSheet]:
    by_rater: dict[str, Path] = {}
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path} is not a file", "llm4rec human score FOLDER SHEET.csv …")
        if path.stem in by_rater:
            raise UsageError(f"two sheets of rater '{path.stem}'", "name each file after its rater, and list it once")
        by_rater[path.stem] = path
    sheets = [read_filled(path, key.examples, key.scale, key.criteria) for path in by_rater.values()]
    by_judges = [sheet.rater for sheet in sheets if sheet.judge]
    if 0 < len(by_judges) < len(sheets):
        raise UsageError(
            f"a chat model filled {', '.join(by_judges)}, people the others",
            "score sheets of people and of chat models separately",
        )
    return sheets


def _criterion_result(key: Key, criterion: str, sheets: Sequence[FilledSheet]) -> CriterionResult:
    by_text, by_system = _ratings(key, criterion, sheets)
    judged = ~np.isnan(by_system[:, :, 0])
    raters, examples = (int(judged.any(axis=axis).sum()) for axis in (1, 0))
    results = {}
    if judged.any():
        rng = stream(key.seed, "human: bootstrap")
        results = dict(zip(key.systems, system_results(by_system, key.scale, rng), strict=True))
    enough = int((judged.sum(axis=0) >= MIN_RATERS).sum()) >= MIN_EXAMPLES and not sheets[0].judge
    alpha = krippendorff_alpha(by_text)
    return CriterionResult(raters, examples, enough, int(judged.sum()), alpha, results)


def _ratings(key: Key, criterion: str, sheets: Sequence[FilledSheet]) -> tuple[FloatArray, FloatArray]:
    """Return the judgements on one criterion, NaN where a rater skipped an example: (raters, texts), where a text that
    several systems wrote counts once, as it was judged, and (raters, examples, systems)."""
    texts = [(example, label) for example, labels in key.examples.items() for label in labels]
    by_rater = [sheet.values[criterion] for sheet in sheets]
    by_text = np.array([[values.get(e, {}).get(label, np.nan) for e, label in texts] for values in by_rater])
    column = {(e, system): i for i, (e, label) in enumerate(texts) for system in key.examples[e][label]}
    return by_text, by_text[:, [[column[e, system] for system in key.systems] for e in key.examples]]


def judged(folder: Path) -> dict[str, Result]:
    """Return what people have judged, if anything: `clarity/mean_rank`, `clarity/first` and their intervals by system
    of the key, the reference included."""
    file = folder / RESULT
    if not file.exists():
        return {}
    metrics: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, Interval]] = {}
    for criterion, result in read_scores(file).criteria.items():
        for system, estimates in result.systems.items():
            for name, estimate in (("mean_rank", estimates.mean_rank), ("first", estimates.first)):
                metrics.setdefault(system, {})[f"{criterion}/{name}"] = estimate.mean
                intervals.setdefault(system, {})[f"{criterion}/{name}"] = estimate.interval
    return {
        system: replace(Result.of_numbers(folder, "", of_system), intervals=intervals[system])
        for system, of_system in metrics.items()
    }
