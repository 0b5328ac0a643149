"""Draw the results of scripts/encoders.sh: NDCG@10 with its interval by model, use of the vectors and encoder.

Reads the table of a report and writes one SVG, which has a light and a dark version.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from llm4rec_cli.results import svg

EXAMPLE = """example:
  llm4rec report --csv --metrics ndcg@10 | python scripts/plot_encoders.py > encoders.svg"""
ENCODERS = {  # as a variant has it -> its name and colour, light and dark
    "": ("learned ids", "#57606a", "#9da7b3"),
    "random": ("random vectors", "#96590a", "#d29922"),
    "tfidf": ("TF-IDF", "#1a7f37", "#3fb950"),
    "minilm": ("MiniLM", "#1f5fc4", "#6ca4f8"),
    "smollm2": ("SmolLM2, mean", "#7a3fd0", "#b083f0"),
    "smollm2 last": ("SmolLM2, last token", "#b0307a", "#f778ba"),
    "smollm2 instruction": ("SmolLM2, instruction", "#cf222e", "#ff7b72"),
}
NAMES = {
    "sasrec": "sasrec, learned",
    "sasrec, initial text vectors": "sasrec, initial",
    "sasrec, adapted text vectors": "sasrec, adapted",
    "sasrec, frozen text vectors": "sasrec, frozen",
    "unisrec": "unisrec",
}
ROW, GAP, TOP = 15, 8, 26  # heights in units


class Row(NamedTuple):
    model: str
    encoder: str
    permuted: bool
    mean: float
    low: float
    high: float


def rows_of(table: Iterable[Mapping[str, str]], dataset: str) -> list[Row]:
    """Return the models of a dataset in the order of NAMES, each with its encoders in the order of ENCODERS."""
    rows = []
    for line in table:
        if line["dataset"] != dataset or line["model"] not in NAMES:
            continue
        setting = dict(re.findall(r"(\S+)=(\S+)", line["variant"]))
        how = "instruction" if "model.encoder.instruction" in setting else setting.get("model.encoder.pooling", "")
        encoder = " ".join(filter(None, [setting.get("model.encoder.name", ""), how]))
        if encoder not in ENCODERS or setting.get("model.encoder.whiten", "True") != "True":
            continue
        values = (float(line[name].split()[0]) for name in ("ndcg@10", "ndcg@10 low", "ndcg@10 high"))
        rows.append(Row(line["model"], encoder, "shuffle_text" in line["variant"], *values))
    return sorted(rows, key=lambda row: ([*NAMES].index(row.model), [*ENCODERS].index(row.encoder), row.permuted))


def panel(dataset: str, rows: Sequence[Row], top: float) -> tuple[list[str], float]:
    """Return the elements of a dataset's chart that starts at `top`, and where it ends."""
    x = svg.linear([0, *(row.high for row in rows)], 150, svg.WIDTH - svg.RIGHT, zero=True)
    elements, y, last = [svg.label(0, top + 12, dataset, class_="ink")], top + TOP, ""
    for row in rows:
        if row.model != last:
            y += GAP
            elements.append(svg.label(0, y + 4, NAMES[row.model]))
        last, name = row.model, ENCODERS[row.encoder][0]
        colour = f"e{[*ENCODERS].index(row.encoder)}"
        attributes = {"stroke_dasharray": "3 2"} if row.permuted else {}
        ends = f"M{x(row.low):.1f} {y}L{x(row.high):.1f} {y}"
        words = f"{name}{', texts permuted' * row.permuted}: {row.mean:.4f} ({row.low:.4f} to {row.high:.4f})"
        dot = svg.element("circle", cx=x(row.mean), cy=float(y), r=3.5, class_=f"{colour} dot")
        bar = svg.element("path", d=ends, class_=f"{colour} bar", **attributes)
        elements.append(svg.element("g", f"<title>{NAMES[row.model]}, {words}</title>{bar}{dot}"))
        y += ROW
    return [*svg.x_axis(x, top + TOP, y, "NDCG@10"), *elements], y + svg.BELOW


def style() -> str:
    """Return the colours, for a light and a dark screen."""

    def colours(place: int, ink: str) -> str:
        parts = [f".e{i}{{fill:{e[place]};stroke:{e[place]}}}" for i, e in enumerate(ENCODERS.values())]
        return f"text,.ink{{fill:{ink}}}{''.join(parts)}"

    common = (
        "text{font:11px sans-serif}.ink{font-weight:bold}.grid{stroke:#76839055}.bar{stroke-width:2}.dot{stroke:none}"
    )
    dark = colours(2, "#d1d7e0")
    return f"<style>{common}{colours(1, '#24292f')}@media(prefers-color-scheme:dark){{{dark}}}</style>"


def draw(table: Sequence[Mapping[str, str]]) -> str:
    elements, y = [style()], 0.0
    for i, (name, *_) in enumerate(ENCODERS.values()):  # the legend
        at = (i % 2 * 180, 14 + i // 2 * ROW)
        elements.append(svg.element("circle", cx=at[0] + 5.0, cy=at[1] - 4.0, r=3.5, class_=f"e{i} dot"))
        elements.append(svg.label(at[0] + 14, at[1], name))
    y = 14 + (len(ENCODERS) + 1) // 2 * ROW
    elements.append(svg.label(0, y, "dashed: texts permuted among the items (control)"))
    y += 10
    for dataset in dict.fromkeys(line["dataset"] for line in table):
        if rows := rows_of(table, dataset):
            drawn, y = panel(dataset, rows, y)
            elements += drawn
    words = "NDCG@10 with 95 % intervals by model and encoder; the values are in the page's tables"
    return svg.drawing(y, elements, words).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLE
    )
    parser.parse_args(arguments)
    print(draw([*csv.DictReader(sys.stdin)]))


if __name__ == "__main__":
    main()
