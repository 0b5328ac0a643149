"""Describe runs in words: models, variants, protocols, metrics and tuning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from llm4rec_cli.config import questions
from llm4rec_cli.config.keys import key_role
from llm4rec_cli.config.overrides import as_typed, key_typed
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.roles import NOT_HASHED, Role
from llm4rec_cli.config.schema import Keep, SeenItems, Written
from llm4rec_cli.config.walk import settings_with
from llm4rec_cli.evaluation.metrics import headline_metrics
from llm4rec_cli.labels import IMPORTED
from llm4rec_cli.results.result import Result

IMPRESSION = "impression"  # the protocol that ranks the items shown to a user
SYNTHETIC_NOTE = "synthetic data: these numbers settle no claim"
MIN_SEEDS = 3  # trainings that a statement about a trained model needs
MIN_USERS = 4  # that an interval over users needs


def column_protocols() -> tuple[str, ...]:
    """Return the protocols that predict a column of interactions."""
    of_packages = (name for name, task in questions.offered_modules().items() if task.COLUMN)
    return ("rating", *of_packages, *(written.value for written in Written))


def is_trained(run: Result) -> bool:
    """Return whether a run's numbers rest on a training, here or in another system."""
    model = config_class(run.model)
    return model.traits.trainable or bool(settings_with(model, "input_file"))


def tuning_in_words(run: Result) -> str:
    """Return `8 trials, 31 min` of the search that chose a run's settings, with its data if they are others."""
    tuning = run.tuning
    if not tuning:
        return "none stated"
    on = f" on {tuning.dataset}" if tuning.dataset not in (None, run.dataset) else ""
    return f"{tuning.trials} trials, {tuning.minutes:.0f} min{on}"


def tuning_budget(run: Result) -> tuple[int, float]:
    """Return the most trials and minutes that the search for a run's settings might take; none if it was on other data.

    Searches that used their trials may have taken different minutes: with equal limits their budgets are equal.
    """
    tuning = run.tuning
    if not tuning or tuning.dataset not in (None, run.dataset):
        return 0, 0.0
    return tuning.max_trials or tuning.trials, math.inf if tuning.max_minutes is None else tuning.max_minutes


def unconverged_after(run: Result) -> int | None:
    """Return the number of epochs of a training whose best one on validation is the last, so that more may be better;
    None for other runs, or if validation chose no epoch."""
    training = run.training or (run.trainer and run.trainer.training)
    if not training or run.settings.get("trainer.keep") != Keep.best.name:
        return None
    return round(training["epochs"]) if training["best_epoch"] == training["epochs"] else None


def spare_metrics(names: Sequence[str], headline: str | None) -> list[str]:
    """Return the metrics that a narrow table leaves out, the first one first: those with the cutoff of the headline
    metric, which is never left out, come last."""
    cutoff = (headline or "").partition("@")[2]
    spare = [name for name in reversed(names) if name != headline]
    return sorted(spare, key=lambda name: name.partition("@")[2] == cutoff)


def shared(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return what all rows share, to be noted below their table; empty for a single row."""
    return [part for part in dict.fromkeys(rows[0]) if all(part in row for row in rows)] if len(rows) > 1 else []


def headline_metric(protocol: str, available: Iterable[str]) -> str | None:
    """Return the available metric whose interval is reported first, if any."""
    names = list(available)
    return next((name for name in (*headline_metrics(protocol), *names) if name in names), None)


def shown_as(run: Result) -> str:
    """Return the name of a run's model in tables, from its settings: names become clearer after runs are made."""
    model = run.settings.model_config
    if model is None:
        return run.shown_as
    return model.display_name() + (f", {IMPORTED}" if run.imported else "")


def count_in_words(run: Result, n: int) -> str:
    """Return `1,995 users`; or interactions, if a user may have several examples; or impressions."""
    units = {IMPRESSION: "impressions", **dict.fromkeys(column_protocols(), "interactions")}
    return f"{n:,} {units.get(run.protocol, 'users')}"


def title(run: Result) -> str:
    """Return `demo · sequential · test · full ranking · history not masked`, the title of tables with this run."""
    return f"{run.dataset} · {run.task} · {protocol_in_words(run)}"


def protocol_in_words(run: Result) -> str:
    """Return `test · full ranking · history not masked`, with the split rule if it is not leave-one-out.

    A protocol named like the task is left out.
    """
    rule = [] if run.split_rule == "leave_one_out" else [f"{run.split_rule} split"]
    protocol = "full ranking" if run.protocol == "full" else run.protocol
    protocols = [] if protocol == run.task else [protocol]
    words = {True: "history masked", False: "history not masked", SeenItems.zeroed.name: "history scored 0"}
    masking = [words[run.mask_history]] if run.protocol == "full" else []
    return " · ".join([run.split, *rule, *protocols, *masking])


def _names_variant(key: str) -> bool:
    """Return whether an override of this key names a variant: it changes numbers, and no other column shows it."""
    role = key_role(key)
    of_model = role is Role.question and key.startswith("model.")
    in_columns = key in ("dataset", "dataset.split", "model", "seed") or role is Role.question
    in_columns |= role is Role.extent and key not in ("task.max_examples", "trainer.scoring")
    return role is not None and role not in NOT_HASHED and (of_model or not in_columns)


def variant_in_words(run: Result) -> list[str]:
    """Return the experiment's name, the source of the initial weights, and the overrides that name a variant."""
    named = {f"model.{setting}" for setting in settings_with(config_class(run.model), "named")}
    overrides = [o for o in run.overrides if _names_variant(key := key_typed(o)) and key not in named]
    typed = [o if " " in o else as_typed(o) for o in overrides]  # a value of several words keeps its quotes
    source = run.init_from
    initial = None
    if source:
        published = "imported weights for" if IMPORTED in run.labels else None
        changes = [o for o in source.overrides or () if key_typed(o).startswith("dataset.domains.")]
        initial = " ".join(filter(None, ["from", published, source.dataset, source.experiment, *changes]))
    experiment = run.experiment
    if experiment and run.imported:
        experiment = f"weights for {experiment}"
    return [part for part in (experiment, initial, *typed) if part]
