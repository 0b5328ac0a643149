"""How models deviate from their papers, in sentences: conf/deviations/MODEL.yaml, and shared.yaml for several models.

    long_sources: a source beyond {max_source} tokens loses its oldest history

`ModelConfig.deviations` says which of them apply. A field in braces is a setting of the model, or a value that it adds.
Sentences are data, no part of a config.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import Any

from omegaconf import OmegaConf

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.folders import data_file
from llm4rec_cli.config.reading import read_yaml
from llm4rec_cli.config.schema import ModelConfig, TaskConfig
from llm4rec_cli.errors import UsageError, did_you_mean

GROUP, SHARED = "deviations", "shared"


def in_words(model: ModelConfig, task: TaskConfig, trained_on: str | None) -> list[str]:
    """Return the deviations of a model in words; for the arguments see `ModelConfig.deviations`.

    Raises:
        UsageError: a file of the user lacks a sentence.
    """
    by_id, deviations = {**texts(SHARED), **texts(model.name)}, model.deviations(task, trained_on)
    if missing := sorted(deviations.keys() - by_id):
        raise UsageError(f"conf/{GROUP}/{model.name}.yaml has no '{missing[0]}'", f"llm4rec validate {GROUP}")
    return [
        by_id[name].format(**{**vars(model), **(values if isinstance(values, Mapping) else {})})
        for name, applies in deviations.items()
        for values in (applies if isinstance(applies, list) else [applies] if applies else [])
    ]


def texts(name: str) -> Mapping[str, str]:
    """Return id -> sentence of a model, or of all models (`SHARED`); empty for a model without any."""
    file = data_file(GROUP, name)
    return {} if file is None else _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=128)
def _read(file: Path, changed: int) -> Mapping[str, str]:
    return dict(read_yaml(file))


def problems(file: Path) -> Iterator[UsageError]:
    """Yield values that are not sentences, ids that the model lacks, and ids that the file lacks.

    Raises:
        UsageError: it is not valid YAML.
    """
    content = read_yaml(file)
    if not isinstance(content, dict) or not content:
        yield UsageError("the file has no sentences", "write ID: SENTENCE")
        return
    if file.stem == SHARED:
        ids = [*content]
    else:
        config: Any = OmegaConf.to_object(compose([f"model={file.stem}", "task=sequential"]).config)
        ids = [*config.model.deviations(config.task, config.task.name)]
    for name in (name for name in ids if name not in {**content, **texts(SHARED)}):
        yield UsageError(f"'{name}' has no sentence", f"{name}: SENTENCE")
    for name, sentence in content.items():
        if name not in ids:
            yield UsageError(f"the model has no deviation '{name}'", did_you_mean(str(name), ids))
        try:
            list(Formatter().parse(sentence))
        except (TypeError, ValueError):
            yield UsageError(f"'{name}' is not a sentence with fields in braces", "write a literal brace as {{ or }}")
