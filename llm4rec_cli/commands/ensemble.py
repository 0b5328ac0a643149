"""`llm4rec ensemble run=[RUN,RUN,…]`: combine the scores of finished runs on the same impressions, and evaluate them.

llm4rec ensemble run=[outputs/prompt4nr/demo_news/direct/seed0-ab,outputs/prompt4nr/demo_news/direct/seed0-cd]
llm4rec ensemble run=[seed0-ab,seed0-cd,seed0-ef] combine=rank           ends of paths, where unambiguous
llm4rec ensemble run=[seed0-ab,seed0-cd] combine=weights                 fitted on validation

combine=
  sum      sum of probabilities, as in Prompt4NR (default); mean gives the same order
  rank     mean rank within an impression, so that the scale of scores has no influence
  weights  weighted sum that maximises the softmax likelihood of the validation clicks; needs
           llm4rec eval run=RUN split=valid for every member

A run is its folder, or the end of its path if that is unique under --outputs. All must have the same dataset, task,
split and examples. This is `llm4rec train model=ensemble model.members=[…] …`: other overrides of `train` work here.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.errors import UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Keys of metrics.json that all members must agree on.
SAME = ("dataset", "dataset_fingerprint", "task", "split", "protocol", "n_examples")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "llm4rec ensemble",
        usage="llm4rec ensemble run=[RUN,RUN,…] [combine=sum|mean|rank|weights] [--outputs PATH] [overrides]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--outputs", default="outputs", help="the outputs folder (default: outputs)")
    options, overrides = parser.parse_known_args(argv)
    typed = {key: value for key, equals, value in (o.partition("=") for o in overrides) if equals}
    if "run" not in typed:
        raise UsageError("ensemble needs runs to combine", "llm4rec ensemble run=[RUN,RUN,…] combine=sum")

    from llm4rec_cli.reporting.runs import results_table, shown_as
    from llm4rec_cli.reporting.tables import show
    from llm4rec_cli.runs.catalog import resolve_runs

    outputs = Path(options.outputs).expanduser()
    members = resolve_runs([name.strip() for name in typed["run"].strip("[]").split(",") if name.strip()], outputs)
    _check(members)
    folders = [str(folder.resolve()) for folder, _ in members]
    arguments = [
        "model=ensemble",
        f"model.members={_listed(folders)}",
        f"model.names={_listed([shown_as(metrics).removeprefix('prompt4nr ') for _, metrics in members])}",
        f"model.variants={_listed([metrics['variant'] for _, metrics in members])}",
        f"model.combine={typed.get('combine', 'sum')}",
        f"paths.outputs={outputs}",
        *_data_overrides(members[0][0]),
    ]
    seeds = {metrics["seed"] for _, metrics in members}
    if len(seeds) == 1:
        arguments.append(f"seed={seeds.pop()}")
    if typed.get("combine") == "weights":
        evaluations = [str(_validation_run(*member, outputs)) for member in members]
        arguments.append(f"model.judged={_listed(evaluations)}")
    show(results_table([metrics for _, metrics in members]))

    from llm4rec_cli import launch
    from llm4rec_cli.commands import HYDRA_COMMANDS

    arguments += [override for override in overrides if override.partition("=")[0] not in ("run", "combine")]
    return launch.run("train", HYDRA_COMMANDS["train"], arguments, verbose=False)


def _check(members: list[tuple[Path, dict[str, Any]]]) -> None:
    """Check that the runs can be combined.

    Raises:
        UsageError: there are fewer than two, they have no stored scores, or their data or protocols differ.
    """
    if len(members) < 2:
        raise UsageError("an ensemble needs at least two runs, and one is named", "run=[RUN,RUN,…]")
    (first_folder, first), *others = members
    if first["protocol"] != "impression":
        raise UsageError(
            f"{first_folder} has protocol {first['protocol']}, but scores are stored only for impressions",
            "task=impressions",
        )
    for folder, metrics in others:
        for key in SAME:
            if metrics[key] != first[key]:
                raise UsageError(
                    f"the runs differ: {key} is {first[key]} in {first_folder}, {metrics[key]} in {folder}",
                    "combine runs of one dataset and protocol",
                )


def _data_overrides(folder: Path) -> list[str]:
    """Return the overrides that select the dataset, task, split and examples of a run."""
    import json

    from omegaconf import OmegaConf

    from llm4rec_cli.config.keys import keys_with_role
    from llm4rec_cli.config.overrides import key_typed
    from llm4rec_cli.config.roles import Role
    from llm4rec_cli.config.schema import EmptyHistory

    status = json.loads((folder / "status.json").read_text())
    stored: DictConfig | Any = OmegaConf.load(folder / "config.yaml")
    choices = [f"{group}={status['choices'][group]}" for group in ("dataset", "task")]
    keys = [(override, key_typed(override)) for override in status["overrides"]]
    typed = [override for override, key in keys if key.startswith("dataset.") or key in keys_with_role(Role.extent)]
    if stored.dataset.empty_history != EmptyHistory.keep.name:  # may come from an experiment
        typed.append(f"dataset.empty_history={stored.dataset.empty_history}")
    return [*choices, f"split={stored.split}", *typed]


def _validation_run(folder: Path, metrics: dict[str, Any], outputs: Path) -> Path:
    """Return the folder of the same model's evaluation on the validation split.

    A trained model is matched by its training run, another by name, seed and data.

    Raises:
        UsageError: there is none.
    """
    from llm4rec_cli.runs.catalog import finished_runs

    def is_same_model(other: dict[str, Any]) -> bool:
        if metrics["training"] is None:
            return all(other[key] == metrics[key] for key in ("model", "shown_as", "seed", "dataset_fingerprint"))
        return bool(other["trained_run"] == folder.resolve().relative_to(outputs.resolve()).as_posix())

    for candidate, _, other in finished_runs(outputs):
        if other["split"] == "valid" and other["protocol"] == "impression" and is_same_model(other):
            return candidate.resolve()
    selector = f"run={folder}" if metrics["training"] else f"model={metrics['model']} dataset={metrics['dataset']}"
    raise UsageError(f"{folder} was not evaluated on validation", f"llm4rec eval {selector} split=valid")


def _listed(values: list[str]) -> str:
    from llm4rec_cli.config.overrides import quoted

    return f"[{','.join(quoted(value) for value in values)}]"
