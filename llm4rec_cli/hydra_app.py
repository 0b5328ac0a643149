"""Commands that compose a config: registers types, prepares the command line for Hydra, turns its errors into ours."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import re
import sys
import tempfile
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from llm4rec_cli import schema
from llm4rec_cli.errors import Llm4RecError, UsageError, did_you_mean
from llm4rec_cli.models import base as models
from llm4rec_cli.overrides import divided, prepared, quoted

log = logging.getLogger(__name__)

OUTCOMES = "LLM4REC_SWEEP_OUTCOMES"  # a folder: one JSON file a job of a sweep, whichever process ran it
HELP = "LLM4REC_HELP"

_failure: list[Exception] = []


def conf_dir() -> Path:
    """The shipped configs: beside the package in a checkout or editable install, inside it in a wheel."""
    package = Path(__file__).parent
    beside = package.parent / "conf"
    return beside if (beside / "config.yaml").exists() else package / "conf"


def user_conf_dir() -> Path | None:
    """`./conf` of the working directory, if it is not the shipped one."""
    found = Path.cwd() / "conf"
    return found if found.is_dir() and found.resolve() != conf_dir().resolve() else None


def options(group: str) -> list[str]:
    """What a group offers: the YAML files of the shipped and the user's conf."""
    folders = [conf_dir() / group] + ([user / group] if (user := user_conf_dir()) else [])
    files = (file.relative_to(folder) for folder in folders for file in folder.rglob("*.yaml"))
    return sorted({file.with_suffix("").as_posix() for file in files})


def register_types() -> None:
    """Gives each config node its dataclass; the names begin with `_` and cannot be chosen."""
    store = ConfigStore.instance()
    store.store(name="_config", node=schema.Config)
    store.store(group="dataset", name="_dataset", node=schema.DatasetConfig)
    store.store(group="task", name="_task", node=schema.TaskConfig)
    store.store(group="trainer", name="_trainer", node=schema.TrainerConfig)
    for name in models.names():
        store.store(group="model", name=f"_{name}", node=models.config_class(name))


def run(command: str, summary: str, arguments: list[str], verbose: bool) -> int:
    """Composes the config and runs `commands/<command>.py` once, or once a job of a sweep.

    Returns:
        the exit code: 0, or 1 if a job of a sweep failed.

    Raises:
        UsageError: the overrides are wrong.
        Llm4RecError: whatever the command raised.
    """
    _log_to_stderr(verbose)
    register_types()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra prints its own page and exits; our caller prints ours
    os.environ[HELP] = f"llm4rec {command}: {summary}"
    flags, overrides = divided(["--help" if a == "-h" else a for a in arguments])
    sweep = "-m" in flags or "--multirun" in flags
    if sweep and {"--cfg", "-c"} & set(flags):
        raise UsageError("-m and --cfg exclude one another", f"llm4rec {command} --cfg job, for one job")
    searchpath = [f"hydra.searchpath=[{quoted(f'file://{user}')}]"] if (user := user_conf_dir()) else []
    saved = sys.argv
    sys.argv = [f"llm4rec {command}", *flags, f"hydra.job.name={command}", *searchpath, *map(prepared, overrides)]
    try:
        with tempfile.TemporaryDirectory() as outcomes:
            os.environ[OUTCOMES] = outcomes
            start = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(_job)
            if "--help" in flags:
                shown = io.StringIO()
                with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):  # Hydra exits after its help
                    start()
                sys.stdout.write(re.sub(r"\b_\w+, ", "", shown.getvalue()))  # less the types, which nobody can choose
                return 0
            start()
            if _failure:
                raise _failure.pop()
            return _summarise(Path(outcomes)) if sweep else 0
    except (HydraException, OmegaConfBaseException) as error:
        raise _as_usage_error(error) from error
    finally:
        sys.argv = saved


def _job(config: DictConfig) -> None:
    """One composed config. In a sweep a failure is recorded and the sweep goes on."""
    facts = HydraConfig.get()
    command = importlib.import_module(f"llm4rec_cli.commands.{facts.job.name}")
    if facts.mode != RunMode.MULTIRUN:
        try:
            command.run(config)
        except Exception as error:  # raised again by `run`: Hydra would print a page of its own first
            _failure.append(error)
        return
    outcome = {"overrides": " ".join(facts.overrides.task), "status": "failed", "folder": "", "error": ""}
    try:
        finished = command.run(config)
        outcome |= {"status": finished.status, "folder": str(finished.folder)}
    except Llm4RecError as error:
        outcome["error"] = error.problem
        log.error("%s: %s (%s)", outcome["overrides"], error.problem, error.remedy)
    except Exception as error:
        outcome["error"] = f"{type(error).__name__}: {error}"
        log.error("%s\n%s", outcome["overrides"], traceback.format_exc())
    (Path(os.environ[OUTCOMES]) / f"{facts.job.num:06d}.json").write_text(json.dumps(outcome))


def _summarise(folder: Path) -> int:
    from llm4rec_cli.reporting.tables import console, table

    outcomes = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    rows = [[o["overrides"], o["status"], o["folder"] or o["error"]] for o in outcomes]
    console().print(table("sweep", ["job", "status", "run or error"], rows))
    return int(any(o["status"] == "failed" for o in outcomes))


def _log_to_stderr(verbose: bool) -> None:
    """Rich log lines on a terminal, plain ones elsewhere."""
    from rich.logging import RichHandler

    from llm4rec_cli.progress import console

    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger("llm4rec_cli")
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    root.handlers[:] = [handler]
    root.propagate = False


def _as_usage_error(error: Exception) -> UsageError:
    """Hydra's and OmegaConf's errors in two lines."""
    text = str(error)
    cause = str(error.__cause__ or "").splitlines()
    if missing := re.search(r"Could not find '(\w+)/([^']+)'", text):
        group, name = missing.groups()
        return UsageError(f"unknown {group} '{name}'", did_you_mean(name, options(group)))
    if unknown := re.search(r"Could not override '([^']+)'", text):
        key = unknown.group(1)
        if key == "experiment":
            return UsageError("'experiment' is no part of the config, but is added to it", "+experiment=…")
        parent, _, leaf = key.rpartition(".")  # compared by their last part: with the parent all would be alike
        near = [k.rpartition(".")[2] for k in _keys(cause) if k.rpartition(".")[0] == parent]
        return UsageError(f"unknown key '{key}'", did_you_mean(leaf, near))
    if wrong := re.search(r"Error merging override (.+)", text):
        return UsageError(
            f"{wrong.group(1)}: {cause[0] if cause else text}", "llm4rec train --cfg job shows every value"
        )
    return UsageError(text.splitlines()[0] if text else type(error).__name__, "llm4rec train --help")


def _keys(cause: list[str]) -> list[str]:
    """Every key of the schema with its path, for a near match; of models, those of the one that the error names."""
    named = re.search(r"not in '(\w+)'", cause[0]) if cause else None
    classes: dict[str, type[Any]] = {
        "dataset": schema.DatasetConfig,
        "task": schema.TaskConfig,
        "trainer": schema.TrainerConfig,
        "paths": schema.PathsConfig,
        "model.encoder": schema.EncoderConfig,
    }
    for name in models.names():
        found = models.config_class(name)
        if named and named.group(1) == found.__name__:
            classes["model"] = found
    keys = [field.name for field in fields(schema.Config)]
    return keys + [f"{path}.{field.name}" for path, found in classes.items() for field in fields(found)]
