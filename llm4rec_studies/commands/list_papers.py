"""`llm4rec list papers`: every table of the papers, with what was reproduced.

llm4rec list papers
llm4rec list papers p5                    those of one paper
"""

from __future__ import annotations

from llm4rec_cli.commands import command_parser
from llm4rec_cli.run.catalog import outputs_folder


def main(argv: list[str]) -> int:
    parser = command_parser("list papers", __doc__)
    parser.add_argument("names", nargs="*", metavar="PAPER", help="only these, such as p5 or p5/rating")
    parser.add_argument("--outputs", help="folder of the runs (default: outputs)")
    options = parser.parse_args(argv)

    from llm4rec_cli.results.tables import is_wide, show
    from llm4rec_studies.paper_tables.reproduction import states

    only = ",".join(options.names) or "*"
    show(states(outputs_folder(options.outputs), only, in_full=is_wide()))
    return 0
