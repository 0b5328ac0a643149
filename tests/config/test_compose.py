"""Composing: values set in a copy of the merged options give what Hydra composes from all overrides."""

import contextlib

import hydra
import pytest
from omegaconf import OmegaConf

from llm4rec_cli.config.compose import compose, model_node, register_types, searchpath
from llm4rec_cli.config.folders import conf_dir, options
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.errors import UsageError
from llm4rec_cli.run.config_check import problems_in
from llm4rec_cli.run.config_options import descriptions, tables
from llm4rec_cli.run.job import Job

TYPED = (
    [],
    ["model=sasrec", "model.hidden_size=16", "seed=3"],
    ["seed=3", "model=sasrec", "task.floors=[]", "seed=4"],
    ["+experiment=p5/demo", "task=rating", "model.ask.rating=4-2", "trainer.epochs=1"],
    ["prompt/prompt4nr@model.prompts=hybrid_action", "model=prompt4nr", "model.prompts.name=mine"],
    ["+experiment=unisrec/pretrain_paper", "~dataset.domains.home", "model.experts=1"],
    ["dataset.raw_dir='a b, c'", "dataset.split=temporal"],
)


def by_hydra(typed):
    register_types()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra.compose("config", overrides=[*searchpath(), *typed])


@pytest.mark.parametrize("typed", TYPED, ids=" ".join)
def test_it_is_hydras_composition(typed):
    composed = compose(typed)
    expected = by_hydra(typed)
    assert OmegaConf.to_yaml(composed.config) == OmegaConf.to_yaml(expected)
    assert OmegaConf.get_type(composed.config) is OmegaConf.get_type(expected)
    assert OmegaConf.get_type(composed.config.model) is OmegaConf.get_type(expected.model)
    assert composed.typed == tuple(typed)


@pytest.mark.parametrize("wrong", ["seed=a", "model.no=1", "seed=1,2", "+seed=1", "no=1", "model=no", "a"])
def test_what_hydra_refuses_is_refused_with_hydras_error_as_the_cause(wrong):
    with pytest.raises(UsageError) as ours:
        compose([wrong])
    cause = ours.value.__cause__
    with pytest.raises(type(cause)) as theirs:
        by_hydra([wrong])
    assert str(cause) == str(theirs.value)


def test_what_depends_on_its_place_is_left_to_hydra():
    typed = ["seed=1", "++seed=2"], ["++seed=2", "seed=1"]
    assert [compose(t).config.seed for t in typed] == [by_hydra(t).seed for t in typed] == [2, 1]


def test_a_config_may_be_changed_without_changing_the_next():
    compose(["model=sasrec"]).config.model.hidden_size = 8
    assert compose(["model=sasrec"]).config.model.hidden_size != 8


def test_overrides_of_hydra_are_not_part_of_what_was_typed():
    assert compose(["hydra/launcher=joblib", "hydra.job.name=x", "seed=1"]).typed == ("seed=1",)


def test_the_lock_of_an_editor_is_no_config(tmp_path):
    (tmp_path / "conf/trainer").mkdir(parents=True)
    (tmp_path / "conf/trainer/.#mine.yaml").symlink_to("nowhere")
    with contextlib.chdir(tmp_path):
        assert compose(["seed=5"]).config.seed == 5


def test_a_file_in_conf_that_changes_is_read_again(tmp_path):
    file = tmp_path / "conf/trainer/mine.yaml"
    file.parent.mkdir(parents=True)
    with contextlib.chdir(tmp_path):
        for epochs in (3, 12):  # another length: file systems keep times coarsely
            file.write_text(f"defaults: [default, _self_]\nepochs: {epochs}\n")
            assert compose(["trainer=mine", "seed=1"]).config.trainer.epochs == epochs


@pytest.mark.parametrize(("hidden", "typed"), [("trainer/p5", ["trainer=p5"]), ("home/p5-demo", ["model=p5"])])
def test_a_users_file_that_a_shipped_one_hides_is_refused_when_chosen(tmp_path, hidden, typed):
    file = tmp_path / f"conf/{hidden}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("epochs: 1\n")
    with contextlib.chdir(tmp_path):
        Job.resolve(compose(["model=sasrec"]), "train")
        with pytest.raises(UsageError, match=rf"conf/{hidden}\.yaml is never read") as error:
            Job.resolve(compose(typed), "train")
    assert error.value.remedy == f"rename conf/{hidden}.yaml"


def test_an_editors_lock_is_no_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/dataset").mkdir(parents=True)
    (tmp_path / "conf/dataset/mine.yaml").write_text("name: mine\n")
    (tmp_path / "conf/dataset/.#mine.yaml").symlink_to("user@host.1234")
    (tmp_path / "conf/dataset/broken.yaml").symlink_to("nowhere")
    assert {name for name in options("dataset") if "mine" in name or "broken" in name} == {"mine"}


def test_a_file_that_is_not_utf8_is_named_by_composing_and_no_hindrance_for_lists(tmp_path, monkeypatch):
    file = tmp_path / "conf/dataset/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"defaults: [demo, _self_]\nname: b\xe9b\xe9\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"conf/dataset/mine\.yaml: not UTF-8") as refused:
        compose(["dataset=mine"])
    assert refused.value.remedy == "save the file as UTF-8"
    assert descriptions("dataset")["mine"] == ""
    with pytest.raises(UsageError, match=r"mine\.yaml: invalid YAML"):
        tables("dataset")


def test_a_damaged_first_line_is_an_error_of_the_config(tmp_path, monkeypatch):
    (tmp_path / "conf/experiment/mine").mkdir(parents=True)
    (tmp_path / "conf/experiment/mine/first.yaml").write_text("# @packag\u2028e _global_\nseed: 3\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="first line is not a header"):
        compose(["+experiment=mine/first"])
    (problem,) = problems_in("experiment/mine/first")
    assert "first line is not a header" in problem.problem


@pytest.mark.parametrize("content", ["seed: 3", "defaults:\n  - override /model: sasrec\n  - _self_\nseed: 3"])
def test_an_experiment_without_its_first_line_is_named_with_that_line(tmp_path, monkeypatch, content):
    file = tmp_path / "conf/experiment/mine/first.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="lacks its first line") as refused:
        compose(["+experiment=mine/first"])
    assert refused.value.problem.startswith("conf/experiment/mine/first.yaml ")
    assert refused.value.remedy == "add `# @package _global_` as line 1"
    file.write_text(f"# @package _global_\n{content}")
    assert compose(["+experiment=mine/first"]).config.seed == 3


@pytest.mark.parametrize("name", [name for name in model_names() if config_class(name).traits.is_floor])
def test_a_floor_that_is_read_without_hydra_is_what_hydra_composes(name):
    composed = compose([f"model={name}"]).config
    root = OmegaConf.create({key: composed[key] for key in ("dataset", "task", "trainer")})
    assert OmegaConf.to_object(model_node(name, [], root)) == OmegaConf.to_object(composed.model)


def test_a_users_floor_may_extend_another_and_typed_settings_replace_those_of_its_file(tmp_path):
    file = tmp_path / "conf/model/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("defaults: [transition_text, _self_]\nname: transition_text\nrecent: 9\nsteps: 8\n")
    root = OmegaConf.create({"task": {"mask_history": True}})
    with contextlib.chdir(tmp_path):
        node = model_node("mine", ["model.steps=2"], root)
        assert (node.recent, node.steps, node.mask_history) == (9, 2, True)
        composed = compose(["model=mine", "model.steps=2", "task.mask_history=true"]).config.model
        assert OmegaConf.to_object(node) == OmegaConf.to_object(composed)
    with pytest.raises(UsageError, match="unknown model 'popularty'"):
        model_node("popularty", [], root)
