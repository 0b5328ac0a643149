"""`llm4rec doctor`: check the installation and this machine.

llm4rec doctor                                  one line per check: ok, note or wrong, with a remedy
llm4rec doctor --outputs ~/outputs --cache /big/cache
llm4rec doctor --json | jq '.findings[] | select(.state == "wrong")'
llm4rec doctor --gpu                            a GPU: its rates, equality with the CPU, trainings
llm4rec doctor --gpu --shapes small             the same with small shapes, on any machine
llm4rec doctor --gpu --only card scoring        some sections

--gpu needs no network and no data: weights and data are random. FAIL marks what is wrong, and SLOW what is slower than
it should be. It writes gpu-DEVICE.json, and a row of a Markdown table to gpu-DEVICE.md.

Exits with 1 if something is wrong. Without --gpu it writes nothing except a temporary file in the outputs folder, to
test file locks. Shows no environment variable except OMP_NUM_THREADS.
"""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import asdict
from pathlib import Path

from llm4rec_cli import __version__
from llm4rec_cli.commands import command_parser
from llm4rec_cli.paths import default_outputs
from llm4rec_cli.studies.machine import WRONG, Finding, examine

WIDTH = 100  # characters per line, at most


def main(argv: list[str]) -> int:
    parser = command_parser("doctor", __doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--outputs", default=default_outputs(), help="the outputs folder (default: %(default)s)")
    parser.add_argument("--cache", help="the cache folder (default: the user's)")
    parser.add_argument("--gpu", action="store_true", help="check the GPU instead")
    parser.add_argument("--shapes", choices=["full", "small"], default="full", help="with --gpu: sizes of what is run")
    parser.add_argument("--only", nargs="+", default=[], metavar="SECTION", help="with --gpu: these sections")
    parser.add_argument("--out", default=".", help="with --gpu: the folder of its report (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.gpu:
        return _check_gpu(options.shapes, Path(options.out).expanduser().absolute(), options.only)
    findings = []
    for finding in examine(Path(options.outputs).expanduser().absolute(), options.cache):
        findings.append(finding)
        if not options.json:
            print(_in_words(finding), flush=True)
    wrong = sum(finding.state == WRONG for finding in findings)
    if options.json:
        from llm4rec_cli.results.tables import json_text

        print(json_text({"llm4rec": __version__, "wrong": wrong, "findings": list(map(asdict, findings))}, indent=2))
    else:
        print(f"{wrong} wrong" if wrong else "nothing is wrong")
    return int(wrong > 0)


def _check_gpu(shapes: str, out: Path, only: list[str]) -> int:
    """Print each section when it is done; return 1 if one fails."""
    from llm4rec_cli.studies.gpu_check import check
    from llm4rec_cli.studies.gpu_check.sections import FAIL

    states = []
    for section in check.run(shapes, out, only):
        states.append(section.state)
        facts = ", ".join(f"{name} {value:.3g}" for name, value in section.facts.items())
        print("  ".join(filter(None, [f"{section.state:<8}{section.name:<32}", facts, section.why])), flush=True)
    print(", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)), f"· report in {out}")
    if shapes == "small":
        print("small shapes try the check itself: their speeds, and SLOW, say nothing about this machine")
    return int(FAIL in states)


def _in_words(finding: Finding) -> str:
    """Format a finding: its name and state, the finding itself, and the remedy."""
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 0)).columns)
    remedy = [f"{'':20}try: {finding.remedy}"] if finding.remedy else []
    wrap = textwrap.TextWrapper(width, subsequent_indent=" " * 20, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(wrap.fill, [f"{finding.state:<6}{finding.name:<14}{finding.says}", *remedy]))
