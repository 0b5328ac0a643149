"""The charts of one group of variants: what each shows, its caption, and the same in words.

A chart is drawn only if it compares something: two variants, two epochs, two groups of examples. Variants carry their
row number in the table of results. matplotlib draws SVG elements; the page's style sheet gives light and dark colours.
"""

from __future__ import annotations

import html
import io
import json
import logging
import re
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm4rec_cli.evaluation.metrics import direction, lower_is_better
from llm4rec_cli.results import papers
from llm4rec_cli.results.describe import shared
from llm4rec_cli.results.result import TRAIN_LOG
from llm4rec_cli.results.variants import Group, Variant

log = logging.getLogger(__name__)

INCHES, LINE = 5.0, 0.22  # the width of a chart, 360 units as a telephone's screen, and a line of a legend
COLOURS = ("#0072b2", "#c74d00", "#00795a", "#a8417f", "#8f6a00", "#3f8fc4", "#111111", "#7a7f87")
MARKERS = "os^DvPXd"
INK, QUIET, GRID, CARD = "#1b1f24", "#59636e", "#e3e7eb", "#fffffe"
VARIABLES = {INK: "ink", QUIET: "quiet", GRID: "grid", CARD: "card"}  # of the page's style sheet, besides c0 to c7
STYLE: dict[Any, Any] = {
    **{"svg.fonttype": "none", "text.parse_math": False, "font.size": 11, "axes.titlesize": 11},
    **{f"{name}color": QUIET for name in ("axes.title", "axes.label", "xtick.", "ytick.")},
    **{"text.color": INK, "axes.edgecolor": GRID, "grid.color": GRID, "axes.grid": True},
    **dict.fromkeys(["axes.spines.top", "axes.spines.right", "legend.frameon"], False),
    **dict.fromkeys(["xtick.major.size", "ytick.major.size", "xtick.minor.size"], 0),
    **{"figure.facecolor": "none", "axes.facecolor": "none", "axes.titlelocation": "left"},
}
DASHED: dict[str, Any] = {"color": INK, "ls": "--", "lw": 1}
DOTS, LINES = 20, len(COLOURS)  # most variants per chart, as dots and as lines
MOST_NUMBERS, OVERLAP = 3, (36, 22)  # in the label of points that are nearer than so many pixels, 100 an inch
LONGEST = 44  # characters in a line of a legend, or in a name above a value
SHORTEST = 0.001  # seconds: a floor may be recorded with 0, which a logarithmic scale cannot show
FEWEST, MOST_BINS = 20, 10  # ratings per bin of the calibration, and bins
RATING = "rating"  # the protocol whose predictions are stars


class Plot(NamedTuple):
    caption: str
    svg: str  # the chart as an SVG element, with its values in words for screen readers


def plots(group: Group, own: Path | None = None) -> list[Plot]:
    """Return all charts that the group's runs have data for."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        charts = [learning_curves(group)]
        if group.headline_metric is not None:
            more = quality_against_seconds, by_frequency, calibration
            charts = [by_model(group, own), *(draw(group) for draw in more), *charts]
    return [chart for chart in charts if chart is not None]


def by_model(group: Group, own: Path | None = None) -> Plot | None:
    """Draw each variant's headline metric and interval, best first, with the strongest floor and published numbers."""
    metric = str(group.headline_metric)
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
    figure, axes = _figure(0.9 + 0.42 * len(drawn))
    words, at = [], axes.get_yaxis_transform()
    for i, (number, variant) in enumerate(drawn):
        mean = variant.mean(metric)
        low, high = variant.intervals.get(metric, (mean, mean))
        colour = QUIET if variant.is_floor else COLOURS[0]
        axes.plot([low, high], [i, i], color=colour)
        axes.plot([mean], [i], "o", color=colour)
        name = _name(group, number, variant)
        axes.text(0, i - 0.25, name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…", transform=at)
        axes.text(1, i - 0.25, f"{mean:.4f}", transform=at, ha="right")
        words.append(f"{name} {mean:.4f} ({low:.4f} to {high:.4f})")
    labels = {False: "a published number", True: "a published number, where something differs"}
    for i, item in published:
        face, label = CARD if item.differences else COLOURS[1], labels.pop(bool(item.differences), None)
        axes.plot([item.printed.value], [i], "D", mfc=face, mec=COLOURS[1], label=label)
        words.append(f"{item.printed.owner} for row {drawn[i][0]}: {item.printed.value:.4f}")
    _draw_floor(axes.axvline, group, metric)
    axes.set(xlabel=_axis(metric), yticks=[], ylim=(len(drawn) - 0.5, -0.8))
    caption = f"{metric} by model, best first, with 95 % intervals; floors are grey{_selection(drawn, ranked)}"
    return _plot(figure, caption, words)


def quality_against_seconds(group: Group) -> Plot | None:
    """Draw the headline metric against the time of training and evaluation, of variants whose time is known."""
    from scipy.cluster.hierarchy import fclusterdata

    metric = str(group.headline_metric)
    drawn = sorted((n, v) for n, v in group.ranked() if v.has_training_time)
    if len(drawn) < 2:
        return None
    figure, axes = _figure(3)
    points = [(max(variant.seconds(), SHORTEST), variant.mean(metric)) for _, variant in drawn]
    words = [
        f"{_name(group, number, variant)}: {value:.4f} in {seconds:.3g} s"
        for (number, variant), (seconds, value) in zip(drawn, points, strict=True)
    ]
    axes.plot(*zip(*points, strict=True), "o", color=COLOURS[0])
    axes.margins(0.1)
    axes.set(xscale="log", xlabel="seconds of training, requests and evaluation (log)", title=_axis(metric))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.autoscale_view()
    places = axes.transData.transform(points) / OVERLAP
    clusters = fclusterdata(places, 1, "distance", metric="chebyshev").tolist()
    for cluster in {*clusters}:
        members = [(point, drawn[i][0]) for i, point in enumerate(points) if clusters[i] == cluster]
        numbers = ", ".join(str(number) for _, number in members[:MOST_NUMBERS]) + " …" * (len(members) > MOST_NUMBERS)
        axes.annotate(numbers, max(members)[0], (0, 5), textcoords="offset points", ha="center", in_layout=False)
    _draw_floor(axes.axhline, group, metric)
    return _plot(figure, f"{metric} against time, measured on each run's own machine; numbers are rows", words)


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
    (figure, axes), words = _figure(3), []
    for i, (number, variant, values) in enumerate(drawn):
        name = _name(group, number, variant)
        axes.plot([order.index(key) for key in values], [*values.values()], **_look(i, name))
        words.append(f"{name}: {', '.join(f'{value:.4f} at {key}' for key, value in values.items())}")
    axes.set_xticks(range(len(order)), [f"{name}\n{counts[name]:,}" for name in order])
    axes.set(xlabel="times in training; number of test examples", title=_axis(metric))
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    caption = f"{metric} by how often the target occurs in training{_selection(drawn, lines)}"
    return _plot(figure, caption, words)


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
    training = [variant.first_run.training or {} for _, variant, _ in drawn]
    selected = [next(name for name in entry if name.startswith("valid_")).removeprefix("valid_") for entry in training]
    figure, of_loss, of_valid = _figure(4, rows=2)
    words = []
    for i, (number, variant, logs) in enumerate(drawn):
        name, sign = _name(group, number, variant), direction(selected[i])
        for seed, entries in enumerate(logs):
            epochs, losses, scores = ([entry[key] for entry in entries] for key in ("epoch", "loss", "valid"))
            best = scores.index(max(scores))  # the log has errors negated
            valid = [sign * score for score in scores]
            of_loss.plot(epochs, losses, **_look(i, None if seed else name), markevery=[best])
            of_valid.plot(epochs, valid, **_look(i, None), markevery=[best])
            words.append(
                f"{name}: loss {losses[0]:.4g} to {losses[-1]:.4g} in {round(epochs[-1])} epochs, best validation "
                f"{abs(valid[best]):.4f} in epoch {round(epochs[best])}"
            )
    of_loss.set(title="training loss")
    of_valid.set(title=f"validation {_axis(' or '.join(dict.fromkeys(selected)))}", xlabel="epoch")
    of_valid.xaxis.get_major_locator().set_params(integer=True)
    caption = (
        "training loss and validation by epoch, marked at the best epoch; losses of different models are not comparable"
    )
    return _plot(figure, caption + _selection(drawn, lines), words)


def calibration(group: Group) -> Plot | None:
    """Draw the mean actual stars against the mean predicted stars in bins of equal size, one line per variant."""
    if group.members[0].first_run.protocol != RATING:
        return None
    lines = [(n, v, points) for n, v in group.ranked() if (points := _calibration_points(v))]
    if not any(len(points) > 1 for _, _, points in lines):
        return None
    drawn = _best_and_floor(lines)
    (figure, axes), words = _figure(4), ["mean actual stars where so many are predicted"]
    for i, (number, variant, points) in enumerate(drawn):
        name = _name(group, number, variant)
        axes.plot(*zip(*points, strict=True), **_look(i, name))
        words.append(f"{name}: {', '.join(f'{actual:.2f} where {predicted:.2f}' for predicted, actual in points)}")
    axes.axline((3, 3), slope=1, **DASHED, label="right on average")
    axes.set(xlabel="mean predicted stars", title="mean actual stars")
    caption = "calibration of ratings: actual stars by predicted stars, in bins of equal size"
    return _plot(figure, caption + _selection(drawn, lines), words)


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


def _figure(height: float, rows: int = 1) -> tuple[Any, ...]:
    """Return a figure of this height in inches, and its axes in rows with one x axis."""
    from matplotlib.figure import Figure

    figure = Figure((INCHES, height), layout="constrained")
    return figure, *figure.subplots(rows, sharex=True, squeeze=False)[:, 0]


def _look(i: int, name: str | None) -> dict[str, Any]:
    """Return colour, marker and legend of line i."""
    return {"color": COLOURS[i], "marker": MARKERS[i], "label": name and textwrap.fill(name, LONGEST)}


def _draw_floor(line: Any, group: Group, metric: str) -> None:
    """Draw the best floor by the headline metric; none for rows on different data."""
    floors = [variant for _, variant in group.ranked() if variant.is_floor and not group.has_mixed_data]
    for floor in floors[:1]:
        line(floor.mean(metric), **DASHED, label=f"strongest floor: {floor.name[0]}")


def _plot(figure: Any, caption: str, words: Iterable[str]) -> Plot:
    """Return the figure, with a legend below, as an SVG element: the same bytes each time, and ids of its own."""
    from matplotlib import rc_context

    labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    if labels:
        figure.set_figheight(figure.get_figheight() + LINE * sum(label.count("\n") + 1 for label in labels))
        figure.legend(loc="outside lower left")
    for artist in figure.findobj():
        artist.set_clip_on(False)
    said, out = "; ".join(words), io.StringIO()
    with rc_context({"svg.hashsalt": f"{caption}; {said}"}):
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = out.getvalue()
    text = text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{html.escape(said)}"', 1)
    # Styles, fonts and numbered ids would meet those of the page and of other charts.
    text = re.sub(r"<style.*?</style>| id=\"[\w.]+_\d+\"|font-family: .*?;", "", text, flags=re.DOTALL)
    for colour, name in {**VARIABLES, **{colour: f"c{i}" for i, colour in enumerate(COLOURS)}}.items():
        text = text.replace(colour, f"var(--{name})")
    return Plot(caption, text)


def _best_and_floor(lines: Sequence[tuple[int, Variant, Any]]) -> list[tuple[int, Variant, Any]]:
    """Return the best lines. The strongest floor replaces the last one if they include no floor."""
    floors = [line for line in lines if line[1].is_floor]
    best = list(lines[:LINES])
    return best if not floors or floors[0] in best else [*best[:-1], floors[0]]


def _name(group: Group, number: int, variant: Variant) -> str:
    """Return `3 sasrec model.layers=1`, without the overrides that all variants share."""
    in_all = shared([member.parts for member in group.members])
    return " ".join([str(number), variant.name[0], *(part for part in variant.parts if part not in in_all)])


def _axis(metric: str) -> str:
    return f"{metric} (lower is better)" if lower_is_better([metric]) else metric


def _selection(drawn: Sequence[Any], available: Sequence[Any]) -> str:
    return f"; {len(drawn)} of {len(available)} variants" if len(drawn) < len(available) else ""


def _log(path: Path) -> list[dict[str, float]]:
    """Return the entry of each epoch in a training log; empty if nothing was trained, or if the log is damaged."""
    try:
        entries = map(json.loads, path.read_text().splitlines() if path.exists() else ())
        return list({entry["epoch"]: entry for entry in entries}.values())
    except (ValueError, LookupError, TypeError):
        log.warning("%s is damaged: its run has no curve", path)
        return []
