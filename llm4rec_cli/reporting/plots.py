"""Plots of one group of variants, each an SVG element of an HTML page.

Variants carry their row number in the table. A plot has the width of a telephone screen so that its text is readable
there; the page may enlarge it.
"""

from __future__ import annotations

import html
import io
import json
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llm4rec_cli.evaluation.metrics import lower_is_better
from llm4rec_cli.reporting import papers
from llm4rec_cli.reporting.variants import Group, Variant

WIDTH = 3.5  # inches
DOTS, LINES = 20, 8  # most variants per plot, as dots and as lines
LONGEST = 46  # characters in a name
SHORTEST = 0.001  # seconds: a floor may be recorded with 0, which a log scale cannot show
# Okabe and Ito's colours for colour-blind readers; markers distinguish lines without colour.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d1f")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, QUIET, PAPER = "#1b1f24", "#59636e", "#d55e00"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, for search and screen readers
    "svg.hashsalt": "llm4rec",  # the same plot gives the same file
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 8.5,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e7eb",
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


@dataclass(frozen=True)
class Plot:
    """A plot and its caption.

    Attributes:
        svg: the plot as an SVG element.
        caption: what it shows.
    """

    svg: str
    caption: str


def plots(group: Group, name: str) -> list[Plot]:
    """Return all plots that the group's runs have data for.

    Args:
        name: the group's id on the page, which prefixes the ids of its elements.
    """
    if group.headline_metric is None:
        return []
    with mpl.rc_context(STYLE):
        candidates = [by_model(group), by_frequency(group), learning_curves(group), quality_against_seconds(group)]
        drawn = [plot for plot in candidates if plot is not None]
        return [Plot(_svg(figure, caption, f"{name}-{i}"), caption) for i, (figure, caption) in enumerate(drawn)]


def by_model(group: Group) -> tuple[Figure, str]:
    """Plot each variant's headline metric and interval, with comparable numbers from the papers."""
    metric = str(group.headline_metric)
    shown = sorted(group.ranked()[:DOTS])
    figure, (axes,) = _figure(0.42 * len(shown) + 0.75)
    has_papers = False
    for row, (number, variant) in enumerate(shown):
        mean = variant.mean(metric)
        low, high = variant.intervals.get(metric, (mean, mean))
        axes.plot([low, high], [row, row], color=COLOURS[0], linewidth=2)
        axes.plot([mean], [row], color=COLOURS[0], marker="o", markersize=5)
        for comparison in papers.comparisons(variant):
            if comparison.metric == metric:
                fill = "none" if comparison.differences else "full"
                axes.plot([comparison.printed.value], [row], color=PAPER, marker="D", markersize=5, fillstyle=fill)
                has_papers = True
        name = _name(number, variant)
        axes.annotate(name, (0, row), (0, 5), ("axes fraction", "data"), "offset points", color=INK, in_layout=False)
    axes.set_ylim(len(shown) - 0.6, -0.8)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=5)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(_axis(metric))
    legend = "; diamonds: papers' numbers, hollow where something differs" if has_papers else ""
    return figure, f"{metric} by model, with 95 % intervals{legend}{_selection(shown, group)}"


def by_frequency(group: Group) -> tuple[Figure, str] | None:
    """Plot the headline metric by how often the target occurs in training, one line per variant."""
    metric = str(group.headline_metric)
    lines, counts = [], dict[str, int]()
    for number, variant in sorted(group.ranked()[:LINES]):
        by_seed = [metrics["breakdown"].get("target_train_count", {}) for _, metrics in variant.runs]
        values = {
            name: statistics.fmean(breakdown[name][metric] for breakdown in by_seed)
            for name in by_seed[0]
            if all(metric in breakdown.get(name, {}) for breakdown in by_seed)
        }
        if values:
            lines.append((number, variant, values))
            counts |= {name: by_seed[0][name]["n"] for name in values}
    if not lines:
        return None
    order = sorted(counts, key=lambda name: int(re.split(r"\D", name)[0]))
    figure, (axes,) = _figure(2.5, legend=len(lines))
    for i, (number, variant, values) in enumerate(lines):
        positions = [order.index(name) for name in values]
        axes.plot(positions, list(values.values()), **_line(i), label=_name(number, variant))
    axes.set_xticks(range(len(order)), [f"{name}\n({counts[name]:,})" for name in order])
    axes.set_xlabel("times in training (test examples)")
    axes.set_ylabel(_axis(metric))
    axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return figure, f"{metric} by how often the target occurs in training{_selection(lines, group)}"


def learning_curves(group: Group) -> tuple[Figure, str] | None:
    """Plot training loss and validation metric by epoch, one line per seed, for trained variants."""
    lines = []
    for number, variant in group.ranked():
        logs = [log for folder, _ in variant.runs if (log := _log(folder / "train_log.jsonl"))]
        if logs:
            lines.append((number, variant, logs))
    if not lines:
        return None
    shown = sorted(lines[:LINES])
    figure, (above, below) = _figure(3.6, 2, legend=len(shown))
    for i, (number, variant, logs) in enumerate(shown):
        for log in logs:
            above.plot(*_points(log, "loss"), color=COLOURS[i], linewidth=1.3, marker=".")
            below.plot(*_points(log, "valid"), color=COLOURS[i], linewidth=1.3, marker=".")
        above.lines[-1].set_label(_name(number, variant))
    above.set_ylabel("training loss")
    below.set_ylabel("validation\n(higher is better)")
    below.set_xlabel("epoch")
    _legend(figure, above)
    selection = f"; the best {LINES} of {len(lines)}" if len(lines) > LINES else ""
    return figure, f"training loss and validation by epoch; losses are not comparable across models{selection}"


def quality_against_seconds(group: Group) -> tuple[Figure, str] | None:
    """Plot the headline metric against the time of training and evaluation; `eval` runs have no training time."""
    metric = str(group.headline_metric)
    shown = sorted((n, v) for n, v in group.ranked() if v.first_run["trained_run"] is None)
    if not shown:
        return None
    figure, (axes,) = _figure(2.7)
    points = [(max(variant.seconds(), SHORTEST), variant.mean(metric)) for _, variant in shown]
    axes.plot(*zip(*points, strict=True), color=COLOURS[0], marker="o", markersize=4, linestyle="none")
    for cluster in _clusters(points):
        numbers = ", ".join(str(shown[i][0]) for i in cluster)
        axes.annotate(numbers, points[cluster[0]], (4, 3), textcoords="offset points", color=INK)
    decades = [math.log10(seconds) for seconds, _ in points]
    axes.set_xscale("log")
    # At least two ticks.
    axes.set_xlim(0.7 * 10 ** math.floor(min(decades)), 1.4 * 10 ** (math.floor(max(decades)) + 1))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("seconds of training, LLM and evaluation (log)")
    axes.set_ylabel(_axis(metric))
    return figure, f"{metric} against seconds, measured on each run's own machine; numbers are table rows"


def _figure(height: float, n: int = 1, legend: int = 0) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure of n stacked plots.

    Args:
        height: total height of the plots in inches.
        legend: lines of the legend, for which height is added.
    """
    figure = Figure(figsize=(WIDTH, height + 0.18 * legend), layout="constrained")
    return figure, list(figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0])


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", handlelength=1.6, borderpad=0)


def _line(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i], "marker": MARKERS[i], "markersize": 4, "linewidth": 1.3}


def _name(number: int, variant: Variant) -> str:
    """Return `3 sasrec model.layers=1`; a long name loses its middle, as the table shows it in full."""
    model, words = variant.name
    room = max(0, LONGEST - len(f"{number} {model} "))
    return " ".join(filter(None, [str(number), model, words if len(words) <= room else f"…{words[-room:]}"]))


def _clusters(points: Sequence[tuple[float, float]]) -> list[list[int]]:
    """Return indices of points, grouped where their labels would overlap; the x axis is logarithmic."""
    lowest, highest = min(y for _, y in points), max(y for _, y in points)
    cells: dict[tuple[int, int], list[int]] = {}
    for i, (x, y) in enumerate(points):
        cell = round(5 * math.log10(x)), round(25 * (y - lowest) / ((highest - lowest) or 1))
        cells.setdefault(cell, []).append(i)
    return list(cells.values())


def _axis(metric: str) -> str:
    return f"{metric} (lower is better)" if lower_is_better([metric]) else metric


def _selection(shown: Sequence[Any], group: Group) -> str:
    return f"; the best {len(shown)} of {len(group.members)}" if len(shown) < len(group.members) else ""


def _log(path: Path) -> list[dict[str, float]]:
    """Return the entries of a training log, oldest first; empty if nothing was trained."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _points(log: Sequence[dict[str, float]], key: str) -> tuple[list[float], list[float]]:
    """Return epochs and values of the entries with this key."""
    entries = [entry for entry in log if key in entry]
    return [entry["epoch"] for entry in entries], [entry[key] for entry in entries]


def _svg(figure: Figure, caption: str, name: str) -> str:
    """Return a figure as an SVG element labelled with its caption, with ids that are unique on the page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()[file.getvalue().index("<svg") :]
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(caption)}" ', 1)
