"""Commands in docs/ and the README: each composes as it is printed."""

import re
import shlex
from pathlib import Path

import pytest

from llm4rec_cli.commands import experiment
from llm4rec_cli.overrides import prepared
from tests.driver import compose

DOCS = Path(__file__).parents[1] / "docs"
README = DOCS.parent / "README.md"
VALUES = {"$target": "amazon2018-arts", "$ids": "true", "$from": "outputs/x", "RUN": "outputs/y"}


def commands(file: Path) -> list[list[str]]:
    """The arguments of each `llm4rec train | eval | prepare | enrich` in the file's shell blocks, by torchrun too.

    Of a sweep, its first values.
    """
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", file.read_text(), re.DOTALL)).replace("\\\n", " ")
    found = []
    for line in blocks.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["torchrun"]:
            words = words[words.index("llm4rec_cli") :]
        if words[:1] in (["llm4rec"], ["llm4rec_cli"]) and words[1] in ("train", "eval", "prepare", "enrich"):
            given = [word for word in words[2:] if word != "-m"]
            found.append([re.sub(r"^(\S+=[^,\[]*),.*", r"\1", word) for word in given])
    return found


@pytest.mark.parametrize("arguments", commands(DOCS / "unisrec.md"), ids=" ".join)
def test_a_command_of_unisrec_composes(arguments):
    for name, value in VALUES.items():
        arguments = [argument.replace(name, value) for argument in arguments]
    config = compose(*arguments)
    assert config.model.name == "unisrec"


@pytest.mark.parametrize("arguments", commands(DOCS / "p5.md"), ids=" ".join)
def test_a_command_of_p5_composes_to_something_that_can_be_asked(arguments):
    config = experiment.settled(compose(*map(prepared, arguments)))
    assert [*experiment.problems(config)] == []
    experiment.settings(config.model).check_task(experiment.settings(config.task))


@pytest.mark.parametrize("arguments", commands(DOCS / "chatgptrec.md"), ids=" ".join)
def test_a_command_of_chatgptrec_composes_to_something_that_can_be_asked(arguments):
    config = experiment.settled(compose(*map(prepared, arguments)))
    assert [*experiment.problems(config)] == []
    experiment.settings(config.model).check_task(experiment.settings(config.task))


@pytest.mark.parametrize(
    "arguments", [c for c in commands(DOCS / "prompt4nr.md") if c != ["dataset=mind-small"]], ids=" ".join
)
def test_a_command_of_prompt4nr_composes_to_something_that_can_be_asked(arguments):
    config = experiment.settled(compose(*map(prepared, arguments)))
    assert [*experiment.problems(config)] == []
    experiment.settings(config.model).check_task(experiment.settings(config.task))


@pytest.mark.parametrize("arguments", [c for c in commands(README) if "dataset=mine" not in c], ids=" ".join)
def test_a_command_of_the_readme_composes(arguments):
    options = [a for a in arguments if a.startswith("--") or a == "job"]
    config = experiment.settled(compose(*[prepared(a) for a in arguments if a not in options]))
    assert [*experiment.problems(config)] == []


def test_there_are_commands_to_compose():
    assert len(commands(DOCS / "prompt4nr.md")) >= 10
    assert len(commands(README)) >= 20
    assert len(commands(DOCS / "chatgptrec.md")) >= 15
    assert len(commands(DOCS / "unisrec.md")) >= 10
    assert len(commands(DOCS / "p5.md")) >= 30
