"""`export` on the command line."""

import json


def test_a_split_is_exported_and_its_lists_come_back(llm4rec, tmp_path):
    """Popularity, counted from the exported files, has the numbers of the floor, by the command in the README."""
    import pandas as pd

    answer = llm4rec("export", "data", "dataset=demo", "task.max_examples=50", "--out", "split", "--format", "csv")
    assert answer.code == 0, answer.err
    assert "README.md says what is in it" in answer.out
    train = pd.read_csv(tmp_path / "split/csv/train.csv", dtype=str)
    test = pd.read_csv(tmp_path / "split/csv/test.csv", dtype=str)
    items = pd.read_csv(tmp_path / "split/csv/items.csv", dtype=str)
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
    assert "README.md is the model card" in answer.out
    assert {path.name for path in (tmp_path / "card").iterdir()} >= {"model.safetensors", "config.yaml", "README.md"}


def test_what_is_wrong_is_said_in_two_lines(llm4rec, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    for arguments, said in (
        (("export", "data", "--out", "mine"), "has files, and no export.json of ours"),
        (("export", "data", "--format", "excel"), "unknown format 'excel'"),
        (("export", "data", "-m", "seed=0,1"), "runs once"),
        (("export", "model", "unisrec", "--out", "out"), "'unisrec'"),
    ):
        answer = llm4rec(*arguments)
        assert answer.code in (1, 2)
        assert said in answer.err
        assert len(answer.err.strip().splitlines()) == 2
