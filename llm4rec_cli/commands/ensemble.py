"""`llm4rec ensemble run=[RUN,RUN,…]`: combine stored scores of finished runs on the same examples, and evaluate them.

llm4rec ensemble run=[outputs/prompt4nr/demo_news/direct/seed0-ab,outputs/prompt4nr/demo_news/direct/seed0-cd]
llm4rec ensemble run=[seed0-ab,seed0-cd,seed0-ef] combine=rank           ends of paths, where unambiguous
llm4rec ensemble run=[seed0-ab,seed0-cd] combine=weights                 fitted on validation

combine=
  sum      sum of probabilities, as in Prompt4NR (default); of lists, of standardised scores; mean gives the same order
  rank     mean rank within an impression; of lists, reciprocal rank fusion: the scale of scores has no influence
  weights  weighted sum that maximises the softmax likelihood of the validation clicks or targets; needs
           llm4rec eval run=RUN split=valid for every member

On news all scores are stored. Rankings of a catalogue or of candidates store each user's best items: as many as
task.stored_items says, which should be far more than the largest cutoff:
  llm4rec train -m model=sasrec,unisrec seed=0,1 task.stored_items=100
Two trained models are better than one, even of the same kind. A blend of two models is compared with a blend of two
seeds of the better one: llm4rec ensemble run=[A seed0,A seed1].

A run is its folder, or the end of its path if that is unique under --outputs. All must have the same dataset, task,
split and examples. This is `llm4rec train model=ensemble model.members=[…] …`: other overrides of `train` work here.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from llm4rec_cli.errors import UsageError

STORED = {"scores", "top_scores"}  # columns of predictions.parquet
# Keys of metrics.json that all members must agree on.
SAME = ("dataset", "dataset_fingerprint", "task", "split", "protocol", "mask_history", "n_examples")


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
    import pyarrow.parquet

    if len(members) < 2:
        raise UsageError("an ensemble needs at least two runs, and one is named", "run=[RUN,RUN,…]")
    (first_folder, first), *others = members
    for folder, metrics in members:
        if not STORED & set(pyarrow.parquet.read_schema(folder / "predictions.parquet").names):
            raise UsageError(
                f"{folder} has no stored scores of items (task {metrics['task']})",
                "rankings store them; runs from before they did: evaluate again with force=true",
            )
    for folder, metrics in others:
        for key in SAME:
            if metrics[key] != first[key]:
                raise UsageError(
                    f"the runs differ: {key} is {first[key]} in {first_folder}, {metrics[key]} in {folder}",
                    "combine runs of one dataset and protocol",
                )


def _data_overrides(folder: Path) -> list[str]:
    """Return the overrides that select the dataset, task, split and examples of a run, however it was configured."""
    import json

    from omegaconf import OmegaConf

    from llm4rec_cli.config.compose import compose
    from llm4rec_cli.config.keys import keys_with_role
    from llm4rec_cli.config.overrides import key_typed
    from llm4rec_cli.config.roles import Role

    status = json.loads((folder / "status.json").read_text())
    stored: Any = OmegaConf.load(folder / "config.yaml")
    choices = [f"{group}={status['choices'][group]}" for group in ("dataset", "task")]
    sources = keys_with_role(Role.source)
    typed = [override for override in status["overrides"] if key_typed(override) in sources]
    overrides = [*choices, f"split={stored.split}", *typed]
    plain = OmegaConf.to_container(compose(["model=popularity", *overrides]).config, enum_to_str=True)
    for key in sorted(keys_with_role(Role.data, Role.division, Role.intervention, Role.question, Role.extent)):
        value, usual = OmegaConf.select(stored, key), OmegaConf.select(OmegaConf.create(plain), key)
        if key.startswith(("dataset.", "task.")) and value != usual:
            overrides.append(f"{key}={_value(value)}")
    return overrides


def _value(value: Any) -> str:
    """Return a value of a config in Hydra's grammar."""
    from omegaconf import ListConfig

    from llm4rec_cli.config.overrides import quoted

    if isinstance(value, ListConfig):
        return f"[{','.join(map(_value, value))}]"
    return quoted(value) if isinstance(value, str) else "null" if value is None else str(value).lower()


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

    def same_question(other: dict[str, Any]) -> bool:
        return all(other[key] == metrics[key] for key in ("task", "protocol", "mask_history"))

    for candidate, _, other in finished_runs(outputs):
        if other["split"] == "valid" and same_question(other) and is_same_model(other):
            return candidate.resolve()
    selector = f"run={folder}" if metrics["training"] else f"model={metrics['model']} dataset={metrics['dataset']}"
    raise UsageError(f"{folder} was not evaluated on validation", f"llm4rec eval {selector} split=valid")


def _listed(values: list[str]) -> str:
    from llm4rec_cli.config.overrides import quoted

    return f"[{','.join(quoted(value) for value in values)}]"
