"""Draw charts as SVG elements of a page: scales with ticks, axes, lines, marks and labels.

The page's style sheet gives the colours, by class, so that one drawing serves a light and a dark screen, and defines
the marks once (`#mark0` to `#mark7`). A chart is as wide as a telephone's screen, so that its text is readable there.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 360  # units; one unit is about one pixel on a telephone
N_COLOURS = 8  # classes c0 to c7 and marks mark0 to mark7 in the page's style sheet
LEFT, RIGHT, BELOW = 44, 10, 38  # margins for the labels of the y axis, the last label of the x axis, and the x axis
Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """The map from values to positions in the drawing.

    Attributes:
        low, high: the values at both ends.
        start, end: their positions.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False  # whether positions are proportional to the logarithm
    least_step: float = 0.0  # between two ticks

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Return round values between the ends: of a logarithmic scale powers of ten, otherwise at most seven."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**power for power in powers]
        step = round_step(max((self.high - self.low) / 7, self.least_step))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5, 10, … times a power of ten that is at least this large."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def linear(values: Iterable[float], start: float, end: float, zero: bool = False) -> Scale:
    """Return a scale that spans the values with a margin, from 0 if `zero`."""
    values = list(values)
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(0.0 if zero and low >= 0 else low - margin, high + margin, start, end)


def logarithmic(values: Iterable[float], start: float, end: float) -> Scale:
    """Return a logarithmic scale that spans positive values, from a power of ten to another."""
    decades = [math.log10(value) for value in values]
    low = math.floor(min(decades))
    return Scale(10.0**low, 10.0 ** max(low + 1, math.ceil(max(decades))), start, end, log=True)


def element(name: str, content: str = "", /, **attributes: Any) -> str:
    """Return an element; attribute names have _ for -, and a final one is dropped (`class_`)."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_shown(value)}"' for key, value in attributes.items() if value != ""
    )
    return f"<{name}{pairs}>{content}</{name}>" if content else f"<{name}{pairs}/>"


def _shown(value: Any) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else html.escape(str(value))


def label(x: float, y: float, words: str, anchor: str = "", class_: str = "") -> str:
    """Return text whose baseline starts, or with an anchor is centred (`middle`) or ends (`end`), at (x, y)."""
    return element("text", html.escape(words), x=float(x), y=float(y), text_anchor=anchor, class_=class_)


def line(points: Sequence[Point], class_: str) -> str:
    return element("path", d="M" + "L".join(f"{_shown(x)} {_shown(y)}" for x, y in points), class_=class_)


def mark(point: Point, i: int, class_: str = "") -> str:
    """Return mark i at a point, filled with colour i unless a class says otherwise."""
    return element("use", href=f"#mark{i}", x=float(point[0]), y=float(point[1]), class_=class_ or f"c{i}")


def x_axis(scale: Scale, top: float, bottom: float, words: str) -> list[str]:
    """Return grid lines, tick labels and the axis label below."""
    return [
        *(line([(scale(tick), top), (scale(tick), bottom)], "grid") for tick in scale.ticks()),
        *(label(scale(tick), bottom + 14, number(tick), "middle") for tick in scale.ticks()),
        label((scale.start + scale.end) / 2, bottom + 32, words, "middle"),
    ]


def y_axis(scale: Scale, words: str) -> list[str]:
    """Return grid lines, tick labels on the left and the axis label above. The scale starts at the bottom."""
    return [
        *(line([(LEFT, scale(tick)), (WIDTH - RIGHT, scale(tick))], "grid") for tick in scale.ticks()),
        *(label(LEFT - 6, scale(tick) + 4, number(tick), "end") for tick in scale.ticks()),
        label(0, scale.end - 12, words),
    ]


def series(points: Sequence[Point], i: int) -> list[str]:
    """Return a line in colour i with a mark at each point."""
    return [line(points, f"line c{i}"), *(mark(point, i) for point in points)]


def drawing(height: float, elements: Iterable[str], words: str) -> str:
    """Return the SVG element, with the same in words for screen readers."""
    return element(
        "svg", "".join(elements), viewBox=f"0 0 {WIDTH} {_shown(float(height))}", role="img", aria_label=words
    )


def key(symbol: str) -> str:
    """Return a small SVG element around a symbol at (0, 0), for a legend."""
    return element("svg", symbol, viewBox="-8 -8 16 16", class_="key", aria_hidden="true")


def number(value: float) -> str:
    """Return a tick's value without rounding errors: 0.3, 1000."""
    return f"{round(value, 10):g}" if abs(value) < 1e6 else f"{value:.0e}"


def positions(points: Iterable[Point], x: Callable[[float], float], y: Callable[[float], float]) -> list[Point]:
    return [(x(a), y(b)) for a, b in points]
