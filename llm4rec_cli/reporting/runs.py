"""Runs in words, and as tables of one run a row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from llm4rec_cli import processes
from llm4rec_cli.config.keys import keys_with_role
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.config.roles import NOT_HASHED
from llm4rec_cli.config.schema import Written
from llm4rec_cli.evaluation import metrics as table_of_metrics
from llm4rec_cli.evaluation.metrics import lower_is_better
from llm4rec_cli.reporting.tables import console, table

IMPRESSION = "impression"  # the protocol that ranks what a user was shown
# Overrides that tell one variant from another; the other columns say the rest.
TOLD_BY = (
    *("model.", "trainer", "dataset.control=", "dataset.text=", "dataset.seed=", "dataset.user_core="),
    *("dataset.cold_items=", "dataset.train_users=", "task.max_", "llm", "enrichment", "prompt/"),
)
SHOWN_AS = (  # models are named so
    *("model.file=", "model.alias=", "model.init_from=", "model.freeze=", "model.use_ids=", "prompt/prompt4nr@"),
    *("model.members=", "model.judged=", "model.names=", "model.variants=", "model.combine="),
)
COLD_SHOWN = ("hr@10", "ndcg@10")  # of targets held out of training
ASKED_COLUMNS = ("rating", *(written.value for written in Written))  # protocols that ask about a column


def show(runs: Sequence[dict[str, Any]], folder: Path) -> None:
    """Prints the table of these runs, the last the one that was asked for, and its folder; the first of several
    processes does."""
    if not processes.is_first():
        return
    out = console()
    out.print(results_table(runs))
    if "target_is_cold" in runs[-1]["breakdown"]:
        out.print(cold_table(runs))
    out.print(f"run folder: {folder}", soft_wrap=True)


def results_table(runs: Sequence[dict[str, Any]]) -> Table:
    """The table a training ends with: floors first, the model last, metrics of one protocol; labels stand below."""
    last = runs[-1]
    metrics = [name for name in usual_metrics(last["protocol"]) if name in last["metrics"]]
    rows = [[shown_as(run), *(number(run, name) for name in metrics)] for run in runs]
    shown = table(f"{last['dataset']} · {last['task']} · {protocol_in_words(last)}", ["model", *metrics], rows)
    notes = [counted(last, last["n_examples"])]
    if (first := leading(last["protocol"], last["intervals"])) is not None:
        low, high = last["intervals"][first]
        over = "impressions" if last["protocol"] == IMPRESSION else "users"
        notes[0] += f"; {shown_as(last)} {first} within {low:.4f}–{high:.4f} (95 %, over {over})"
    if down := lower_is_better(metrics):
        notes.append(f"lower is better: {', '.join(down)}")
    notes += [f"{shown_as(run)}: {', '.join(found)}" for run in runs if (found := marks(run))]
    notes += last["warnings"]
    if "synthetic" in last["labels"]:
        notes.append("synthetic data: these numbers settle no claim")
    shown.caption, shown.caption_justify = "\n".join(notes), "left"
    return shown


def cold_table(runs: Sequence[dict[str, Any]]) -> Table:
    """Targets that were held out of training apart from the others, one run a row, and chance; a group without targets
    has no columns."""
    last = runs[-1]["breakdown"]
    sizes = {group: found["n"] for group, found in last["target_is_cold"].items()}
    known = next(iter(last["chance"].values()))
    metrics = [name for name in COLD_SHOWN if name in known] or ["mrr"]
    means = {shown_as(run): run["breakdown"]["target_is_cold"] for run in runs} | {"chance": last["chance"]}
    shown = table(
        "targets held out of training (cold) and the others (warm)",
        ["model", *(f"{group} {metric}" for group in sizes for metric in metrics)],
        [[name, *(f"{of[group][metric]:.4f}" for group in sizes for metric in metrics)] for name, of in means.items()],
    )
    shown.caption, shown.caption_justify = " and ".join(f"{n:,} {group}" for group, n in sizes.items()), "left"
    return shown


def leading(protocol: str, metrics: Iterable[str]) -> str | None:
    """The metric whose interval is told first, of those that there are."""
    found = list(metrics)
    first = table_of_metrics.headline_metrics(protocol == IMPRESSION)
    return next((name for name in (*first, *found) if name in found), None)


def usual_metrics(protocol: str) -> tuple[str, ...]:
    """The metrics that tables show unasked, in their order."""
    return table_of_metrics.table_metrics(protocol == IMPRESSION)


def number(run: dict[str, Any], name: str) -> str:
    value = run["metrics"].get(name)
    return "" if value is None else f"{value:.4f}"


def shown_as(run: dict[str, Any]) -> str:
    """What tables call a run's model."""
    return str(run["shown_as"])


def marks(run: dict[str, Any]) -> list[str]:
    """A run's labels, without the one that the table says of all."""
    return [label for label in run["labels"] if label != "synthetic"]


def counted(run: dict[str, Any], n: int) -> str:
    """`1,995 users`; or interactions, where a user may be asked about several; or impressions."""
    units = {IMPRESSION: "impressions", **dict.fromkeys(ASKED_COLUMNS, "interactions")}
    return f"{n:,} {units.get(run['protocol'], 'users')}"


def protocol_in_words(run: dict[str, Any]) -> str:
    """`test · full ranking · history not masked`, and the split where it is not leave-one-out.

    A protocol that is called as the task is not said again.
    """
    asked = "full ranking" if run["protocol"] == "full" else run["protocol"]
    ranking = [] if asked == run.get("task") else [asked]
    masked = ["history masked" if run["mask_history"] else "history not masked"] if run["protocol"] == "full" else []
    rule = run["split_rule"]
    divided = [] if rule == "leave_one_out" else [f"{rule} split"]
    return " · ".join([run["split"], *divided, *ranking, *masked])


def variant_in_words(run: dict[str, Any]) -> list[str]:
    """The experiment's name, what training began with, and what was typed of the model, the trainer and the control."""
    typed = [o for o in run["overrides"] if o.startswith(TOLD_BY) and not o.startswith(SHOWN_AS)]
    typed = [o for o in typed if key_typed(o) not in keys_with_role(*NOT_HASHED)]  # which moves no number
    typed = [o.replace("model.prompts.", "prompt.", 1) for o in typed]  # as they are typed
    origin = run["init_from"]
    begun = f"from {' '.join(filter(None, [origin['dataset'], origin['experiment']]))}" if origin else None
    return [part for part in (run["experiment"], begun, *typed) if part]
