"""Score filled sheets: the mean score of each system on each criterion, and the agreement of the raters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from llm4rec_cli.errors import UsageError
from llm4rec_cli.files import write_json
from llm4rec_cli.results.describe import SYNTHETIC_NOTE
from llm4rec_cli.results.tables import Content, json_text, print_tables
from llm4rec_studies.human.sheets import SCALE, read_key, read_scores

RESULT, JUDGE_RESULT = "human.json", "judge.json"  # of people; of chat models


def score(folder: Path, paths: Sequence[Path], form: str | None) -> None:
    """Score filled sheets, write the result to human.json or judge.json in the exported folder, and print it.

    Args:
        form: `csv` or `json`; None = a table.

    Raises:
        UsageError: the folder has no key, a sheet is missing, two have the same rater, or people filled some and chat
            models others.
        DataError: a sheet is malformed or empty.
    """
    key = read_key(folder)
    if len({path.stem for path in paths}) < len(paths):
        raise UsageError("two sheets have the same rater", "name each file after its rater, and list it once")
    scores = pd.concat([read_scores(path, key) for path in paths])
    by_judges = scores["judge"] != ""
    if by_judges.nunique() > 1:
        raters = ", ".join(scores["rater"][by_judges].unique())
        raise UsageError(f"chat models filled {raters}, people the others", "score the two kinds of sheets separately")
    judges = sorted({*scores["judge"][by_judges]})
    lines = _lines(scores)
    result = {"labels": ["llm-judge"] if judges else [], "judges": judges, "synthetic": key.synthetic, "systems": lines}
    file = folder / (JUDGE_RESULT if judges else RESULT)
    write_json(file, result)
    if form == "json":
        print(json_text(result, indent=2))
        return
    notes = [f"{SCALE}; Krippendorff's alpha: 1 = the raters agree, 0 = chance, - = undefined"]
    notes += [f"judged by {', '.join(judges)} (llm-judge), not by people"] if judges else []
    notes += [SYNTHETIC_NOTE] if key.synthetic else []
    rows = [[_cell(value) for value in line.values()] for line in lines]
    columns = [name.replace("_", " ") for name in lines[0]]
    print_tables([Content(str(folder), columns, rows, [*notes, f"written: {file}"])], form)


def judged(folder: Path) -> dict[str, dict[str, float]]:
    """Return people's mean scores, if there are any: system -> criterion -> mean."""
    means: dict[str, dict[str, float]] = {}
    if (folder / RESULT).exists():
        for line in json.loads((folder / RESULT).read_bytes())["systems"]:
            means.setdefault(line["system"], {})[line["criterion"]] = line["mean_score"]
    return means


def _lines(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the mean score of each system on each criterion, with counts and the agreement on the criterion."""
    lines = []
    for criterion, of_criterion in scores.groupby("criterion", sort=False):
        alpha, raters = krippendorff_alpha(of_criterion), of_criterion["rater"].nunique()
        for system, of_system in of_criterion.groupby("system")["score"]:
            facts = {"criterion": criterion, "system": system, "mean_score": float(of_system.mean())}
            lines.append(facts | {"scores": len(of_system), "raters": raters, "alpha": alpha})
    return lines


def krippendorff_alpha(scores: pd.DataFrame) -> float | None:
    """Compute Krippendorff's alpha of ordinal ratings; None where it is undefined: no text has two raters, or all
    scores of those that do are equal."""
    try:
        import krippendorff
    except ImportError as error:
        raise UsageError("alpha needs the package krippendorff", "pip install 'llm4rec[studies]'") from error
    ratings = scores.pivot(index="rater", columns="code", values="score")
    rated_twice = ratings.loc[:, ratings.count() > 1]
    if rated_twice.stack().nunique() < 2:
        return None
    return float(krippendorff.alpha(rated_twice.to_numpy(), level_of_measurement="ordinal"))


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
