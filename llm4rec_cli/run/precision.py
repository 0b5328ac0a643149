"""The precision of a run whose config says `auto`: measured on this machine and recorded in the run folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from llm4rec_cli import arithmetic, processes
from llm4rec_cli.config import walk
from llm4rec_cli.config.schema import Backend, Config, LLMConfig, Precision, Work
from llm4rec_cli.config.walk import Setting
from llm4rec_cli.files import write_json
from llm4rec_cli.results.result import ARITHMETIC, readable
from llm4rec_cli.run.job import Evaluation, Job

log = logging.getLogger(__name__)


def settled(job: Job, folder: Path | None = None) -> Job:
    """Return the job with each precision `auto` that it reads resolved to fp32 or bf16.

    A resumed run keeps its precision, also on another machine, and an evaluation uses its training's, which is
    written to arithmetic.json in the run folder.
    """
    config = deepcopy(job.config)
    settings = list(_precisions_read(config))
    recorded_in = job.evaluated.folder if isinstance(job, Evaluation) else folder

    def choose() -> dict[str, str]:
        path = recorded_in / ARITHMETIC if recorded_in else None
        recorded = {}
        if path and path.exists():
            with readable(path):
                recorded = dict(json.loads(path.read_text()))
        chosen = {}
        for key, _, declared, precision in settings:
            previous = recorded.get(key) if precision is Precision.auto else None
            chosen[key] = previous or _resolve(job, precision, _work_of(job, declared.metadata["work"])).name
        if folder and chosen:
            write_json(folder / ARITHMETIC, chosen)
        return chosen

    chosen = processes.from_first(choose)
    for key, holder, declared, _ in settings:
        setattr(holder, declared.name, Precision[chosen[key]])
    if chosen and folder:
        log.info("arithmetic: %s", "  ".join(f"{key}={name}" for key, name in chosen.items()))
    return replace(job, config=config, arithmetic=chosen)


def llm_for_answers(job: Job) -> LLMConfig:
    """Return `llm` for generating answers: for a local model, precision `auto` becomes the faster one."""
    if job.llm.backend is Backend.openai:
        return job.llm
    return replace(job.llm, precision=_resolve(job, job.llm.precision, Work.answering))


def _precisions_read(config: Config) -> Iterator[Setting]:
    unused = {f"model.{key}" for key in config.model.unused_settings(config.task)}
    for setting in walk.settings(config):
        if "work" not in setting.field.metadata or setting.key in unused or setting.is_as_before:
            continue
        if setting.key.startswith("trainer.") and not config.model.traits.trainable:
            continue
        if setting.key == "llm.precision" and (
            config.llm.backend is Backend.openai or not config.depends_on_chat_model
        ):
            continue
        yield setting


def _resolve(job: Job, precision: Precision, work: Work) -> Precision:
    return arithmetic.fastest(work, job.device, job.cache) if precision is Precision.auto else precision


def _work_of(job: Job, declared: Work) -> Work:
    """Return the work that a precision is for: a chat model whose answers are scored reads, and generates nothing."""
    if declared is Work.answering:
        for setting, value in walk.settings_with(job.model, "generates").items():
            declared = declared if getattr(job.model, setting) is value else Work.reading
    return declared
