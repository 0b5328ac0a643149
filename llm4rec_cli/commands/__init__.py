"""The commands, one file each (`config.commands`), and what their parsers share."""

import argparse
from collections.abc import Callable
from typing import Any

# Of tables, besides those of a terminal: option -> its help.
FORMS = {
    "markdown": "Markdown tables",
    "csv": "one table of comma-separated values",
    "latex": "LaTeX tables (booktabs)",
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
