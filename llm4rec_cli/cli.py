"""`llm4rec <command> …`: dispatch to a command. Imports nothing heavy, so that help is instant."""

from __future__ import annotations

import os
import sys
import traceback
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm4rec_cli.config.commands import Command

# How long OpenMP threads spin while waiting; libgomp reads it when torch is imported. With the default, two commands
# on the same two cores take three to four times as long each, with this value twice.
SPIN_COUNT = "5000"

USAGE = """\
llm4rec: recommendation with language models, reproduced and compared fairly.

Usage: llm4rec <command> [overrides]

Commands:
{commands}

Options:
  -h, --help       show this page; `llm4rec <command> --help` for one command
  --version        print the version
  -v, --verbose    (after a command) show full tracebacks and more log lines; so does HYDRA_FULL_ERROR=1
  --wide           (after a command) show all columns of tables, on lines of any length

Examples:
  llm4rec train model=unisrec                       train on the built-in demo data
  llm4rec train -m model=unisrec,sasrec seed=0,1,2  a sweep; run it again and finished runs are skipped
  llm4rec eval task=direct model=unisrec            evaluate the trained run that matches
  llm4rec prepare dataset=amazon2018-scientific dataset.raw_dir=PATH
  llm4rec recommend model=unisrec --user ID         top items for a user; --title TEXT for a new one
  llm4rec report --markdown
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        the exit code: 0 done, 1 a run failed, 2 usage or config error, 130 interrupted.
    """
    if sys.platform == "win32":
        print("error: llm4rec does not run on Windows, where it cannot lock files; use WSL", file=sys.stderr)
        return 2
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--version" in arguments:
        from llm4rec_cli import __version__

        print(f"llm4rec {__version__}")
        return 0
    full_error = os.environ.get("HYDRA_FULL_ERROR") == "1"  # which launch sets, too
    verbose = full_error or any(flag in arguments for flag in ("-v", "--verbose"))
    os.environ.pop("LLM4REC_VERBOSE", None)
    if verbose:
        os.environ["LLM4REC_VERBOSE"] = "1"  # progress.VERBOSE
    if "--wide" in arguments:
        from llm4rec_cli.results.tables import WIDE

        os.environ[WIDE] = "1"  # also for the processes of a sweep
    words = [word for word in arguments if word not in ("-v", "--verbose", "--wide")]

    from llm4rec_cli.config.commands import beginning_with, commands
    from llm4rec_cli.errors import DryRun, Llm4RecError, as_environment_error

    try:
        all_commands = commands()
        if not words or words[0] in ("-h", "--help"):
            print(USAGE.format(commands=_listed(all_commands.values())), end="")
            return 0
        if words[0] not in all_commands and words[1:2] in (["-h"], ["--help"]) and (below := beginning_with(words[0])):
            print(f"Usage: llm4rec {words[0]} <command>; each has --help\n\n{_listed(below)}")
            return 0
        command, rest = _choose(words)
        if command.takes_overrides:
            from llm4rec_cli import launch

            return launch.run(command, rest)
        return int(command.load().main(rest) or 0)
    except DryRun as dry_run:
        return dry_run.exit_code
    except Llm4RecError as error:
        return _report(error, error.problem, error.remedy, error.exit_code, verbose)
    except KeyboardInterrupt:
        print("interrupted: the same command resumes", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the process that reads stdout has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if known := as_environment_error(error):
            return _report(error, known.problem, known.remedy, known.exit_code, verbose)
        first_line = str(error).partition("\n")[0]
        remedy = f"{_origin(error)}: run with -v for the traceback"
        return _report(error, f"{type(error).__name__}: {first_line}", remedy, 1, verbose)


def _choose(words: list[str]) -> tuple[Command, list[str]]:
    """Return the command that is typed, by as many words as one has, and its arguments.

    Raises:
        UsageError: there is no such command.
    """
    from llm4rec_cli.config.commands import beginning_with, commands, offered, second_words
    from llm4rec_cli.errors import UsageError, did_you_mean

    by_words = {tuple(command.typed.split()): command for command in beginning_with(words[0])}
    for n in range(len(words), 0, -1):
        if command := by_words.get(tuple(words[:n])):
            return command, words[n:]
        if problem := offered().problems.get("-".join(words[:n])):
            raise problem
    if below := second_words(words[0]):
        remedy = did_you_mean(words[1], below) if len(words) > 1 else f"llm4rec {words[0]} {'|'.join(below)}"
        raise UsageError(f"unknown command '{' '.join(words[:2])}'", remedy)
    raise UsageError(
        f"unknown command '{words[0]}'",
        did_you_mean(words[0], {command.typed.split()[0] for command in commands().values()}),
    )


def _listed(known: Iterable[Command]) -> str:
    """Return a line for each command, those of installed packages below the name of theirs."""
    from llm4rec_cli.config.plugins import OURS

    by_package = defaultdict[str, list[str]](list)
    for command in known:
        by_package[command.package].append(f"  {command.typed:<21} {command.summary}")
    ours = by_package.pop(OURS, [])
    others = [line for package, lines in by_package.items() for line in ("", f"Commands of {package}:", *lines)]
    return "\n".join([*ours, *others])


def _origin(error: Exception) -> str:
    """Return the innermost line of this package, or of one that offers something to it, that raised an error."""
    from llm4rec_cli.config.plugins import OURS, packages_by_source

    packages = {Path(__file__).parent: OURS, **packages_by_source()}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        for source, package in packages.items():
            if path.is_relative_to(source):
                place = f"{path.relative_to(source.parent)}:{frame.lineno}"
                origin = "this is a bug in llm4rec" if package == OURS else f"raised by {package}"
                return f"{origin}, at {place}"
    return "this is a bug in llm4rec"


def _report(error: Exception, problem: str, remedy: str, exit_code: int, verbose: bool) -> int:
    from llm4rec_cli.errors import printable

    if os.environ.get("RANK", "0") != "0" and exit_code == 2:
        return exit_code  # the first process of the run reports it
    if verbose:
        traceback.print_exception(error)
    print("error:", *printable(problem).splitlines(), file=sys.stderr)
    if remedy:
        print("  try:", *printable(remedy).splitlines(), file=sys.stderr)
    return exit_code
