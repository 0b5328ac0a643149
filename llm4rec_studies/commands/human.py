"""`llm4rec human export|score|judge`: human evaluation of generated texts with blind sheets.

llm4rec human export retrieval/demo/explanation/seed0 p5/demo/explanation/seed0 --out judged
llm4rec human score judged ann.csv ben.csv cem.csv
llm4rec human score judged *.csv --json | jq .systems
llm4rec human judge judged llm=openai llm.model=NAME

`export` samples examples that finished runs of a writing task share. It writes the texts of all runs, and the user's
own, to sheet.csv, in shuffled order and under codes. Give it to raters, who score each text from 1 to 5 in a
spreadsheet. key.json maps codes to systems: do not show it to raters.

`score` reads the filled sheets, one per rater and named after the rater. It reports the mean score of each system on
each criterion, and the agreement of the raters as Krippendorff's alpha. The same goes to human.json, next to the key.

`judge` has a chat model fill a sheet, which is marked. Such sheets are scored separately, to judge.json: the result is
labelled llm-judge and settles no claim.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.commands import at_least, command_parser
from llm4rec_cli.config.commands import commands
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.errors import UsageError, raise_first
from llm4rec_cli.paths import default_outputs

if TYPE_CHECKING:
    from llm4rec_cli.config.compose import Composed

# What a judge reads of a Job.
EFFECTIVE_PARTS = ("llm", "seed", "device", "paths")
JUDGE_EXAMPLES = """\
examples:
  llm4rec human judge judged llm=openai llm.model=gpt-4o-mini-2024-07-18 llm.budget_tokens=200_000
  llm4rec human judge judged llm.dry_run=true                print the prompts and their maximum cost
  llm4rec human score judged judged/judge-*.csv
"""


def main(argv: list[str]) -> int:
    parser = command_parser("human", __doc__)
    verbs = parser.add_subparsers(required=True)
    export = verbs.add_parser("export", help="write a blind sheet of sampled examples, and its key")
    export.set_defaults(command=_export)
    add = export.add_argument
    add("runs", nargs="+", metavar="RUN", help="a run folder, or an end of its path")
    add("--out", required=True, type=_path, metavar="FOLDER", help="where sheet and key are written")
    add("--examples", dest="n_examples", type=at_least(1), default=50, metavar="N", help="sample size (default: 50)")
    add("--seed", type=at_least(0), default=0, help="random seed for sampling and order (default: 0)")
    criteria = "clarity,reasonableness"
    add("--criteria", type=_words, default=criteria, help=f"comma-separated names (default: {criteria})")
    add("--no-reference", dest="with_reference", action="store_false", help="leave out the users' own texts")
    add("--outputs", type=_path, default=default_outputs(), help="where runs were written (default: %(default)s)")
    add("--cache", help="the cache folder that holds the dataset (default: the user's)")
    score = verbs.add_parser("score", help="compute mean scores and the raters' agreement from filled sheets")
    score.set_defaults(command=_score)
    score.add_argument("folder", type=_path, metavar="FOLDER", help="the folder that export wrote")
    score.add_argument("paths", nargs="+", type=_path, metavar="SHEET", help="filled sheets, named after their raters")
    form = score.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="print a JSON object")
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="print comma-separated values")
    usage = "llm4rec human judge FOLDER [overrides]"
    about = "have a chat model fill a sheet, which is marked"
    judge = verbs.add_parser("judge", help=about, usage=usage, epilog=JUDGE_EXAMPLES)
    judge.set_defaults(command=_judge)
    judge.add_argument("folder", metavar="FOLDER", help="the folder that export wrote")
    judge.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="llm=…, llm.…=…, seed=N, paths.cache=PATH")
    options = vars(parser.parse_args(argv))
    options.pop("command")(**options)
    return 0


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _words(text: str) -> list[str]:
    return text.split(",")


def _export(**options: Any) -> None:
    from llm4rec_studies.human.export import export

    export(**options)


def _score(**options: Any) -> None:
    from llm4rec_studies.human.score import score

    score(**options)


def _judge(folder: str, overrides: list[str]) -> None:
    from llm4rec_cli import launch

    launch.run(commands()["human"], overrides, argparse.Namespace(folder=folder))


def run(composed: Composed, options: argparse.Namespace) -> None:
    """Have the chat model of `llm` fill the sheet in FOLDER.

    Raises:
        UsageError: an override has no effect here or is invalid, or FOLDER has no sheet.
    """
    from llm4rec_cli.run import rules
    from llm4rec_cli.run.job import Job
    from llm4rec_studies.human.judge import judge

    for override in composed.typed:
        if key_typed(override).partition(".")[0] not in EFFECTIVE_PARTS:
            raise UsageError(f"'{override}' has no effect on a judge", f"override only {', '.join(EFFECTIVE_PARTS)}")
    job = Job.unchecked(composed, "judge")
    raise_first(rules.problems_of_llm(job.llm))
    judge(job, Path(options.folder).expanduser())
