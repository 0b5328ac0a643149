"""Ranges of settings: every number declares one, and a value out of range is refused by its key."""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from llm4rec_cli.config import ranges, schema
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.errors import UsageError, raise_first


@dataclass
class Inner:
    dropout: float = ranges.number(0.5, at_least=0, below=1)


@dataclass
class Settings:
    name: str = ranges.folder_name()
    size: int = ranges.number(4, at_least=1, multiple_of="heads")
    heads: int = ranges.number(2, at_least=1)
    limit: int | None = ranges.number(None, at_least=1)
    weights: list[float] = ranges.number([0.5, 1.0], above=0)
    where: str | None = ranges.path(None)
    inner: Inner = field(default_factory=Inner)


CLASSES = [c for c in vars(schema).values() if is_dataclass(c)] + [config_class(name) for name in model_names()]
CLASSES.remove(schema.DownloadConfig)  # data/download.py checks a recipe whole


def problems(**changes):
    """Return the problems of valid settings after these changes."""
    node = OmegaConf.structured(Settings(name="good"))
    return [error.problem for error in ranges.problems(OmegaConf.to_object(OmegaConf.merge(node, changes)))]


@pytest.mark.parametrize("config", CLASSES, ids=lambda c: c.__name__)
def test_every_number_of_the_config_states_its_range(config):
    hints = get_type_hints(config)
    numbers = {f.name for f in fields(config) if {int, float} & {hints[f.name], *get_args(hints[f.name])}}
    assert {f.name for f in fields(config) if "bounds" in f.metadata} == numbers


def test_good_settings_are_not_problems():
    assert problems() == []
    assert problems(limit=1, where="a b", weights=[9.0], inner={"dropout": 0.0}) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"size": 0}, "size=0 is out of range"),
        ({"limit": 0}, "limit=0 is out of range"),
        ({"inner": {"dropout": 1.0}}, "inner.dropout=1.0 is out of range"),
        ({"inner": {"dropout": float("nan")}}, "inner.dropout=nan is out of range"),
        ({"weights": [1.0, float("inf")]}, "weights=inf is out of range"),
        ({"weights": []}, "weights is an empty list"),
        ({"size": 5}, "size=5 is not a multiple of heads=2"),
        ({"where": ""}, "where is empty"),
    ],
)
def test_a_value_outside_its_range_is_refused_by_its_key(changes, problem):
    assert problems(**changes) == [problem]


def test_all_problems_are_listed_and_the_first_is_raised():
    assert problems(size=0, heads=0) == ["size=0 is out of range", "heads=0 is out of range"]
    with pytest.raises(UsageError, match="size=0") as error:
        raise_first(ranges.problems(Settings(name="good", size=0)))
    assert error.value.remedy == "size takes a finite number: at least 1"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "-flag", "a\nb", "a\0b", " a", "x" * 51])
def test_a_name_that_could_leave_or_spoil_a_folder_is_problems(name):
    assert len(problems(name=name)) == 1


@given(st.text(max_size=60))
def test_a_name_that_is_allowed_is_one_folder(name):
    if not problems(name=name):
        assert "/" not in name
        assert name.strip(". ")
        assert len(name.encode()) <= 200


def test_a_default_list_is_not_shared():
    Settings(name="a").weights.append(3.0)
    assert Settings(name="b").weights == [0.5, 1.0]
