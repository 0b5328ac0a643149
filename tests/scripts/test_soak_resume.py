"""One run killed again and again, at the moments that hurt, ends as one that nobody disturbed."""

import importlib.util
import signal
import time
from pathlib import Path

import pytest

from tests import forked
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
    command = ["train", *TINY, "trainer.epochs=2", f"paths.cache={cache / 'llm4rec'}"]

    def started(folder):
        folder.mkdir(exist_ok=True)
        return forked.start(forked.llm4rec, *command, cwd=folder)[0]

    def ended(process):
        process.join()
        return process.exitcode

    assert ended(started(tmp_path / "whole")) == 0
    killed = 0
    for aim in ("an optimiser saved", "training just done", "predictions written"):
        process = started(tmp_path / "killed")
        while process.is_alive() and not any((tmp_path / "killed").glob(soak.AIMS[aim])):
            time.sleep(0.001)
        process.kill()
        killed += ended(process) == -signal.SIGKILL
    assert ended(started(tmp_path / "killed")) == 0
    assert killed >= 2  # the last window is a few milliseconds wide
    assert soak.facts(tmp_path / "killed") == soak.facts(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob("*.part"))
