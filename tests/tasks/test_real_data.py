"""The floors on real data: their measured scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.sources import real
from tests.support.driver import call


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("dataset", "folder", "mask_history", "model", "hit_rate", "ndcg"),
    [
        ("amazon2018-scientific", "unisrec-scientific", False, "transition_text", 0.1259, 0.0803),
        ("amazon2018-scientific", "unisrec-scientific", False, "popularity", 0.0309, 0.0171),
        ("amazon2014-beauty", "amazon2014-beauty", True, "transition_text", 0.1103, 0.0674),
        ("amazon2014-beauty", "amazon2014-beauty", False, "next_id", 0.0448, 0.0444),
    ],
)
def test_floor_scores_as_measured(
    dataset: str, folder: str, mask_history: bool, model: str, hit_rate: float, ndcg: float, tmp_path: Path
) -> None:
    raw = real(folder)
    overrides = [f"model={model}", f"dataset={dataset}", f"dataset.raw_dir={raw}", f"task.mask_history={mask_history}"]
    values = metrics_of(overrides, tmp_path)
    assert values["hr@10"] == pytest.approx(hit_rate, abs=1e-4)
    assert values["ndcg@10"] == pytest.approx(ndcg, abs=1e-4)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("dataset", "folder", "model", "auc", "within_users"),
    [
        ("collm-ml-1m", "collm-ml-1m", "like_means model.means=item", 0.7094, 0.7107),
        ("collm-ml-1m", "collm-ml-1m", "like_means", 0.7320, 0.7107),
        ("collm-ml-1m", "collm-ml-1m", "like_logistic", 0.7762, 0.7226),
        ("tallrec-movie", "tallrec", "liked_share", 0.7260, 0.6220),
        ("tallrec-book", "tallrec", "liked_share", 0.6989, None),  # one row a user
    ],
)
def test_likes_as_measured(
    dataset: str, folder: str, model: str, auc: float, within_users: float | None, tmp_path: Path
) -> None:
    overrides = [*f"model={model}".split(), f"dataset={dataset}", f"dataset.raw_dir={real(folder)}"]
    values = metrics_of([*overrides, "task.bootstrap=10"], tmp_path)
    assert values["auc"] == pytest.approx(auc, abs=1e-4)
    assert values.get("auc_within_users") == (within_users and pytest.approx(within_users, abs=1e-4))


def metrics_of(overrides: list[str], folder: Path) -> dict[str, float]:
    """Train without floors, and return the metrics."""
    answer = call("train", *overrides, "task.floors=[]", cwd=folder, cache=folder / "cache")
    assert answer.code == 0, answer.err
    (metrics,) = (folder / "outputs").glob("*/*/*/*/metrics.json")
    values: dict[str, float] = json.loads(metrics.read_text())["metrics"]
    return values
