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
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from llm4rec_cli import processes, schema
from llm4rec_cli.errors import DryRun, Llm4RecError, RunError, UsageError, as_full_disk, as_unusable_path, did_you_mean
from llm4rec_cli.models import base as models
from llm4rec_cli.overrides import FLAGS, divided, prepared, quoted, swept_along

log = logging.getLogger(__name__)

OUTCOMES = "LLM4REC_SWEEP_OUTCOMES"  # a folder: one JSON file a job of a sweep, whichever process ran it
CONDUCTOR = "LLM4REC_SWEEP_CONDUCTOR"  # the process that started the sweep
HELP = "LLM4REC_HELP"
PARALLEL = {"hydra/launcher=joblib", "hydra/launcher=submitit_local"}
WITH_OPTIONS = ("recommend", "judge")  # commands with options beside overrides: `parser()` in their module names them


def conf_dir() -> Path:
    """The shipped configs: beside the package in a checkout or editable install, inside it in a wheel."""
    package = Path(__file__).parent
    beside = package.parent / "conf"
    return beside if (beside / "config.yaml").exists() else package / "conf"


def user_conf_dir() -> Path | None:
    """`./conf` of the working directory, if it is not the shipped one."""
    found = Path.cwd() / "conf"
    return found if found.is_dir() and found.resolve() != conf_dir().resolve() else None


def searchpath() -> list[str]:
    """The override that makes Hydra look into the user's conf too."""
    return [f"hydra.searchpath=[{quoted(f'file://{user}')}]"] if (user := user_conf_dir()) else []


def options(group: str) -> list[str]:
    """What a group offers: the YAML files of the shipped and the user's conf."""
    folders = [conf_dir() / group] + ([user / group] if (user := user_conf_dir()) else [])
    files = (file.relative_to(folder) for folder in folders for file in folder.rglob("*.yaml"))
    return sorted({file.with_suffix("").as_posix() for file in files})


@cache
def register_types() -> None:
    """Gives each config node its dataclass; the names begin with `_` and cannot be chosen."""
    store = ConfigStore.instance()
    store.store(name="_config", node=schema.Config)
    store.store(group="dataset", name="_dataset", node=schema.DatasetConfig)
    store.store(group="task", name="_task", node=schema.TaskConfig)
    store.store(group="trainer", name="_trainer", node=schema.TrainerConfig)
    store.store(group="llm", name="_llm", node=schema.LLMConfig)
    store.store(group="enrichment", name="_enrichment", node=schema.EnrichmentConfig)
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
    known: tuple[str, ...] = FLAGS
    given: list[Namespace] = []
    if command in WITH_OPTIONS:
        parser = importlib.import_module(f"llm4rec_cli.commands.{command}").parser()
        os.environ[HELP] += f"\n\n{parser.format_help()}"
        known += tuple(re.findall(r"--\w+", parser.format_usage()))
        own, arguments = parser.parse_known_args(arguments)
        given.append(own)
    flags, overrides = divided(["--help" if a == "-h" else a for a in arguments])
    for flag in flags:
        if flag.startswith("--") and flag.partition("=")[0] not in known:
            raise UsageError(f"unknown option '{flag}'", did_you_mean(flag, known))
    sweep = "-m" in flags or "--multirun" in flags
    if command in WITH_OPTIONS and (sweep or processes.world_size() > 1):
        raise UsageError(f"{command} answers one question in one process", "leave out -m and torchrun")
    if sweep and processes.world_size() > 1:
        raise UsageError("a sweep runs each job in one process", "llm4rec train -m …, without torchrun")
    if sweep and {"--cfg", "-c"} & set(flags):
        raise UsageError("-m and --cfg exclude one another", f"llm4rec {command} --cfg job, for one job")
    if PARALLEL & set(overrides):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # jobs beside one another on these cores: more only collide
    saved = sys.argv
    typed = [prepared(override) for override in overrides]
    try:
        typed = swept_along(typed) if sweep else typed
        typed = [f"hydra.job.name={command}", *searchpath(), *typed]
        sys.argv = [f"llm4rec {command}", *flags, *typed]
        with _outcomes(overrides if sweep else None) as outcomes:
            os.environ |= {OUTCOMES: outcomes, CONDUCTOR: str(os.getpid())}
            if not flags:
                _run_once(command, typed, given)
                return 0
            start = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(_sweep_job)
            if "--help" in flags:
                shown = io.StringIO()
                with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):  # Hydra exits after its help
                    start()
                sys.stdout.write(re.sub(r"\b_\w+, ", "", shown.getvalue()))  # less the types, which nobody can choose
                return 0
            if sweep:
                return _swept(start, Path(outcomes))
            start()
            return 0
    except (HydraException, OmegaConfBaseException, yaml.MarkedYAMLError) as error:
        raise as_usage_error(error) from error
    finally:
        sys.argv = saved


def _run_once(command: str, overrides: list[str], given: list[Namespace]) -> None:
    """Composes the config and runs the command, with its own options if it has any. Hydra's `main` composes twice."""
    with hydra.initialize_config_dir(str(conf_dir()), job_name=command, version_base="1.3"):
        config = hydra.compose("config", overrides=overrides, return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        with processes.joined(config.device):
            importlib.import_module(f"llm4rec_cli.commands.{command}").run(config, *given)


def _sweep_job(config: DictConfig) -> None:
    """One job of a sweep, in whichever process a launcher starts it. A failure is recorded and the sweep goes on."""
    facts = HydraConfig.get()
    if os.environ[CONDUCTOR] != str(os.getpid()):  # a process of a launcher: jobs speak at the same time
        _log_to_stderr(verbose=False, prefix=f"[job {facts.job.num}] ")
    command = importlib.import_module(f"llm4rec_cli.commands.{facts.job.name}")
    typed = {override.partition("=")[0].lstrip("+") for override in facts.overrides.task}
    left = [f"{group}={facts.runtime.choices[group]}" for group in ("dataset", "task") if group not in typed]
    outcome = {"overrides": " ".join(facts.overrides.task), "status": "failed", "folder": "", "error": ""}
    outcome["defaults"] = "" if "experiment" in typed else " ".join(left)
    try:
        finished = command.run(config)
        outcome |= {"status": finished.status, "folder": str(finished.folder)}
    except DryRun as shown:
        outcome |= {"status": "shown", "error": shown.problem}
    except Llm4RecError as error:
        outcome["error"] = error.problem
        log.error("%s: %s (%s)", outcome["overrides"], error.problem, error.remedy)
    except Exception as error:
        told = as_full_disk(error) or as_unusable_path(error)
        outcome["error"] = told.problem if told else f"{type(error).__name__}: {error}"
        log.error("%s: %s", outcome["overrides"], told.problem if told else traceback.format_exc())
    (Path(os.environ[OUTCOMES]) / f"{facts.job.num:06d}.json").write_text(json.dumps(outcome))


@contextlib.contextmanager
def _outcomes(overrides: list[str] | None) -> Iterator[str]:
    """A folder for the outcomes of a sweep; among the runs, as a launcher's jobs may run on other machines."""
    folder = None
    if overrides is not None:
        typed = dict(override.split("=", 1) for override in overrides if "=" in override)
        folder = Path(typed.get("paths.outputs", "outputs").strip("'\"")).expanduser().resolve() / ".sweeps"
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as found:
        yield found


def _swept(start: Callable[[], None], outcomes: Path) -> int:
    """Runs the sweep and prints its table, also where a job's process was killed and took the launcher with it."""
    try:
        start()
    except (HydraException, OmegaConfBaseException):
        raise
    except Exception as error:
        _summarise(outcomes)
        raise RunError(
            f"the sweep ended early: a job's process was lost ({type(error).__name__})",
            "give the same command again, with fewer jobs at a time if memory was short: what is done is skipped",
        ) from error
    return _summarise(outcomes)


def _summarise(folder: Path) -> int:
    from llm4rec_cli.reporting.tables import console, table

    outcomes = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    rows = [[o["overrides"], o["status"], o["folder"] or o["error"]] for o in outcomes]
    console().print(table("sweep", ["job", "status", "run or error"], rows))
    if len(data := dict.fromkeys(o["defaults"] for o in outcomes)) > 1:
        console().print(
            f"These jobs cannot be compared: models took their own data ({'; '.join(data)}). Name dataset= and task=.",
            soft_wrap=True,
        )
    return int(any(o["status"] == "failed" for o in outcomes))


def _log_to_stderr(verbose: bool, prefix: str = "") -> None:
    """Rich log lines on a terminal; elsewhere plain ones, with their prefix."""
    from rich.logging import RichHandler

    from llm4rec_cli.progress import console

    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(f"%(asctime)s {prefix}%(message)s", "%H:%M:%S"))
    root = logging.getLogger("llm4rec_cli")
    speaks = logging.DEBUG if verbose else logging.INFO
    root.setLevel(speaks if processes.is_first() else logging.WARNING)
    root.handlers[:] = [handler]
    root.propagate = False


def as_usage_error(error: Exception) -> UsageError:
    """Hydra's, OmegaConf's and YAML's errors in two lines."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        at = error.problem_mark
        return UsageError(f"{at.name}, line {at.line + 1}: no YAML ({error.problem})", "mend that line")
    text = str(error)
    cause = str(error.__cause__ or "").splitlines()
    if missing := re.search(r"Could not (?:find|load) '(\w+)/([^']+)'", text):
        group, name = missing.groups()
        if name.startswith("launcher/"):
            return UsageError(
                f"unknown hydra/launcher '{name.removeprefix('launcher/')}'",
                "joblib or submitit_local, once installed: pip install 'llm4rec[joblib,submitit]'",
            )
        return UsageError(f"unknown {group} '{name}'", did_you_mean(name, options(group)))
    if unknown := re.search(r"Could not override '([^']+)'", text):
        key = unknown.group(1)
        if key == "experiment" or key.startswith(("dataset.domains.", "dataset.columns.")):
            return UsageError(f"'{key}' is no part of the config, but is added to it", f"+{key}=…")
        if key.startswith("prompt/"):
            remedy = f"model={key.removeprefix('prompt/').partition('@')[0]}, or leave it out"
            return UsageError("the model is one without such prompts: 'prompt' cannot be chosen", remedy)
        parent, _, leaf = key.rpartition(".")  # compared by their last part: with the parent all would be alike
        near = [k.rpartition(".")[2] for k in _keys(cause) if k.rpartition(".")[0] == parent]
        shown = key.replace("model.prompts.", "prompt.", 1)  # as it is typed
        return UsageError(f"unknown key '{shown}'", did_you_mean(leaf, near))
    if several := re.match(r"Ambiguous value for argument '([^=]+)=(.+)'", text):
        key, values = several.groups()
        return UsageError(
            f"{key}={values} is several values",
            f"-m, to run each; {key}=[{values}], for a list; \"{key}='{values}'\", for one that holds commas",
        )
    if missing := re.match(r"Missing mandatory value: (\S+)", text):
        return UsageError(f"{missing.group(1)} has no value", f"{missing.group(1)}=…, or write it into its YAML")
    if wrong := re.search(r"Error merging override (.+)", text):
        return UsageError(
            f"{wrong.group(1)}: {cause[0] if cause else text}", "llm4rec train --cfg job shows every value"
        )
    if composed := re.match(r"In '([^']+)': \w+ raised while composing config:\n(.+)", text):
        name, wrong_in_file = composed.groups()
        return UsageError(f"{name}: {wrong_in_file}", f"llm4rec validate {name} tells all that is wrong, and where")
    return UsageError(text.splitlines()[0] if text else type(error).__name__, "llm4rec train --help")


def _keys(cause: list[str]) -> list[str]:
    """Every key of the schema with its path, for a near match; of models, those of the one that the error names."""
    named = re.search(r"not in '(\w+)'", cause[0]) if cause else None
    classes: dict[str, type[Any]] = {
        "dataset": schema.DatasetConfig,
        "task": schema.TaskConfig,
        "trainer": schema.TrainerConfig,
        "llm": schema.LLMConfig,
        "enrichment": schema.EnrichmentConfig,
        "paths": schema.PathsConfig,
    }
    for name in models.names():
        found = models.config_class(name)
        if named and named.group(1) == found.__name__:
            classes["model"] = found
        for key, hint in get_type_hints(found).items():
            nodes = (kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind))
            for node in nodes:
                if f"model.{key}" not in classes or (named and named.group(1) == node.__name__):
                    classes[f"model.{key}"] = node
    keys = [field.name for field in fields(schema.Config)]
    return keys + [f"{path}.{field.name}" for path, found in classes.items() for field in fields(found)]
