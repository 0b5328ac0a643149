"""The schema as it is declared: every setting says what it is about."""

from dataclasses import dataclass, field
from typing import ClassVar

from llm4rec_cli.config import keys, walk
from llm4rec_cli.config.roles import OUTSIDE, Role
from llm4rec_cli.config.schema import Config
from tests.support.driver import spec_of


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
    found = {one.key: one.role for one in walk.declared(Outer)}
    assert found == {
        "inner": Role.model,
        "inner.depth": Role.model,
        "inner.named": Role.citation,
        "maybe": Role.question,
        "maybe.depth": Role.question,
        "maybe.named": Role.citation,
        "plain": Role.model,
    }


def test_every_setting_has_a_role():
    nodes = {"dataset", "model", "task", "trainer", "llm", "enrichment"}  # whose classes say it
    assert [one.key for one in keys.all_declared() if one.role is None and one.key not in nodes] == []


def test_a_role_is_stated_where_it_is_another_than_it_would_be():
    """A statement that changes nothing is one that a reader looks for a reason of."""
    for one in keys.all_declared():
        holder = one.key.rpartition(".")[0]
        above = {other.role for other in keys.all_declared() if other.key == holder}
        assert one.field.metadata.get("role") is None or one.field.metadata["role"] not in above, one.key


def test_settings_of_a_config_are_those_that_are_declared_for_its_model():
    config = spec_of("model=unisrec", "task=pretrain").config
    declared = {one.key for one in keys.declared_with(type(config.model)) if not one.is_node}
    found = {one.key for one in walk.settings(config)}
    assert found - declared == {"dataset.paper"}  # null, where it may be a node
    assert not {one.key for one in walk.declared(Config) if one.role in OUTSIDE} & {"seed", "split"}


def test_keys_are_found_by_their_roles():
    assert keys.keys_of(Role.extent) == {"task.mask_history", "task.max_examples", "task.bootstrap"}
    assert {"model.ask.rating", "model.beams", "split", "dataset.empty_history"} <= keys.keys_of(Role.question)
    assert "paths.cache" in keys.keys_of(Role.machine)
