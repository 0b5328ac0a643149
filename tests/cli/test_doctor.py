"""`doctor`: what this machine has; what is wrong is told with a remedy, and breaks nothing."""

import fcntl
import json
import os
import shutil
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from llm4rec_cli import arithmetic
from llm4rec_cli.commands import doctor
from llm4rec_cli.files import write_text
from llm4rec_cli.text import weights


@pytest.fixture(autouse=True)
def seconds(monkeypatch):
    """What each piece of work is said to take: the tests need not wait."""
    pretended = {"fp32": 0.002, "bf16": 0.001}
    monkeypatch.setattr(arithmetic, "probe", lambda work, device: pretended)
    return pretended


@pytest.fixture
def findings(llm4rec):
    """findings(*arguments): what doctor found, by name."""

    def ask(*arguments):
        found = json.loads(llm4rec("doctor", "--json", *arguments).out)["findings"]
        return {finding["name"].strip(): SimpleNamespace(**finding) for finding in found}

    return ask


def test_on_a_sound_machine_nothing_is_wrong(llm4rec):
    answer = llm4rec("doctor")
    assert answer.code == 0, answer.out
    assert answer.out.endswith("nothing is wrong\n")
    told = {line[6:20].strip() for line in answer.out.splitlines()}
    assert told > {"python", "llm4rec", "packages", "platform", "cores", "memory", "torch", "device", "threads"}
    assert told > {"training", "arithmetic", "encoder", "hub", "outputs", "locks", "cache"}


def test_json_says_the_same(llm4rec):
    answer = llm4rec("doctor", "--json")
    told = json.loads(answer.out)
    assert (answer.code, told["wrong"]) == (0, 0)
    assert all(set(finding) == {"name", "state", "says", "remedy"} for finding in told["findings"])


def test_nothing_is_written(llm4rec, tmp_path):
    llm4rec("doctor", "--cache", "cache")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY"])
def test_no_secret_is_shown(llm4rec, monkeypatch, name):
    monkeypatch.setenv(name, "sesame")
    answer = llm4rec("doctor")
    assert "sesame" not in answer.out + answer.err


# --- what is broken


def test_a_torch_that_cannot_be_imported_is_told_and_the_rest_goes_on(llm4rec, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    answer = llm4rec("doctor")
    assert answer.code == 1
    assert "wrong torch" in answer.out
    assert "pip install torch" in answer.out
    assert "ok    cache" in answer.out
    assert "Traceback" not in answer.out + answer.err


def test_whatever_breaks_a_check_is_what_it_finds(findings, monkeypatch):
    def broken():
        raise OSError("no such device\nand more")

    monkeypatch.setattr(doctor, "_memory", broken)
    found = findings()
    assert (found["machine"].state, found["machine"].says) == ("wrong", "OSError: no such device")
    assert found["cache"].state == "ok"


def test_packages_are_held_against_the_declared_ranges(findings, monkeypatch):
    numpy = metadata.version("numpy")
    declared = ["numpy>=99", "pandas>=2.2", "no-such-package>=1", "no-such-extra; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda _: declared)
    found = findings()
    assert (found["numpy"].state, found["numpy"].says) == ("wrong", f"{numpy} does not fit >=99")
    assert found["numpy"].remedy == "pip install 'numpy>=99'"
    assert (found["no-such-package"].state, found["no-such-package"].says) == ("wrong", "is not installed")
    assert found["packages"].says == f"1 in the declared ranges: pandas {metadata.version('pandas')}"
    assert "no-such-extra" not in found


@pytest.mark.parametrize(("version", "state"), [("3.10.9", "wrong"), ("3.11.0", "ok"), ("3.14.0", "wrong")])
def test_python_is_held_against_the_declared_range(findings, monkeypatch, version, state):
    monkeypatch.setattr("platform.python_version", lambda: version)
    assert findings()["python"].state == state


def test_configs_that_did_not_come_along_are_told(findings, monkeypatch, tmp_path):
    monkeypatch.setattr("llm4rec_cli.config.compose.conf_dir", lambda: tmp_path)
    assert findings()["llm4rec"].state == "wrong"


def test_an_encoder_of_other_weights_is_told(findings, monkeypatch):
    monkeypatch.setattr(weights, "MINILM_SHA256", "0" * 64)
    found = findings()["encoder"]
    assert found.state == "wrong"
    assert "reinstall" in found.remedy


# --- what the machine has


@pytest.mark.parametrize(("bf16", "taken"), [(0.001, "bf16"), (0.003, "fp32")])
def test_what_auto_takes_is_told_for_each_kind_of_work(llm4rec, seconds, bf16, taken):
    seconds["bf16"] = bf16
    lines = [line for line in llm4rec("doctor").out.splitlines() if line.startswith("ok    arithmetic")]
    assert [line.split(": ")[0].split()[-1] for line in lines] == ["training", "reading", "answering"]
    assert all(f"fp32 2.0 ms, bf16 {1000 * bf16:.1f} ms: auto takes {taken}" in line for line in lines)


@pytest.mark.parametrize(("cores", "state"), [(1.5, "note"), (4.0, "ok")])
def test_more_threads_than_cores_are_noted(findings, monkeypatch, cores, state):
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    monkeypatch.setattr(doctor, "_cores", lambda: cores)
    found = findings()["threads"]
    assert found.state == state
    assert ("OMP_NUM_THREADS=1" in found.remedy) == (state == "note")


def test_the_limits_of_a_container_count(monkeypatch):
    limits = {"cpu.max": "50000 100000", "memory.max": "1000000", "memory.current": "400000"}
    monkeypatch.setattr(doctor, "_cgroup", lambda name: limits[name])
    assert doctor._cores() == 0.5
    assert doctor._memory() == (1_000_000, 600_000)


def test_without_a_container_all_cores_of_the_process_and_all_memory_count(monkeypatch):
    monkeypatch.setattr(doctor, "_cgroup", lambda _: "")
    total, available = doctor._memory()
    assert doctor._cores() == len(os.sched_getaffinity(0))
    assert 0 < available <= total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(("free", "state"), [(1e8, "wrong"), (1e9, "note"), (1e10, "ok")])
def test_little_room_is_noted_and_next_to_none_is_wrong(findings, monkeypatch, free, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    found = findings()
    assert (found["outputs"].state, found["cache"].state) == (state, state)


def test_a_folder_that_cannot_be_written_to_is_wrong(findings, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = findings()
    assert found["outputs"].state == "wrong"
    assert found["outputs"].remedy == "paths.outputs=PATH"


def test_a_folder_that_is_not_there_yet_is_judged_by_the_one_above(findings, tmp_path):
    found = findings("--outputs", "not/yet")
    assert f"{tmp_path}/not/yet (not there yet)" in found["outputs"].says
    assert found["locks"].says == f"hold in {tmp_path}"


def _unheld(*_):
    pass


def _unknown(*_):
    raise OSError("no locks available")


@pytest.mark.parametrize("flock", [_unheld, _unknown])
def test_locks_that_hold_nobody_out_are_wrong(findings, monkeypatch, flock):
    monkeypatch.setattr(fcntl, "flock", flock)
    assert findings()["locks"].state == "wrong"


def test_the_cache_is_told_by_part_and_what_is_left_half_written_is_noted(findings, tmp_path):
    write_text(tmp_path / "cache/features/a.safetensors", "0" * 2000)
    write_text(tmp_path / "cache/features/.b.x1y2.part", "0" * 1000)
    write_text(tmp_path / "cache/raw/demo/reviews", "0" * 5000)
    found = findings("--cache", "cache")
    assert (found["features"].says, found["raw"].says) == ("3.0 kB", "5.0 kB")
    assert (found["cache"].state, found["cache"].remedy) == ("note", "llm4rec prune cache")


@pytest.mark.parametrize("offline", [True, False])
def test_it_tells_whether_the_hub_may_be_asked(findings, monkeypatch, offline):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    assert ("set offline" in findings()["hub"].says) == offline
