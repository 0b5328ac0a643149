"""A run killed repeatedly, at critical moments, ends like an uninterrupted one."""

import importlib.util
import signal
import time
from pathlib import Path

import pytest

from tests.support import forked
from tests.support.driver import TINY

SCRIPT = Path(__file__).parents[2] / "scripts/soak_resume.py"


@pytest.fixture(scope="module")
def soak():
    spec = importlib.util.spec_from_file_location("soak_resume", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.RUN = module.RUN.replace("unisrec", "sasrec")
    module.EVENTS = {name: pattern.replace("unisrec", "sasrec") for name, pattern in module.EVENTS.items()}
    return module


@pytest.mark.slow
def test_a_run_killed_in_a_save_after_training_and_before_its_metrics_ends_as_one_never_killed(soak, tmp_path, cache):
    command = ["train", *TINY, "trainer.epochs=2", f"paths.cache={cache / 'llm4rec'}"]

    def start(folder):
        folder.mkdir(exist_ok=True)
        return forked.start(forked.llm4rec, *command, cwd=folder)[0]

    def exit_code(process):
        process.join()
        return process.exitcode

    assert exit_code(start(tmp_path / "uninterrupted")) == 0
    killed = 0
    for event in ("an optimiser saved", "end of training recorded", "predictions written"):
        process = start(tmp_path / "killed")
        while process.is_alive() and not any((tmp_path / "killed").glob(soak.EVENTS[event])):
            time.sleep(0.001)
        process.kill()
        killed += exit_code(process) == -signal.SIGKILL
    assert exit_code(start(tmp_path / "killed")) == 0
    assert killed >= 2  # the last window is a few milliseconds wide
    assert soak.outputs(tmp_path / "killed") == soak.outputs(tmp_path / "uninterrupted")
    assert not list((tmp_path / "killed").rglob("*.part"))
