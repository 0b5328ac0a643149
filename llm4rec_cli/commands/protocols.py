"""`llm4rec protocols`: the same models under three protocols. Does their order survive another way of asking?

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
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llm4rec_cli.commands import at_least, command_parser
from llm4rec_cli.config import walk
from llm4rec_cli.errors import DataError, UsageError, did_you_mean, raise_first

if TYPE_CHECKING:
    from llm4rec_cli.runs.spec import RunSpec
    from llm4rec_cli.studies.protocols import ProtocolComparison

PROTOCOLS = {  # name -> the override that makes it
    "leave_one_out": "dataset.split=leave_one_out",
    "shuffle_ties": "dataset.control=shuffle_ties",
    "temporal": "dataset.split=temporal",
}


def main(argv: list[str]) -> int:
    parser = command_parser(
        "protocols",
        __doc__,
        "llm4rec protocols [overrides] [--only NAMES] [--draws N] [--metrics NAMES] [--json | --csv]",
    )
    parser.add_argument("--only", metavar="NAMES", default=",".join(PROTOCOLS), help="comma-separated protocols")
    parser.add_argument("--draws", metavar="N", type=at_least(1), default=5, help="draws of shuffle_ties (default: 5)")
    parser.add_argument("--metrics", metavar="NAMES", help="comma-separated (default: the task's selection metric)")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object")
    output.add_argument("--csv", action="store_true", help="one row a run, metric and slice")
    options, overrides = parser.parse_known_args(argv)
    if unknown := [argument for argument in overrides if argument.startswith("-")]:
        raise UsageError(
            f"unknown option '{unknown[0]}'", "lists of values need no -m; paths.outputs=FOLDER, not --outputs"
        )
    names = options.only.split(",")
    for name in names:
        if name not in PROTOCOLS:
            raise UsageError(f"unknown protocol '{name}'", did_you_mean(name, PROTOCOLS))

    from llm4rec_cli import launch, processes
    from llm4rec_cli.config.compose import usage_errors
    from llm4rec_cli.config.overrides import hydra_override, sweep_jobs

    if processes.world_size() > 1:
        raise UsageError("protocols runs in one process", "leave out torchrun")
    launch.log_to_stderr()
    with usage_errors():
        jobs = sweep_jobs([hydra_override(override) for override in overrides])
    specs = [_spec(job) for job in jobs]
    raise_first(_problems(specs))
    metrics = options.metrics.split(",") if options.metrics else [specs[0].task.selection]
    raise_first(_metric_problems(specs[0], metrics))
    _print(compare_protocols(jobs, names, options.draws), metrics, options)
    return 0


def compare_protocols(jobs: Sequence[Sequence[str]], names: Sequence[str], draws: int) -> ProtocolComparison:
    """Train and evaluate every job and its floors under every protocol that the data allow; finished runs are reused.

    Args:
        jobs: overrides of each run, in Hydra's grammar, which differ in settings of model, training or seed.
        names: of PROTOCOLS.
        draws: of `shuffle_ties`.

    Raises:
        DataError: the data cannot be read, or allow none of the protocols.
    """
    from llm4rec_cli.results.words import shown_as
    from llm4rec_cli.runs import stages
    from llm4rec_cli.studies.protocols import ProtocolComparison, ProtocolRun
    from llm4rec_cli.training import trained
    from llm4rec_cli.training.run import run

    first = _spec(jobs[0])
    stages.load(first)  # raises what is wrong with the data under any protocol
    refusals: dict[str, DataError] = {}
    runs: dict[str, ProtocolRun] = {}  # by address: jobs share floors
    for name in names:
        if refusal := _refusal(_spec(jobs[0], PROTOCOLS[name])):
            refusals[name] = refusal
            continue
        several = name == "shuffle_ties" and first.config.dataset.generator is None
        seed = first.config.dataset.seed
        for draw in range(seed, seed + (draws if several else 1)):
            for job in jobs:
                spec = _spec(job, PROTOCOLS[name], *([f"dataset.seed={draw}"] if draw != seed else []))
                _, results = run(spec, trained.find_init_run(spec))
                named = [*walk.settings_with(spec.model, "named")]
                variant = " ".join([shown_as(results[-1]), *_distinct(job, jobs, named)])
                for result in results:
                    model = variant if result is results[-1] else shown_as(result)
                    runs.setdefault(result.config_hash, ProtocolRun(model, name, draw, result))
    if not runs:
        raise next(iter(refusals.values()))
    return ProtocolComparison(list(runs.values()), {name: refusal.problem for name, refusal in refusals.items()})


def _spec(job: Sequence[str], *more: str) -> RunSpec:
    """Return the spec of a job with further overrides, which replace those of the same key."""
    from llm4rec_cli.config.compose import compose
    from llm4rec_cli.config.overrides import key_typed
    from llm4rec_cli.runs.spec import RunSpec

    replaced = {key_typed(override) for override in more}
    typed = [override for override in job if key_typed(override) not in replaced]
    return RunSpec.resolve(compose([*typed, *more]), "train")


def _problems(specs: Sequence[RunSpec]) -> Iterator[UsageError]:
    """Yield what the specs have that protocols cannot compare."""
    from llm4rec_cli.config.schema import Control, Question, SplitRule

    for spec in specs:
        dataset = spec.config.dataset
        if walk.settings_with(spec.model, "input_file"):
            yield UsageError(
                f"a file of {spec.model.name} was made for one split, and protocols evaluates several",
                "one file for each: llm4rec score FILE --name NAME dataset.split=temporal",
            )
        if spec.task.question is not Question.rank:
            yield UsageError(f"protocols compares rankings, and task '{spec.task.name}' is none", "task=sequential")
        if (dataset.split, dataset.control) != (SplitRule.leave_one_out, Control.none):
            yield UsageError(
                "protocols sets split and control, but here dataset.split is "
                f"{dataset.split.name} and dataset.control is {dataset.control.name}",
                "dataset.split=leave_one_out dataset.control=none; the protocols split interactions, not click logs",
            )
        if (dataset, spec.task, spec.config.split) != (specs[0].config.dataset, specs[0].task, specs[0].config.split):
            yield UsageError(
                f"{specs[0].model.name} and {spec.model.name} differ in dataset, task or evaluated split",
                "set dataset= and task=, and only one value of each of their settings",
            )


def _metric_problems(spec: RunSpec, metrics: Sequence[str]) -> Iterator[UsageError]:
    from llm4rec_cli.tasks.base import metric_names

    known = metric_names(spec.task)
    yield from (UsageError(f"no metric '{name}'", did_you_mean(name, known)) for name in metrics if name not in known)


def _refusal(spec: RunSpec) -> DataError | None:
    """Return why the data cannot be evaluated under this protocol; None if they can."""
    from llm4rec_cli.config.schema import SplitName
    from llm4rec_cli.runs import stages
    from llm4rec_cli.tasks import base as tasks

    try:
        split = stages.split_dataset(spec, stages.load(spec))
        for part in SplitName:
            tasks.module(spec.task).examples(split, part, spec.config, spec.cache)
    except DataError as error:
        return error
    return None


def _distinct(job: Sequence[str], jobs: Sequence[Sequence[str]], named: Sequence[str]) -> list[str]:
    """Return the overrides of a job that not all jobs have, except the seed and what the model's name says; of an
    experiment, its name.

    Args:
        named: settings of the model that its name says.
    """
    from llm4rec_cli.config.overrides import key_typed

    hidden = {"model", "seed", *(f"model.{setting}" for setting in named)}
    shown = [o for o in job if not all(o in other for other in jobs) and key_typed(o) not in hidden]
    return [o.partition("=")[2] if key_typed(o) == "experiment" else o for o in shown]


def _print(comparison: ProtocolComparison, metrics: Sequence[str], options: argparse.Namespace) -> None:
    from llm4rec_cli.results.tables import comma_separated, json_text, say, show
    from llm4rec_cli.results.words import SYNTHETIC_NOTE, title
    from llm4rec_cli.studies import protocols

    if options.json:
        print(json_text(protocols.as_json(comparison, metrics), indent=2))
        return
    if options.csv:
        sys.stdout.write(comma_separated(*protocols.flat(comparison, metrics)))
        return
    first = dataclasses.replace(comparison.runs[0].result, split_rule="leave_one_out")  # the columns name the rule
    heading = title(first)
    contents: list[Any] = [protocols.metric_table(comparison, metric) for metric in metrics]
    contents += [
        content
        for metric in metrics
        for protocol in comparison.protocols
        if (content := protocols.slice_table(comparison, protocol, metric))
    ]
    print(f"{heading}\n")
    for content in contents:
        show(content)
        print()
    say(*(f"without {protocol}: {reason}" for protocol, reason in comparison.skipped.items()))
    if "synthetic" in first.labels:
        say(SYNTHETIC_NOTE)
