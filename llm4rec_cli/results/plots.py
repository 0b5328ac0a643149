"""The charts of one group of variants: what each shows, its caption, and the same in words.

A chart is drawn only if it compares something: two variants, two epochs, two groups of examples. Variants carry their
row number in the table of results.
"""

from __future__ import annotations

import json
import logging
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm4rec_cli.evaluation.metrics import direction, lower_is_better
from llm4rec_cli.results import papers, svg
from llm4rec_cli.results.contents import shared
from llm4rec_cli.results.result import TRAIN_LOG
from llm4rec_cli.results.svg import LEFT, RIGHT, WIDTH
from llm4rec_cli.results.variants import Group, Variant

log = logging.getLogger(__name__)

DOTS, LINES = 20, svg.N_COLOURS  # most variants per chart, as dots and as lines
TOP, ROW = 24.0, 36.0  # units: for the label above a y axis; per variant
LONGEST = 44  # characters in a name next to a value
SHORTEST = 0.001  # seconds: a floor may be recorded with 0, which a logarithmic scale cannot show
FEWEST, MOST_BINS = 20, 10  # ratings per bin of the calibration, and bins
RATING = "rating"  # the protocol whose predictions are stars
Row = tuple[int, Variant]  # row number in the table of results, and the variant


@dataclass(frozen=True)
class Plot:
    caption: str
    svg: str  # the chart as an SVG element, with its values in words for screen readers
    keys: Sequence[tuple[str, str]] = ()  # what its symbols mean: (SVG element of the symbol, or a number; words)


def plots(group: Group, own: Path | None = None) -> list[Plot]:
    """Return all charts that the group's runs have data for."""
    charts = [learning_curves(group)]
    if group.headline_metric is not None:
        charts = [
            by_model(group, own),
            quality_against_seconds(group),
            by_frequency(group),
            *charts,
            calibration(group),
        ]
    return [chart for chart in charts if chart is not None]


def strongest_floor(group: Group) -> Variant | None:
    """Return the best floor by the headline metric; None without floors, or on different data."""
    floors = [variant for _, variant in group.ranked() if variant.is_floor]
    return floors[0] if floors and not group.has_mixed_data else None


def by_model(group: Group, own: Path | None = None) -> Plot | None:
    """Draw each variant's headline metric and interval, best first, with the strongest floor and published numbers."""
    metric, floor = str(group.headline_metric), strongest_floor(group)
    ranked = group.ranked()
    drawn = ranked[:DOTS]
    published = [
        (i, item)
        for i, (_, variant) in enumerate(drawn)
        for item in papers.comparisons(variant, own)
        if item.metric == metric
    ]
    if len(drawn) + len(published) < 2:
        return None
    ends = [variant.intervals.get(metric, (variant.mean(metric),) * 2) for _, variant in drawn]
    values = [value for row in ends for value in row] + [item.printed.value for _, item in published]
    floor_value = [floor.mean(metric)] if floor else []
    height = ROW * len(drawn)
    x = svg.linear([*values, *floor_value], 8, WIDTH - 12)
    elements = svg.x_axis(x, 0, height, _axis(metric))
    elements += [svg.line([(x(value), 0), (x(value), height)], "floor") for value in floor_value]
    words = []
    for i, ((number, variant), (low, high)) in enumerate(zip(drawn, ends, strict=True)):
        mean, y = variant.mean(metric), ROW * i + 27
        colour = "quiet" if variant.is_floor else "c0"
        name = _name(group, number, variant)
        elements += [
            svg.label(0, y - 11, name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…", class_="ink"),
            svg.label(WIDTH, y - 11, f"{mean:.4f}", "end", "ink"),
            svg.line([(x(low), y), (x(high), y)], f"line {colour}"),
            svg.mark((x(mean), y), 0, colour),
        ]
        words.append(f"{name} {mean:.4f} ({low:.4f} to {high:.4f})")
    for i, item in published:
        elements.append(svg.mark((x(item.printed.value), ROW * i + 27), 3, "hollow" if item.differences else "c1"))
        words.append(f"{item.printed.owner} for row {drawn[i][0]}: {item.printed.value:.4f}")
    keys = _floor_key(floor)
    if any(not item.differences for _, item in published):
        keys.append((svg.key(svg.mark((0, 0), 3, "c1")), "a published number"))
    if any(item.differences for _, item in published):
        keys.append((svg.key(svg.mark((0, 0), 3, "hollow")), "a published number, where something differs"))
    caption = f"{metric} by model, best first, with 95 % intervals; floors are grey{_selection(drawn, ranked)}"
    return Plot(caption, svg.drawing(height + svg.BELOW, elements, "; ".join(words)), keys)


def quality_against_seconds(group: Group) -> Plot | None:
    """Draw the headline metric against the time of training and evaluation, of variants whose time is known."""
    metric, floor = str(group.headline_metric), strongest_floor(group)
    drawn = sorted((n, v) for n, v in group.ranked() if v.has_training_time)
    if len(drawn) < 2:
        return None
    points = [(max(variant.seconds(), SHORTEST), variant.mean(metric)) for _, variant in drawn]
    top, bottom = TOP + 10, TOP + 186
    x = svg.logarithmic((seconds for seconds, _ in points), LEFT, WIDTH - RIGHT)
    y = svg.linear((value for _, value in points), bottom, top)
    elements = svg.x_axis(x, top, bottom, "seconds of training, requests and evaluation (log)")
    elements += svg.y_axis(y, _axis(metric))
    if floor:
        level = y(floor.mean(metric))
        elements.append(svg.line([(LEFT, level), (WIDTH - RIGHT, level)], "floor"))
    places = svg.positions(points, x, y)
    elements += [svg.mark(place, 0, "c0") for place in places]
    for cluster in _clusters(places):
        (a, b), numbers = max(places[i] for i in cluster), ", ".join(str(drawn[i][0]) for i in cluster)
        elements.append(svg.label(a, b - 7, numbers, "middle", "ink"))
    names = [_name(group, number, variant) for number, variant in drawn]
    words = [f"{name}: {point[1]:.4f} in {point[0]:.3g} s" for name, point in zip(names, points, strict=True)]
    keys = _floor_key(floor)
    keys += [(str(number), name.partition(" ")[2]) for (number, _), name in zip(drawn, names, strict=True)]
    caption = f"{metric} against time, measured on each run's own machine"
    return Plot(caption, svg.drawing(bottom + svg.BELOW, elements, "; ".join(words)), keys)


def by_frequency(group: Group) -> Plot | None:
    """Draw the headline metric by how often the target occurs in training, one line per variant."""
    metric = str(group.headline_metric)
    lines, counts = [], dict[str, int]()
    for number, variant in group.ranked():
        by_seed = [run.breakdown.get("target_train_count", {}) for run in variant.runs]
        values = {
            name: statistics.fmean(breakdown[name][metric] for breakdown in by_seed)
            for name in by_seed[0]
            if all(metric in breakdown.get(name, {}) for breakdown in by_seed)
        }
        if values:
            lines.append((number, variant, values))
            counts |= {name: int(by_seed[0][name]["n"]) for name in values}
    order = sorted(counts, key=lambda name: int(re.split(r"\D", name)[0]))
    if len(order) < 2:
        return None
    drawn = _best_and_floor(lines)
    top, bottom = TOP, TOP + 166
    x = svg.Scale(0, len(order) - 1, LEFT + 16, WIDTH - RIGHT - 18)
    y = svg.linear((value for _, _, values in drawn for value in values.values()), bottom, top, zero=True)
    elements = svg.y_axis(y, _axis(metric))
    for i, name in enumerate(order):
        elements += [
            svg.label(x(i), bottom + 14, name, "middle", "ink"),
            svg.label(x(i), bottom + 28, f"{counts[name]:,}", "middle"),
        ]
    elements.append(svg.label((LEFT + WIDTH) / 2, bottom + 44, "times in training; number of test examples", "middle"))
    words, keys = [], []
    for i, (number, variant, values) in enumerate(drawn):
        elements += svg.series([(x(order.index(name)), y(value)) for name, value in values.items()], i)
        name = _name(group, number, variant)
        keys.append((svg.key(svg.mark((0, 0), i)), name))
        words.append(f"{name}: {', '.join(f'{value:.4f} at {key}' for key, value in values.items())}")
    caption = f"{metric} by how often the target occurs in training{_selection(drawn, lines)}"
    return Plot(caption, svg.drawing(bottom + 50, elements, "; ".join(words)), keys)


def learning_curves(group: Group) -> Plot | None:
    """Draw training loss and validation metric by epoch, one line per seed, with a mark at the best epoch."""
    lines = []
    for number, variant in group.ranked() if group.headline_metric else enumerate(group.members, start=1):
        logs = [entries for run in variant.runs if len(entries := _log(run.folder / TRAIN_LOG)) > 1]
        if logs:
            lines.append((number, variant, logs))
    if not lines:
        return None
    drawn = lines[:LINES]
    selected = {number: _selected_by(variant) for number, variant, _ in drawn}
    curves = {
        key: [
            (i, [(entry["epoch"], sign * entry[key]) for entry in log], _best_entry(log))
            for i, (number, _, logs) in enumerate(drawn)
            for sign in [direction(selected[number]) if key == "valid" else 1]
            for log in logs
        ]
        for key in ("loss", "valid")
    }
    epochs = [log[i]["epoch"] for _, _, logs in drawn for log in logs for i in (0, -1)]
    x = svg.Scale(min(epochs), max(epochs), LEFT, WIDTH - RIGHT, least_step=1)
    titles = {"loss": "training loss", "valid": f"validation {_axis(' or '.join(dict.fromkeys(selected.values())))}"}
    elements, bottom = [], 0.0
    for key, own in curves.items():
        top, bottom = bottom + TOP + 10, bottom + TOP + 120
        y = svg.linear((value for _, points, _ in own for _, value in points), bottom, top)
        elements += svg.y_axis(y, titles[key])
        elements += [svg.line(svg.positions(points, x, y), f"line c{i}") for i, points, _ in own]
        elements += [svg.mark(svg.positions([points[best]], x, y)[0], i) for i, points, best in own]
    elements += svg.x_axis(x, bottom, bottom, "epoch")
    keys, words = [], []
    for i, (number, variant, logs) in enumerate(drawn):
        name = _name(group, number, variant)
        keys.append((svg.key(svg.mark((0, 0), i)), name))
        words += [
            f"{name}: loss {log[0]['loss']:.4g} to {log[-1]['loss']:.4g} in {round(log[-1]['epoch'])} epochs, best "
            f"validation {abs(log[best]['valid']):.4f} in epoch {round(log[best]['epoch'])}"
            for log in logs
            for best in [_best_entry(log)]
        ]
    caption = (
        "training loss and validation by epoch, marked at the best epoch; losses of different models are not "
        f"comparable{_selection(drawn, lines)}"
    )
    return Plot(caption, svg.drawing(bottom + svg.BELOW, elements, "; ".join(words)), keys)


def calibration(group: Group) -> Plot | None:
    """Draw the mean actual stars against the mean predicted stars in bins of equal size, one line per variant."""
    if group.members[0].first_run.protocol != RATING:
        return None
    lines = [(n, v, points) for n, v in group.ranked() if (points := _calibration_points(v))]
    if not any(len(points) > 1 for _, _, points in lines):
        return None
    drawn = _best_and_floor(lines)
    ends = [value for _, _, points in drawn for point in points for value in point]
    top, bottom = TOP, TOP + 226
    x, y = svg.linear(ends, LEFT, WIDTH - RIGHT), svg.linear(ends, bottom, top)
    elements = [*svg.x_axis(x, top, bottom, "mean predicted stars"), *svg.y_axis(y, "mean actual stars")]
    elements.append(svg.line([(x.start, y.start), (x.end, y.end)], "floor"))
    keys = [(svg.key(svg.line([(-7, 7), (7, -7)], "floor")), "right on average")]
    words = []
    for i, (number, variant, points) in enumerate(drawn):
        elements += svg.series(svg.positions(points, x, y), i)
        name = _name(group, number, variant)
        keys.append((svg.key(svg.mark((0, 0), i)), name))
        words.append(f"{name}: {', '.join(f'{actual:.2f} where {predicted:.2f}' for predicted, actual in points)}")
    caption = (
        f"calibration of ratings: actual stars by predicted stars, in bins of equal size{_selection(drawn, lines)}"
    )
    words.insert(0, "mean actual stars where so many are predicted")
    return Plot(caption, svg.drawing(bottom + svg.BELOW, elements, "; ".join(words)), keys)


def _calibration_points(variant: Variant) -> list[tuple[float, float]]:
    """Return (mean predicted, mean actual) stars in each bin of equal size by prediction, over all seeds."""
    import pandas as pd

    answers = [run.answers(["prediction", "rating"]) for run in variant.runs if run.columns]
    if not answers:
        return []
    pooled = pd.concat(answers, ignore_index=True)
    n_bins = min(MOST_BINS, max(1, len(pooled) // FEWEST))
    bins = pd.qcut(pooled["prediction"], n_bins, labels=False, duplicates="drop").fillna(0)  # 0: all are equal
    means = pooled.groupby(bins)[["prediction", "rating"]].mean()
    return [(float(predicted), float(actual)) for predicted, actual in means.itertuples(index=False)]


def _best_and_floor(lines: Sequence[tuple[int, Variant, Any]]) -> list[tuple[int, Variant, Any]]:
    """Return the best lines. The strongest floor replaces the last one if they include no floor."""
    floors = [line for line in lines if line[1].is_floor]
    best = list(lines[:LINES])
    return best if not floors or floors[0] in best else [*best[:-1], floors[0]]


def _name(group: Group, number: int, variant: Variant) -> str:
    """Return `3 sasrec model.layers=1`, without the overrides that all variants share."""
    in_all = shared([member.parts for member in group.members])
    return " ".join([str(number), variant.name[0], *(part for part in variant.parts if part not in in_all)])


def _floor_key(floor: Variant | None) -> list[tuple[str, str]]:
    return [(svg.key(svg.line([(-7, 0), (7, 0)], "floor")), f"strongest floor: {floor.name[0]}")] if floor else []


def _clusters(places: Sequence[svg.Point]) -> list[list[int]]:
    """Return indices of points in the drawing, grouped where their labels would overlap."""
    clusters: list[list[int]] = []
    for i, (a, b) in enumerate(places):
        near = (c for c in clusters if any(abs(places[j][0] - a) < 24 and abs(places[j][1] - b) < 13 for j in c))
        if (cluster := next(near, None)) is None:
            clusters.append([i])
        else:
            cluster.append(i)
    return clusters


def _axis(metric: str) -> str:
    return f"{metric} (lower is better)" if lower_is_better([metric]) else metric


def _selection(drawn: Sequence[Any], available: Sequence[Any]) -> str:
    return f"; {len(drawn)} of {len(available)} variants" if len(drawn) < len(available) else ""


def _selected_by(variant: Variant) -> str:
    """Return the metric that selects the checkpoint, which has a best value in metrics.json's training entry."""
    names = variant.first_run.training or {}
    return next(name.removeprefix("valid_") for name in names if name.startswith("valid_"))


def _best_entry(log: Sequence[dict[str, float]]) -> int:
    """Return the position of the entry with the best validation metric; error metrics are negated in the log."""
    return max(range(len(log)), key=lambda i: log[i]["valid"])


def _log(path: Path) -> list[dict[str, float]]:
    """Return the entry of each epoch in a training log; empty if nothing was trained, or if the log is damaged."""
    try:
        entries = map(json.loads, path.read_text().splitlines() if path.exists() else ())
        return list({entry["epoch"]: entry for entry in entries}.values())
    except (ValueError, LookupError, TypeError):
        log.warning("%s is damaged: its run has no curve", path)
        return []
