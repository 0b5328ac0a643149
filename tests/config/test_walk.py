"""The declared schema: every setting has a role."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from llm4rec_cli.config import keys, walk
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.roles import NOT_HASHED, Role
from llm4rec_cli.config.schema import Config
from tests.support.driver import job_of


@dataclass
class Inner:
    depth: int = 1
    named: int = field(default=2, metadata={"role": Role.citation})


@dataclass
class Outer:
    role: ClassVar[Role] = Role.model

    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = field(default=None, metadata={"role": Role.question})
    plain: int = 0


def test_a_role_is_a_settings_own_or_that_of_the_nearest_above():
    assert {setting.key: setting.role for setting in walk.declarations(Outer)} == {
        "inner": Role.model,
        "inner.depth": Role.model,
        "inner.named": Role.citation,
        "maybe": Role.question,
        "maybe.depth": Role.question,
        "maybe.named": Role.citation,
        "plain": Role.model,
    }


def test_every_setting_has_a_role():
    assert [setting.key for setting in keys.all_declarations() if setting.role is None] == []


@pytest.mark.parametrize(
    ("key", "role"),
    [
        ("dataset", Role.data),  # a group
        ("paths", Role.machine),
        ("llm.dry_run", Role.command),
        ("~dataset.domains.shop", Role.data),  # below free names
        ("prompt/p5@model.prompts", Role.model),
        ("experiment", None),
        ("hydra.verbose", None),
    ],
)
def test_the_role_of_a_typed_key(key, role):
    assert keys.key_role(key) is role


def test_a_role_is_stated_only_where_it_differs_from_the_inherited_one():
    for setting in keys.all_declarations():
        holder = setting.key.rpartition(".")[0]
        inherited = {other.role for other in keys.all_declarations() if other.key == holder}
        assert setting.field.metadata.get("role") is None or setting.field.metadata["role"] not in inherited, (
            setting.key
        )


def test_settings_of_a_config_are_those_that_are_declared_for_its_model():
    config = job_of("model=unisrec", "task=pretrain").config
    declared = {setting.key for setting in keys.declarations_with(type(config.model)) if not setting.is_node}
    assert {setting.key for setting in walk.settings(config)} - declared == {"dataset.paper", "tuning"}  # null here
    assert not {setting.key for setting in walk.declarations(Config) if setting.role in NOT_HASHED} & {"seed", "split"}


def test_keys_are_found_by_their_roles():
    assert keys.keys_with_role(Role.extent) == {
        *("task.mask_history", "task.seen_items", "task.max_examples", "task.bootstrap", "task.stored_items"),
        "trainer.scoring",
    }
    assert {"model.ask.rating", "model.beams", "split", "dataset.empty_history"} <= keys.keys_with_role(Role.question)
    assert "paths.cache" in keys.keys_with_role(Role.machine)


@pytest.mark.parametrize("model", model_names())
def test_a_stored_config_becomes_typed_again(model):
    config = job_of(f"model={model}").config.model
    assert walk.typed(type(config), walk.plain(config)) == config


def test_what_a_stored_config_lacks_is_refused_unless_it_has_a_default():
    content = walk.plain(job_of("model=sasrec").config.model)
    del content["tokens"]
    assert walk.typed(config_class("sasrec"), content).tokens is False
    del content["hidden_size"]
    with pytest.raises(ValueError, match="hidden_size"):
        walk.typed(config_class("sasrec"), content)
    with pytest.raises(ValueError, match="NextItemLoss has no other"):
        walk.typed(config_class("sasrec"), content | {"hidden_size": 8, "loss": "other"})


def test_settings_are_nested_as_yaml_has_them():
    assert walk.nested({"model.a.b": 1, "model.c": 2, "seed": 3}) == {"model": {"a": {"b": 1}, "c": 2}, "seed": 3}
