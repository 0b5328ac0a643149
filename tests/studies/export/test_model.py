"""An exported model has the weights of the run, its settings without paths, and a card."""

import json
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from llm4rec_cli.errors import RunError, UsageError
from llm4rec_cli.run import checkpoints
from llm4rec_studies import api
from tests.support.driver import TINY, call


@pytest.fixture(scope="module")
def home(tmp_path_factory, cache):
    """A folder with a trained run, a floor and an evaluation."""
    folder = tmp_path_factory.mktemp("home")
    assert call("train", *TINY, "task.floors=[popularity]", cwd=folder, cache=cache).code == 0
    assert call("eval", "model=sasrec", "task=direct", "task.floors=[]", cwd=folder, cache=cache).code == 0
    return folder


@pytest.fixture(autouse=True)
def _caches(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def test_weights_config_and_card_of_a_run(home, tmp_path):
    folder = api.export_model("sasrec/demo/sequential", tmp_path / "out", outputs=home / "outputs")
    (run,) = home.glob("outputs/sasrec/demo/sequential/*")
    weights = load_file(folder / "model.safetensors")
    expected = load_file(checkpoints.selected(run / "checkpoints").folder / "model.safetensors")
    assert weights.keys() == expected.keys() and all((weights[name] == expected[name]).all() for name in weights)
    card, config = (folder / "README.md").read_text(), yaml.safe_load((folder / "config.yaml").read_text())
    metrics = json.loads((run / "metrics.json").read_text())
    assert f"| ndcg@10 | {metrics['metrics']['ndcg@10']:.4f} |" in card
    assert metrics["dataset_fingerprint"] in card
    assert all(f"- `{label}`: " in card for label in metrics["labels"])
    assert all(f"- {deviation}" in card for deviation in metrics["deviations"])
    assert f"llm4rec train {' '.join(TINY[:3])}" in card
    assert (config["model"]["hidden_size"], config["paths"]["cache"]) == (16, None)
    items = (folder / "items.csv").read_text().splitlines()
    assert items[0] == "item,item_id" and len(items) - 1 == max(weight.shape[0] for weight in weights.values())
    assert str(home) not in "".join(file.read_text() for file in folder.iterdir() if file.suffix != ".safetensors")


def test_an_evaluation_has_the_weights_of_its_training_and_its_own_numbers(home, tmp_path):
    folder = api.export_model("sasrec/demo/direct", tmp_path / "out", outputs=home / "outputs")
    assert "test · uniform-100" in (folder / "README.md").read_text()
    assert load_file(folder / "model.safetensors")


def test_a_rule_has_no_weights(home, tmp_path):
    with pytest.raises(UsageError, match="popularity is not trained"):
        api.export_model("popularity/demo/sequential", tmp_path / "out", outputs=home / "outputs")
    with pytest.raises(RunError, match="matches 'unisrec'"):
        api.export_model("unisrec", tmp_path / "out", outputs=home / "outputs")
    assert not Path(tmp_path / "out").exists()
