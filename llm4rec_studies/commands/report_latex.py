r"""`llm4rec report latex`: one table for a paper, with the best and second best of each column, and tests.

llm4rec report latex dataset=demo task=sequential > table.tex
llm4rec report latex dataset=shop,books task=sequential split=test --metrics hr@10,ndcg@10
llm4rec report latex dataset=shop --models popularity,sasrec,unisrec --names "sasrec=SASRec,unisrec=UniSRec"
llm4rec report latex dataset=shop --against sasrec
llm4rec report latex dataset=shop --no-floors --sd

Rows are models in the given order, columns metrics, of several datasets side by side. The best of a column is bold,
the second underlined. With --against MODEL a star marks what differs from that model, user by user and over seeds where
all have several, at 5 % after Holm's correction over the whole table. What a reader must know (protocol, seeds, labels,
each difference with its p) follows as comments, to be put where the paper has room. The document must load booktabs.
"""

from __future__ import annotations

from pathlib import Path

from llm4rec_cli.commands import command_parser
from llm4rec_cli.errors import UsageError
from llm4rec_cli.paths import default_outputs
from llm4rec_cli.results.selection import FILTERS, select_groups


def main(argv: list[str]) -> int:
    parser = command_parser("report latex", __doc__)
    parser.add_argument("filters", nargs="*", metavar="key=value", help=f"only these runs; keys: {', '.join(FILTERS)}")
    parser.add_argument("--metrics", "--metric", help="comma-separated names (default: those of the report)")
    parser.add_argument("--models", help="comma-separated names: the rows in this order (default: all, floors first)")
    parser.add_argument("--no-floors", action="store_true", help="without the rules that any model should beat")
    parser.add_argument("--against", metavar="MODEL", help="mark what differs significantly from this model")
    parser.add_argument("--names", default="", help="names to print, as MODEL=NAME,MODEL=NAME")
    parser.add_argument("--sd", action="store_true", help="± the standard deviation over seeds")
    parser.add_argument("--outputs", default=default_outputs(), help="folder of the runs (default: %(default)s)")
    options = parser.parse_args(argv)
    pairs = [pair.partition("=") for pair in options.names.split(",") if pair]
    if wrong := next((model for model, equals, _ in pairs if not equals), None):
        raise UsageError(f"--names: '{wrong}' has no name", f"--names {wrong}=NAME")

    from llm4rec_studies.latex_table import latex_table

    outputs = Path(options.outputs).expanduser()
    metrics = options.metrics.split(",") if options.metrics else None
    models = options.models.split(",") if options.models else None
    names = {model: name for model, _, name in pairs}
    table = latex_table(
        select_groups(outputs, options.filters, metrics),
        metrics,
        models,
        not options.no_floors,
        options.against,
        outputs,
        names,
        options.sd,
    )
    print(*table.lines(), sep="\n")
    return 0
