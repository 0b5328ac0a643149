"""Commands in docs/: each composes as it is printed."""

import re
import shlex
from pathlib import Path

import pytest

from tests.driver import compose

DOCS = Path(__file__).parents[1] / "docs"
VALUES = {"$target": "amazon2018-arts", "$ids": "true", "$from": "outputs/x", "RUN": "outputs/y"}


def commands(file: Path) -> list[list[str]]:
    """The arguments of each `llm4rec train | prepare` in the file's shell blocks; of a sweep, its first values."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", file.read_text(), re.DOTALL)).replace("\\\n", " ")
    found = []
    for line in blocks.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["llm4rec"] and words[1] in ("train", "prepare"):
            given = [word for word in words[2:] if word != "-m"]
            found.append([re.sub(r"^(\S+=[^,\[]*),.*", r"\1", word) for word in given])
    return found


@pytest.mark.parametrize("arguments", commands(DOCS / "unisrec.md"), ids=" ".join)
def test_a_command_of_unisrec_composes(arguments):
    for name, value in VALUES.items():
        arguments = [argument.replace(name, value) for argument in arguments]
    config = compose(*arguments)
    assert config.model.name == "unisrec"


def test_there_are_commands_to_compose():
    assert len(commands(DOCS / "unisrec.md")) >= 10
