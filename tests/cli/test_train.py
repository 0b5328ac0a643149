"""`train`: what it writes, when it does so again, and what decides where."""

import json

import pandas as pd
import pytest
import yaml

from llm4rec_cli.files import write_json, write_text
from tests.support.driver import TINY, read

FILES = {  # as the design fixes them
    *("config.yaml", "status.json", "metrics.json", "metrics.csv", "predictions.parquet", "train_log.jsonl", "run.log"),
    *("environment.json", "arithmetic.json", "checkpoints"),
}
FLOOR = ("train", "model=popularity", "task.floors=[]", "task.max_examples=50")


def visible(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def weights(folder):
    (path,) = folder.glob("checkpoints/checkpoint-*/model.safetensors")
    return path


# ---- what a run leaves


def test_a_run_folder_holds_what_the_design_says_and_so_do_those_of_its_floors(trained):
    metrics = read(trained / "metrics.json")
    assert visible(trained) == FILES
    assert trained.parts[-4:] == ("sasrec", "demo", "sequential", f"seed0-{metrics['config_hash']}")
    for floor in ("popularity", "transition_text"):
        (folder,) = (trained.parents[3] / floor / "demo" / "sequential").iterdir()
        assert visible(folder) == FILES - {"train_log.jsonl", "checkpoints", "arithmetic.json"}
        assert read(folder / "metrics.json")["n_examples"] == 100
    status = read(trained / "status.json")
    assert (status["status"], status["error"], status["command"]) == ("done", None, "train")
    assert set(TINY[:-1]) <= set(status["overrides"])
    text = (trained / "config.yaml").read_text()
    config = yaml.safe_load(text)
    assert config["model"]["hidden_size"] == 16
    assert "${" not in text and "???" not in text


def test_metrics_json_has_the_fields_of_the_design_and_shares_inside_their_intervals(trained):
    metrics = read(trained / "metrics.json")
    values = [metrics[key] for key in ("schema", "split", "protocol", "mask_history", "seed", "n_examples")]
    assert values == [1, "test", "full", False, 0, 100]
    assert {"hr@10", "recall@10", "ndcg@10", "mrr"} <= set(metrics["metrics"])
    for name, (low, high) in metrics["intervals"].items():
        assert 0 <= low <= metrics["metrics"][name] <= high <= 1
    assert {"synthetic", "subset", "floor-not-beaten"} <= set(metrics["labels"])
    assert metrics["peak_rss_mb"] > 50
    assert metrics["n_parameters"] == metrics["n_trainable"] > 0
    table = pd.read_csv(trained / "metrics.csv").set_index("metric")
    assert table["value"].to_dict() == pytest.approx(metrics["metrics"])
    assert table.loc["ndcg@10", ["low", "high"]].tolist() == pytest.approx(metrics["intervals"]["ndcg@10"])


def test_predictions_have_one_row_an_example_and_give_the_metrics(trained):
    rows = pd.read_parquet(trained / "predictions.parquet")
    assert len(rows) == 100
    assert {"user_id", "target", "n_better", "n_tied", "top_items"} <= set(rows)
    expected = ((10 - rows["n_better"]) / rows["n_tied"]).clip(0, 1).mean()
    assert read(trained / "metrics.json")["metrics"]["hr@10"] == pytest.approx(expected)


# ---- again


def test_a_finished_run_is_shown_again_and_not_repeated_however_it_is_typed(llm4rec, trained):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    answer = llm4rec("train", *TINY)
    assert answer.folder.name == trained.name
    assert "finished run found" in answer.err and "finished run found" not in answer.out
    assert llm4rec("train", *reversed(TINY)).folder.name == trained.name
    moves_no_number = ("device=cpu", "trainer.eval_batch_size=7", "model.dropout=0.5", "task.floors=[next_id]")
    for override in moves_no_number:
        answer = llm4rec("train", *TINY, override)
        assert (answer.folder.name, "sasrec: finished run found" in answer.err) == (trained.name, True), override
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before
    answer = llm4rec("train", "model=popularity", "task.max_examples=100", "task.floors=[]")
    assert "popularity: finished run found" in answer.err  # the floor of SASRec was the same run
    assert answer.folder.parts[-4] == "popularity"


def test_a_finished_run_of_other_code_of_its_model_says_so(llm4rec, trained):
    assert "has changed since" not in llm4rec("train", *TINY).err
    made_in = read(trained / "environment.json")
    write_json(trained / "environment.json", made_in | {"model_code": "of before"})
    assert "the code of model sasrec has changed since this run: force=true" in llm4rec("train", *TINY).err
    write_json(trained / "status.json", read(trained / "status.json") | {"status": "running"})
    assert "has changed since this run began" in llm4rec("train", *TINY).err
    assert read(trained / "environment.json")["model_code"] == made_in["model_code"]
    packages = made_in["packages"] | {"llm4rec": "0.0.1"}
    write_json(trained / "environment.json", made_in | {"model_code": "of before", "packages": packages})
    # Another release says in `results_version` what moves numbers.
    assert "has changed since" not in llm4rec("train", *TINY).err


def test_force_repeats_a_run_to_the_same_numbers(llm4rec, trained):
    before, written = read(trained / "metrics.json"), weights(trained).stat().st_mtime_ns
    content = weights(trained).read_bytes()
    assert llm4rec("train", *TINY, "force=true").code == 0
    assert weights(trained).stat().st_mtime_ns > written
    assert weights(trained).read_bytes() == content
    assert read(trained / "metrics.json")["metrics"] == before["metrics"]


def test_a_run_that_was_killed_while_it_wrote_is_finished_the_next_time_with_the_training_time_of_both(
    llm4rec, trained
):
    write_json(trained / "status.json", read(trained / "status.json") | {"status": "running"})
    assert llm4rec("train", *TINY).code == 0
    assert read(trained / "status.json")["status"] == "done"
    done = trained / "checkpoints/training_done.json"
    assert read(done)["seconds"] > 0
    write_json(done, read(done) | {"seconds": 1000.0})
    (trained / "metrics.json").unlink()
    answer = llm4rec("train", *TINY)
    assert answer.folder.name == trained.name
    assert "epoch 1" not in answer.err
    assert 1000 < answer.metrics["seconds"]["train"] < 1100


def test_damaged_files_of_a_finished_training_are_one_error_each_and_the_same_command_repairs_them(llm4rec, trained):
    done = trained / "checkpoints/training_done.json"
    whole = done.read_text()
    done.write_text(whole[:20])
    refused = llm4rec("recommend", f"run={trained}", "--user", "A00895B2MGIGH")
    assert refused.code == 1
    assert f"{trained.name}/checkpoints/training_done.json is damaged or missing" in refused.err
    (trained / "metrics.json").unlink()
    assert llm4rec("train", *TINY).code == 0
    assert read(done)["step"] == json.loads(whole)["step"]
    (trained / "arithmetic.json").write_text("{")
    refused = llm4rec("eval", f"run={trained}", "task.mask_history=true", "task.max_examples=20", "task.floors=[]")
    assert (refused.code, f"{trained.name}/arithmetic.json is damaged or missing" in refused.err) == (1, True)


# ---- the address


def test_seeds_share_a_variant_and_a_rules_address_does_not_depend_on_the_trainer(llm4rec):
    random = ("train", "model=random", *FLOOR[2:])
    typed = (("seed=0",), ("seed=1",), ("seed=0", "task.mask_history=true"))
    first, second, other = (llm4rec(*random, *more).metrics for more in typed)
    assert first["variant"] == second["variant"] != other["variant"]
    assert len({first["config_hash"], second["config_hash"], other["config_hash"]}) == 3
    trainers = ("trainer.epochs=1", "trainer.learning_rate=1", "trainer=p5")
    assert len({llm4rec(*FLOOR, trainer).folder.name for trainer in trainers}) == 1


# ---- paths


def test_a_tilde_is_the_home_folder_only_at_the_beginning(llm4rec, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for typed, folder in (("~/raw", "home/raw"), (f"{tmp_path}/~my files (1)/a=b", "~my files (1)/a=b")):
        answer = llm4rec("train", "dataset=amazon2014-beauty", f"dataset.raw_dir={typed}")
        assert (answer.code, f"{tmp_path}/{folder}" in answer.err) == (1, True)


# ---- a user's own YAML, in ./conf of the working directory


def test_a_users_own_dataset_is_found_and_a_variant_of_a_model(llm4rec, tmp_path):
    mine, narrow = tmp_path / "conf/dataset/mine.yaml", tmp_path / "conf/model/narrow.yaml"
    write_text(mine, "defaults: [demo, _self_]\nname: mine\nuser_core: 6\n")
    write_text(narrow, "# Narrow.\ndefaults: [sasrec, _self_]\nhidden_size: 16\nlayers: 1\n")
    assert llm4rec(*FLOOR, "dataset=mine").folder.parts[-3] == "mine"
    answer = llm4rec("train", "model=narrow", "trainer.epochs=1", *FLOOR[2:])
    config = yaml.safe_load((answer.folder / "config.yaml").read_text())
    assert (config["model"]["name"], config["model"]["hidden_size"]) == ("sasrec", 16)
