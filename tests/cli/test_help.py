"""Help: instant, complete, and without options that users cannot choose."""

import os
import re
import sys

import pytest
import yaml

from llm4rec_cli import __version__, cli
from llm4rec_cli.cli import HYDRA_COMMANDS, PLAIN_COMMANDS
from tests.support.driver import python

HEAVY = "{'torch', 'hydra', 'omegaconf', 'pandas', 'numpy', 'transformers', 'rich'}"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_front_page_names_every_command(llm4rec, arguments):
    answer = llm4rec(*arguments)
    assert answer.code == 0
    assert all(f"  {command} " in answer.out for command in {**HYDRA_COMMANDS, **PLAIN_COMMANDS})


@pytest.mark.parametrize("command", ["prune", "import-weights", "list", "report", "reproduce", "doctor"])
def test_help_of_a_plain_command_does_not_wait_for_hydra(command, tmp_path):
    code = f"""
import sys
from llm4rec_cli.cli import main
try:
    main(['{command}', '--help'])
finally:
    assert not {{'hydra', 'torch', 'pandas'}} & set(sys.modules)
"""
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_front_page_imports_nothing_heavy(tmp_path):
    done = python(
        f"import sys; from llm4rec_cli.cli import main; code = main(['--help']); "
        f"sys.exit(code or str(set(sys.modules) & {HEAVY}).replace('set()', '') or 0)",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["train", "--version"], ["list", "--version"]])
def test_version(llm4rec, arguments):
    assert llm4rec(*arguments).out == f"llm4rec {__version__}\n"


@pytest.mark.parametrize("command", HYDRA_COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_a_commands_help_shows_its_purpose_the_groups_and_ends_with_examples(llm4rec, command, flag):
    answer = llm4rec(command, flag)
    assert answer.code == 0
    assert answer.out.startswith(f"llm4rec {command}: {HYDRA_COMMANDS[command]}")
    assert re.search(r"^model: .*\bsasrec\b.*\bunisrec\b", answer.out, re.MULTILINE)
    assert re.search(r"^dataset: .*\bdemo\b", answer.out, re.MULTILINE)
    _, examples = answer.out.split("Examples:\n")
    assert examples.startswith(f"  llm4rec {command} ")


def test_a_verbs_help_names_the_verb(llm4rec):
    answer = llm4rec("inspect", "data", "--help")
    assert answer.out.startswith("llm4rec inspect data: ")
    assert "Examples:\n  llm4rec inspect data dataset=" in answer.out


def test_help_shows_what_can_be_typed(llm4rec):
    page = llm4rec("train", "--help").out
    assert not re.search(r"\b_\w+", page), "types of configs cannot be chosen"
    assert not re.search(r"^(home|experiment|prompt)\b[^=]*:", page, re.MULTILINE)
    assert re.search(r"^\+experiment=p5/…: .*\bdemo\b", page, re.MULTILINE)
    assert re.search(r"^prompt=p5/…: .*\brating\b", page, re.MULTILINE)
    assert all(f"{flag} " in page for flag in ("--multirun", "--cfg job", "--resolve", "--package", "--wide"))
    assert "--multirun" not in llm4rec("tune", "--help").out, "it runs once"


@pytest.mark.parametrize("command", PLAIN_COMMANDS)
def test_a_plain_commands_help_gives_examples(llm4rec, command):
    answer = llm4rec(command, "--help")
    assert answer.code == 0
    assert f"llm4rec {command} " in answer.out


def test_cfg_job_prints_the_composed_config_and_runs_nothing(llm4rec, tmp_path):
    answer = llm4rec("train", "model=sasrec", "--cfg", "job", "trainer.epochs=3")
    config = yaml.safe_load(answer.out)
    assert answer.code == 0
    assert (config["model"]["name"], config["trainer"]["epochs"], config["seed"]) == ("sasrec", 3, 0)
    assert not list(tmp_path.iterdir())


def test_on_windows_one_line_says_that_it_is_not_supported(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")
    assert cli.main(["train"]) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert answer.err == "error: llm4rec does not run on Windows, where it cannot lock files; use WSL\n"


@pytest.mark.parametrize(("set_before", "spins"), [({}, True), ({"OMP_WAIT_POLICY": "passive"}, False)])
def test_waiting_threads_spin_for_a_bounded_time_unless_the_user_sets_it(monkeypatch, set_before, spins):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_before.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cli.os, "environ", dict(os.environ))
    cli.main(["--version"])
    assert ("GOMP_SPINCOUNT" in cli.os.environ) == spins
