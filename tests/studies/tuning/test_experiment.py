"""The experiment that a search ends with."""

from llm4rec_cli.studies.tuning.experiment import nested


def test_settings_are_nested_for_yaml():
    assert nested({"model.a.b": 1, "model.c": 2, "seed": 3}) == {"model": {"a": {"b": 1}, "c": 2}, "seed": 3}
