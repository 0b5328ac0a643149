"""The address: equal for configs that compute the same numbers, different for others."""

from functools import cache
from pathlib import Path

import pytest

from llm4rec_cli.config import registry
from llm4rec_cli.models.baselines.config import PopularityConfig
from llm4rec_cli.run.folder import code_identity
from llm4rec_cli.run.identity import address, settings_with_effect
from tests.support.driver import job_of


@cache
def config(*overrides):
    return job_of(*overrides).config


def at(config, fingerprint, **more):
    return address(config, settings_with_effect(config), fingerprint, **more)


@pytest.fixture
def where():
    """where(*overrides): the address of a run on some data."""
    return lambda *overrides, **more: at(config(*overrides), more.pop("data", "data"), **more)


def test_the_folder_names_model_dataset_task_seed_and_hash(where):
    result = where("model=sasrec", "dataset=demo_null", "task=direct", "seed=3", "paths.outputs=here")
    assert result.folder == Path("here/sasrec/demo_null/direct") / f"seed3-{result.config_hash}"


def test_what_moves_no_number_moves_no_address(where):
    overrides = [
        *("device=cpu", "force=true", "run=somewhere", "paths.cache=elsewhere", "dataset.raw_dir=elsewhere"),
        *("task.shots=3", "task.history=4", "dataset.liked_above=2"),  # of the task `like`
        *("dataset.get=ask", "dataset.download=[{file: ask}]", "dataset.part_of=more", "task.floors=[]"),
        *("trainer.eval_batch_size=7", "trainer.report_to=[tensorboard]", "model.dropout=0.5"),  # as it is
    ]
    assert [override for override in overrides if where(override) != where()] == []


def test_data_moves_hash_and_variant_a_seed_the_hash_and_outputs_and_order_neither(where):
    assert where("paths.outputs=elsewhere").config_hash == where().config_hash
    assert where("seed=1", "model.layers=1") == where("model.layers=1", "seed=1")
    assert where(data="other").config_hash != where().config_hash
    assert where(data="other").variant != where().variant
    addresses = [where(f"seed={seed}") for seed in range(3)]
    assert len({a.config_hash for a in addresses}) == 3
    assert len({a.variant for a in addresses}) == 1
    assert where("model=popularity") == where("model=popularity", "trainer.epochs=1")
    assert where("model=sasrec") != where("model=sasrec", "trainer.epochs=1")


def test_what_moves_numbers_moves_hash_and_variant(where):
    overrides = [
        *("model=sasrec", "model.layers=1", "model.encoder.max_length=128", "model.use_ids=true", "split=valid"),
        *("trainer.epochs=1", "trainer.batch_size=256", "trainer.precision=fp32", "task=direct"),
        *("task.candidates=popularity", "task.mask_history=true", "task.max_examples=9"),
        *("dataset.control=shuffle_text", "dataset.seed=1", "dataset.text=title"),
    ]
    assert [override for override in overrides if where(override).config_hash == where().config_hash] == []
    assert [override for override in overrides if where(override).variant == where().variant] == []


def test_a_results_version_of_one_model_moves_its_addresses_alone(where, monkeypatch):
    before = where("model=popularity"), where("model=random")
    monkeypatch.setattr(PopularityConfig, "results_version", 2)
    after = where("model=popularity"), where("model=random")
    assert after[1] == before[1]
    assert {after[0].config_hash, after[0].variant}.isdisjoint({before[0].config_hash, before[0].variant})


def test_an_evaluation_has_another_address_and_shares_a_variant_with_those_of_seeds_of_one_training(where):
    evaluation = where(trained=("seed0-1", "v"))
    assert evaluation.config_hash != where().config_hash
    assert evaluation.variant != where().variant
    first, seed, other = (where(trained=trained) for trained in (("seed0-1", "v"), ("seed1-2", "v"), ("seed0-2", "w")))
    assert first.variant == seed.variant != other.variant
    assert first.config_hash != seed.config_hash


def test_published_weights_count_and_their_path_does_not(where):
    for setting, paths in (("encoder.name", ("minilm", "elsewhere")), ("backbone", ("t5-small", "a/folder"))):
        model = "model=unisrec" if setting == "encoder.name" else "model=p5"
        here, there = (where(model, f"model.{setting}={path}", weights={setting: "weights"}) for path in paths)
        assert here == there
        assert where(model, weights={setting: "other weights"}) != here


def test_how_items_are_enriched_counts_only_where_texts_are_and_the_path_of_the_chat_model_never(where):
    tokens = "enrichment.tokens=3"
    assert where(tokens) == where()
    enriched = ("dataset.text=enriched",)
    assert where(*enriched, tokens, llm="weights wrote these") != where(*enriched, llm="weights wrote these")
    here, there = (where(*enriched, f"llm.model={path}", llm="weights wrote a") for path in ("smollm2", "a/folder"))
    assert here == there
    assert where(*enriched, llm="weights wrote b") != here
    assert where(*enriched, llm="others wrote a") != here


def test_the_code_of_a_model_is_its_package_or_its_module(tmp_path, monkeypatch):
    for folder in (package := tmp_path / "mine", baselines := tmp_path / "baselines"):
        folder.mkdir()
        (folder / "__init__.py").touch()
    (package / "model.py").write_text("a = 1")
    (baselines / "counts.py").write_text("b = 1")
    monkeypatch.setattr(registry, "MODELS", tmp_path)
    monkeypatch.setattr(registry, "baselines", lambda: ("counts",))
    before = code_identity("mine"), code_identity("counts")
    (package / "model.py").write_text("a = 2")
    assert code_identity("mine") != before[0]
    assert code_identity("counts") == before[1]
    (baselines / "counts.py").write_text("b = 2")
    assert code_identity("counts") != before[1]
