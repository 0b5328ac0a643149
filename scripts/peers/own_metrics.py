"""Compare what a library's own evaluator printed for its lists with our metrics, and with its own definition of them.

    python scripts/peers/own_metrics.py LIBRARY LISTS OWN.json RUN EXPORT

LISTS and OWN.json are what a script beside this one wrote, RUN is the folder of `llm4rec score LISTS`, EXPORT the
split. Prints one row of Markdown per metric.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from llm4rec_studies.models.external import files

K = 10
IDEAL = (1 / np.log2(np.arange(2, K + 2))).sum()  # the gain of K hits


def ranks_in_order(lists: Path, test: pd.DataFrame) -> np.ndarray:
    """Return (n,) the place of each test item in the order that the file has, from 1; infinity if it is not listed."""
    rows = files.read(lists).rows
    listed = rows[["user", "item"]].assign(rank=rows.groupby("user", sort=False).cumcount() + 1.0)
    joined = test.merge(listed, left_on=["user_id", "item_id"], right_on=["user", "item"], how="left")
    return joined["rank"].fillna(np.inf).to_numpy()


def by_definition(library: str, rank: np.ndarray, is_known: np.ndarray) -> dict[str, float]:
    """Return HR@10 and NDCG@10 as the library defines them, which all take the order of the list where scores tie.

    lenskit discounts from the third rank on. RecTools divides by the gain of K hits, of which a user with one target
    can have one. cornac leaves out users whose target is not in training.

    Args:
        rank, is_known: (n,) the place of each target, and whether it is in training.
    """
    discount = np.maximum(1, np.log2(rank)) if library == "lenskit" else np.log2(rank + 1)
    hit, gain = rank <= K, np.where(rank <= K, 1 / discount, 0)
    if library == "cornac":
        hit, gain = hit[is_known], gain[is_known]
    return {"hr@10": float(hit.mean()), "ndcg@10": float(gain.mean()) / (IDEAL if library == "rectools" else 1)}


def main(library: str, lists: Path, own: Path, run: Path, export: Path) -> None:
    test, train = (pd.read_parquet(export / f"parquet/{part}.parquet") for part in ("test", "train"))
    is_known = test["item_id"].isin(set(train["item_id"])).to_numpy()
    theirs, ours = json.loads(own.read_text()), json.loads((run / "metrics.json").read_text())["metrics"]
    defined = by_definition(library, ranks_in_order(lists, test), is_known)
    for name, value in theirs.items():
        print(f"| {lists.stem} | {name} | {value:.6f} | {ours[name]:.6f} | {defined[name]:.6f} |")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
