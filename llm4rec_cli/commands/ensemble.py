"""`llm4rec ensemble run=[RUN,RUN,…]`: the scores of finished runs about the same impressions, combined and evaluated.

llm4rec ensemble run=[outputs/prompt4nr/demo_news/direct/seed0-ab,outputs/prompt4nr/demo_news/direct/seed0-cd]
llm4rec ensemble run=[seed0-ab,seed0-cd,seed0-ef] combine=rank           ends of paths, where they are clear
llm4rec ensemble run=[seed0-ab,seed0-cd] combine=weights                 fitted on validation

combine=
  sum      of probabilities, as the authors of Prompt4NR say (default); mean gives the same order
  rank     the mean place within an impression, so that no member speaks louder
  weights  a weighted sum whose softmax makes the clicks of validation likeliest; needs llm4rec eval run=RUN split=valid
           of every member

A run is its folder, or whatever end of its path names one run under --outputs. All must have been asked the same.
It is `llm4rec train model=ensemble model.members=[…] …`: other overrides of `train` work here.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.errors import UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig

# What all members must have been asked alike, in the words of metrics.json.
ALIKE = ("dataset", "dataset_fingerprint", "task", "split", "protocol", "n_examples")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "llm4rec ensemble",
        usage="llm4rec ensemble run=[RUN,RUN,…] [combine=sum|mean|rank|weights] [--outputs PATH] [overrides]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--outputs", default="outputs", help="where runs were written (default: outputs)")
    options, overrides = parser.parse_known_args(argv)
    typed = {key: value for key, equals, value in (o.partition("=") for o in overrides) if equals}
    if "run" not in typed:
        raise UsageError("an ensemble needs its members", "llm4rec ensemble run=[RUN,RUN,…] combine=sum")

    from llm4rec_cli.reporting.runs import results_table, shown_as
    from llm4rec_cli.reporting.tables import console
    from llm4rec_cli.runs.catalog import resolve_runs

    outputs = Path(options.outputs).expanduser()
    members = resolve_runs([name.strip() for name in typed["run"].strip("[]").split(",") if name.strip()], outputs)
    _check(members)
    folders = [str(folder.resolve()) for folder, _ in members]
    asked = [
        "model=ensemble",
        f"model.members={_listed(folders)}",
        f"model.names={_listed([shown_as(metrics).removeprefix('prompt4nr ') for _, metrics in members])}",
        f"model.variants={_listed([metrics['variant'] for _, metrics in members])}",
        f"model.combine={typed.get('combine', 'sum')}",
        f"paths.outputs={outputs}",
        *_question(members[0][0]),
    ]
    seeds = {metrics["seed"] for _, metrics in members}
    if len(seeds) == 1:
        asked.append(f"seed={seeds.pop()}")
    if typed.get("combine") == "weights":
        asked.append(f"model.judged={_listed([str(_judged(*member, outputs)) for member in members])}")
    console().print(results_table([metrics for _, metrics in members]))

    from llm4rec_cli import launch
    from llm4rec_cli.commands import HYDRA_COMMANDS

    own = [o for o in overrides if o.partition("=")[0] not in ("run", "combine")]
    return launch.run("train", HYDRA_COMMANDS["train"], [*asked, *own], verbose=False)


def _check(members: list[tuple[Path, dict[str, Any]]]) -> None:
    """Refuses runs that were not asked the same.

    Raises:
        UsageError: so it is, or there are fewer than two, or they keep no scores.
    """
    if len(members) < 2:
        raise UsageError("an ensemble has several members, and one is named", "run=[RUN,RUN,…]")
    (first, asked), *others = members
    if asked["protocol"] != "impression":
        raise UsageError(
            f"{first} ranks by {asked['protocol']}, and scores are kept of impressions alone", "task=impressions"
        )
    for folder, metrics in others:
        for key in ALIKE:
            if metrics[key] != asked[key]:
                raise UsageError(
                    f"the runs were asked different things: {key} is {asked[key]} in {first}, "
                    f"{metrics[key]} in {folder}",
                    "combine runs of one dataset and protocol",
                )


def _question(folder: Path) -> list[str]:
    """The overrides that ask what a run was asked."""
    import json

    from omegaconf import OmegaConf

    from llm4rec_cli.config.keys import keys_with_role
    from llm4rec_cli.config.overrides import key_typed
    from llm4rec_cli.config.roles import Role
    from llm4rec_cli.config.schema import EmptyHistory

    status = json.loads((folder / "status.json").read_text())
    stored: DictConfig | Any = OmegaConf.load(folder / "config.yaml")
    # What was typed of the data, and how much was asked.
    keys = [(override, key_typed(override)) for override in status["overrides"]]
    typed = [override for override, key in keys if key.startswith("dataset.") or key in keys_with_role(Role.extent)]
    found = [f"{group}={status['choices'][group]}" for group in ("dataset", "task")]
    if stored.dataset.empty_history != EmptyHistory.keep.name:  # an experiment may say so
        typed.append(f"dataset.empty_history={stored.dataset.empty_history}")
    return [*found, f"split={stored.split}", *typed]


def _judged(folder: Path, metrics: dict[str, Any], outputs: Path) -> Path:
    """The same model's evaluation of validation: of a trained one by its run, of another by what it is.

    Raises:
        UsageError: there is none.
    """
    from llm4rec_cli.runs.catalog import finished_runs

    def is_it(other: dict[str, Any]) -> bool:
        if metrics["training"] is None:
            return all(other[key] == metrics[key] for key in ("model", "shown_as", "seed", "dataset_fingerprint"))
        return bool(other["trained_run"] == folder.resolve().relative_to(outputs.resolve()).as_posix())

    for found, _, other in finished_runs(outputs):
        if other["split"] == "valid" and other["protocol"] == "impression" and is_it(other):
            return found.resolve()
    how = f"run={folder}" if metrics["training"] else f"model={metrics['model']} dataset={metrics['dataset']}"
    raise UsageError(f"{folder} was not asked about validation", f"llm4rec eval {how} split=valid")


def _listed(values: list[str]) -> str:
    from llm4rec_cli.config.overrides import quoted

    return f"[{','.join(quoted(value) for value in values)}]"
