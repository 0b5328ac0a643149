"""Which arithmetic a run takes where its config says `auto`: measured on the machine, kept in the run folder."""

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
from llm4rec_cli.runs.identity import builds_on_chat_model

if TYPE_CHECKING:
    from llm4rec_cli.runs.spec import RunSpec

log = logging.getLogger(__name__)

ARITHMETIC = "arithmetic.json"  # in a run folder


def with_arithmetic(spec: RunSpec, folder: Path | None = None, began: Path | None = None) -> RunSpec:
    """The spec with each `auto` that this run reads replaced by the arithmetic that it takes.

    A run goes on in the arithmetic that it began with, wherever it goes on.

    Args:
        folder: a run folder, whose arithmetic.json keeps what is taken.
        began: the run folder that says what to take; None = `folder`.
    """
    config = deepcopy(spec.config)
    settings = list(_read(config, spec))
    at = began or folder

    def choose() -> dict[str, str]:
        known = json.loads((at / ARITHMETIC).read_text()) if at and (at / ARITHMETIC).exists() else {}
        taken = {}
        for key, _, declared, stated in settings:
            kept = known.get(key) if stated is Precision.auto else None
            taken[key] = kept or _faster(spec, stated, declared.metadata["work"]).name
        if folder and taken:
            write_json(folder / ARITHMETIC, taken)
        return taken

    taken = processes.from_first(choose)
    for key, holder, declared, _ in settings:
        setattr(holder, declared.name, Precision[taken[key]])
    if taken and folder:
        log.info("arithmetic: %s", "  ".join(f"{key}={name}" for key, name in taken.items()))
    return replace(spec, config=config)


def taken_arithmetic(spec: RunSpec) -> dict[str, str]:
    """The precision settings that a run reads, by key."""
    return {setting.key: setting.value.name for setting in _read(spec.config, spec)}


def answering_llm(spec: RunSpec) -> LLMConfig:
    """`llm`, for writing answers: with the arithmetic that is faster for that, if it says `auto` and is local."""
    if spec.llm.backend is Backend.openai:
        return spec.llm
    return replace(spec.llm, precision=_faster(spec, spec.llm.precision, Work.answering))


def _read(config: object, spec: RunSpec) -> Iterator[Setting]:
    """The precision settings of work that this run does."""
    for setting in walk.settings(config):
        if "work" not in setting.field.metadata:
            continue
        if setting.key == "trainer.precision" and not spec.model.trainable:
            continue
        if setting.key == "llm.precision" and (
            spec.llm.backend is Backend.openai or not builds_on_chat_model(spec.config)
        ):
            continue
        yield setting


def _faster(spec: RunSpec, stated: Precision, work: Work) -> Precision:
    """`stated`, with `auto` replaced by what is faster on the device."""
    if stated is not Precision.auto:
        return stated
    work = spec.model.llm_workload() if work is Work.answering else work
    return arithmetic.fastest(work, spec.device, spec.cache)
