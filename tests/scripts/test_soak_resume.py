"""One run killed again and again, at the moments that hurt, ends as one that nobody disturbed."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.driver import TINY

SCRIPT = Path(__file__).parents[2] / "scripts/soak_resume.py"


@pytest.fixture(scope="module")
def soak():
    spec = importlib.util.spec_from_file_location("soak_resume", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.RUN = module.RUN.replace("unisrec", "sasrec")
    module.AIMS = {name: pattern.replace("unisrec", "sasrec") for name, pattern in module.AIMS.items()}
    return module


@pytest.mark.slow
def test_a_run_killed_in_a_save_after_training_and_before_its_metrics_ends_as_one_never_killed(soak, tmp_path, cache):
    command = [
        sys.executable,
        "-m",
        "llm4rec_cli",
        "train",
        *TINY,
        "trainer.epochs=2",
        f"paths.cache={cache / 'llm4rec'}",
    ]

    def started(folder):
        folder.mkdir(exist_ok=True)
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert started(tmp_path / "whole").wait() == 0
    killed = 0
    for aim in ("an optimiser saved", "training just done", "predictions written"):
        process = started(tmp_path / "killed")
        while process.poll() is None and not any((tmp_path / "killed").glob(soak.AIMS[aim])):
            time.sleep(0.001)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
    assert started(tmp_path / "killed").wait() == 0
    assert killed >= 2  # the last window is a few milliseconds wide
    assert soak.facts(tmp_path / "killed") == soak.facts(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob("*.part"))
