"""`llm4rec inspect result RUN`: what a result's gain consists of, and whether it may be called "beats".

llm4rec inspect result sasrec/ml-100k/sequential/seed0-ab
llm4rec inspect result sasrec/ml-100k/sequential/seed0-ab --over popularity --metric hr@10

Of a finished run, also one of `llm4rec score`: how much of its gain over the strongest floor is in each
slice, and whether it may be called "beats": with three seeds of a trained model, an interval above 0 over users and
seeds, also outside the slices of one day, near-duplicates and repeated items, under shuffled ties and a temporal split
where there are times, on test data without a sign of a leak.
"""

from __future__ import annotations

from pathlib import Path

from llm4rec_cli.commands import command_parser
from llm4rec_cli.paths import default_outputs


def main(argv: list[str]) -> int:
    parser = command_parser("inspect result", __doc__)
    parser.add_argument("run", metavar="RUN", help="a run folder, or an end of its path")
    parser.add_argument("--over", metavar="MODEL|RUN", help="what the gain is over (default: the strongest floor)")
    parser.add_argument("--metric", "--metrics", help="of a ranking (default: the task's selection metric)")
    parser.add_argument("--outputs", default=default_outputs(), help="folder of the runs (default: %(default)s)")
    options = parser.parse_args(argv)

    from llm4rec_cli.results.tables import say, show
    from llm4rec_studies.inspection.audit import audit, tables

    audited = audit(options.run, Path(options.outputs).expanduser(), options.over, options.metric)
    show(*tables(audited))
    say(*(f"- {sentence}" for sentence in audited.known), audited.verdict)
    for command in audited.commands:
        print(f"to find out: {command}")
    return 0
