"""`llm4rec report`: one table over finished runs, mean ± sd over seeds.

llm4rec report                                          on the terminal
llm4rec report --markdown > table.md
llm4rec report --csv dataset=amazon2018-scientific task=sequential
llm4rec report --metrics recall@10,ndcg@10 --outputs ~/outputs
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llm4rec_cli.errors import RunError, UsageError, did_you_mean

FILTERS = ("model", "dataset", "task", "split", "protocol", "seed", "experiment", "variant")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "llm4rec report", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("filters", nargs="*", metavar="key=value", help=f"only such runs; keys: {', '.join(FILTERS)}")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="a Markdown table")
    form.add_argument("--csv", action="store_true", help="comma-separated values")
    parser.add_argument("--metrics", help="comma-separated names (default: hr@1, hr@5, hr@10, ndcg@10, …)")
    parser.add_argument("--outputs", default="outputs", help="where runs were written (default: outputs)")
    options = parser.parse_args(argv)

    from llm4rec_cli.reporting.runs import REPORT_COLUMNS, SHOWN, report_rows, report_tables
    from llm4rec_cli.reporting.tables import comma_separated, console, markdown
    from llm4rec_cli.runs.folder import finished

    wanted = dict(_filter(f) for f in options.filters)
    root = Path(options.outputs).expanduser()
    runs = [
        metrics
        for _, _, metrics in finished(root)
        if all(str(metrics[key]) in values.split(",") for key, values in wanted.items())
    ]
    if not runs:
        raise RunError(f"no finished run under {root} matches", "llm4rec train model=unisrec makes one")
    runs.reverse()  # oldest first: of equal seeds the newest counts
    available = {name for run in runs for name in run["metrics"]}
    metrics = options.metrics.split(",") if options.metrics else [m for m in SHOWN if m in available]
    for name in metrics:
        if name not in available:
            raise UsageError(f"no run has the metric '{name}'", did_you_mean(name, available))
    columns = [*REPORT_COLUMNS, *metrics, "labels"]
    rows = report_rows(runs, metrics)
    if options.markdown:
        print(markdown(columns, rows))
    elif options.csv:
        sys.stdout.write(comma_separated(columns, rows))
    else:
        out = console()
        for shown in report_tables(rows, metrics):
            out.print(shown)
        out.print("mean ± sd over n seeds; one run shows no sd")
    return 0


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or key not in FILTERS:
        raise UsageError(f"unknown filter '{text}'", did_you_mean(key, FILTERS))
    return key, value
