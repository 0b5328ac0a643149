"""Plots of one group of variants, each as an SVG of its own that stands in a page.

Variants bear the number of their row in the table. A plot is as wide as a telephone, so that its words can be read
there; a page may show it larger.
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
DOTS, LINES = 20, 8  # how many variants a plot shows at most, as dots and as lines
LONGEST = 46  # characters of a name
SHORTEST = 0.001  # seconds: a floor's may be told as none, which no log scale shows
# Okabe and Ito's colours, told apart by whoever sees few of them; and what tells them apart without any.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d1f")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, QUIET, PAPER = "#1b1f24", "#59636e", "#d55e00"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # words stay words: they can be searched and read aloud
    "svg.hashsalt": "llm4rec",  # the same plot has the same text
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
    """A plot with its words.

    Attributes:
        svg: an element.
        caption: what it shows.
    """

    svg: str
    caption: str


def plots(group: Group, name: str) -> list[Plot]:
    """All plots that a group's runs have something for.

    Args:
        name: of the group within its page: what tells its elements from others'.
    """
    if group.first is None:
        return []
    with mpl.rc_context(STYLE):
        found = [by_model(group), by_frequency(group), learning_curves(group), quality_against_seconds(group)]
        drawn = [of for of in found if of is not None]
        return [Plot(_svg(figure, caption, f"{name}-{i}"), caption) for i, (figure, caption) in enumerate(drawn)]


def by_model(group: Group) -> tuple[Figure, str]:
    """The first metric of each variant with its interval, and the papers' numbers that it can be compared with."""
    metric = str(group.first)
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
    marks = "; diamonds: papers' numbers, hollow where something differs" if has_papers else ""
    return figure, f"{metric} by model, with 95 % intervals{marks}{_of_how_many(shown, group)}"


def by_frequency(group: Group) -> tuple[Figure, str] | None:
    """The first metric by how often the target occurs in training, a line a variant."""
    metric = str(group.first)
    lines, counts = [], dict[str, int]()
    for number, variant in sorted(group.ranked()[:LINES]):
        apart = [run["breakdown"].get("target_train_count", {}) for _, run in variant.runs]
        values = {
            name: statistics.fmean(of[name][metric] for of in apart)
            for name in apart[0]
            if all(metric in of.get(name, {}) for of in apart)
        }
        if values:
            lines.append((number, variant, values))
            counts |= {name: apart[0][name]["n"] for name in values}
    if not lines:
        return None
    order = sorted(counts, key=lambda name: int(re.split(r"\D", name)[0]))
    figure, (axes,) = _figure(2.5, legend=len(lines))
    for i, (number, variant, values) in enumerate(lines):
        places = [order.index(name) for name in values]
        axes.plot(places, list(values.values()), **_line(i), label=_name(number, variant))
    axes.set_xticks(range(len(order)), [f"{name}\n({counts[name]:,})" for name in order])
    axes.set_xlabel("times in training (test examples)")
    axes.set_ylabel(_axis(metric))
    axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return figure, f"{metric} by how often the target occurs in training{_of_how_many(lines, group)}"


def learning_curves(group: Group) -> tuple[Figure, str] | None:
    """Loss and validation by epoch, a line a seed, of variants that were trained."""
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
    few = f"; the best {LINES} of {len(lines)}" if len(lines) > LINES else ""
    return figure, f"training loss and validation by epoch; losses of different models are on scales of their own{few}"


def quality_against_seconds(group: Group) -> tuple[Figure, str] | None:
    """The first metric against what training and evaluating took; an evaluation of another run says nothing of it."""
    metric = str(group.first)
    shown = sorted((n, v) for n, v in group.ranked() if v.one["trained_run"] is None)
    if not shown:
        return None
    figure, (axes,) = _figure(2.7)
    points = [(max(variant.seconds(), SHORTEST), variant.mean(metric)) for _, variant in shown]
    axes.plot(*zip(*points, strict=True), color=COLOURS[0], marker="o", markersize=4, linestyle="none")
    for near in _clusters(points):
        numbers = ", ".join(str(shown[i][0]) for i in near)
        axes.annotate(numbers, points[near[0]], (4, 3), textcoords="offset points", color=INK)
    decades = [math.log10(seconds) for seconds, _ in points]
    axes.set_xscale("log")
    # Two of its ticks at least.
    axes.set_xlim(0.7 * 10 ** math.floor(min(decades)), 1.4 * 10 ** (math.floor(max(decades)) + 1))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("seconds to train, ask and evaluate (log)")
    axes.set_ylabel(_axis(metric))
    return figure, f"{metric} against seconds, as measured on whatever machines these runs had; numbers are the table's"


def _figure(height: float, n: int = 1, legend: int = 0) -> tuple[Figure, Sequence[Axes]]:
    """A figure of n plots above one another.

    Args:
        height: of them all, in inches; below comes room for a legend of so many lines.
    """
    figure = Figure(figsize=(WIDTH, height + 0.18 * legend), layout="constrained")
    return figure, list(figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0])


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", handlelength=1.6, borderpad=0)


def _line(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i], "marker": MARKERS[i], "markersize": 4, "linewidth": 1.3}


def _name(number: int, variant: Variant) -> str:
    """`3 sasrec model.layers=1`, cut before its end where it is long: the table, and the line below, have it whole."""
    model, words = variant.name
    room = max(0, LONGEST - len(f"{number} {model} "))
    return " ".join(filter(None, [str(number), model, words if len(words) <= room else f"…{words[-room:]}"]))


def _clusters(points: Sequence[tuple[float, float]]) -> list[list[int]]:
    """The places of points that lie so near one another, the first number on a log scale, that words would overlap."""
    lowest, highest = min(y for _, y in points), max(y for _, y in points)
    cells: dict[tuple[int, int], list[int]] = {}
    for i, (x, y) in enumerate(points):
        cell = round(5 * math.log10(x)), round(25 * (y - lowest) / ((highest - lowest) or 1))
        cells.setdefault(cell, []).append(i)
    return list(cells.values())


def _axis(metric: str) -> str:
    return f"{metric} (lower is better)" if lower_is_better([metric]) else metric


def _of_how_many(shown: Sequence[Any], group: Group) -> str:
    return f"; the best {len(shown)} of {len(group.members)}" if len(shown) < len(group.members) else ""


def _log(path: Path) -> list[dict[str, float]]:
    """What a training wrote down, oldest first; nothing where nothing was trained."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _points(log: Sequence[dict[str, float]], key: str) -> tuple[list[float], list[float]]:
    """Epochs and values of the entries that have one."""
    known = [entry for entry in log if key in entry]
    return [entry["epoch"] for entry in known], [entry[key] for entry in known]


def _svg(figure: Figure, caption: str, name: str) -> str:
    """A figure as an element of a page, named by its caption; no two elements of one page share an id."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = drawn.getvalue()[drawn.getvalue().index("<svg") :]
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(caption)}" ', 1)
