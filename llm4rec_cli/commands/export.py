"""`llm4rec export data|model`: take a split or a trained model to other programs.

llm4rec export data dataset=ml-100k                                    exports/ml-100k, in every format
llm4rec export data dataset=ml-100k task=direct --out split --format parquet
llm4rec export data dataset=amazon2014-beauty dataset.raw_dir=PATH --format recbole,recbole-sequential
llm4rec export model sasrec/ml-100k --out sasrec-ml-100k

`data` writes training interactions, validation and test examples, their histories and candidates, item texts, and the
numbers of users and items: as CSV, as Parquet, and as files that RecBole, RecTools, cornac and lenskit read. README.md
in the folder has the split, its fingerprint, how each library loads it and how to bring lists back to `llm4rec score`.

`model` writes the weights of a finished run (safetensors), its config and a model card.

A folder that holds anything but an earlier export is refused.
"""

from __future__ import annotations

from llm4rec_cli.commands import EXAMPLES, command_parser
from llm4rec_cli.paths import default_outputs

DATA = "a dataset as it is split, with histories and candidates"


def main(argv: list[str]) -> int:
    if argv and argv[0] == "data":  # composes a config, as `train` does
        from llm4rec_cli import launch

        return launch.run("export_data", DATA, argv[1:], examples=EXAMPLES["export_data"])
    parser = command_parser("export", __doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("data", help=f"{DATA}: llm4rec export data --help")
    model = verbs.add_parser("model", help="the weights of a finished run, its config and a model card")
    model.add_argument("run", metavar="RUN", help="a run folder, or an end of its path")
    model.add_argument("--out", required=True, metavar="DIR", help="where to write")
    model.add_argument("--outputs", default=default_outputs(), help="folder of the runs (default: %(default)s)")
    options = parser.parse_args(argv)

    from pathlib import Path

    from llm4rec_cli.studies.export.model import export_model

    folder = export_model(options.run, Path(options.out), Path(options.outputs).expanduser())
    print(f"exported to {folder}: README.md is the model card")
    return 0
