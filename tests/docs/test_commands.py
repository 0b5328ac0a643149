"""Each command in the README, on the pages and in the helps composes to something that can be run."""

import re
import shlex

import pytest

from llm4rec_cli.config.commands import commands
from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.errors import raise_first
from tests.docs.commands import COMPOSED, OWN_DATA, PAGES, VALUES, composed, lines, overrides
from tests.support.driver import job_of

OF_HELPS = [  # without the remark after a command
    (name, shlex.split(re.split(" {2,}", line)[0]))
    for name, command in commands().items()
    if command.takes_overrides
    for line in re.findall(r"^llm4rec (.*)", command.examples, re.MULTILINE)
]
COMMANDS = {
    tuple(words): place
    for place, words in [*((page.stem, words) for page in PAGES for words in lines(page)), *OF_HELPS]
    if words[0] in COMPOSED and not OWN_DATA & {*words}
}


@pytest.mark.parametrize("words", COMMANDS, ids=[f"{place}: {' '.join(words)}" for words, place in COMMANDS.items()])
def test_a_command_composes_to_something_that_can_be_run(words):
    for name, value in VALUES.items():
        words = [word.replace(name, value) for word in words]
    if words[0] in ("prepare", "enrich", "recommend"):
        assert composed(words)
        return
    raise_first(job_of(*map(hydra_override, overrides(words)), command=words[0]).problems())


def test_there_are_commands_to_compose():
    assert len(COMMANDS) >= 100
