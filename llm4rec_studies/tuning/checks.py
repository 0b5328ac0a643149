"""Checks of search spaces."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from llm4rec_cli.config import ranges
from llm4rec_cli.config.registry import model_names
from llm4rec_cli.config.schema import Config
from llm4rec_cli.errors import UsageError, did_you_mean
from llm4rec_cli.run.config_check import composed_node
from llm4rec_studies.tuning.space import Values, problems_of_space, read_space


def problems_of_file(file: Path, model: str) -> list[UsageError]:
    """Return the problems of the search space of a model, whose values must be in the range of their settings."""
    if model not in model_names():
        return [UsageError(f"unknown model '{model}'", did_you_mean(model, model_names()))]
    if wrong := problems_of_space(file):
        return wrong
    shipped, problems = composed_node([f"model={model}"]), []
    for key, entry in read_space(file).items():
        for value in entry.values if isinstance(entry, Values) else (entry.low, entry.high):
            config = copy.deepcopy(shipped)
            try:
                OmegaConf.update(config, key, value)
            except OmegaConfBaseException as error:
                problems.append(UsageError(f"'{key}': {str(error).splitlines()[0]}", "change the value"))
            else:
                problems += ranges.problems(cast(Config, OmegaConf.to_object(config)))
    return problems
