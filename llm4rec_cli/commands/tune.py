"""`llm4rec tune`: search settings of a model on validation, within a budget, and write the best as an experiment."""

from __future__ import annotations

import argparse
import importlib.util
import math
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from llm4rec_cli.commands import at_least
from llm4rec_cli.config.compose import Composed, compose, conf_dir, data_file
from llm4rec_cli.config.overrides import GROUPS, SEARCH_SPACES, as_typed, key_typed, quoted
from llm4rec_cli.errors import UsageError
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.files import write_json, write_text
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.tables import Content, show
from llm4rec_cli.runs import stages
from llm4rec_cli.runs.folder import Outcome
from llm4rec_cli.runs.identity import find_weights
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.studies.tuning.search import Budget, Score, Search, Trial, best, expected_best, nested
from llm4rec_cli.studies.tuning.space import Space, read_space
from llm4rec_cli.training import trained
from llm4rec_cli.training.run import OnEpoch, run_floors, run_unless_finished

GENERATED = "dataset.seed=1"  # generated data are tested with seed 0
CHOSEN_BY = "Chosen on validation by:"  # and the command, in the experiment of a search
NOT_SAVED = {"dataset.raw_dir", "dataset.seed", "split", "seed", "device", "force"}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    options = argparse.ArgumentParser(
        "llm4rec tune",
        usage="llm4rec tune [overrides] [--trials N] [--minutes M] [--start EXPERIMENT] [--name NAME] [--save NAME] "
        "[--unpruned]",
        add_help=False,
        allow_abbrev=False,
    )
    options.add_argument(
        "--trials", type=at_least(1), default=8, metavar="N", help="number of trials in all (default: 8)"
    )
    options.add_argument(
        "--minutes", type=_minutes, metavar="M", help="stop after the trial that exceeds these minutes"
    )
    options.add_argument(
        "--start",
        action="append",
        default=[],
        metavar="EXPERIMENT",
        help="try this experiment's settings after trial 0, such as those chosen on other data; may be repeated",
    )
    options.add_argument("--name", help="name of the search (default: MODEL-DATASET-TASK)")
    options.add_argument("--save", metavar="NAME", help="write the best settings to ./conf/experiment/NAME.yaml")
    options.add_argument("--unpruned", action="store_true", help="train every trial to its end")
    return options


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' must be greater than 0, and finite")
    return minutes


def run(composed: Composed, options: argparse.Namespace) -> Outcome:
    """Search, print the trials, and write tuning.json and experiment.yaml."""
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("tune needs Optuna, which is not installed", "pip install 'llm4rec[tune]'")
    if {"seed", "split"} & {key_typed(override) for override in composed.typed}:
        raise UsageError("tune sets split=valid and seed=0 itself", "leave them out")
    for name in filter(None, (options.name, options.save)):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UsageError(f"'{name}' leads out of its folder", "a name, such as beauty/sasrec")
    typed = _typed(composed)
    saved = Path("conf/experiment") / f"{options.save}.yaml" if options.save else None
    if saved is not None and saved.exists() and not _names_the_search(saved, typed):
        raise UsageError(f"{saved} exists and is not of this search", "--save another name")
    if saved is not None and (shipped := conf_dir().parent / saved).exists() and not saved.exists():
        raise UsageError(f"{shipped} is shipped, and would be used in place of {saved}", "--save another name")
    spec = RunSpec.resolve(compose(typed), "train")
    find_weights(spec.config)
    unused = {f"model.{setting}" for setting in spec.model.unused_settings(spec.task)}
    space = {key: entry for key, entry in _space(spec.model.name).items() if key not in unused}
    starts = [_settings(spec, space), *(_settings_of(name, spec, space) for name in options.start)]
    name = options.name or f"{spec.model.name}-{spec.config.dataset.name}-{spec.task.name}"
    folder = (spec.outputs / "tune" / name).absolute()
    metric = spec.task.selection
    typed_here = [*typed, f"paths.outputs={quoted(str(folder / 'runs'))}"]
    spec = RunSpec.resolve(compose(typed_here), "train")
    dataset = stages.load(spec)  # first: what is wrong with the data may need other overrides
    settings = {"overrides": typed, "pruned": not options.unpruned, "dataset_fingerprint": dataset.fingerprint}
    searched = Search(folder, space, starts, settings, seed=0)
    split = stages.split_dataset(spec, dataset)
    floors = run_floors(spec, split)

    def evaluate(settings: dict[str, Any], on_epoch: OnEpoch) -> Score:
        values = [f"{key}={_yaml(value)}" for key, value in settings.items()]
        trial = RunSpec.resolve(compose([*typed_here, *values]), "train")
        init_run = trained.find_init_run(trial)
        hook = None if options.unpruned else on_epoch
        outcome, result = run_unless_finished(trial, split, stages.Clock(), floors, init_run, hook)
        value = (result.training or {}).get(f"valid_{metric}", result.metrics.get(metric))
        assert value is not None, result.folder
        seconds = sum(result.seconds.values()) if outcome.status == "skipped" else None
        return Score(direction(metric) * value, seconds)

    searched.run(Budget(options.trials, options.minutes), evaluate)
    trials = searched.trials()
    chosen = best(trials)
    _show(name, metric, space, trials, chosen, floors)
    if chosen is None:
        raise UsageError("no trial was completed", "see the errors above, or raise --trials")
    n_trials = len([trial for trial in trials if trial.counts and trial.state != "running"])
    minutes = round(sum(trial.minutes for trial in trials), 1)
    tuning = {
        "dataset": spec.config.dataset.name,
        "trials": n_trials,
        "minutes": minutes,
        "max_trials": max(options.trials, n_trials),  # an earlier call may have had more
        **({} if options.minutes is None else {"max_minutes": max(options.minutes, minutes)}),
        "metric": metric,
        **({"mask_history": spec.task.mask_history} if spec.task.ranks_catalogue else {}),
        "score": round(direction(metric) * (chosen.score or 0.0), 6),
        "expected_best": [round(direction(metric) * score, 6) for score in expected_best(trials)],
    }
    record = _record(typed, space, options.start, trials, chosen, metric, tuning)
    write_json(folder / "tuning.json", record)
    experiment = _experiment(typed, spec, chosen.settings, tuning, options)
    write_text(folder / "experiment.yaml", experiment)
    print(f"search: {folder}")
    if saved is not None:
        write_text(saved, experiment)
        print(f"saved: {saved}")
    not_saved = [o for o in typed if o.startswith(("dataset.raw_dir=", "~"))]
    command = ["llm4rec", "train", "-m", f"+experiment={options.save or 'NAME'}", *not_saved, "seed=0,1,2"]
    print(f"next: {shlex.join(command)}" + ("" if options.save else "   (after --save NAME)"))
    return Outcome("done", folder)


def _typed(composed: Composed) -> list[str]:
    """Return the overrides of the search: those typed, validation, and for generated data a draw that is not tested."""
    keys = {key_typed(override) for override in composed.typed}
    generated = composed.config.dataset.generator is not None and "dataset.seed" not in keys
    return [*composed.typed, "split=valid", *([GENERATED] if generated else [])]


def _space(model: str) -> Space:
    if (file := data_file(SEARCH_SPACES, model)) is None:
        raise UsageError(
            f"model '{model}' has no search space",
            f"write conf/search/{model}.yaml: KEY: {{values: [A, B]}} for each key",
        )
    return read_space(file)


def _settings(spec: RunSpec, space: Space) -> dict[str, Any]:
    """Return the composed values of the settings that are searched."""
    return {key: _value(spec, key) for key in space}


def _settings_of(experiment: str, searched: RunSpec, space: Space) -> dict[str, Any]:
    """Return the values of the settings that are searched in an experiment, which may be of other data.

    Raises:
        UsageError: there is no such experiment, or it is of another model.
    """
    spec = RunSpec.resolve_unchecked(compose([f"+experiment={experiment}"]), "train")
    if spec.model.name != searched.model.name:
        raise UsageError(
            f"--start {experiment} is of model '{spec.model.name}', and '{searched.model.name}' is searched",
            "llm4rec list experiments",
        )
    return _settings(spec, space)


def _value(spec: RunSpec, key: str) -> Any:
    """Return the composed value of a key."""
    value: Any = spec.config
    for part in key.split("."):
        value = getattr(value, part)
    return getattr(value, "name", value)  # of an enumeration


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).split("\n")[0]


def _show(
    name: str,
    metric: str,
    space: Space,
    trials: Sequence[Trial],
    chosen: Trial | None,
    floors: Sequence[Result],
) -> None:
    """Print the trials, the best marked, the space, the best-of-n curve, and the strongest floor on the same
    validation."""
    sign = direction(metric)
    short = {key: key.partition(".")[2] for key in space}
    rows = [
        [
            f"{trial.number}{'*' if trial is chosen else ''}",
            *(str(trial.settings.get(key, "")) for key in space),
            "–" if trial.score is None else f"{sign * trial.score:.4f}",
            f"{trial.minutes:.1f}",
            trial.state if trial.error is None else f"{trial.state}: {trial.error}",
        ]
        for trial in trials
    ]
    notes = [f"space: {'; '.join(f'{short[key]} {entry}' for key, entry in space.items())}"]
    curve = " ".join(f"{sign * score:.4f}" for score in expected_best(trials))
    if curve:
        notes.append(f"expected best of n trials, n = 1, 2, …: {curve}")
    with_metric = [floor for floor in floors if metric in floor.metrics]
    if with_metric:
        strongest = max(with_metric, key=lambda floor: sign * floor.metrics[metric])
        notes.append(f"strongest floor: {strongest.shown_as} {strongest.metrics[metric]:.4f}")
    show(
        Content(f"{name}: {metric} on validation", ["trial", *short.values(), metric, "minutes", "state"], rows, notes)
    )


def _record(
    typed: Sequence[str],
    space: Space,
    starts: Sequence[str],
    trials: Sequence[Trial],
    chosen: Trial,
    metric: str,
    tuning: Mapping[str, Any],
) -> dict[str, Any]:
    """Return tuning.json."""
    sign = direction(metric)
    return {
        "overrides": list(typed),
        "space": {key: vars(entry) for key, entry in space.items()},
        "starts": list(starts),
        "tuning": dict(tuning),
        "chosen": chosen.number,
        "trials": [
            {
                "number": trial.number,
                "state": trial.state,
                "settings": trial.settings,
                metric: None if trial.score is None else round(sign * trial.score, 6),
                "minutes": round(trial.minutes, 2),
                "error": trial.error,
            }
            for trial in trials
        ],
    }


def _experiment(
    typed: Sequence[str],
    spec: RunSpec,
    settings: Mapping[str, Any],
    tuning: Mapping[str, Any],
    options: argparse.Namespace,
) -> str:
    """Return the YAML of an experiment with the best settings and what is known of their search."""
    bases: list[Any] = []
    values: dict[str, Any] = {}
    for override in typed:
        key, _, value = override.lstrip("+").partition("=")
        if key == "experiment":
            bases.insert(0, value)
        elif key in GROUPS:
            bases.append({f"override /{key}": value})
        elif key.startswith("prompt/"):
            bases.append({f"override /{key}": yaml.safe_load(value)})
        elif key not in NOT_SAVED and not key.startswith(("paths.", "~")):  # a removed key cannot be removed in YAML
            values[key] = yaml.safe_load(value)
    if not bases or not any(isinstance(base, str) or "override /model" in base for base in bases):
        bases.append({"override /model": spec.model.name})
    content = {
        "defaults": [*bases, "_self_"],
        **nested(values | dict(settings)),
        "tuning": dict(tuning),
    }
    command = [_command(typed), f"--trials {options.trials}", *(f"--start {name}" for name in options.start)]
    command += [f"--minutes {options.minutes:g}"] if options.minutes else []
    command += ["--unpruned"] if options.unpruned else []
    head = textwrap.fill(f"{CHOSEN_BY} {' '.join(command)}", 110, break_on_hyphens=False, break_long_words=False)
    return textwrap.indent(f"@package _global_\n{head}\n", "# ") + yaml.safe_dump(content, sort_keys=False, width=110)


def _command(typed: Sequence[str]) -> str:
    """Return the command that repeats a search, without what is no part of its experiment."""
    kept = (o for o in typed if key_typed(o) not in NOT_SAVED and not o.startswith("paths."))
    return shlex.join(["llm4rec", "tune", *map(as_typed, kept)])


def _names_the_search(experiment: Path, typed: Sequence[str]) -> bool:
    """Return whether the comments of an experiment name this search, on one line or wrapped."""
    lines = experiment.read_text(encoding="utf-8").splitlines()
    words = " ".join(line.lstrip("#").strip() for line in lines if line.startswith("#"))
    _, named, after = words.partition(f"{CHOSEN_BY} {_command(typed)}")
    return bool(named) and (not after or after.startswith(" --"))  # more overrides are another search
