"""`export` on the command line."""

import json

import pandas as pd


def test_a_split_is_exported_and_its_lists_come_back(llm4rec, tmp_path):
    """Popularity, counted from the exported files, has the numbers of the floor, by the command in the README."""
    answer = llm4rec("export", "data", "dataset=demo", "task.max_examples=50", "--out", "split", "--format", "parquet")
    assert answer.code == 0, answer.err
    train, test, items = (
        pd.read_parquet(tmp_path / f"split/parquet/{name}.parquet") for name in ("train", "test", "items")
    )
    score = items["item_id"].map(train["item_id"].value_counts()).fillna(0)
    pairs = test[["user_id"]].merge(pd.DataFrame({"item_id": items["item_id"], "score": score}), how="cross")
    pairs.to_csv(tmp_path / "lists.csv", index=False)
    readme = (tmp_path / "split/README.md").read_text()
    (command,) = [line for line in readme.splitlines() if line.startswith("llm4rec score ")]
    scored = llm4rec(*command.split()[1:], "task.floors=[popularity]")
    assert scored.code == 0, scored.err
    (floor,) = tmp_path.glob("outputs/popularity/demo/sequential/*/metrics.json")
    assert scored.metrics["metrics"]["ndcg@10"] == json.loads(floor.read_text())["metrics"]["ndcg@10"]


def test_a_model_is_exported(llm4rec, trained, tmp_path):
    answer = llm4rec("export", "model", "sasrec", "--out", "card")
    assert answer.code == 0, answer.err
    assert {path.name for path in (tmp_path / "card").iterdir()} >= {"model.safetensors", "config.yaml", "README.md"}
