"""The shipped claims: that they name what exists, and that rules and margins stay as they were fixed."""

import re
import shlex
from functools import cache

import pytest
from omegaconf import OmegaConf

from llm4rec_cli.config import compose as composing
from llm4rec_cli.config.commands import commands
from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.evaluation.paired import Margin
from llm4rec_cli.run import rules
from llm4rec_cli.tasks import base as tasks
from llm4rec_studies.claims.spec import Rule, shipped_claims
from tests.studies.claims import examples
from tests.support.driver import compose, job_of

TESTS = [(claim, test) for claim in shipped_claims() for test in claim.tests]
COMMANDS = sorted({command for _, test in TESTS for command in test.commands})
PLACEHOLDERS = {"PATH": "/raw", "NAME": "some-model", "RUN": "outputs/run"}


@cache
def composed(*overrides):
    return compose(*overrides)


@pytest.mark.parametrize(("claim", "test"), TESTS, ids=[f"{claim.id}: {test.about}" for claim, test in TESTS])
def test_a_shipped_test_names_what_exists(claim, test):
    task = composed(f"task={test.task}").task
    measured_apart = {"title_similarity@10", "title_diversity@10", "listed/hallucinated"}
    assert claim.words.endswith(".")
    assert test.commands
    assert {*test.experiments} <= {*composing.options("experiment")}
    assert test.metric in tasks.metric_names(task) | measured_apart
    assert (test.a is None) == (test.rule in (Rule.above, Rule.preferred))
    assert (test.threshold is not None) == (test.rule is Rule.above)
    assert test.protocol in (None, "impression")
    for side in filter(None, (test.a, test.b)):
        capability = "rank_impressions" if test.protocol else rules.needed_capability(task)
        assert capability in config_class(side.model).traits.capabilities
        config = composed(f"task={test.task}", f"model={side.model}").copy()
        for key, value in side.settings.items():
            for alternative in value if isinstance(value, list) else [value]:
                OmegaConf.update(config, key, alternative)  # raises if there is no such setting or value


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_a_claim_is_valid(command):
    program, name, *arguments = shlex.split(command)
    assert program == "llm4rec"
    if name in ("human", "ensemble"):
        return
    assert commands()[name].takes_overrides
    for placeholder, value in PLACEHOLDERS.items():
        arguments = [argument.replace(placeholder, value) for argument in arguments]
    # The last value of each sweep.
    overrides = [re.sub(r"^([^\s=]+=)[^\[]*,", r"\1", argument) for argument in arguments if argument != "-m"]
    config = job_of(*map(hydra_override, overrides)).config
    assert [*rules.problems(config)] == []


def test_invalid_margins_rules_and_keys_are_refused():
    with pytest.raises(ValueError):
        examples.claim(margin="little")
    with pytest.raises(ValueError):
        examples.claim(rule="better")
    with pytest.raises(TypeError):
        examples.claim(wether=1)
    assert examples.claim(margin=0.5).tests[0].margin == Margin(0.5)
