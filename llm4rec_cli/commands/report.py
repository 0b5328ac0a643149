"""`llm4rec report`: finished runs side by side, averaged over seeds, and compared with the papers.

llm4rec report                                          an overview, methods × tasks; up to three tables in full
llm4rec report --all                                    all tables, deviations and comparisons with papers
llm4rec report --wide                                   with all columns, on lines of any length
llm4rec report model=unisrec,sasrec dataset=amazon2018-scientific split=test
llm4rec report --html report.html                       one self-contained page with plots
llm4rec report --markdown > tables.md                   or --latex > tables.tex (booktabs)
llm4rec report --csv > all.csv                          every metric with its interval
llm4rec report --papers --csv > papers.csv              only comparisons with papers
llm4rec report --papers --numbers mine.csv              with published numbers of your own
llm4rec report --slices dataset=ml-100k                 the first metric on slices of the targets: same day, …
llm4rec report --costs                                  minutes, memory, size and tokens
llm4rec report --draws task=direct                      sampled candidates: the mean over task.draw=0,1,2
llm4rec report --metrics recall@10,ndcg@10 --outputs ~/outputs

A row is a variant: runs that differ only in their seed. mean ± sd is over its n seeds; the 95 % interval is a
bootstrap over users, or t over users and seeds if there are several. Runs with different data, splits, protocols or
settings are never averaged, with one exception: --draws averages runs that rank sampled candidates with the same
weights over task.draw.

A paper's number is compared with ours if method, dataset, task, metric, split, candidates and history mask are the
same; other differences (weights, item ids, prompt, loss, …), and each deviation that the run lists, are letters with a
legend. Controls and runs on synthetic or modified data are not compared with papers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.commands import FORMS, command_parser
from llm4rec_cli.errors import RunError, UsageError
from llm4rec_cli.paths import default_outputs
from llm4rec_cli.results.selection import FILTERS, select_groups

if TYPE_CHECKING:
    from llm4rec_cli.results.tables import Content
    from llm4rec_cli.results.variants import Group


MOST_TABLES = 3  # that are shown in full without --all


def main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    root = Path(options.outputs).expanduser()
    if options.outputs != default_outputs() and not root.is_dir():
        raise UsageError(f"--outputs {options.outputs}: the folder does not exist", "the folder of the runs")
    if options.html and (options.papers or options.slices or options.costs):
        raise UsageError(
            "--html already includes papers, slices and costs",
            f"leave the option out: llm4rec report --html {options.html}",
        )
    from llm4rec_cli.results.tables import print_tables

    numbers = _numbers_file(options.numbers)
    names = None if options.metrics is None else options.metrics.split(",")
    comparable = select_groups(root, options.filters, names, options.draws)
    if not options.html:
        form = next((form for form in FORMS if getattr(options, form)), None)
        print_tables(_contents(comparable, options, names, numbers), form)
        return 0

    from llm4rec_cli.files import write_text
    from llm4rec_cli.results.page import page

    named = Path(options.html).expanduser()
    path = named.resolve()  # of a link, what it leads to
    if path.exists() and not path.is_file():
        raise UsageError(f"{options.html} is not a file", "--html report.html")
    if not path.parent.is_dir():
        raise UsageError(f"--html {options.html}: the folder {named.parent} does not exist", f"mkdir -p {named.parent}")
    write_text(path, page(comparable, numbers))
    print(named)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("report", __doc__)
    parser.add_argument("filters", nargs="*", metavar="key=value", help=f"only these runs; keys: {', '.join(FILTERS)}")
    parser.add_argument("--all", action="store_true", help="all tables, where there are more than three")
    output = parser.add_mutually_exclusive_group()
    for form, help_line in FORMS.items():
        output.add_argument(f"--{form}", action="store_true", help=help_line)
    output.add_argument("--html", metavar="FILE", help="one HTML page with plots")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--papers", action="store_true", help="only comparisons with papers, and related work")
    part.add_argument("--slices", action="store_true", help="only results on slices of the targets")
    part.add_argument("--costs", action="store_true", help="only minutes, memory, size and tokens")
    parser.add_argument("--draws", action="store_true", help="average over draws of sampled candidates (task.draw)")
    parser.add_argument(
        "--numbers", metavar="FILE", help="a CSV of published numbers, with the columns of papers/paper_results.csv"
    )
    parser.add_argument("--metrics", "--metric", help="comma-separated names (default: hr@1, hr@5, hr@10, ndcg@10, …)")
    parser.add_argument("--outputs", default=default_outputs(), help="folder of the runs (default: %(default)s)")
    return parser


def _contents(
    comparable: Sequence[Group], options: argparse.Namespace, names: Sequence[str] | None, numbers: Path | None
) -> list[Content]:
    """Return the tables to print.

    Args:
        comparable: the runs, by what makes them comparable.
        names: metrics; None for the usual ones.
        numbers: the user's file of published numbers.

    Raises:
        RunError: there is nothing to show.
    """
    from llm4rec_cli.results import chat, matrix, report
    from llm4rec_cli.results.tables import Content, joined

    if options.slices:
        if not (on_slices := [content for group in comparable if (content := report.slices(group))]):
            of_metrics = f" with {', '.join(names)}" if names else ""
            remedy = "--metrics ndcg@10" if names else "evaluate them again: llm4rec eval run=PATH"
            raise RunError(f"these runs have no slices of their targets{of_metrics}", remedy)
        return [joined(on_slices)] if options.csv else on_slices
    if options.costs:
        of_groups = list(map(report.costs, comparable))
        return [joined(of_groups)] if options.csv else of_groups
    if options.csv:
        return [report.flat_papers(comparable, numbers) if options.papers else report.flat_results(comparable, names)]
    on_terminal = not (options.markdown or options.latex)
    overview = matrix.overview(comparable, options.all) if on_terminal and not options.papers else []
    if overview and len(comparable) > MOST_TABLES and not options.all:
        n_rows = sum(len(group.members) for group in comparable)
        more = "--all; or name a dataset and task; or --html FILE, --papers, --slices, --costs"
        return [*overview, Content("", [], [], [f"not shown: {len(comparable)} tables of {n_rows} variants: {more}"])]
    comparisons = [content for group in comparable if (content := report.paper_comparisons(group, numbers))]
    if options.papers:
        related = [content for group in comparable if (content := report.related_work(group))]
        if not comparisons and not related:
            raise RunError(
                "no paper reports the same metrics on the same data and protocol as these runs", "leave out --papers"
            )
        return [*comparisons, *related]
    chats = [content for group in comparable for content in chat.tables(group)]
    return [*overview, *map(report.results, comparable), *chats, *comparisons]


def _numbers_file(name: str | None) -> Path | None:
    """Return the path of the user's file of published numbers.

    Raises:
        UsageError: the file does not exist.
    """
    if name is None:
        return None
    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"{path} does not exist", "--numbers FILE, a CSV with the columns of papers/paper_results.csv")
    return path
