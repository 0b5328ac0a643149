"""The settings of a run: by key, in effect where a run is older than a setting, and those that numbers depend on."""

import pytest

from llm4rec_cli.files import write_text
from llm4rec_cli.results.settings import Settings, value_at
from tests.support.driver import job_of

STORED = {"model": {"name": "sasrec", "layers": 3}, "task": {"floors": [], "candidates": None}, "dataset": {}}
SETTINGS = Settings("sasrec", STORED)


def settings(*overrides):
    return Settings.of(job_of(*overrides).config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.layers", 3),
        ("model", {"name": "sasrec", "layers": 3}),
        ("task.candidates", None),  # null is a value
        ("model.heads", "default"),
        ("trainer.epochs", "default"),
        ("model.layers.first", "default"),  # below a value
    ],
)
def test_a_setting_has_a_dotted_key_and_a_default_where_it_is_not_stored(key, value):
    assert SETTINGS.get(key, "default") == value_at(STORED, key, "default") == value


def test_settings_are_those_of_the_file_and_empty_without_one(tmp_path):
    write_text(tmp_path / "config.yaml", "model: {name: sasrec, layers: 3}\nseed: 1\n")
    stored = Settings.read(tmp_path / "config.yaml", "sasrec")
    assert (stored.get("model.layers"), stored.get("seed")) == (3, 1)
    write_text(tmp_path / "empty.yaml", "")
    for name in ("empty.yaml", "missing.yaml"):
        assert Settings.read(tmp_path / name, "sasrec").content == {}


def test_a_run_that_is_older_than_a_setting_had_its_declared_default_in_effect():
    assert SETTINGS.get("task.draw") is None and SETTINGS.in_effect("task.draw", 7) == 0
    assert Settings("sasrec", {"task": {"draw": 2}}).in_effect("task.draw") == 2
    assert SETTINGS.in_effect("trainer.epochs", 7) == 7, "as old as any run"


def test_numbers_depend_on_settings_but_not_on_paths_and_devices():
    typed = ["model=sasrec", "model.layers=3", "device=cpu", "paths.outputs=x", "trainer.eval_batch_size=8"]
    with_effect = settings(*typed).with_effect()
    assert with_effect["model.layers"] == 3 and "trainer.epochs" in with_effect
    assert {"device", "paths.outputs", "trainer.eval_batch_size"}.isdisjoint(with_effect)
    assert not any(key.startswith(("llm.", "enrichment.")) for key in with_effect), "sasrec asks no chat model"
    other = settings("model=sasrec", "model.layers=2").with_effect()
    assert {key for key in with_effect if with_effect[key] != other[key]} == {"model.layers"}


def test_settings_of_some_nodes_without_free_ones_are_chosen():
    chosen = settings("model=sasrec").with_effect(["model"], free=frozenset({"model.layers"}))
    assert "model.hidden_size" in chosen and "model.layers" not in chosen
    assert all(key.startswith("model.") for key in chosen)


def test_settings_without_effect_on_a_model_are_left_out():
    def nodes(*overrides):
        return {key.partition(".")[0] for key in settings(*overrides).with_effect()}

    assert "trainer" in nodes("model=sasrec") and "trainer" not in nodes("model=popularity")
    assert "llm" in nodes("model=chatgptrec")
    assert {"llm", "enrichment"} <= nodes("model=sasrec", "dataset=demo", "dataset.text=enriched", "model.tokens=true")
