"""`llm4rec score FILE`: evaluate scores or ranked lists from another system with our evaluator and our floors.

llm4rec score gru4rec.csv                                         on the built-in demo, full ranking
llm4rec score gru4rec.csv.gz --name gru4rec dataset=amazon2014-beauty dataset.raw_dir=PATH task.mask_history=true
llm4rec score ranks.parquet --name "my model" task=direct seed=1
llm4rec compare external/demo/sequential/seed0-ab sasrec/demo/sequential/seed0-cd

FILE is CSV or TSV with a header (also gzipped) or Parquet, with these columns, ids as in the raw files:
  user, item, score   higher is better
  user, item, rank    1 is best
  user, item          each user's items best first
(user_id and item_id are accepted too.) Items missing from a user's list tie below it; if this affects a metric, the run
is labelled `truncated-lists`. For several seeds of one model, score one file each, with the same --name and its seed=.

This is `llm4rec train model=external model.file=FILE model.alias=NAME …`: every override of `train` works here.
"""

from __future__ import annotations

from pathlib import Path

from llm4rec_cli.commands import command_parser
from llm4rec_cli.errors import UsageError


def main(argv: list[str]) -> int:
    parser = command_parser("score", __doc__, "llm4rec score FILE [--name NAME] [overrides]")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--name", help="the model's name in tables (default: the file's name)")
    options, overrides = parser.parse_known_args(argv)
    if any(override.partition("=")[0] == "model" for override in overrides):
        raise UsageError(
            "score takes no model=: the file is the model", "leave model= out; llm4rec train evaluates our models"
        )

    from llm4rec_cli.models.external import lists

    file = Path(options.file).expanduser()
    lists.read_layout(file)  # fails early, before anything is composed or computed

    from llm4rec_cli import launch
    from llm4rec_cli.commands import HYDRA_COMMANDS
    from llm4rec_cli.config.overrides import quoted

    alias = options.name or file.name.partition(".")[0]
    arguments = ["model=external", f"model.file={quoted(str(file))}", f"model.alias={quoted(alias)}", *overrides]
    return launch.run("train", HYDRA_COMMANDS["train"], arguments)
