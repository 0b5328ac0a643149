"""`llm4rec protocols`: the same models under three protocols: does their order survive?

llm4rec protocols model=sasrec dataset=ml-100k
llm4rec protocols model=sasrec,unisrec dataset=ml-100k seed=0,1,2 --draws 3
llm4rec protocols model=popularity dataset=ml-100k --metrics hr@10,ndcg@10
llm4rec protocols model=sasrec dataset=ml-100k --only leave_one_out,temporal --csv > protocols.csv

  leave_one_out   each user's last interaction is the target. Where the last times are equal, the order of the file
                  decides which one that is, and models are trained on what other users did later.
  shuffle_ties    the same after interactions of one user at one time are shuffled (dataset.control=shuffle_ties): no
                  order of the file is left. Each draw is another dataset.seed, from the one typed upwards. Generated
                  data have one draw, as dataset.seed also generates them.
  temporal        one moment splits training from test (dataset.split=temporal, dataset.cuts): the target is a user's
                  first interaction after it. Users without one are not tested. The catalogue is the whole one, and a
                  target may never occur in training: slice `cold`.

Every model is trained and evaluated with the floors of its task under every protocol and draw, by ordinary runs: each
is `llm4rec train … dataset.split=… dataset.control=… dataset.seed=…`, and finished ones are reused. Overrides are those
of train; comma-separated values are combined as by -m. A protocol that the data do not allow is left out, with the
reason: without times, only leave_one_out is left.

The table has the mean of the metric under each protocol, each model's rank there, and Kendall's τ between these orders.
Below it, for each protocol, the same metric on slices of the targets: bought on the day of the item before (basket
completion), near-duplicates of an item of the history, repeated, cold, long-tail, and after a short history. A model
that is better on all examples and not on the slices that matter to you is better at something else.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm4rec_cli.commands import at_least, command_parser
from llm4rec_cli.errors import UsageError, did_you_mean, raise_first

if TYPE_CHECKING:
    from llm4rec_studies.protocol_comparison import ProtocolComparison


def main(argv: list[str]) -> int:
    parser = command_parser(
        "protocols",
        __doc__,
        "llm4rec protocols [overrides] [--only NAMES] [--draws N] [--metrics NAMES] [--json | --csv]",
    )
    parser.add_argument("--only", metavar="NAMES", help="comma-separated protocols")
    parser.add_argument("--draws", metavar="N", type=at_least(1), default=5, help="draws of shuffle_ties (default: 5)")
    parser.add_argument(
        "--metrics", "--metric", metavar="NAMES", help="comma-separated (default: the task's selection metric)"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object")
    output.add_argument("--csv", action="store_true", help="one row a run, metric and slice")
    options, overrides = parser.parse_known_args(argv)
    if unknown := [argument for argument in overrides if argument.startswith("-")]:
        raise UsageError(
            f"unknown option '{unknown[0]}'", "lists of values need no -m; paths.outputs=FOLDER, not --outputs"
        )

    from llm4rec_cli import processes
    from llm4rec_cli.config.compose import usage_errors
    from llm4rec_cli.config.overrides import hydra_override, sweep_jobs
    from llm4rec_cli.progress import log_to_stderr
    from llm4rec_studies.protocol_comparison import PROTOCOLS, compare_protocols, problems, resolved

    names = [*PROTOCOLS] if options.only is None else options.only.split(",")
    for name in names:
        if name not in PROTOCOLS:
            raise UsageError(f"unknown protocol '{name}'", did_you_mean(name, PROTOCOLS))
    if processes.world_size() > 1:
        raise UsageError("protocols runs in one process", "leave out torchrun")
    log_to_stderr()
    with usage_errors():
        sweep = sweep_jobs([hydra_override(override) for override in overrides])
    jobs = [resolved(overrides) for overrides in sweep]
    metrics = options.metrics.split(",") if options.metrics else [jobs[0].task.selection]
    raise_first(problems(jobs, metrics))
    _print(compare_protocols(sweep, names, options.draws), metrics, options)
    return 0


def _print(comparison: ProtocolComparison, metrics: Sequence[str], options: argparse.Namespace) -> None:
    from llm4rec_cli.results.tables import comma_separated, json_text, say, show
    from llm4rec_cli.results.words import SYNTHETIC_NOTE, title
    from llm4rec_studies.protocol_comparison import as_json, flat, tables

    if options.json:
        print(json_text(as_json(comparison, metrics), indent=2))
        return
    if options.csv:
        sys.stdout.write(comma_separated(*flat(comparison, metrics)))
        return
    first = dataclasses.replace(comparison.runs[0].result, split_rule="leave_one_out")  # the columns name the rule
    print(f"{title(first)}\n")
    for content in tables(comparison, metrics):
        show(content)
        print()
    say(*(f"without {protocol}: {reason}" for protocol, reason in comparison.skipped.items()))
    if "synthetic" in first.labels:
        say(SYNTHETIC_NOTE)
