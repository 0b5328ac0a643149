"""`llm4rec doctor gpu`: check a GPU: its rates, equality with the CPU, trainings beside plain ones.

llm4rec doctor gpu                              all sections
llm4rec doctor gpu --shapes small               the same with small shapes, on any machine
llm4rec doctor gpu --only card scoring          some sections

It needs no network and no data: weights and data are random. FAIL marks what is wrong, and SLOW what is slower than it
should be. It writes gpu-DEVICE.json, and a row of a Markdown table to gpu-DEVICE.md. Exits with 1 if something fails.
"""

from __future__ import annotations

from pathlib import Path

from llm4rec_cli.commands import command_parser


def main(argv: list[str]) -> int:
    parser = command_parser("doctor gpu", __doc__)
    parser.add_argument("--shapes", choices=["full", "small"], default="full", help="sizes of what is run")
    parser.add_argument("--only", nargs="+", default=[], metavar="SECTION", help="these sections")
    parser.add_argument("--out", default=".", help="the folder of its report (default: %(default)s)")
    options = parser.parse_args(argv)
    out = Path(options.out).expanduser().absolute()

    from llm4rec_studies.gpu_check import check
    from llm4rec_studies.gpu_check.sections import FAIL

    states = []
    for section in check.run(options.shapes, out, options.only):
        states.append(section.state)
        facts = ", ".join(f"{name} {value:.3g}" for name, value in section.facts.items())
        print("  ".join(filter(None, [f"{section.state:<8}{section.name:<32}", facts, section.why])), flush=True)
    print(", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)), f"· report in {out}")
    if options.shapes == "small":
        print("small shapes try the check itself: their speeds, and SLOW, say nothing about this machine")
    return int(FAIL in states)
