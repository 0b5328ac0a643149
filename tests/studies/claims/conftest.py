"""Handmade finished runs, and what claims say of them."""

import itertools

import pandas as pd
import pytest

from llm4rec_cli.files import write_json
from llm4rec_studies.claims.verdict import judge_claims
from tests.results.finished_runs import metrics_json, rankings, write_run
from tests.studies.claims.examples import claim

SCORES = {
    **{"schema": 1, "sheet": "ab", "dataset": "books", "dataset_fingerprint": "f", "task": "explanation"},
    **{"split": "test", "protocol": "explanation", "seed": 0, "scale": "rank"},
    **{"labels": [], "synthetic": False, "examples": 50, "raters": []},
}
UNTRAINED = ("popularity", "next_id", "chatgptrec")


@pytest.fixture
def write(tmp_path):
    """write(model, predictions, seeds, **facts): write finished runs of one variant; return their folders.

    Predictions are a table, or how many candidates score above each user's target; a dictionary has them by seed.
    """
    numbers = itertools.count(1)

    def write_runs(model, predictions, seeds=(0, 1, 2), settings=None, users=None, where="outputs", **facts):
        by_seed = predictions if isinstance(predictions, dict) else dict.fromkeys(seeds, predictions)
        config = {"model": {"name": model}, "dataset": {"name": "shop"}, "task": {}, "llm": {"model": "smollm2"}}
        for key, value in (settings or {}).items():
            group, _, name = key.partition(".")
            config[group][name] = value
        variant = f"variant {next(numbers)}"
        defaults = {
            "n_trainable": 0 if model in UNTRAINED else 10,
            "metrics": {"mrr": 0.1, "hr@10": 0.1, "coverage@10": 0.5, "listed/hallucinated": 0.3},
            "intervals": {"mrr": [0, 1], "hr@10": [0, 1]},
        }
        folders = []
        for seed, rows in by_seed.items():
            number = next(numbers)
            metrics = metrics_json(model=model, seed=seed, variant=variant, n_examples=len(rows), **defaults | facts)
            metrics["metrics"] = metrics["metrics"] | {"novelty@10": float(seed)}  # equal ones would be of one file
            folder = tmp_path / where / model / metrics["dataset"] / metrics["task"] / f"seed{seed}-{number}"
            table = rows if isinstance(rows, pd.DataFrame) else rankings(rows, users)
            write_run(folder, metrics, table, config=config | {"seed": seed}, time=1e9 + number)
            folders.append(str(folder))
        return folders

    return write_runs


@pytest.fixture
def write_scores(tmp_path):
    """write_scores(intervals): human.json of scored sheets, with an interval of the mean rank for each system."""

    def write_file(intervals, labels=(), enough=True, **facts):
        systems = {
            name: {"mean_score": None, "mean_rank": estimate, "first": estimate}
            for name, (low, high) in intervals.items()
            if (estimate := {"mean": (low + high) / 2, "interval": [low, high]})
        }
        of_run = {"seed": 0, "config_hash": "ab", "labels": list(labels)}
        runs = [
            {"system": name, "run": f"/{name}", "model": name.split()[0], **of_run}
            for name in intervals
            if name != "reference"
        ]
        clarity = {"raters": 3, "examples": 50, "enough": enough, "judgements": 150, "alpha": 0.5, "systems": systems}
        scores = {**SCORES, "runs": runs, "criteria": {"clarity": clarity}, **facts}
        write_json(tmp_path / "outputs/sheets/human.json", scores)

    return write_file


@pytest.fixture
def judge(tmp_path):
    """judge(claim): its results on the runs under tmp_path/outputs."""
    return lambda claim: judge_claims(tmp_path / "outputs", [claim])


@pytest.fixture
def result(judge):
    """result(**changes): the only result of the example claim with these changes."""

    def only(**changes):
        (result,) = judge(claim(**changes))
        return result

    return only
