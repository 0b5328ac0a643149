"""Train a RecTools model on an exported split, write its lists and its own metrics.

python lists_of_rectools.py EXPORT OUT [EPOCHS]
"""

import json
import sys
from pathlib import Path

import pandas as pd
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import NDCG, HitRate, calc_metrics
from rectools.models import SASRecModel

K, LENGTH = 10, 100


def rows(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, parse_dates=["datetime"], dtype={"user_id": str, "item_id": str})


def main(export: Path, out: Path, epochs: int) -> None:
    torch.manual_seed(0)
    parts = {part: rows(export / f"rectools/{part}.csv") for part in ("train", "valid", "test")}
    model = SASRecModel(
        n_factors=64, n_blocks=2, n_heads=2, session_max_len=50, batch_size=128, lr=1e-3, epochs=epochs, verbose=0
    )
    model.fit(Dataset.construct(parts["train"]))
    known = Dataset.construct(pd.concat([parts["train"], parts["valid"]]))
    users = parts["test"][Columns.User].unique()
    lists = model.recommend(users, known, k=LENGTH, filter_viewed=True, on_unsupported_targets="warn")
    lists.to_csv(out.with_suffix(".csv"), index=False)
    measured = calc_metrics({"hr@10": HitRate(K), "ndcg@10": NDCG(K)}, lists, parts["test"])
    out.with_suffix(".own.json").write_text(json.dumps({name: float(value) for name, value in measured.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 20)
