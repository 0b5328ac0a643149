"""The shell scripts: syntax, and what their loops do with failures and interrupts, with a stub for llm4rec."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
STUB = """#!/usr/bin/env bash
echo "$@" >> calls
if [ "$1 $2" = "list papers" ]; then
  printf 'p5/one  a table\\np5/two  another\\n'
fi
case "$*" in *FAILS*) exit 1;; *INTERRUPTED*) exit 130;; esac
"""


@pytest.fixture
def script(tmp_path):
    """script(name, *arguments): exit code, output, and the calls of llm4rec."""
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    (tmp_path / "scripts/venv.sh").write_text("")
    stub = tmp_path / ".venv/bin/llm4rec"
    stub.parent.mkdir(parents=True)
    stub.write_text(STUB)
    stub.chmod(0o755)

    def run(name, *arguments, cwd=tmp_path, **environment):
        command = ["bash", tmp_path / "scripts" / name, *arguments]
        variables = os.environ | environment
        done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
        calls = tmp_path / "calls"
        return done.returncode, done.stdout, calls.read_text().splitlines() if calls.exists() else []

    return run


@pytest.fixture
def elsewhere(tmp_path):
    """A folder to start a script from that is not its checkout."""
    (tmp_path / "elsewhere/data").mkdir(parents=True)
    return tmp_path / "elsewhere"


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_the_syntax_is_right(path):
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0


def test_a_failed_run_of_a_sweep_does_not_stop_the_others(script):
    code, out, calls = script("sweep.sh", "FAILS sasrec", "0 1", "task=direct")
    runs = [f"train model={model} seed={seed} task=direct" for model in ("FAILS", "sasrec") for seed in (0, 1)]
    assert calls == [*runs, "report"]
    assert "2 failed" in out
    assert code == 1
    assert script("sweep.sh", "sasrec", "0")[0] == 0


def test_an_interrupt_stops_a_sweep(script):
    assert script("sweep.sh", "INTERRUPTED sasrec", "0 1")[::2] == (130, ["train model=INTERRUPTED seed=0"])


def test_every_table_of_a_paper_is_made_though_one_fails(script):
    code, _, calls = script("reproduce_p5.sh", "--small", "FAILS")
    assert calls == ["list papers p5", "reproduce p5/one --small FAILS", "reproduce p5/two --small FAILS"]
    assert code == 1
    assert script("reproduce_p5.sh", "--small")[0] == 0


def test_paths_and_outputs_are_relative_to_where_a_script_is_started(script, elsewhere):
    arguments = ("--raw=data", "--raw", "beauty=data", "llm.model=weights/llama", "--small")
    assert script("reproduce_p5.sh", *arguments, cwd=elsewhere)[0] == 0
    assert (elsewhere / "calls").read_text().splitlines()[1:] == [
        f"reproduce p5/{name} {' '.join(arguments)}" for name in ("one", "two")
    ]


def test_each_job_of_a_slurm_array_makes_a_column(script):
    code, _, calls = script("slurm_table.sh", "--rows", "SASRec", SLURM_ARRAY_TASK_ID="1", PATH=path_of_the_stub())
    assert code == 0
    assert calls == [
        "reproduce unisrec/main --columns Pantry --raw /shared/raw paths.outputs=/shared/outputs "
        "paths.cache=/shared/cache --rows SASRec"
    ]


def path_of_the_stub():
    return os.pathsep.join([".venv/bin", os.environ["PATH"]])
