"""`llm4rec tune`: search settings on validation, within a budget of trials and minutes.

llm4rec tune model=sasrec                                          8 trials on the demo
llm4rec tune model=sasrec dataset=ml-100k dataset.raw_dir=PATH --trials 20 --minutes 60
llm4rec tune model=sasrec dataset=ml-100k dataset.raw_dir=PATH --trials 20 --save ml100k/sasrec
llm4rec train -m +experiment=ml100k/sasrec dataset.raw_dir=PATH seed=0,1,2        what --save makes possible

Only validation is read (split=valid), and generated data are drawn with dataset.seed=1. Trial 0 is the setting before
tuning. The same command goes on with the same search: after a kill, with a larger budget, or in a second terminal at
the same time. Spaces are in conf/search/MODEL.yaml, yours in ./conf/search.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.commands import at_least
from llm4rec_cli.config.compose import Composed
from llm4rec_cli.config.folders import conf_dir
from llm4rec_cli.config.overrides import SEARCH_SPACES, command_line, key_typed
from llm4rec_cli.config.plugins import conf_folders
from llm4rec_cli.errors import UsageError
from llm4rec_cli.files import write_json, write_text
from llm4rec_cli.results.tables import show

if TYPE_CHECKING:
    from llm4rec_cli.run.config_check import Folder
    from llm4rec_cli.run.folder import Outcome


def config_folders() -> dict[str, Folder]:
    """Return what `validate` checks for this command."""
    from llm4rec_cli.run.config_check import Folder
    from llm4rec_studies.tuning.checks import problems_of_file

    return {SEARCH_SPACES: Folder("search space", problems_of_file)}


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        "llm4rec tune",
        usage="llm4rec tune [overrides] [--trials N] [--minutes M] [--start EXPERIMENT] [--name NAME] [--save NAME] "
        "[--unpruned]",
        add_help=False,
        allow_abbrev=False,
    )
    options.add_argument(
        "--trials", type=at_least(1), default=8, metavar="N", help="number of trials in all (default: 8)"
    )
    options.add_argument(
        "--minutes", type=_minutes, metavar="M", help="stop after the trial that exceeds these minutes"
    )
    options.add_argument(
        "--start",
        action="append",
        default=[],
        metavar="EXPERIMENT",
        help="try this experiment's settings after trial 0, such as those chosen on other data; may be repeated",
    )
    options.add_argument("--name", help="name of the search (default: MODEL-DATASET-TASK)")
    options.add_argument("--save", metavar="NAME", help="write the best settings to ./conf/experiment/NAME.yaml")
    options.add_argument("--unpruned", action="store_true", help="train every trial to its end")
    return options


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' must be greater than 0, and finite")
    return minutes


def run(composed: Composed, options: argparse.Namespace) -> Outcome:
    """Search, print the trials, and write tuning.json and experiment.yaml."""
    from llm4rec_cli.run.folder import Outcome
    from llm4rec_studies.tuning.experiment import names_the_search, overrides_of_search, tune
    from llm4rec_studies.tuning.search import Budget

    if importlib.util.find_spec("optuna") is None:
        raise UsageError("tune needs Optuna, which is not installed", "pip install 'llm4rec[studies]'")
    if {"seed", "split"} & {key_typed(override) for override in composed.typed}:
        raise UsageError("tune sets split=valid and seed=0 itself", "leave them out")
    for name in filter(None, (options.name, options.save)):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UsageError(f"'{name}' leads out of its folder", "a name, such as beauty/sasrec")
    typed = overrides_of_search(composed)
    saved = Path("conf/experiment") / f"{options.save}.yaml" if options.save else None
    if saved is not None and saved.exists() and not names_the_search(saved, typed):
        raise UsageError(f"{saved} exists and belongs to another search", "--save another name")
    shipped = [folder.parent / saved for folder in (conf_dir(), *conf_folders())] if saved else []
    if saved and (found := next((file for file in shipped if file.exists() and not saved.exists()), None)):
        raise UsageError(f"{found} is shipped, and would be used in place of {saved}", "--save another name")
    tuned = tune(typed, options.name, options.start, Budget(options.trials, options.minutes), not options.unpruned)
    show(tuned.table())
    if tuned.chosen is None:
        raise UsageError("no trial was completed", "see the errors above, or raise --trials")
    write_json(tuned.folder / "tuning.json", tuned.record())
    write_text(tuned.folder / "experiment.yaml", tuned.experiment())
    print(f"search: {tuned.folder}")
    if saved is not None:
        write_text(saved, tuned.experiment())
        print(f"saved: {saved}")
    not_saved = [o for o in typed if o.startswith(("dataset.raw_dir=", "~"))]
    command = command_line("train -m", [f"+experiment={options.save or 'NAME'}", *not_saved, "seed=0,1,2"])
    print(f"next: {command}" + ("" if options.save else "   (after --save NAME)"))
    return Outcome("done", tuned.folder)
