"""Compare what a library's own evaluator printed for its lists with our metrics, and with ours by its formula.

    python scripts/peers/own_metrics.py LIBRARY OWN.json RUN

RUN is the folder of `llm4rec score`. Prints one row of Markdown per metric.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

K = 10
IDEAL = (1 / np.log2(np.arange(2, K + 2))).sum()  # of a list of hits alone


def ours(ranks: pd.DataFrame) -> dict[str, float]:
    """Return our metrics at K of targets without ties at ranks up to K, as stored lists have them."""
    rank = ranks["n_better"].to_numpy() + 1
    hit = (rank <= K) & (ranks["n_tied"].to_numpy() == 1)
    return {"hr@10": float(hit.mean()), "ndcg@10": float((hit / np.log2(rank + 1)).mean())}


def by_their_formula(library: str, ranks: pd.DataFrame) -> dict[str, float]:
    """Return NDCG@10 as the library defines it: lenskit discounts from the third rank on; RecTools divides by the gain
    of K hits, of which a user with one target can have one."""
    rank = ranks["n_better"].to_numpy() + 1
    hit = (rank <= K) & (ranks["n_tied"].to_numpy() == 1)
    if library == "lenskit":
        return {"ndcg@10": float((hit / np.maximum(1, np.log2(rank))).mean())}
    if library == "rectools":
        return {"ndcg@10": ours(ranks)["ndcg@10"] / IDEAL}
    return {}


def main(library: str, own: Path, run: Path) -> None:
    ranks = pd.read_parquet(run / "predictions.parquet", columns=["n_better", "n_tied"])
    theirs, here, formula = json.loads(own.read_text()), ours(ranks), by_their_formula(library, ranks)
    for name, value in theirs.items():
        same = formula.get(name, here[name])
        print(f"| {own.name.partition('.')[0]} | {name} | {value:.6f} | {here[name]:.6f} | {same:.6f} |")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
