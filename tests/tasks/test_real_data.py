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
    answer = call("train", *overrides, "task.floors=[]", cwd=tmp_path, cache=tmp_path / "cache")
    assert answer.code == 0, answer.err
    (metrics,) = (tmp_path / "outputs").glob("*/*/*/*/metrics.json")
    values = json.loads(metrics.read_text())["metrics"]
    assert values["hr@10"] == pytest.approx(hit_rate, abs=1e-4)
    assert values["ndcg@10"] == pytest.approx(ndcg, abs=1e-4)
