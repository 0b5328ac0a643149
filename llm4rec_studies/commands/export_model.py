"""`llm4rec export model RUN`: the weights of a finished run, its config and a model card.

llm4rec export model sasrec/ml-100k --out sasrec-ml-100k

Weights are safetensors. A folder that exists is refused.
"""

from __future__ import annotations

from pathlib import Path

from llm4rec_cli.commands import command_parser
from llm4rec_cli.paths import default_outputs


def main(argv: list[str]) -> int:
    parser = command_parser("export model", __doc__)
    parser.add_argument("run", metavar="RUN", help="a run folder, or an end of its path")
    parser.add_argument("--out", required=True, metavar="DIR", help="where to write")
    parser.add_argument("--outputs", default=default_outputs(), help="folder of the runs (default: %(default)s)")
    options = parser.parse_args(argv)

    from llm4rec_studies.export.model import export_model

    folder = export_model(options.run, Path(options.out), Path(options.outputs).expanduser())
    print(f"exported to {folder}: README.md is the model card")
    return 0
