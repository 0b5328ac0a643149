"""Score filled sheets: results of each system on each criterion, and agreement of the raters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import UsageError
from llm4rec_cli.files import write_json
from llm4rec_cli.results.result import Interval, Result
from llm4rec_cli.studies.human.agreement import (
    MIN_EXAMPLES,
    MIN_RATERS,
    FloatArray,
    Scale,
    krippendorff_alpha,
    system_results,
)
from llm4rec_cli.studies.human.sheets import FilledSheet, read_filled, read_key

RESULT, JUDGE_RESULT = "human.json", "judge.json"  # of people, which claims read; of chat models
KEY_FACTS = ("sheet", "dataset", "dataset_fingerprint", "task", "split", "protocol", "seed", "scale", "runs")


def score(folder: Path, paths: Sequence[Path]) -> tuple[dict[str, Any], Path]:
    """Score filled sheets and write the result to the exported folder.

    Returns:
        The content of human.json, or of judge.json if chat models filled the sheets; and the path of that file.

    Raises:
        UsageError: the folder has no key, a sheet is missing, two sheets have the same rater, or people filled some and
            chat models others.
        DataError: a sheet is malformed.
    """
    key = read_key(folder)
    sheets = _read_sheets(paths, key)
    by_judge = bool(sheets[0].judge)
    result = {
        "schema": 1,
        **{name: key[name] for name in KEY_FACTS},
        "labels": ["llm-judge"] if by_judge else [],
        "synthetic": any("synthetic" in run["labels"] for run in key["runs"]),
        "examples": len(key["examples"]),
        "raters": [
            {"rater": sheet.rater, "unfilled": sheet.unfilled, **({"judge": sheet.judge} if sheet.judge else {})}
            for sheet in sheets
        ],
        "criteria": {name: _criterion_result(key, name, sheets) for name in key["criteria"]},
    }
    file = folder / (JUDGE_RESULT if by_judge else RESULT)
    write_json(file, result)
    return result, file


def _read_sheets(paths: Sequence[Path], key: Mapping[str, Any]) -> list[FilledSheet]:
    by_rater: dict[str, Path] = {}
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path} is not a file", "llm4rec human score FOLDER SHEET.csv …")
        if path.stem in by_rater:
            raise UsageError(f"two sheets of rater '{path.stem}'", "name each file after its rater, and list it once")
        by_rater[path.stem] = path
    scale = Scale(key["scale"])
    sheets = [read_filled(path, key["examples"], scale, key["criteria"]) for path in by_rater.values()]
    by_judges = [sheet.rater for sheet in sheets if sheet.judge]
    if 0 < len(by_judges) < len(sheets):
        raise UsageError(
            f"a chat model filled {', '.join(by_judges)}, people the others",
            "score sheets of people and of chat models separately",
        )
    return sheets


def _criterion_result(key: Mapping[str, Any], criterion: str, sheets: Sequence[FilledSheet]) -> dict[str, Any]:
    """Return the results on one criterion."""
    by_text, by_system = _ratings(key, criterion, sheets)
    judged = ~np.isnan(by_system[:, :, 0])
    raters, examples = (int(judged.any(axis=axis).sum()) for axis in (1, 0))
    results = {}
    if judged.any():
        rng = stream(key["seed"], "human: bootstrap")
        results = dict(zip(key["systems"], system_results(by_system, Scale(key["scale"]), rng), strict=True))
    return {
        "raters": raters,
        "examples": examples,
        "enough": int((judged.sum(axis=0) >= MIN_RATERS).sum()) >= MIN_EXAMPLES and not sheets[0].judge,
        "judgements": int(judged.sum()),
        "alpha": krippendorff_alpha(by_text),
        "systems": results,
    }


def _ratings(key: Mapping[str, Any], criterion: str, sheets: Sequence[FilledSheet]) -> tuple[FloatArray, FloatArray]:
    """Return the judgements on one criterion, NaN where a rater skipped an example.

    Returns:
        (raters, texts), where a text that several systems wrote counts once, as it was judged; and
        (raters, examples, systems).
    """
    texts = [(example, label) for example, labels in key["examples"].items() for label in labels]
    by_rater = [sheet.values[criterion] for sheet in sheets]
    by_text = np.array([[values.get(e, {}).get(label, np.nan) for e, label in texts] for values in by_rater])
    column = {(e, system): i for i, (e, label) in enumerate(texts) for system in key["examples"][e][label]}
    return by_text, by_text[:, [[column[e, system] for system in key["systems"]] for e in key["examples"]]]


def judged(folder: Path) -> dict[str, Result]:
    """Return what people have judged, if anything: `clarity/mean_rank`, `clarity/first` and their intervals by system.

    The systems are those of the key, the reference included.
    """
    file = folder / RESULT
    if not file.exists():
        return {}
    metrics: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, Interval]] = {}
    for criterion, result in json.loads(file.read_text(encoding="utf-8"))["criteria"].items():
        for system, estimates in result["systems"].items():
            for name in ("mean_rank", "first"):
                low, high = estimates[name]["interval"]
                metrics.setdefault(system, {})[f"{criterion}/{name}"] = estimates[name]["mean"]
                intervals.setdefault(system, {})[f"{criterion}/{name}"] = low, high
    return {
        system: replace(Result.of_numbers(folder, "", of_system), intervals=intervals[system])
        for system, of_system in metrics.items()
    }
