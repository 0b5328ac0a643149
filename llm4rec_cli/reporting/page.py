"""`report` as one page of HTML that needs nothing else: tables, plots, the papers' numbers, and their claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm4rec_cli.reporting.contents import notes, paper_comparisons, related_work, results
from llm4rec_cli.reporting.plots import Plot, plots
from llm4rec_cli.reporting.tables import Content, numeric_columns
from llm4rec_cli.reporting.variants import Group


@dataclass(frozen=True)
class Section:
    """What the page says of one group.

    Attributes:
        name: what links to it.
        results: its table, whose rows bear the numbers that plots name them by.
        deviations: in the order of their numbers.
        papers: comparisons with the papers; None where there are none.
        related: other methods on the same question; None where there are none.
        plots: of it.
        n_runs: how many runs it averages.
    """

    name: str
    results: Content
    deviations: Sequence[str]
    papers: Content | None
    related: Content | None
    plots: Sequence[Plot]
    n_runs: int


def page(groups: Sequence[Group], claims: Content, own: Path | None = None) -> str:
    """The page.

    Args:
        claims: the papers' claims as judged; without rows where none is.
        own: a user's CSV file of printed numbers.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    templates = Environment(
        loader=PackageLoader("llm4rec_cli.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.filters["numeric"] = lambda content: numeric_columns(content.rows, len(content.columns))
    templates.filters["element"] = Markup
    templates.filters["zip"] = zip
    return templates.get_template("report.html").render(
        sections=[_section(group, f"g{i}", own) for i, group in enumerate(groups, start=1)], claims=claims
    )


def _section(group: Group, name: str, own: Path | None) -> Section:
    shown = results(group)
    numbered = [[str(i), *row] for i, row in enumerate(shown.rows, start=1)]
    return Section(
        name=name,
        results=Content(shown.title, ["#", *shown.columns], numbered, notes(group)),
        deviations=group.deviations(),
        papers=paper_comparisons(group, own),
        related=related_work(group),
        plots=plots(group, name),
        n_runs=sum(len(variant.runs) for variant in group.members),
    )
