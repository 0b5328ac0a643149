"""Each command in the README and on the pages composes to something that can be run."""

import pytest

from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.runs import rules
from tests.docs.commands import COMPOSED, OWN_DATA, PAGES, VALUES, composed, lines, overrides
from tests.support.driver import spec_of

COMMANDS = {
    tuple(words): page.stem
    for page in PAGES
    for words in lines(page)
    if words[0] in COMPOSED and not OWN_DATA & {*words}
}


@pytest.mark.parametrize("words", COMMANDS, ids=[f"{page}: {' '.join(words)}" for words, page in COMMANDS.items()])
def test_a_command_composes_to_something_that_can_be_run(words):
    for name, value in VALUES.items():
        words = [word.replace(name, value) for word in words]
    if words[0] in ("prepare", "enrich", "recommend"):
        assert composed(words)
        return
    config = spec_of(*map(hydra_override, overrides(words))).config
    assert [*rules.problems(config)] == []


def test_there_are_commands_to_compose():
    assert len(COMMANDS) >= 100
