"""A folder of finished runs of many kinds, with predictions, for outputs that are pinned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llm4rec_cli.data.slices import SLICE
from llm4rec_cli.files import write_json
from tests.results.finished_runs import metrics_json, rankings, write_run

USERS = 60
TOKENS = {"items": 5, "sha256": "t", "shared": 0}
SLICES = ("same_day", "near_duplicate", "ascending_id")


def write_all(outputs: Path) -> None:
    """Write rankings with floors, seeds, masks, a search, a control and an ensemble; sampled candidates by draw;
    ratings; texts; a chat model with controls; and runs that failed or were killed."""
    random = np.random.default_rng(0)
    _write(outputs, "popularity", _ranking(random, 40), labels=["no-timestamps"])
    _write(outputs, "transition_text", _ranking(random, 14), chosen={"text_weight": 0.4})
    for seed in range(3):
        _write(outputs, "sasrec", _ranking(random, 12), seed=seed, **_trained(seed))
        tokens = {"shown_as": "sasrec + tokens", "variant": "tokens", "tokens": TOKENS}
        _write(outputs, "sasrec", _ranking(random, 10), seed=seed, **_trained(seed) | tokens)
        _write(outputs, "unisrec", _ranking(random, 8), seed=seed, **_trained(seed) | _searched())
        masked = {"mask_history": True, "variant": "masked", "selected_masked": {"settings": False, "epoch": True}}
        _write(outputs, "unisrec", _ranking(random, 7), seed=seed, **_trained(seed) | masked)
    control = {"labels": ["control: shuffle_text"], "overrides": ["dataset.control=shuffle_text"], "variant": "control"}
    _write(outputs, "unisrec", _ranking(random, 30), **_trained(0) | control | {"dataset_fingerprint": "shuffled"})
    members = [f"{outputs}/sasrec/shop/sequential/seed0-plain", f"{outputs}/unisrec/shop/sequential/seed0-plain"]
    _write(outputs, "ensemble", _ranking(random, 6), shown_as="ensemble of sasrec and unisrec", members=members)
    for draw in range(2):
        facts = {"task": "direct", "protocol": "uniform-100" + f"-draw{draw}" * (draw > 0), "variant": f"draw{draw}"}
        config: dict[str, Any] = {"task": {"draw": draw}}
        _write(outputs, "popularity", _ranking(random, 30), config, **facts)
        _write(outputs, "chatgptrec", _ranking(random, 45), config, **facts | _chat())
    for model in ("mean", "p5"):
        _write(outputs, model, _ratings(random), **_column("rating", rmse=1.1, mae=0.8), experiment=None)
    for model in ("retrieval", "chatgptrec"):
        chat = _chat() if model == "chatgptrec" else {}
        _write(outputs, model, _texts(random), **chat | _column("explanation", rouge1=0.2, bleu4=1.5))
    for i, state in enumerate(("failed", "running")):
        folder = outputs / f"gru4rec/shop/sequential/seed{i}-ab12cd"
        write_json(folder / "status.json", {"status": state, "error": "no memory\nof any kind", "command": "train"})


def _write(outputs: Path, model: str, predictions: pd.DataFrame, config: Any = None, **facts: Any) -> None:
    """Write a finished run, with metrics that follow from its predictions."""
    metrics = metrics_json(model=model, n_examples=len(predictions), **{"variant": "plain"} | facts)
    number = len(list(outputs.glob("*/*/*/seed*")))
    metrics["config_hash"] = metrics["variant"]
    metrics["variant"] += f" {model} {metrics['task']}"
    if "n_better" in predictions:
        ranks = predictions["n_better"].to_numpy() + 1
        metrics["metrics"] = {
            **{f"{name}@{k}": float((ranks <= k).mean()) for name in ("hr", "recall") for k in (1, 5, 10)},
            "ndcg@10": float(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean()),
            "mrr": float((1 / ranks).mean()),
        }
        inside = {name: predictions[f"{SLICE}{name}"].to_numpy() for name in SLICES}
        metrics["breakdown"] = {
            "slice": {
                name: {"n": int(rows.sum()), "hr@10": float((ranks[rows] <= 10).mean())}
                for name, rows in inside.items()
            },
            "target_train_count": {
                "0": {"n": USERS // 2, "ndcg@10": float((1 / ranks)[::2].mean())},
                "1-4": {"n": USERS // 2, "ndcg@10": float((1 / ranks)[1::2].mean())},
            },
        }
    metrics["intervals"] = {name: [value - 0.02, value + 0.02] for name, value in metrics["metrics"].items()}
    settings = {"model": {"name": model}, "dataset": {"name": "shop"}, "task": {"selection": "ndcg@10"}}
    settings |= {"llm": {"model": "smollm2"}, "seed": metrics["seed"]}
    folder = outputs / model / "shop" / metrics["task"] / f"seed{metrics['seed']}-{metrics['config_hash']}"
    write_run(folder, metrics, predictions, config=settings | (config or {}), time=1e9 + number)
    log = [{"epoch": epoch, "loss": 5 - epoch, "valid": 0.1 * epoch} for epoch in (1, 2, 3)]
    if metrics["training"]:
        (folder / "train_log.jsonl").write_text("".join(f"{entry}\n".replace("'", '"') for entry in log))


def _ranking(random: np.random.Generator, middle: int) -> pd.DataFrame:
    slices = {f"{SLICE}{name}": random.random(USERS) < 0.4 for name in SLICES}
    return rankings(random.geometric(1 / middle, USERS) - 1).assign(**slices)


def _answers(**columns: Any) -> pd.DataFrame:
    users, targets = [f"u{i}" for i in range(USERS)], [f"i{i}" for i in range(USERS)]
    return pd.DataFrame({"user_id": users, "target": targets, **columns})


def _ratings(random: np.random.Generator) -> pd.DataFrame:
    stars = np.random.default_rng(1).integers(1, 6, USERS).astype(float)
    predicted = np.clip(stars + random.normal(0, 1, USERS), 1, 5)
    return _answers(rating=stars, prediction=predicted)


def _texts(random: np.random.Generator) -> pd.DataFrame:
    words = np.array(["a", "good", "soap", "that", "smells", "of", "roses", "and", "lasts", "long"])
    references = [" ".join(np.random.default_rng(i).choice(words, 6)) for i in range(USERS)]
    written = [" ".join(random.choice(words, 6)) for _ in range(USERS)]
    return _answers(reference=references, prediction=written)


def _column(task: str, **metrics: float) -> dict[str, Any]:
    return {"task": task, "protocol": task, "metrics": metrics}


def _trained(seed: int) -> dict[str, Any]:
    training = {"rows": 1000, "epochs": 3.0, "best_epoch": 2.0, "valid_ndcg@10": 0.2}
    return {"training": training, "n_trainable": 100, "seconds": {"train": 60.0 + seed, "evaluate": 1.0}}


def _searched() -> dict[str, Any]:
    curve = {"metric": "ndcg@10", "expected_best": [0.1, 0.12]}
    tuning = {"dataset": "shop", "trials": 2, "minutes": 3.0, "max_trials": 2, "score": 0.12, **curve}
    return {"tuning": tuning, "experiment": "unisrec/shop", "deviations": ["text encoder minilm in place of bert"]}


def _chat() -> dict[str, Any]:
    usage = {"requests": 60, "prompt_tokens": 6000, "answer_tokens": 600, "cost": 0.0, "seconds": 30.0}
    probe = {"n": 100, "share": 0.3, "low": 0.2, "high": 0.4, "chance": 0.25, "made_up": 0.2}
    varied = {"value": 0.08, "difference": -0.02, "low": -0.05, "high": 0.01}
    order = {"share": 0.1, "mean_rank": [40.0, 50.0]}
    controls = {"users": 20, "metric": "ndcg@10", "value": 0.1, "variations": {"titles replaced": varied}}
    controls |= {"wordings": 0.01, "order": order, "popularity": 0.2, "llm": usage, "invalid": 0.05}
    labels = ["substitute-llm", "may-be-memorised"]
    return {"llm": usage, "controls": controls, "memorisation": {"titles": probe}, "labels": labels}
