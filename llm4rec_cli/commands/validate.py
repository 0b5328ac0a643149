"""`llm4rec validate`: compose every config, and report all errors with file and line.

llm4rec validate                                     the shipped configs and those in ./conf
llm4rec validate dataset/mine experiment             one option, and all options of a group
llm4rec validate conf/dataset/mine.yaml              one file
llm4rec validate papers                              the tables of the papers: conf/paper

Each option is composed with the defaults of all other groups, prompts together with the model's default prompts. Of a
paper's table each row, column and evaluation is composed once, and not each of their combinations.
Unknown keys and wrong types are reported first. Configs without these are checked for missing values, values out of
range, unknown readers, file roles, floors and metrics, prompts that cannot be filled in, and models that do not support
their task. Files in ./conf that are never read are reported too. No raw data is read and nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

from llm4rec_cli.commands import command_parser
from llm4rec_cli.config.folders import user_conf_dir
from llm4rec_cli.config.overrides import PAPER_TABLES
from llm4rec_cli.errors import UsageError, did_you_mean


def main(argv: list[str]) -> int:
    parser = command_parser("validate", __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="group/option, a group, or a file (default: all)")
    arguments = parser.parse_args(argv).names

    from llm4rec_cli.run.config_check import check, known_configs

    known = known_configs()
    names = [name for argument in arguments for name in _matching(argument, known)] or known
    problems, n_invalid = check(names, everything=not arguments)
    for problem in problems:
        print(problem)
    print(_summary(names, len(problems), n_invalid))
    return 2 if problems else 0


def _matching(argument: str, known: Sequence[str]) -> list[str]:
    """Return the configs that an argument names.

    Raises:
        UsageError: no config has this name.
    """
    name = argument.removeprefix("./").removeprefix("conf/").removesuffix(".yaml").rstrip("/")
    name = PAPER_TABLES if name == "papers" else name
    group, _, option = name.partition("/")
    from llm4rec_cli.run.config_check import read_folders

    matches = [other for other in known if name in (other, other.partition("/")[2]) or other.startswith(f"{name}/")]
    if not matches:
        near = [other for other in known if other.startswith(f"{group}/")] if option else []
        raise UsageError(f"unknown config '{argument}'", did_you_mean(name, near or read_folders()))
    return matches


def _summary(names: Sequence[str], n_problems: int, n_invalid: int) -> str:
    """Return `29 configs (9 datasets, …): all valid`."""
    from llm4rec_cli.run.config_check import data_folders, file_of, read_folders

    counts = {group: sum(name.startswith(f"{group}/") for name in names) for group in read_folders()}
    nouns = {name: folder.noun for name, folder in data_folders().items()}
    parts = [_plural(n, nouns.get(group, group)) for group, n in counts.items() if n]
    if user := user_conf_dir():
        parts.append(f"{sum(user in file_of(name).parents for name in names)} of them in ./conf")
    result = f"{_plural(n_problems, 'error')}; {_plural(n_invalid, 'invalid config')}" if n_problems else "all valid"
    return f"{_plural(len(names), 'config')} ({', '.join(parts)}): {result}"


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
