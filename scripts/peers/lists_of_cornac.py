"""Train a cornac model on an exported split, write its lists and its own metrics.

python lists_of_cornac.py EXPORT OUT [EPOCHS]
"""

import csv
import json
import sys
from pathlib import Path

from cornac.data import Reader
from cornac.eval_methods import BaseMethod
from cornac.metrics import NDCG, Recall
from cornac.models import BPR

K, LENGTH = 10, 100
PARTS = ("train", "valid", "test")


def main(export: Path, out: Path, epochs: int) -> None:
    train, valid, test = (
        Reader().read(f"{export}/cornac/{part}.tsv", fmt="UIR") for part in ("train", "valid", "test")
    )
    method = BaseMethod.from_splits(
        train_data=train, val_data=valid, test_data=test, fmt="UIR", exclude_unknowns=True, rating_threshold=0.0, seed=0
    )
    model = BPR(k=64, max_iter=epochs, learning_rate=0.01, lambda_reg=0.01, seed=0)
    own, _ = method.evaluate(model, [Recall(k=K), NDCG(k=K)], user_based=True)
    users, items = method.global_uid_map, list(method.train_set.item_ids)
    known: dict[str, set[str]] = {}
    for user, item, *_ in [*train, *valid]:
        known.setdefault(user, set()).add(item)
    with out.with_suffix(".csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "score"])
        for user in dict.fromkeys(user for user, *_ in test if user in users):
            ranked, scores = model.rank(users[user])
            unseen = [index for index in ranked if items[index] not in known.get(user, ())]
            rows.writerows((user, items[index], scores[index]) for index in unseen[:LENGTH])
    results = {"hr@10": own.metric_avg_results[f"Recall@{K}"], "ndcg@10": own.metric_avg_results[f"NDCG@{K}"]}
    out.with_suffix(".own.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 100)
