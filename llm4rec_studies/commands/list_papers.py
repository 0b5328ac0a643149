"""`llm4rec list papers`: every table of the papers, with what was reproduced and what it costs.

llm4rec list papers
llm4rec list papers p5                    those of one paper
llm4rec list papers --gpu H100            with the hours on another GPU; or gpu-DEVICE.json of doctor gpu
"""

from __future__ import annotations

from llm4rec_cli.commands import command_parser
from llm4rec_cli.run.catalog import outputs_folder
from llm4rec_studies.cost.rates import DEFAULT_GPU, GPU_HELP, rates_of_gpu


def main(argv: list[str]) -> int:
    parser = command_parser("list papers", __doc__)
    parser.add_argument("names", nargs="*", metavar="PAPER", help="only these, such as p5 or p5/rating")
    parser.add_argument("--gpu", default=DEFAULT_GPU, metavar="NAME|FILE", help=GPU_HELP)
    parser.add_argument("--outputs", help="folder of the runs (default: outputs)")
    options = parser.parse_args(argv)

    from llm4rec_cli.results.tables import is_wide, show
    from llm4rec_studies.paper_tables.reproduction import states

    only = ",".join(options.names) or "*"
    show(states(outputs_folder(options.outputs), rates_of_gpu(options.gpu), only, in_full=is_wide()))
    return 0
