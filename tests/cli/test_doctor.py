"""`doctor`: checks of this machine; a failed check gives a remedy and does not stop the others."""

import fcntl
import json
import os
import re
import shutil
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from llm4rec_cli import arithmetic, processes
from llm4rec_cli.files import write_text
from llm4rec_cli.studies import machine
from llm4rec_cli.text import weights


@pytest.fixture(autouse=True)
def seconds(monkeypatch):
    """Fixed seconds for each benchmark, so that the tests need not wait."""
    fixed = {"fp32": 0.002, "bf16": 0.001}
    monkeypatch.setattr(arithmetic, "probe", lambda work, device: fixed)
    return fixed


@pytest.fixture
def findings(llm4rec):
    """findings(*arguments): doctor's findings by name."""

    def run(*arguments):
        rows = json.loads(llm4rec("doctor", "--json", *arguments).out)["findings"]
        return {row["name"].strip(): SimpleNamespace(**row) for row in rows}

    return run


def test_on_a_sound_machine_nothing_is_wrong(llm4rec):
    answer = llm4rec("doctor")
    assert answer.code == 0, answer.out
    assert answer.out.endswith("nothing is wrong\n")
    names = {line[6:20].strip() for line in answer.out.splitlines()}
    assert names > {"python", "llm4rec", "packages", "platform", "cores", "memory", "torch", "device", "threads"}
    assert names > {"training", "arithmetic", "encoder", "hub", "outputs", "locks", "cache"}


def test_json_says_the_same(llm4rec):
    answer = llm4rec("doctor", "--json")
    content = json.loads(answer.out)
    assert (answer.code, content["wrong"]) == (0, 0)
    assert all(set(finding) == {"name", "state", "says", "remedy"} for finding in content["findings"])


def test_nothing_is_written(llm4rec, tmp_path):
    llm4rec("doctor", "--cache", "cache")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY"])
def test_no_secret_is_shown(llm4rec, monkeypatch, name):
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


def test_an_exception_in_a_check_is_its_finding(findings, monkeypatch):
    def broken():
        raise OSError("no such device\nand more")

    monkeypatch.setattr(processes, "memory", broken)
    results = findings()
    assert (results["machine"].state, results["machine"].says) == ("wrong", "OSError: no such device")
    assert results["cache"].state == "ok"


def test_packages_are_checked_against_the_declared_ranges(findings, monkeypatch):
    numpy = metadata.version("numpy")
    declared = ["numpy>=99", "pandas>=2.2", "no-such-package>=1", "no-such-extra; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda _: declared)
    results = findings()
    assert (results["numpy"].state, results["numpy"].says) == ("wrong", f"version {numpy} is outside >=99")
    assert results["numpy"].remedy == "pip install 'numpy>=99'"
    assert (results["no-such-package"].state, results["no-such-package"].says) == ("wrong", "is not installed")
    assert results["packages"].says == f"1 have a supported version: pandas {metadata.version('pandas')}"
    assert "no-such-extra" not in results


@pytest.mark.parametrize(("version", "state"), [("3.10.9", "wrong"), ("3.11.0", "ok"), ("3.14.0", "wrong")])
def test_python_is_checked_against_the_declared_range(findings, monkeypatch, version, state):
    monkeypatch.setattr("platform.python_version", lambda: version)
    assert findings()["python"].state == state


def test_missing_configs_are_reported(findings, monkeypatch, tmp_path):
    monkeypatch.setattr("llm4rec_cli.config.folders.conf_dir", lambda: tmp_path)
    assert findings()["llm4rec"].state == "wrong"


def test_an_encoder_of_other_weights_is_reported(findings, monkeypatch):
    monkeypatch.setattr(weights, "MINILM_SHA256", "0" * 64)
    encoder = findings()["encoder"]
    assert encoder.state == "wrong"
    assert "reinstall" in encoder.remedy


# --- what the machine has


@pytest.mark.parametrize(("bf16", "precision"), [(0.001, "bf16"), (0.003, "fp32")])
def test_the_precision_of_auto_is_shown_for_each_kind_of_work(llm4rec, seconds, bf16, precision):
    seconds["bf16"] = bf16
    shown = " ".join(llm4rec("doctor").out.split())
    lines = re.findall(r"ok arithmetic .*?: auto means \w+", shown)
    assert [line.split(": ")[0].split()[-1] for line in lines] == ["training", "reading", "answering"]
    assert all(f"fp32 2.0 ms, bf16 {1000 * bf16:.1f} ms: auto means {precision}" in line for line in lines)


@pytest.mark.parametrize(("cores", "state"), [(1.5, "note"), (4.0, "ok")])
def test_more_threads_than_cores_are_noted(findings, monkeypatch, cores, state):
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    monkeypatch.setattr(machine, "_cores", lambda: cores)
    threads = findings()["threads"]
    assert threads.state == state
    assert ("OMP_NUM_THREADS=1" in threads.remedy) == (state == "note")


def test_the_limits_of_a_container_count(monkeypatch):
    limits = {"cpu.max": "50000 100000", "memory.max": "1000000", "memory.current": "500000"}
    limits["memory.stat"] = "anon 300000\ninactive_file 100000"
    monkeypatch.setattr(processes, "container_limit", lambda name: limits[name])
    assert machine._cores() == 0.5
    assert processes.memory() == (1_000_000, 600_000)


def test_without_a_container_all_cores_of_the_process_and_all_memory_count(monkeypatch):
    monkeypatch.setattr(processes, "container_limit", lambda _: "")
    total, available = processes.memory()
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # macOS lacks it
    assert machine._cores() == own
    assert 0 < available <= total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(("free", "state"), [(1e8, "wrong"), (1e9, "note"), (1e10, "ok")])
def test_little_disk_space_is_noted_and_next_to_none_is_wrong(findings, monkeypatch, free, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    results = findings()
    assert (results["outputs"].state, results["cache"].state) == (state, state)


def test_a_folder_that_is_not_writable_is_wrong(findings, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    results = findings()
    assert results["outputs"].state == "wrong"
    assert results["outputs"].remedy == "paths.outputs=PATH"


def test_a_folder_that_does_not_exist_yet_is_checked_by_its_nearest_ancestor(findings, tmp_path):
    results = findings("--outputs", "not/yet")
    assert f"{tmp_path}/not/yet (does not exist yet)" in results["outputs"].says
    assert results["locks"].says == f"work in {tmp_path}"


def _no_effect(*_):
    pass


def _unsupported(*_):
    raise OSError("no locks available")


@pytest.mark.parametrize("flock", [_no_effect, _unsupported])
def test_locks_that_exclude_nobody_are_wrong(findings, monkeypatch, flock):
    monkeypatch.setattr(fcntl, "flock", flock)
    assert findings()["locks"].state == "wrong"


def test_the_cache_is_shown_by_part_and_partial_entries_are_noted(findings, tmp_path):
    write_text(tmp_path / "cache/features/a.safetensors", "0" * 2000)
    write_text(tmp_path / "cache/features/.b.x1y2.part", "0" * 1000)
    write_text(tmp_path / "cache/raw/demo/reviews", "0" * 5000)
    results = findings("--cache", "cache")
    assert (results["features"].says, results["raw"].says) == ("3.0 kB", "5.0 kB")
    assert (results["cache"].state, results["cache"].remedy) == ("note", "llm4rec prune cache")


@pytest.mark.parametrize("offline", [True, False])
def test_it_shows_whether_models_can_be_downloaded(findings, monkeypatch, offline):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    assert ("HF_HUB_OFFLINE is set" in findings()["hub"].says) == offline
