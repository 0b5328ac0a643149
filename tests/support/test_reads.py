"""The record of who reads which setting."""

from llm4rec_cli.config import ranges
from llm4rec_cli.runs import rules
from llm4rec_cli.runs.identity import plain
from llm4rec_cli.runs.spec import RunSpec
from tests.support.driver import compose, spec_of
from tests.support.reads import leaves, recorded


def test_a_read_by_the_package_counts_for_the_node_that_is_asked():
    task = compose().task
    with recorded() as read:
        rules.needed_capability(task)
    assert read == {("TaskConfig", "question"), ("TaskConfig", "candidates")}


def test_a_read_of_the_object_made_of_a_node_counts_too():
    config = spec_of().config
    with recorded() as read:
        assert RunSpec(config, "train").device
        assert config.seed == 0  # asked for by this test, not by the package
    assert read == {("Config", "device")}


def test_printing_copying_and_checking_a_config_is_no_read():
    config = spec_of().config
    with recorded() as read:
        plain(config)
        repr(config.model)
        ranges.check(config)
    assert read == set()


def test_leaves_are_those_of_the_schema_and_of_every_model():
    assert {("TrainerConfig", "epochs"), ("EncoderConfig", "pooling"), ("SASRecConfig", "name")} <= leaves()
    assert not any(node == "ModelConfig" for node, _ in leaves())
