"""The commands, one file each, their one-line descriptions, and examples of those that take overrides."""

import argparse
from collections.abc import Callable
from typing import Any

HYDRA_COMMANDS = {
    "train": "train a model, evaluate it and its floors (simple baselines), print the metrics table",
    "eval": "evaluate a trained model on another task, split or protocol",
    "tune": "search a model's settings on validation, within a budget of trials and minutes",
    "prepare": "build a dataset from raw files and compare its statistics with the paper's",
    "enrich": "generate item tokens with a chat model, for dataset.text=enriched and model.tokens=true",
    "recommend": "print the top items for a user or for titles, or predict a rating or text",
}
PLAIN_COMMANDS = {
    "report": "summarise finished runs over seeds, with published values and claims, as a table, LaTeX or HTML",
    "protocols": "evaluate models under leave-one-out, shuffled ties and a split in time, and compare their order",
    "reproduce": "make a table of a paper: run what is missing, and show the paper's numbers next to ours",
    "compare": "compare runs on the same examples: paired differences, confidence intervals, tests",
    "ensemble": "combine stored scores of finished runs on the same examples and evaluate the result",
    "score": "evaluate scores or ranked lists from another system with our evaluator",
    "export": "write a dataset as it is split, or a trained model, for other programs",
    "bundle": "make a folder of finished runs to hand over, and verify one",
    "import-weights": "make a run of weights that a method's published code wrote, for eval and init_from",
    "inspect": "say what a dataset rewards besides taste, what item ids share, and what a result's gain consists of",
    "human": "evaluate generated texts with human judges: export blind sheets, score the filled ones",
    "list": "list models, datasets, tasks, experiments or runs",
    "new": "write a package of your own with a model that trains and passes the tests",
    "prune": "delete runs and cached data that are no longer needed",
    "validate": "compose every config and report all errors at once",
    "doctor": "check this machine: installation, devices, disk space",
    "completion": "print the script for bash or zsh completion of commands and overrides",
}
EXAMPLES = {
    "train": """\
  llm4rec train model=unisrec                                   train on the built-in demo, print the table
  llm4rec train model=sasrec dataset=amazon2018-scientific dataset.raw_dir=PATH
  llm4rec train -m model=unisrec,sasrec seed=0,1,2              a sweep; finished runs are skipped
  llm4rec train +experiment=p5/demo seed=0                      the settings of an experiment
""",
    "eval": """\
  llm4rec eval task=direct model=unisrec                        ask a trained model another question
  llm4rec eval model=sasrec split=valid                         on validation
  llm4rec eval run=PATH task.mask_history=true                  a run by its folder, items of the history left out
  llm4rec eval -m model=sasrec seed=0,1,2 task.mask_history=true
""",
    "tune": """\
  llm4rec tune model=sasrec                                          8 trials on the demo
  llm4rec tune model=sasrec dataset=ml-100k dataset.raw_dir=PATH --trials 20 --minutes 60
  llm4rec tune model=sasrec dataset=ml-100k dataset.raw_dir=PATH --trials 20 --save ml100k/sasrec
  llm4rec train -m +experiment=ml100k/sasrec dataset.raw_dir=PATH seed=0,1,2        what --save makes possible

Only validation is read (split=valid), and generated data are drawn with dataset.seed=1. Trial 0 is the setting before
tuning. The same command goes on with the same search: after a kill, with a larger budget, or in a second terminal at
the same time. Spaces are in conf/search/MODEL.yaml, yours in ./conf/search.
""",
    "prepare": """\
  llm4rec prepare dataset=demo
  llm4rec prepare dataset=ml-100k                               downloads, or says what to put where
  llm4rec prepare dataset=amazon2014-beauty dataset.raw_dir=PATH
""",
    "enrich": """\
  llm4rec enrich dataset=demo llm=local                         tokens for each item, by the packaged chat model
  llm4rec enrich +experiment=enrich/sasrec dataset=amazon2014-beauty dataset.raw_dir=PATH llm=openai
""",
    "recommend": """\
  llm4rec recommend model=unisrec --user ASASDIE2W9UHU                  a user of the demo data
  llm4rec recommend model=unisrec --title "garden hose" --explain       any text, if the model reads item text
  llm4rec recommend model=unisrec --user ID --new-items new.csv         rank items of a file with the catalogue
  llm4rec recommend model=sasrec dataset=ml-100k --title "Toy Story" --title "Star Wars" --k 5
  llm4rec recommend run=PATH --user 196 --json                          a trained run by its folder
  llm4rec recommend task=rating model=mf --user ID --item ID            predict the user's rating of the item
  llm4rec recommend task=explanation model=retrieval --user ID --item ID      write an explanation for the user
""",
    "inspect_data": """\
  llm4rec inspect data dataset=amazon2014-beauty dataset.raw_dir=PATH
  llm4rec inspect data dataset=ml-100k dataset.split=temporal --json
""",
    "inspect_ids": """\
  llm4rec inspect ids model=rpg                                            on the built-in demo
  llm4rec inspect ids model=tiger dataset=amazon2014-beauty dataset.raw_dir=PATH model.ids.kind=rq_vae
  llm4rec inspect ids model=p5 task=sequential model.index=collaborative --seeds 3 --json
""",
    "export_data": """\
  llm4rec export data dataset=ml-100k                                      exports/ml-100k, in every format
  llm4rec export data dataset=ml-100k task=direct --out split --format parquet,rectools
  llm4rec export data dataset=amazon2014-beauty dataset.raw_dir=PATH --format recbole,recbole-sequential
""",
    "inspect_memorisation": """\
  llm4rec inspect memorisation dataset=ml-100k llm=local --records 100
""",
}


class _Parser(argparse.ArgumentParser):
    """A parser that does not abbreviate options and keeps the line breaks of its help page; subcommands use it too."""

    def __init__(self, **options: Any) -> None:
        options |= {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**options)


def command_parser(command: str, help_page: str | None, usage: str | None = None) -> argparse.ArgumentParser:
    """Return a parser for the options of `llm4rec COMMAND`, which are written in full.

    Args:
        help_page: the docstring of the command's module.
        usage: the first line of its help; None = made of the options.
    """
    return _Parser(prog=f"llm4rec {command}", usage=usage, description=help_page)


def at_least(minimum: int) -> Callable[[str], int]:
    """Return an argparse type: whole numbers from `minimum` on."""

    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {minimum}")
        return int(text)

    return whole_number
