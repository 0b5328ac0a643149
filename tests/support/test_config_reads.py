"""The record of settings that the package reads."""

from llm4rec_cli.config import ranges
from llm4rec_cli.config.walk import plain
from llm4rec_cli.errors import raise_first
from llm4rec_cli.run import rules
from llm4rec_cli.run.job import Job
from tests.support.driver import compose, job_of
from tests.support.reads import leaves, recorded


def test_a_read_by_the_package_counts_for_the_node_that_is_read():
    task = compose().task
    with recorded() as read:
        rules.needed_capability(task)
    assert read == {("TaskConfig", "question"), ("TaskConfig", "candidates")}


def test_a_read_of_a_dataclass_object_counts_too():
    config = job_of().config
    with recorded() as read:
        assert Job(config, "train").device
        assert config.seed == 0  # read by this test, not by the package
    assert read == {("Config", "device")}


def test_printing_copying_and_checking_a_config_do_not_count():
    config = job_of().config
    with recorded() as read:
        plain(config)
        repr(config.model)
        raise_first(ranges.problems(config))
    assert read == set()


def test_leaves_cover_the_schema_and_every_model():
    assert {("TrainerConfig", "epochs"), ("EncoderConfig", "pooling"), ("SASRecConfig", "name")} <= leaves()
    assert {("SASRecConfig", "tokens"), ("NextItemConfig", "loss")} <= leaves()
    assert not {("SASRecConfig", "loss"), ("NextItemConfig", "name")} & leaves()
    assert not any(node == "ModelConfig" for node, _ in leaves())
