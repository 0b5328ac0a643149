"""`llm4rec inspect data|ids|result|memorisation`: what a dataset rewards besides taste, what the ids of items share,
what a result's gain consists of, and whether a chat model knows a dataset by heart.

llm4rec inspect data dataset=amazon2014-beauty dataset.raw_dir=PATH
llm4rec inspect data dataset=ml-100k dataset.split=temporal --json
llm4rec inspect ids model=rpg dataset=amazon2014-beauty dataset.raw_dir=PATH --seeds 3
llm4rec inspect memorisation dataset=ml-100k llm=local --records 100
llm4rec inspect result sasrec/ml-100k/sequential/seed0-ab
llm4rec inspect result sasrec/ml-100k/sequential/seed0-ab --over popularity --metric hr@10
llm4rec inspect result gru4rec.csv --json | jq .verdict

`data` shows raw files and filters, how the order of interactions comes about, near-duplicates, popularity, and what
rules without training reach on each slice of the test targets. It ends with sentences that say what this means.

`ids` shows, for a model that names items by codes: how many items have an id of their own, how evenly each level uses
its codes, whether items that share codes are alike in text and bought together, and whether another seed groups them
alike.

`memorisation` has a chat model choose the end of records among those of other records, and write it word for word:
titles, an item's title after its id, rating rows and a user's next item; and the same of made-up records. Rows of that
model on that dataset then show the scores.

`result` takes a finished run, or a file that `llm4rec score` has judged. It shows how much of its gain over the
strongest floor is in each slice, and whether it may be called "beats": with three seeds of a trained model, an interval
above 0 over users and seeds, also outside the slices of one day, near-duplicates and repeated items, under shuffled
ties and a temporal split where there are times, on test data without a sign of a leak.
"""

from __future__ import annotations

from pathlib import Path

from llm4rec_cli.commands import EXAMPLES, command_parser
from llm4rec_cli.errors import UsageError, closest, meant
from llm4rec_cli.paths import default_outputs

COMPOSED = {
    "data": "what a dataset rewards besides taste",
    "ids": "what item ids share: collisions, use of codes, likeness in text and co-occurrence",
    "memorisation": "whether a chat model knows a dataset by heart",
}


def main(argv: list[str]) -> int:
    if argv and (verb := argv[0]) in COMPOSED:  # composes a config, as `train` does
        from llm4rec_cli import launch

        command = f"inspect_{verb}"
        return launch.run(command, COMPOSED[verb], argv[1:], examples=EXAMPLES[command])
    if argv and argv[0] not in (*COMPOSED, "result") and not argv[0].startswith("-"):
        near = closest(argv[0], [*COMPOSED, "result"])
        remedy = meant(near) if near else f"llm4rec inspect result {argv[0]}"
        raise UsageError(f"unknown kind '{argv[0]}': expected data, ids, memorisation or result", remedy)
    parser = command_parser("inspect", __doc__)
    verbs = parser.add_subparsers(required=True, metavar="data|ids|result|memorisation")
    for verb, summary in COMPOSED.items():
        verbs.add_parser(verb, help=f"{summary}: llm4rec inspect {verb} --help")
    result = verbs.add_parser("result", help="what a result's gain consists of, and whether it may be called 'beats'")
    result.add_argument("run", metavar="RUN|FILE", help="a run folder, an end of its path, or a file that was scored")
    result.add_argument("--over", metavar="MODEL|RUN", help="what the gain is over (default: the strongest floor)")
    result.add_argument("--metric", "--metrics", help="of a ranking (default: the task's selection metric)")
    result.add_argument("--json", action="store_true", help="one JSON object")
    result.add_argument(
        "--outputs", type=Path, default=Path(default_outputs()), help="folder of the runs (default: %(default)s)"
    )
    options = parser.parse_args(argv)

    from llm4rec_cli.results.tables import json_text, say, show
    from llm4rec_cli.studies.inspection.audit import audit, tables

    audited = audit(options.run, options.outputs.expanduser(), options.over, options.metric)
    if options.json:
        print(json_text(audited.as_json(), indent=2))
        return 0
    show(*tables(audited))
    say(*(f"- {sentence}" for sentence in audited.known), audited.verdict)
    for command in audited.commands:
        print(f"to find out: {command}")
    return 0
