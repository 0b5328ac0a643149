"""`doctor`: checks of this machine; a failed check gives a remedy and does not stop the others."""

import fcntl
import shutil
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from llm4rec_cli import processes
from llm4rec_cli.run.machine import examine


@pytest.fixture
def findings(tmp_path):
    """findings(): doctor's findings by name, on folders that do not exist."""
    return lambda: {each.name: each for each in examine(tmp_path / "not/yet", str(tmp_path / "cache"))}


def test_on_a_sound_machine_nothing_is_wrong(llm4rec):
    answer = llm4rec("doctor")
    assert answer.code == 0, answer.out
    assert answer.out.endswith("nothing is wrong\n")
    names = {line[6:20].strip() for line in answer.out.splitlines()}
    assert names > {"python", "packages", "memory", "torch", "threads", "encoder", "outputs", "locks", "cache"}


def test_nothing_is_written_and_a_folder_that_does_not_exist_is_checked_by_its_nearest_ancestor(findings, tmp_path):
    assert findings()["locks"].says == f"work in {tmp_path}"
    assert not list(tmp_path.iterdir())


def test_no_secret_is_shown(llm4rec, monkeypatch):
    for name in ("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "sesame")
    answer = llm4rec("doctor")
    assert "sesame" not in answer.out + answer.err


# --- what is broken


def test_a_torch_that_cannot_be_imported_is_reported_and_the_rest_goes_on(llm4rec, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    answer = llm4rec("doctor")
    assert answer.code == 1
    assert "wrong torch" in answer.out
    assert "pip install torch" in answer.out
    assert "ok    cache" in answer.out
    assert "Traceback" not in answer.out + answer.err


def test_packages_are_checked_against_the_declared_ranges(findings, monkeypatch):
    numpy = metadata.version("numpy")
    declared = ["numpy>=99", "pandas>=2.2", "no-such-package>=1", "no-such-extra; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda _: declared)
    results = findings()
    assert (results["numpy"].state, results["numpy"].says) == ("wrong", f"version {numpy} is outside >=99")
    assert results["numpy"].remedy == "pip install 'numpy>=99'"
    assert (results["no-such-package"].state, results["no-such-package"].says) == ("wrong", "is not installed")
    assert results["packages"].says == f"llm4rec {metadata.version('llm4rec')}, pandas {metadata.version('pandas')}"
    assert "no-such-extra" not in results


@pytest.mark.parametrize(("version", "state"), [("3.10.9", "wrong"), ("3.11.0", "ok"), ("3.14.0", "wrong")])
def test_python_is_checked_against_the_declared_range(findings, monkeypatch, version, state):
    monkeypatch.setattr("platform.python_version", lambda: version)
    assert findings()["python"].state == state


@pytest.mark.parametrize(("cores", "state"), [(1.5, "note"), (4.0, "ok")])
def test_more_threads_than_cores_are_noted(findings, monkeypatch, cores, state):
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    monkeypatch.setattr(processes, "cores", lambda: cores)
    threads = findings()["threads"]
    assert threads.state == state
    assert ("OMP_NUM_THREADS=1" in threads.remedy) == (state == "note")


# --- what the machine has


def test_the_limits_of_a_container_count(monkeypatch):
    limits = {"cpu.max": "50000 100000", "memory.max": "1000000", "memory.current": "500000"}
    limits["memory.stat"] = "anon 300000\ninactive_file 100000"
    monkeypatch.setattr(processes, "container_limit", lambda name: limits[name])
    assert processes.cores() == 0.5
    assert processes.memory() == (1_000_000, 600_000)


@pytest.mark.parametrize(("free", "state"), [(1e8, "wrong"), (1e9, "note"), (1e10, "ok")])
def test_little_disk_space_is_noted_and_next_to_none_is_wrong(findings, monkeypatch, free, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    results = findings()
    assert (results["outputs"].state, results["cache"].state) == (state, state)


def test_locks_that_exclude_nobody_are_wrong(findings, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert findings()["locks"].state == "wrong"
