"""The precision of a run whose config says `auto`: measured on this machine and recorded in the run folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli import arithmetic, processes
from llm4rec_cli.config import walk
from llm4rec_cli.config.schema import Backend, LLMConfig, Precision, Work
from llm4rec_cli.config.walk import Setting
from llm4rec_cli.files import write_json
from llm4rec_cli.runs.identity import depends_on_chat_model

if TYPE_CHECKING:
    from llm4rec_cli.runs.spec import RunSpec

log = logging.getLogger(__name__)

ARITHMETIC = "arithmetic.json"  # file of a run folder


def resolve_precision(spec: RunSpec, folder: Path | None = None, source: Path | None = None) -> RunSpec:
    """Return the spec with each precision `auto` that this run reads resolved to fp32 or bf16.

    A resumed run keeps its precision, also on another machine.

    Args:
        folder: the run folder where arithmetic.json is written.
        source: the run folder from which recorded precisions are read; None = `folder`.
    """
    config = deepcopy(spec.config)
    settings = list(_precisions_read(config, spec))
    recorded_in = source or folder

    def choose() -> dict[str, str]:
        path = recorded_in / ARITHMETIC if recorded_in else None
        recorded = json.loads(path.read_text()) if path and path.exists() else {}
        chosen = {}
        for key, _, declared, precision in settings:
            previous = recorded.get(key) if precision is Precision.auto else None
            chosen[key] = previous or _resolve(spec, precision, declared.metadata["work"]).name
        if folder and chosen:
            write_json(folder / ARITHMETIC, chosen)
        return chosen

    chosen = processes.from_first(choose)
    for key, holder, declared, _ in settings:
        setattr(holder, declared.name, Precision[chosen[key]])
    if chosen and folder:
        log.info("arithmetic: %s", "  ".join(f"{key}={name}" for key, name in chosen.items()))
    return replace(spec, config=config)


def precision_settings(spec: RunSpec) -> dict[str, str]:
    """Return the precisions that a run reads, by config key."""
    return {setting.key: setting.value.name for setting in _precisions_read(spec.config, spec)}


def llm_for_answers(spec: RunSpec) -> LLMConfig:
    """Return `llm` for generating answers: for a local model, precision `auto` becomes the faster one."""
    if spec.llm.backend is Backend.openai:
        return spec.llm
    return replace(spec.llm, precision=_resolve(spec, spec.llm.precision, Work.answering))


def _precisions_read(config: object, spec: RunSpec) -> Iterator[Setting]:
    """Yield the precision settings of the work that this run does."""
    unused = {f"model.{key}" for key in spec.model.unused_settings(spec.task)}
    for setting in walk.settings(config):
        if "work" not in setting.field.metadata or setting.key in unused:
            continue
        if setting.key == "trainer.precision" and not spec.model.traits.trainable:
            continue
        if setting.key == "llm.precision" and (
            spec.llm.backend is Backend.openai or not depends_on_chat_model(spec.config)
        ):
            continue
        yield setting


def _resolve(spec: RunSpec, precision: Precision, work: Work) -> Precision:
    """Return `precision`, with `auto` resolved to the faster one on the device."""
    if precision is not Precision.auto:
        return precision
    if work is Work.answering:
        for setting, value in walk.settings_with(spec.model, "generates").items():
            work = work if getattr(spec.model, setting) is value else Work.reading
    return arithmetic.fastest(work, spec.device, spec.cache)
