"""Every shipped config: composes with its types, runs small, names no code; and every setting is read by someone."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import llm4rec_cli
from llm4rec_cli import hydra_app, overrides, schema
from llm4rec_cli.models import base
from tests.driver import compose

GROUPS = {group: hydra_app.options(group) for group in overrides.GROUPS}
SHIPPED = [(group, name) for group, names in GROUPS.items() for name in names]
GENERATED = [name for name in GROUPS["dataset"] if name.startswith("demo")]
PACKAGE = Path(llm4rec_cli.__file__).parent
FILES = sorted(hydra_app.conf_dir().rglob("*.yaml"))
SMALL = {
    "hidden_size": 16,
    "inner_size": 16,
    "embedding_size": 16,
    "experts": 2,
    "layers": 1,
    "max_length": 10,
    "encoder": "{name:minilm,pooling:mean,max_length:256}",  # one that needs no download, the same for all
}
QUICK = ["trainer.epochs=1", "trainer.batch_size=512", "task.max_examples=50", "task.floors=[]"]


def choice(group, name):
    return f"+experiment={name}" if group == "experiment" else f"{group}={name}"


def sizes(model):
    """Overrides that make a model small, as far as it has such settings."""
    own = {field.name for field in fields(base.config_class(model))}
    return [f"model.{key}={value}" for key, value in SMALL.items() if key in own]


def test_all_files_belong_to_a_known_group():
    known = {hydra_app.conf_dir() / group / f"{name}.yaml" for group, name in SHIPPED}
    assert {hydra_app.conf_dir() / "config.yaml", *known} == set(FILES)


def test_every_model_has_a_config_and_every_config_a_model():
    assert GROUPS["model"] == base.names()


@pytest.mark.parametrize(("group", "name"), SHIPPED)
def test_every_config_composes_typed_and_whole(group, name):
    config = compose(choice(group, name))
    assert OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert OmegaConf.get_type(config) is schema.Config
    assert OmegaConf.get_type(config.dataset) is schema.DatasetConfig
    assert OmegaConf.get_type(config.task) is schema.TaskConfig
    assert OmegaConf.get_type(config.trainer) is schema.TrainerConfig
    assert OmegaConf.get_type(config.model) is base.config_class(config.model.name)


@pytest.mark.parametrize("group", ["model", "dataset", "task"])
def test_an_option_is_named_as_its_file(group):
    assert [compose(f"{group}={name}")[group].name for name in GROUPS[group]] == GROUPS[group]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_config_names_no_code_and_reads_no_secret(file):
    text = file.read_text()
    assert "_target_" not in text
    assert set(re.findall(r"oc\.env:(\w+)", text)) <= {hydra_app.HELP}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_config_begins_by_saying_what_it_is(file):
    first = next(line for line in file.read_text().splitlines() if "@package" not in line)
    assert first.startswith("# ")


@pytest.mark.parametrize("name", GROUPS["experiment"])
def test_an_experiment_says_how_it_is_run(name):
    assert f"llm4rec train +experiment={name}" in (hydra_app.conf_dir() / f"experiment/{name}.yaml").read_text()


@pytest.mark.parametrize("name", [name for name in GROUPS["dataset"] if name not in GENERATED])
def test_a_dataset_with_files_says_where_they_come_from(name):
    assert re.search("https://|package", compose(f"dataset={name}").dataset["get"])


@pytest.mark.parametrize("task", GROUPS["task"])
def test_a_task_names_floors_that_are_floors(task):
    assert all(base.config_class(name).floor for name in compose(f"task={task}").task.floors)


@pytest.mark.parametrize("name", GROUPS["model"])
def test_every_model_runs_small(llm4rec, name):
    metrics = llm4rec("train", f"model={name}", *sizes(name), *QUICK).metrics
    assert (metrics["model"], metrics["n_examples"]) == (name, 50)


@pytest.mark.parametrize("name", GROUPS["task"])
def test_every_task_runs_small_beside_its_floors(llm4rec, name):
    metrics = llm4rec("train", f"task={name}", "model=popularity", "task.max_examples=50").metrics
    assert (metrics["task"], metrics["n_examples"]) == (name, 50)


@pytest.mark.parametrize("name", GROUPS["trainer"])
def test_every_trainer_runs_small(llm4rec, name):
    metrics = llm4rec("train", "model=bpr_mf", f"trainer={name}", *sizes("bpr_mf"), *QUICK).metrics
    assert metrics["n_examples"] == 50


@pytest.mark.parametrize("name", GROUPS["experiment"])
def test_every_experiment_runs_small_on_the_demo(llm4rec, name):
    config = compose(f"+experiment={name}")
    metrics = llm4rec("train", f"+experiment={name}", "dataset=demo", *sizes(config.model.name), *QUICK).metrics
    assert (metrics["experiment"], metrics["dataset"]) == (name, "demo")
    assert set(config.deviations) <= set(metrics["deviations"])


@pytest.mark.parametrize("name", GENERATED)
def test_every_generated_dataset_is_prepared(llm4rec, name):
    answer = llm4rec("prepare", f"dataset={name}")
    assert answer.code == 0, answer.err
    assert f"{name}-" in answer.out


def test_every_setting_is_read_somewhere():
    """A setting that nobody reads is one that a user sets in vain."""
    classes = [c for c in vars(schema).values() if is_dataclass(c)] + [base.config_class(n) for n in base.names()]
    defining = {PACKAGE / "schema.py", *PACKAGE.glob("models/*/config.py")}
    source = "\n".join(file.read_text() for file in PACKAGE.rglob("*.py") if file not in defining)
    unread = {
        f"{found.__name__}.{field.name}"
        for found in classes
        for field in fields(found)
        if not re.search(rf"\.{field.name}\b(?!\()", source)
    }
    assert unread == set()
