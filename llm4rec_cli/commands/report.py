"""`llm4rec report`: finished runs side by side, averaged over seeds, and compared with the papers.

llm4rec report                                          on the terminal
llm4rec report model=unisrec,sasrec dataset=amazon2018-scientific split=test
llm4rec report --html report.html                       one page with plots, which needs no network
llm4rec report --markdown > tables.md                   or --latex > tables.tex (booktabs)
llm4rec report --csv > all.csv                          every metric with its interval
llm4rec report --papers --csv > papers.csv              only comparisons with papers
llm4rec report --papers --numbers mine.csv              with printed numbers of your own
llm4rec report --claims                                 the papers' claims, and what our runs say to them
llm4rec report --metrics recall@10,ndcg@10 --outputs ~/outputs

A row is a variant: runs that differ in their seed alone. mean ± sd is over its n seeds; the 95 % interval is a
bootstrap over users, and over seeds where there are several. Runs of other data, splits, protocols or settings are
never averaged. A paper's number is compared with ours if both answer the same question (dataset, task, metric, split,
candidates, history mask) with the same method; whatever else differs (weights, item ids, prompt, loss, …) is printed
with it, as letters with a legend. Runs on synthetic or changed data and controls are compared with no paper.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from llm4rec_cli.errors import RunError, UsageError, did_you_mean

FILTERS = ("model", "dataset", "task", "split", "protocol", "seed", "experiment", "variant", "labels")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "llm4rec report",
        description=__doc__.replace("%", "%%"),
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("filters", nargs="*", metavar="key=value", help=f"only such runs; keys: {', '.join(FILTERS)}")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="Markdown tables")
    form.add_argument("--csv", action="store_true", help="comma-separated values, all in one table")
    form.add_argument("--latex", action="store_true", help="LaTeX tables for booktabs")
    form.add_argument("--html", metavar="FILE", help="one page for a browser, with plots")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--papers", action="store_true", help="only comparisons with papers, and related work")
    what.add_argument("--claims", action="store_true", help="only the papers' claims, judged by all runs")
    parser.add_argument(
        "--numbers", metavar="FILE", help="a CSV of printed numbers, with the columns of papers/paper_results.csv"
    )
    parser.add_argument("--metrics", help="comma-separated names (default: hr@1, hr@5, hr@10, ndcg@10, …)")
    parser.add_argument("--outputs", default="outputs", help="where runs were written (default: outputs)")
    options = parser.parse_args(argv)

    from llm4rec_cli.reporting import contents
    from llm4rec_cli.reporting.variants import groups, variants

    root = Path(options.outputs).expanduser()
    if options.html and (options.papers or options.claims):
        raise UsageError("the page shows papers and claims unasked", f"llm4rec report --html {options.html}")
    if options.claims:
        return _show_claims(root, options)
    own = _own_numbers(options.numbers)
    runs = _runs(root, dict(_filter(f) for f in options.filters))
    typed = _metrics(options.metrics, {name for _, run in runs for name in run["metrics"]})
    shown = groups(variants(runs), typed)
    if options.html:
        from llm4rec_cli.files import write_text
        from llm4rec_cli.reporting.page import page

        path = Path(options.html).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, page(shown, _claims(root), own))
        print(path)
    elif options.csv:
        _show([contents.flat_papers(shown, own) if options.papers else contents.flat_results(shown, typed)], options)
    else:
        comparisons = [content for group in shown if (content := contents.paper_comparisons(group, own))]
        if not options.papers:
            _show([*map(contents.results, shown), *comparisons], options)
            return 0
        related = [content for group in shown if (content := contents.related_work(group))]
        if not comparisons and not related:
            raise RunError("no paper's number answers the same question as these runs", "leave --papers out")
        _show([*comparisons, *related], options)
    return 0


def _own_numbers(name: str | None) -> Path | None:
    """The user's file of printed numbers.

    Raises:
        UsageError: there is no such file.
    """
    if name is None:
        return None
    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"no file {path}", "--numbers FILE, a CSV with the columns of papers/paper_results.csv")
    return path


def _runs(root: Path, wanted: dict[str, str]) -> list[tuple[Path, dict[str, Any]]]:
    """Finished runs that the filters let through, oldest first: of equal seeds the newest counts.

    Raises:
        RunError: there is none.
    """
    from llm4rec_cli.runs.catalog import finished_runs

    runs = [
        (folder, metrics)
        for folder, _, metrics in finished_runs(root)
        if all(_values(metrics[key]) & set(values.split(",")) for key, values in wanted.items())
    ]
    if not runs:
        raise RunError(f"no finished run under {root} matches", "llm4rec train model=unisrec makes one")
    return runs[::-1]


def _values(field: Any) -> set[str]:
    return set(field) if isinstance(field, list) else {str(field)}


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or key not in FILTERS:
        raise UsageError(f"unknown filter '{text}'", did_you_mean(key, FILTERS))
    return key, value


def _metrics(typed: str | None, available: set[str]) -> list[str] | None:
    """The metrics typed.

    Raises:
        UsageError: no run has one of them.
    """
    if typed is None:
        return None
    names = typed.split(",")
    for name in names:
        if name not in available:
            raise UsageError(f"no run has the metric '{name}'", did_you_mean(name, available))
    return names


def _claims(root: Path) -> Any:
    """The papers' claims as a table's content, judged by all runs."""
    from llm4rec_cli.reporting.claims.render import claims_rows
    from llm4rec_cli.reporting.claims.verdict import judge_claims
    from llm4rec_cli.reporting.tables import Content

    return Content("the papers' claims", *claims_rows(judge_claims(root)))


def _show_claims(root: Path, options: argparse.Namespace) -> int:
    if options.filters or options.metrics:
        raise UsageError("--claims judges by all runs", "leave filters and --metrics out")
    if options.markdown or options.csv or options.latex:
        _show([_claims(root)], options)
        return 0
    from llm4rec_cli.reporting.claims.render import claims_table
    from llm4rec_cli.reporting.claims.verdict import judge_claims
    from llm4rec_cli.reporting.tables import console

    console().print(claims_table(judge_claims(root)))
    return 0


def _show(shown: list[Any], options: argparse.Namespace) -> None:
    """Tables' contents on standard output, in the form asked for."""
    from llm4rec_cli.reporting.tables import comma_separated, console, latex, markdown, table

    if options.csv:
        for content in shown:
            sys.stdout.write(comma_separated(content.columns, content.rows))
    elif options.markdown:
        for content in shown:
            print(f"### {content.title}\n\n{markdown(content.columns, content.rows)}\n")
            print("".join(f"- {note}\n" for note in content.notes))
    elif options.latex:
        print("% \\usepackage{booktabs}\n\n" + "\n\n".join(map(latex, shown)))
    else:
        out = console()
        for content in shown:
            out.print(table(content.title, content.columns, content.rows, out.width))
            for note in content.notes:
                out.print(f"  {note}", soft_wrap=True)
            out.print()
