"""The report as one self-contained HTML page: an overview, tables, charts, and comparisons with the papers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.results import chat
from llm4rec_cli.results.matrix import matrices
from llm4rec_cli.results.plots import plots
from llm4rec_cli.results.report import costs, notes, paper_comparisons, related_work, results, slices
from llm4rec_cli.results.tables import Content, numeric_columns
from llm4rec_cli.results.variants import Group

if TYPE_CHECKING:
    from jinja2 import Environment

CAN_DRAW = find_spec("matplotlib") is not None


def page(groups: Sequence[Group], own: Path | None = None) -> str:
    """Return the page as HTML.

    Args:
        own: a user's CSV file of published numbers.
    """
    overview = matrices(groups)
    in_overview = {column.group.title for matrix in overview for column in matrix.columns}
    sections = [_section(group, f"g{i}", own) for i, group in enumerate(groups, start=1)]
    return (
        templates()
        .get_template("report.html")
        .render(
            matrices=overview,
            can_draw=CAN_DRAW,
            names={section["results"].title: section["name"] for section in sections},
            sections=sections,
            elsewhere=[section for section in sections if section["results"].title not in in_overview],
        )
    )


def templates() -> Environment:
    """Return the templates of pages."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loaded = Environment(
        loader=PackageLoader("llm4rec_cli.results"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    loaded.filters["numeric"] = lambda content: numeric_columns(content.rows, len(content.columns))
    loaded.filters["element"] = Markup
    return loaded


def _section(group: Group, name: str, own: Path | None) -> dict[str, Any]:
    """Return what the template shows of a group; `name` is the section's id, for links."""
    table = results(group)
    numbered = [[str(i), *row] for i, row in enumerate(table.rows, start=1)]  # plots refer to variants by number
    return {
        "name": name,
        "headline": group.headline_metric,  # stays in view where the table scrolls
        "results": Content(table.title, ["#", *table.columns], numbered, notes(group)),
        "deviations": group.deviations(),
        "papers": paper_comparisons(group, own),
        "chat": list(chat.tables(group)),
        "slices": slices(group),
        "costs": costs(group),
        "related": related_work(group),
        "plots": plots(group, own) if CAN_DRAW else [],
    }
