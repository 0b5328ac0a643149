"""The command line, called in this process or in one of its own."""

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
from typing import Any, cast

import hydra
from omegaconf import OmegaConf

from llm4rec_cli import arithmetic, cli, hydra_app
from llm4rec_cli.commands import experiment
from llm4rec_cli.schema import Precision

# A model with weights, small; no floors beside it. task.floors and paths are no part of an address.
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
    """What a command left: its exit code, what it wrote, and where it worked."""

    code: int
    out: str
    err: str
    cwd: Path

    @property
    def folder(self) -> Path:
        """The run folder that a `train` or `eval` named."""
        assert self.code == 0, self.err
        return self.cwd / self.out.split("run folder: ")[1].splitlines()[0]

    @property
    def metrics(self) -> Any:
        return read(self.folder / "metrics.json")


def call(*arguments: str, cwd: Path, cache: Path) -> Answer:
    """`llm4rec <arguments>` in this process, which is left as it was."""
    log, saved, environment = logging.getLogger("llm4rec_cli"), sys.argv, dict(os.environ)
    handlers, level, propagate = list(log.handlers), log.level, log.propagate
    out, err = io.StringIO(), io.StringIO()
    os.environ["XDG_CACHE_HOME"] = str(cache)
    os.environ.pop("HYDRA_FULL_ERROR", None)
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = cli.main(arguments)
            except SystemExit as stop:  # argparse
                code = int(stop.code or 0)
    finally:
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = saved
        log.handlers[:], log.propagate = handlers, propagate
        log.setLevel(level)
    return Answer(code, out.getvalue(), err.getvalue(), cwd)


def compose(*overrides: str) -> Any:
    """The config that these overrides make, unchecked by the commands."""
    hydra_app.register_types()
    with hydra.initialize_config_dir(str(hydra_app.conf_dir()), version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides))


def resolved(*overrides: str) -> Any:
    """The config that a run of these overrides takes, settled; with fp32 for `auto`, whatever is faster here."""
    config = experiment.settled(compose(*overrides))
    for key, _ in arithmetic.settings(config):
        if OmegaConf.select(cast(Any, config), key) is Precision.auto:
            OmegaConf.update(cast(Any, config), key, Precision.fp32)
    return config


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


def read(path: Path) -> Any:
    return json.loads(path.read_text())
