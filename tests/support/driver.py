"""Call the command line in this process, run Python code in a new one, and compose configs."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm4rec_cli import cli
from llm4rec_cli.config.compose import compose as hydra_compose
from llm4rec_cli.run.job import Job

# A small model with weights and without floors. (`task.floors` and `paths` do not enter the address.)
TINY = (
    "model=sasrec",
    "model.hidden_size=16",
    "model.inner_size=16",
    "model.layers=1",
    "trainer.epochs=1",
    "task.max_examples=100",
    "task.floors=[]",
)


@dataclass(frozen=True)
class Answer:
    """Exit code, output and working directory of a command."""

    code: int
    out: str
    err: str
    cwd: Path

    @property
    def folder(self) -> Path:
        """The run folder printed by `train` or `eval`."""
        assert self.code == 0, self.err
        return self.cwd / self.out.split("run folder: ")[1].splitlines()[0]

    @property
    def metrics(self) -> Any:
        return read(self.folder / "metrics.json")


def call(*arguments: str, cwd: Path, cache: Path) -> Answer:
    """Run `llm4rec <arguments>` in this process, then restore its environment, arguments and logging."""
    log, argv, environment = logging.getLogger("llm4rec_cli"), sys.argv, dict(os.environ)
    handlers, level, propagate = list(log.handlers), log.level, log.propagate
    out, err = io.StringIO(), io.StringIO()
    os.environ["XDG_CACHE_HOME"] = str(cache)
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = cli.main(arguments)
            except SystemExit as stop:  # argparse
                code = int(stop.code or 0)
    finally:
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = argv
        log.handlers[:], log.propagate = handlers, propagate
        log.setLevel(level)
    return Answer(code, out.getvalue(), err.getvalue(), cwd)


def compose(*overrides: str) -> Any:
    """Return the config composed from these overrides, without a command's checks."""
    return hydra_compose(overrides).config


def job_of(*overrides: str, command: str = "train") -> Job:
    """Return the job of these overrides, unchecked."""
    return Job.unchecked(hydra_compose(overrides), command)


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code in a new process."""
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


def read(path: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(path.read_text())
