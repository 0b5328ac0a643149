"""Runs averaged over the draws of their sampled candidates (`task.draw`).

A user's candidates are drawn without regard to those of other users. So the mean of a user over draws is one value, as
that of one draw but with less noise, and intervals cover users as before: draws add no variance of their own.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from llm4rec_cli.config.registry import model_names
from llm4rec_cli.config.schema import Candidates
from llm4rec_cli.reporting.stored_settings import settings_with_effect
from llm4rec_cli.runs.catalog import FinishedRun

SAMPLED = (Candidates.uniform.name, Candidates.popularity.name)
FREE = frozenset({"seed", "task.draw"})
FACTS = ("model", "shown_as", "dataset", "dataset_fingerprint", "task", "split", "split_rule")


def over_draws(runs: Iterable[FinishedRun]) -> list[FinishedRun]:
    """Average the runs of one seed that differ only in `task.draw`; of several with one draw the first counts.

    Returns:
        Full rankings and runs of other tasks as they are, and for each seed with sampled candidates the run of its
        lowest draw with these changes: `draws` (draw -> run), `metrics` and `breakdown` as means, the labels and
        deviations of all, a protocol without the draw, and a `variant` that seeds with the same draws share. What it
        cost and how it answered stays that of the lowest draw.
    """
    alike: dict[tuple[str, int], list[FinishedRun]] = defaultdict(list)
    result: list[FinishedRun] = []
    for run in runs:
        if _is_sampled(run[1]):
            alike[_without_draw(run), run[1]["seed"]].append(run)
        else:
            result.append(run)
    return [*(_average(same, variant) for (variant, _), same in alike.items()), *result]


def folders_of_draws(run: FinishedRun) -> list[Path]:
    """Return the folders of the draws that a run is averaged over; of another run, its own."""
    folder, metrics = run
    return [drawn for drawn, _ in metrics["draws"].values()] if "draws" in metrics else [folder]


def numbers_of_draws(metrics: Mapping[str, Any]) -> list[int]:
    """Return the draws that a run is averaged over; none of another run."""
    return list(metrics.get("draws", ()))


def _is_sampled(metrics: Mapping[str, Any]) -> bool:
    known = metrics["model"] in model_names()  # of others, nothing says which settings count
    return known and metrics["protocol"].partition("-")[0] in SAMPLED


def _protocol_and_draw(metrics: Mapping[str, Any]) -> tuple[str, int]:
    """Return `uniform-100` and 1 of `uniform-100-draw1`."""
    protocol, _, draw = metrics["protocol"].partition("-draw")
    return protocol, int(draw or 0)


def _without_draw(run: FinishedRun) -> str:
    """Return what runs share that differ only in `task.draw` and the seed."""
    _, metrics = run
    facts = [_protocol_and_draw(metrics)[0], *(metrics[name] for name in FACTS)]
    settings = {key: None if value is MISSING else value for key, value in settings_with_effect(run, free=FREE).items()}
    return json.dumps([*facts, settings], sort_keys=True)


def _average(runs: Iterable[FinishedRun], variant: str) -> FinishedRun:
    """Return the average of runs with different draws.

    Args:
        variant: their `_without_draw`.
    """
    of_draw: dict[int, FinishedRun] = {}
    for run in runs:
        of_draw.setdefault(_protocol_and_draw(run[1])[1], run)
    draws = dict(sorted(of_draw.items()))
    (folder, first), *_ = draws.values()
    every = [metrics for _, metrics in draws.values()]
    return folder, first | {
        "draws": draws,
        "protocol": _protocol_and_draw(first)[0],
        "variant": hashlib.sha256(f"{variant} {list(draws)}".encode()).hexdigest()[:10],
        "metrics": _means([metrics["metrics"] for metrics in every]),
        "breakdown": {
            kind: {name: _means([m["breakdown"].get(kind, {}).get(name, {}) for m in every]) for name in of_kind}
            for kind, of_kind in first["breakdown"].items()
        },
        "labels": list(dict.fromkeys(label for metrics in every for label in metrics["labels"])),
        "deviations": list(dict.fromkeys(deviation for metrics in every for deviation in metrics["deviations"])),
    }


def _means(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each name that all have."""
    return {name: statistics.fmean(v[name] for v in values) for name in values[0] if all(name in v for v in values)}
