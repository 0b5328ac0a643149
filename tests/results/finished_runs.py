"""Finished runs built by hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from llm4rec_cli.files import write_json
from llm4rec_cli.results.result import Result, result_of
from llm4rec_cli.results.variants import Group, groups, variants

PRINTED = "paper,model,variant,dataset,task,prompt,metric,value,unit,split,candidates,mask_history,source,verified\n"


def metrics_json(ndcg: float = 0.1, **facts: Any) -> dict[str, Any]:
    """Return metrics.json of a small sasrec run, with these entries replaced."""
    loss = {"items": "ids", "loss": "cross-entropy over the catalogue"} if "model" not in facts else {}
    return {
        "model": "sasrec",
        "shown_as": facts.get("model", "sasrec"),
        "paper_method": {"method": facts.get("model", "sasrec"), **loss},
        "dataset": "shop",
        "task": "sequential",
        "split": "test",
        "split_rule": "leave_one_out",
        "protocol": "full",
        "mask_history": False,
        "seed": 0,
        "experiment": None,
        "variant": "v",
        "trained_run": None,
        "init_from": None,
        "text_encoder": None,
        "tokens": None,
        "config_hash": "c",
        "training": None,
        "dataset_fingerprint": "f",
        "labels": [],
        "deviations": [],
        "overrides": [],
        "n_examples": 100,
        "metrics": {"ndcg@10": ndcg, "recall@10": 2 * ndcg},
        "intervals": {},
        "breakdown": {},
        "n_parameters": 0,
        "n_trainable": 0,
        "seconds": {"train": 1.0, "evaluate": 0.5},
        "peak_rss_mb": 500,
        "warnings": [],
    } | facts


def started_from(dataset: str, experiment: str | None = None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the entry `init_from` of a run that starts from the weights of a run on this dataset."""
    facts = {"seed": 0, "config_hash": "c", "deviations": [], "labels": []}
    return {"dataset": dataset, "experiment": experiment, "overrides": overrides, **facts}


def run(ndcg: float = 0.1, folder: Path = Path("nowhere"), **facts: Any) -> Result:
    """Return a finished run, without a folder on disk."""
    return result_of(metrics_json(ndcg, **facts), folder)


def group(*runs: Result) -> Group:
    """Return the only group of these runs."""
    (only,) = groups(variants(runs))
    return only


def write_run(
    folder: Path,
    metrics: dict[str, Any],
    predictions: pd.DataFrame | None = None,
    status: str = "done",
    config: dict[str, Any] | None = None,
    time: float = 1e9,
) -> Result:
    """Write a run folder, finished at this time, and return the run."""
    write_json(folder / "status.json", {"status": status, "error": None, "command": "train"})
    write_json(folder / "metrics.json", metrics)
    os.utime(folder / "metrics.json", (time, time))
    if predictions is not None:
        predictions.to_parquet(folder / "predictions.parquet", index=False)
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return result_of(metrics, folder)


def rankings(n_better: Any, users: Any = None, n_tied: int = 1, n_candidates: int = 100) -> pd.DataFrame:
    """Return predictions of a ranking, one row per user."""
    users = range(len(n_better)) if users is None else users
    return pd.DataFrame(
        {
            "user_id": [f"u{user}" for user in users],
            "target": [f"i{user}" for user in users],
            "n_better": n_better,
            "n_tied": n_tied,
            "n_candidates": n_candidates,
        }
    )
