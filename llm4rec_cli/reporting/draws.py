"""Runs averaged over draws of sampled candidates (`task.draw`).

The candidates of one user are drawn independently of those of others, so a user's mean over draws is one value, as that
of one draw but with less noise: intervals cover users as before, and draws add no variance of their own. That holds for
models that are the same in all draws. A model that is trained under each draw is another one each time, as its
checkpoint is chosen on other candidates of validation; its runs are not averaged.
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

from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.schema import Candidates
from llm4rec_cli.reporting.stored_settings import config_of, settings_with_effect
from llm4rec_cli.runs.catalog import FinishedRun, run_folder

SAMPLED = (Candidates.uniform.name, Candidates.popularity.name)
VARYING = frozenset({"seed", "task.draw"})
# Entries of metrics.json that settings do not decide, besides the protocol and the weights.
FACTS = ("dataset_fingerprint", "shown_as", "text_encoder", "tokens")
SOURCE = ("dataset", "experiment")  # of the weights from which training started


def over_draws(runs: Iterable[FinishedRun]) -> list[FinishedRun]:
    """Average runs of one model and seed that differ only in `task.draw`; of several with one draw the first counts.

    Returns:
        Runs of one draw, of other protocols and of models that read files as they are, and for each average the run
        of its lowest draw with these changes: `draws` (draw -> run), a protocol such as `uniform-100-draws0+1+2`,
        means for `metrics`, `breakdown` and `seconds`, the labels and deviations of all, and a `variant` that seeds
        with the same draws share. Answers, controls and costs of chat models stay those of the lowest draw.
    """
    result: list[FinishedRun] = []
    alike: dict[tuple[str, str], dict[int, FinishedRun]] = defaultdict(dict)
    for run in runs:
        if _is_sampled(run):
            alike[_variant(run), _training(run)].setdefault(_draw(run), run)
        else:
            result.append(run)
    for (variant, _), draws in alike.items():
        result += [_average(dict(sorted(draws.items())), variant)] if len(draws) > 1 else draws.values()
    return result


def folders_of_draws(run: FinishedRun) -> list[Path]:
    """Return the folders of the runs that one is averaged over; of another run, its own."""
    folder, metrics = run
    return [drawn for drawn, _ in metrics["draws"].values()] if "draws" in metrics else [folder]


def _is_sampled(run: FinishedRun) -> bool:
    """Return whether a run ranks sampled candidates, and settings say by which model."""
    folder, metrics = run
    sampled = metrics["protocol"].partition("-")[0] in SAMPLED
    known = metrics["model"] in model_names() and not config_class(metrics["model"]).file_settings
    return sampled and known and bool(config_of(folder))


def _draw(run: FinishedRun) -> int:
    return int(run[1]["protocol"].partition("-draw")[2] or 0)


def _base(protocol: str) -> str:
    """Return `uniform-100` of `uniform-100-draw1`."""
    return protocol.partition("-draw")[0]


def _training(run: FinishedRun) -> str:
    """Return the run that trained a model, with its seed; the seed alone of a model without training."""
    _, metrics = run
    own = run_folder(Path(), metrics).as_posix() if config_class(metrics["model"]).trainable else f"{metrics['seed']}"
    return metrics["trained_run"] or own


def _variant(run: FinishedRun) -> str:
    """Return what runs share that differ only in `task.draw` and the seed."""
    _, metrics = run
    initial = {f"model.{config_class(metrics['model']).init_setting}"}  # a path, with the seed
    settings = settings_with_effect(run, free=VARYING | initial).items()
    facts = {
        "protocol": _base(metrics["protocol"]),
        "facts": [metrics[name] for name in FACTS],
        "initial": [(metrics["init_from"] or {}).get(name) for name in SOURCE],
        "trained for": str(Path(_training(run)).parent),
        "settings": {key: None if value is MISSING else value for key, value in settings},
    }
    return json.dumps(facts, sort_keys=True)


def _average(draws: Mapping[int, FinishedRun], variant: str) -> FinishedRun:
    """Return the average of runs with these draws, ascending.

    Args:
        variant: their `_variant`.
    """
    (folder, first), *_ = draws.values()
    every = [metrics for _, metrics in draws.values()]
    protocol = f"{_base(first['protocol'])}-draws{'+'.join(map(str, draws))}"
    return folder, first | {
        "draws": draws,
        "protocol": protocol,
        "variant": hashlib.sha256(f"{variant} {protocol}".encode()).hexdigest()[:10],
        "metrics": _means([metrics["metrics"] for metrics in every]),
        "breakdown": _mean_breakdown([metrics["breakdown"] for metrics in every]),
        "seconds": _means([metrics["seconds"] for metrics in every]),
        "labels": list(dict.fromkeys(label for metrics in every for label in metrics["labels"])),
        "deviations": list(dict.fromkeys(deviation for metrics in every for deviation in metrics["deviations"])),
    }


def _mean_breakdown(every: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean of the metrics of each group of examples that all have; its size is that of the first."""
    first, *others = every
    return {
        kind: {
            group: _means([means, *(other[kind][group] for other in others)]) | {"n": means["n"]}
            for group, means in groups.items()
            if all(group in other.get(kind, {}) for other in others)
        }
        for kind, groups in first.items()
    }


def _means(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each name that all have."""
    return {name: statistics.fmean(v[name] for v in values) for name in values[0] if all(name in v for v in values)}
