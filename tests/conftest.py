"""Fixtures of all tests: one thread (two thrash while another process runs), no downloads, and the command line.

Each config is composed once: the shipped files do not change while tests run, and composing takes most of the time of a
command that is refused.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import gc
import importlib
import itertools
import logging
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.plugins.config_source import ConfigResult

from llm4rec_cli import arithmetic
from llm4rec_cli.config.folders import user_conf_dir
from llm4rec_cli.data.prepare import prepare
from tests.support.driver import Answer, call, job_of
from tests.support.perturb import perturbed
from tests.support.small_demo import SMALL, sized

pytest_plugins = ["tests.support.fixtures"]

# How long an example takes is decided by the machine and what else it does.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

LOAD = ConfigLoaderImpl.load_configuration
COMPOSED: dict[str, bytes] = {}  # pickled: loading a config takes a third of the time of copying it


def _composed_once(
    self: ConfigLoaderImpl, config_name: str, overrides: list[str], *args: object, **kwargs: object
) -> object:
    """Cache Hydra's `load_configuration`, except for a test with configs of its own in ./conf."""
    if user_conf_dir():
        return LOAD(self, config_name, overrides, *args, **kwargs)
    key = repr((config_name, overrides, args, kwargs))
    if key not in COMPOSED:
        COMPOSED[key] = pickle.dumps(LOAD(self, config_name, overrides, *args, **kwargs))
    return pickle.loads(COMPOSED[key])


ConfigLoaderImpl.load_configuration = _composed_once

READ = ConfigRepository.load_config
CONFIGS: dict[tuple[str, ...], bytes] = {}  # pickled, as Hydra changes the lists of defaults


def _read_once(self: ConfigRepository, config_path: str) -> ConfigResult | None:
    """Cache each file with its list of defaults: reading it takes a quarter of the time of a composition."""
    key = (config_path, *(source.full_path() for source in self.sources))
    if user_conf_dir() or key not in CONFIGS:
        if (config := READ(self, config_path)) is None or user_conf_dir():
            return config
        CONFIGS[key] = pickle.dumps(config)
    return pickle.loads(CONFIGS[key])


ConfigRepository.load_config = _read_once


# The slowest files, slowest first, so that two workers end at about the same time. --fast skips them, and all tests of
# commands and scripts except FAST.
HEAVY = (
    *(
        "test_configs.py",
        "config/test_plugins.py",
        "docs/test_walk_guides.py",
        "cli/test_sweep.py",
        "run/test_nodes.py",
    ),
    *(
        "models/test_conformance.py",
        "run/test_processes.py",
        "docs/test_walk_p5.py",
        "run/test_fit.py",
        "test_kernels.py",
    ),
    *(
        "cli/test_prompt4nr.py",
        "llm/test_endpoint.py",
        "data/test_demo.py",
        "cli/test_messages.py",
        "text/test_weights.py",
    ),
    *("cli/test_held_out.py", "cli/test_chatgptrec.py", "ids/test_index.py"),
    *(
        "cli/test_transfer.py",
        "docs/test_walk_papers.py",
        "zoo/cli/test_tuned_lm.py",
        "studies/test_pinned.py",
        "results/test_pinned.py",
    ),
    *(
        "test_paths.py",
        "cli/test_list.py",
        "studies/cli/test_reproduce.py",
        "run/test_loader.py",
    ),
    *("data/test_bad_input.py", "docs/test_commands.py", "cli/test_p5.py"),
    *("cli/test_enrich.py", "studies/cli/test_score.py", "data/test_explanations.py"),
    *("test_arithmetic.py", "data/test_download.py", "studies/inspection/test_audit.py"),
    *("models/test_prompt4nr_sequences.py", "studies/human/test_judge.py", "models/test_unisrec_pretraining.py"),
    *("models/test_prompt4nr_templates.py", "models/test_deviations.py", "models/test_p5_model.py", "test_api.py"),
    *("docs/test_pages.py", "studies/export/test_data.py", "models/test_attention.py", "soak/test_attacks.py"),
    *("zoo/models/test_evidence_mix.py", "data/test_prepare.py", "test_structure.py", "config/test_compose.py"),
    *("run/test_folder.py", "test_processes.py", "tasks/test_real_data.py", "data/test_real_data.py"),
    *("docs/test_notebooks.py", "run/test_address.py", "results/test_page.py", "models/test_prompt4nr_warm_up.py"),
    *("zoo/models/test_tuned_lm_model.py", "models/test_chatgptrec_controls.py", "models/test_p5_prompts.py"),
)
FAST = ("test_errors.py", "test_train.py")


def pytest_itemcollected(item: pytest.Item) -> None:
    path = item.path.relative_to(Path(__file__).parent)
    if path.as_posix() in HEAVY or ({"cli", "scripts"} & {*path.parts} and path.name not in FAST):
        item.add_marker("slow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {Path(__file__).parent / name: i for i, name in enumerate(HEAVY)}
    items.sort(key=lambda item: order.get(item.path, len(HEAVY)))


@pytest.fixture(scope="session", autouse=True)
def _frozen_imports() -> None:
    """Exclude the objects of torch and transformers from garbage collection, which every training triggers.

    Composing makes many small objects and few cycles: with Python's default threshold of 700 it takes a tenth longer.
    Accelerate collects at the beginning of each training, which took a twelfth of the time of all tests: every
    twentieth time is enough.
    """
    importlib.import_module("llm4rec_cli.run.fit")
    calls = itertools.count()
    memory: Any = importlib.import_module("accelerate.utils.memory")
    memory.gc = SimpleNamespace(collect=lambda: 0 if next(calls) % 20 else gc.collect())
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.fixture(scope="session", autouse=True)
def _exact_arithmetic() -> Iterator[None]:
    """Make `precision: auto` choose fp32 on every machine: the probe measures fp32 and bf16 as equally fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "probe", lambda work, device: {"fp32": 1.0, "bf16": 1.0})
        yield


@pytest.fixture(scope="session", autouse=True)
def _perturbed_arithmetic() -> Iterator[None]:
    with perturbed():
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the small demo out of the user's cache, where later commands would take it for the whole one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("own")))
        for name in ("LLM4REC_CACHE", "LLM4REC_OUTPUTS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _small_demo() -> Iterator[None]:
    with sized(SMALL):
        yield


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """Undo what a test does to the package's log, so that no test hears another's level."""
    log = logging.getLogger("llm4rec_cli")
    handlers, level, propagate = list(log.handlers), log.level, log.propagate
    yield
    log.handlers[:], log.propagate = handlers, propagate
    log.setLevel(level)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's cache folder with the small demo data; its texts are encoded once per session."""
    folder = tmp_path_factory.mktemp("cache")
    prepare(job_of("dataset=demo").config.dataset, folder / "llm4rec")
    return folder


@pytest.fixture
def llm4rec(tmp_path: Path, cache: Path) -> Callable[..., Answer]:
    """llm4rec(*arguments) runs the command line in this process, in tmp_path."""
    return partial(call, cwd=tmp_path, cache=cache)
