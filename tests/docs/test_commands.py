"""Each command in docs/ and the README composes to something that can be asked."""

import pytest

from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.runs import rules
from tests.docs.commands import DOCS, README, VALUES, commands
from tests.support.driver import compose, spec_of


@pytest.mark.parametrize("arguments", commands(DOCS / "unisrec.md"), ids=" ".join)
def test_a_command_of_unisrec_composes(arguments):
    for name, value in VALUES.items():
        arguments = [argument.replace(name, value) for argument in arguments]
    config = compose(*arguments)
    assert config.model.name == "unisrec"


@pytest.mark.parametrize("arguments", commands(DOCS / "p5.md"), ids=" ".join)
def test_a_command_of_p5_composes_to_something_that_can_be_asked(arguments):
    config = spec_of(*map(hydra_override, arguments)).config
    assert [*rules.problems(config)] == []


@pytest.mark.parametrize("arguments", commands(DOCS / "chatgptrec.md"), ids=" ".join)
def test_a_command_of_chatgptrec_composes_to_something_that_can_be_asked(arguments):
    config = spec_of(*map(hydra_override, arguments)).config
    assert [*rules.problems(config)] == []


@pytest.mark.parametrize(
    "arguments", [c for c in commands(DOCS / "prompt4nr.md") if c != ["dataset=mind-small"]], ids=" ".join
)
def test_a_command_of_prompt4nr_composes_to_something_that_can_be_asked(arguments):
    config = spec_of(*map(hydra_override, arguments)).config
    assert [*rules.problems(config)] == []


@pytest.mark.parametrize("arguments", [c for c in commands(README) if "dataset=mine" not in c], ids=" ".join)
def test_a_command_of_the_readme_composes(arguments):
    options = [a for a in arguments if a.startswith("--") or a == "job"]
    config = spec_of(*[hydra_override(a) for a in arguments if a not in options]).config
    assert [*rules.problems(config)] == []


def test_there_are_commands_to_compose():
    assert len(commands(DOCS / "prompt4nr.md")) >= 10
    assert len(commands(README)) >= 20
    assert len(commands(DOCS / "chatgptrec.md")) >= 15
    assert len(commands(DOCS / "unisrec.md")) >= 10
    assert len(commands(DOCS / "p5.md")) >= 30
