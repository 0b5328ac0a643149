"""`llm4rec bundle make|verify`: hand finished runs over, and check what was handed over.

llm4rec bundle make sasrec/demo unisrec/demo --out lab           two runs: settings, environment, numbers, ranks, tables
llm4rec bundle make unisrec/amazon2014-beauty --seeds --out lab  with the other seeds
llm4rec bundle make RUN --weights --out lab                      with the selected weights
llm4rec bundle verify lab                                        files, numbers, addresses; exit code 1 if one fails
llm4rec report --outputs lab                                     a bundle is read as a folder of runs
llm4rec compare sasrec lab/unisrec/demo/sequential/seed0-ab      also against runs of your own

A bundle has no data, texts, paths or passwords: of the answers per example it has ids, ranks and numbers. Texts that a
model wrote are left out, so that runs of writing tasks in it are reported but not compared.

`verify` prints one line per check: the sizes and hashes of all files; no pickles, links, texts or paths; the runs that
the manifest names; metrics that follow from the answers per example; addresses that follow from the settings, where
they need nothing from elsewhere; tables that follow from the runs. Rows of a bundle name it in reports, and have the
label `unverified` if its files or numbers do not hold. To evaluate weights of a bundle, copy its folders to outputs/.
"""

from __future__ import annotations

from pathlib import Path

from llm4rec_cli.commands import command_parser
from llm4rec_cli.paths import default_outputs


def main(argv: list[str]) -> int:
    parser = command_parser("bundle", __doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    make = verbs.add_parser("make", help="write a bundle of finished runs")
    make.add_argument("runs", nargs="+", metavar="RUN", help="a run folder, or an end of its path")
    make.add_argument("--out", required=True, type=Path, metavar="DIR", help="where to write")
    make.add_argument("--seeds", action="store_true", help="all seeds of these runs' variants")
    make.add_argument("--weights", action="store_true", help="include the selected weights")
    make.add_argument("--outputs", default=default_outputs(), help="folder of the runs (default: %(default)s)")
    verify = verbs.add_parser("verify", help="check a bundle")
    verify.add_argument("folder", type=Path, metavar="DIR", help="the bundle")
    options = parser.parse_args(argv)
    return _make(options) if options.verb == "make" else _verify(options.folder.expanduser())


def _make(options: object) -> int:
    from llm4rec_studies.bundle.make import README, make

    given = vars(options)
    outputs = Path(given["outputs"]).expanduser()
    folder = make(given["runs"], given["out"], outputs, given["seeds"], given["weights"])
    print(f"bundle: {folder} ({README} says what is in it)")
    print(f"next: llm4rec bundle verify {given['out']}")
    return 0


def _verify(folder: Path) -> int:
    from llm4rec_cli.errors import printable
    from llm4rec_studies.bundle.verify import verify

    checks = verify(folder)
    for check in checks:
        print(printable(str(check)))
    return int(any(check.problems for check in checks))
