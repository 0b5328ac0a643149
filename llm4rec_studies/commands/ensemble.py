"""`llm4rec ensemble run=[RUN,RUN,…]`: combine stored scores of finished runs, and evaluate the result.

llm4rec ensemble run=[outputs/prompt4nr/demo_news/direct/seed0-ab,outputs/prompt4nr/demo_news/direct/seed0-cd]
llm4rec ensemble run=[seed0-ab,seed0-cd,seed0-ef] combine=rank           ends of paths, where unambiguous
llm4rec ensemble run=[seed0-ab,seed0-cd] combine=grid                    weights chosen on validation

combine=
  sum   sum of probabilities, as in Prompt4NR (default); if members have other scores or of different kinds, and of
        lists, sum of standardised scores
  rank  mean rank within an impression; of lists, reciprocal rank fusion: the scale of scores has no influence
  grid  of two runs of lists, the weights of standardised scores with the best NDCG@10 on validation, .1 and .9 to
        .9 and .1; needs llm4rec eval run=RUN split=valid for both

On news all scores are stored. Rankings of a catalogue or of candidates store each user's best items: as many as
task.stored_items says, which should be far more than the largest cutoff:
  llm4rec train -m model=sasrec,unisrec seed=0,1 task.stored_items=100
Two trained models are better than one, even of the same kind. A blend of two models is compared with a blend of two
seeds of the better one: llm4rec ensemble run=[A seed0,A seed1].

A run is its folder, or the end of its path if that is unique under paths.outputs. All must have the same dataset, task,
split and examples. This is `llm4rec train model=ensemble model.members=[…] …`: other overrides of `train` work here.
"""

from __future__ import annotations

from pathlib import Path

from llm4rec_cli.commands import command_parser
from llm4rec_cli.errors import UsageError
from llm4rec_cli.paths import default_outputs


def main(argv: list[str]) -> int:
    parser = command_parser(
        "ensemble",
        __doc__,
        "llm4rec ensemble run=[RUN,RUN,…] [combine=sum|rank|grid] [--outputs PATH] [overrides]",
    )
    parser.add_argument("--outputs", help="the folder to find runs in (default: paths.outputs)")
    options, overrides = parser.parse_known_args(argv)
    typed = {key: value for key, equals, value in (o.partition("=") for o in overrides) if equals}
    if "run" not in typed:
        raise UsageError("ensemble needs runs to combine", "llm4rec ensemble run=[RUN,RUN,…] combine=sum")
    if options.outputs and "paths.outputs" in typed:
        raise UsageError("--outputs and paths.outputs both name the folder of the runs", "leave --outputs out")

    from llm4rec_cli.results.report import results_table
    from llm4rec_cli.results.results import named_results
    from llm4rec_cli.results.tables import show
    from llm4rec_studies.ensembles import ensemble_overrides

    outputs = Path(options.outputs or typed.get("paths.outputs", default_outputs()).strip("'\"")).expanduser()
    members = named_results([name.strip() for name in typed["run"].strip("[]").split(",") if name.strip()], outputs)
    arguments = ensemble_overrides(members, outputs, typed.get("combine", "sum"))
    show(results_table(members))

    from llm4rec_cli import launch
    from llm4rec_cli.config.commands import commands

    arguments += [override for override in overrides if override.partition("=")[0] not in ("run", "combine")]
    return launch.run(commands()["train"], arguments)
