"""`llm4rec doctor`: check the installation and this machine.

llm4rec doctor                                  one line per check: ok, note or wrong, with a remedy
llm4rec doctor --outputs ~/outputs --cache /big/cache

Exits with 1 if something is wrong. Writes nothing except a temporary file in the outputs folder, to test file locks.
Shows no environment variable.
"""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

from llm4rec_cli.commands import command_parser
from llm4rec_cli.paths import default_outputs
from llm4rec_cli.run.machine import WRONG, Finding, examine

WIDTH = 100  # characters per line, at most


def main(argv: list[str]) -> int:
    parser = command_parser("doctor", __doc__)
    parser.add_argument("--outputs", default=default_outputs(), help="the outputs folder (default: %(default)s)")
    parser.add_argument("--cache", help="the cache folder (default: the user's)")
    options = parser.parse_args(argv)
    wrong = 0
    for finding in examine(Path(options.outputs).expanduser().absolute(), options.cache):
        wrong += finding.state == WRONG
        print(_in_words(finding), flush=True)
    print(f"{wrong} wrong" if wrong else "nothing is wrong")
    return int(wrong > 0)


def _in_words(finding: Finding) -> str:
    """Format a finding: its name and state, the finding itself, and the remedy."""
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 0)).columns)
    remedy = [f"{'':20}try: {finding.remedy}"] if finding.remedy else []
    wrap = textwrap.TextWrapper(width, subsequent_indent=" " * 20, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(wrap.fill, [f"{finding.state:<6}{finding.name:<14}{finding.says}", *remedy]))
