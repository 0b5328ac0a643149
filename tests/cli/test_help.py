"""Help: instant, complete, and without options that users cannot choose."""

import os
import re
import sys

import pytest
import yaml

from llm4rec_cli import __version__, cli
from llm4rec_cli.config.commands import commands
from tests.cli import states
from tests.support.driver import python


def test_the_front_page_names_every_command(llm4rec):
    answer = llm4rec("--help")
    assert (answer.code, llm4rec().out) == (0, answer.out)
    assert all(f"  {command.typed} " in answer.out and command.summary for command in commands().values())
    assert max(map(len, answer.out.splitlines())) <= 104


ONE_PROCESS = """
import os, shlex, sys
from llm4rec_cli.cli import main

os.environ["XDG_CACHE_HOME"] = {cache!r}
for typed, code, heavy in {commands!r}:
    try:
        ended = main(shlex.split(typed))
    except SystemExit as stop:  # argparse
        ended = stop.code
    assert ended == code, typed
    assert not heavy & set(sys.modules), (typed, heavy & set(sys.modules))
"""


def test_help_and_commands_that_train_nothing_import_nothing_heavy(tmp_path, cache, request):
    """In one process, the lightest command first."""
    states.movies(tmp_path)
    states.write_run(tmp_path, "a")
    states.judged(tmp_path, None, request.getfixturevalue)
    sheet = states.sheet(tmp_path, ["1A,1", "1B,2"]).name
    (tmp_path / "unknown.csv").write_text("user,item\nnobody,nothing\n")
    of_movies = "recommend model=popularity dataset=mine paths.cache=own"
    of_texts = of_movies.replace("popularity", "transition_text")
    commands = [
        ("--help", 0, {"torch", "hydra", "omegaconf", "pandas", "numpy", "transformers", "rich"}),
        ("report --help", 0, {"torch", "hydra", "pandas"}),
    ]
    light = {
        "prepare dataset=mine paths.cache=own": 0,
        **{"list": 0, "list runs": 0, "list prompts": 0, "list cache --cache none": 0},
        **{"validate task/direct experiment/p5/demo": 0, "compare seed0-abc seed0-abc": 0},
        **{"train model=unisrc": 2, "train model=sasrec task.question=rate": 2, "recommend model=random --title x": 2},
        **{f"{of_movies} --user nobody": 2, f"{of_movies} --title xqzzy": 2, "score unknown.csv": 1},
        **{f"{model} --user bob --new-items x.csv": 2 for model in (of_movies, of_texts)},
        **{"human export retrieval/demo/explanation/seed0 --out more": 0, f"human score judged {sheet}": 0},
        "train dataset=mine model=mf task=rating paths.cache=own": 1,
    }
    commands += [(typed, code, {"torch"}) for typed, code in light.items()]
    done = python(ONE_PROCESS.format(cache=str(cache), commands=commands), tmp_path)
    assert done.returncode == 0, done.stderr


def test_version(llm4rec):
    assert llm4rec("--version").out == llm4rec("train", "--version").out == f"llm4rec {__version__}\n"


@pytest.mark.parametrize("command", commands().values(), ids=lambda command: command.typed)
def test_a_commands_help_shows_its_purpose_and_examples_and_of_overrides_the_groups(llm4rec, command):
    answer = llm4rec(*command.typed.split(), "--help")
    assert answer.code == 0
    assert f"llm4rec {command.typed} " in answer.out.partition("\n")[2]
    if command.takes_overrides:
        assert answer.out.startswith(f"llm4rec {command.typed}: {command.summary}")
        assert re.search(r"^model: .*\bsasrec\b.*\bunisrec\b", answer.out, re.MULTILINE)
        assert answer.out.split("Examples:\n")[1].startswith(f"llm4rec {command.typed} ")


def test_the_first_word_of_several_commands_lists_them(llm4rec):
    alone, helped = llm4rec("inspect"), llm4rec("inspect", "--help")
    assert (alone.code, helped.code) == (2, 0)
    assert "llm4rec inspect answers|data|ids|memorisation|result" in alone.err
    listed = [line.split()[1] for line in helped.out.splitlines() if line.startswith("  ")]
    assert listed == ["answers", "data", "ids", "memorisation", "result"]


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
