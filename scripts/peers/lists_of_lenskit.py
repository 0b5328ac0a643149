"""Train a lenskit model on an exported split, write its lists and its own metrics.

python lists_of_lenskit.py EXPORT OUT [item_knn|bias|ease|implicit_mf]
"""

import json
import sys
from pathlib import Path

import pandas as pd
from lenskit import batch
from lenskit.data import ItemListCollection, from_interactions_df
from lenskit.knn import ItemKNNScorer
from lenskit.metrics import NDCG, Hit, RunAnalysis
from lenskit.pipeline import topn_pipeline

K, LENGTH = 10, 100


def main(export: Path, out: Path) -> None:
    parts = {part: pd.read_parquet(export / f"lenskit/{part}.parquet") for part in ("train", "valid", "test")}
    known = pd.concat([parts["train"], parts["valid"]]).drop_duplicates(["user_id", "item_id"], keep="last")
    model = topn_pipeline(ItemKNNScorer(feedback="implicit", max_nbrs=20), n=LENGTH)
    model.train(from_interactions_df(known))
    lists = batch.recommend(model, parts["test"]["user_id"].unique(), n=LENGTH)
    lists.save_parquet(out.with_suffix(".parquet"))
    run = RunAnalysis()
    run.add_metric(Hit(K))
    run.add_metric(NDCG(K))
    test = ItemListCollection.from_df(parts["test"][["user_id", "item_id"]], "user_id")
    measured = run.measure(lists, test).list_metrics(fill_missing=True).mean()
    out.with_suffix(".own.json").write_text(json.dumps({"hr@10": measured["Hit@10"], "ndcg@10": measured["NDCG@10"]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
