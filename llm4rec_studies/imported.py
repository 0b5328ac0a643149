"""Weights that a method's published code wrote, as weights of our model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.config.schema import ModelConfig
from llm4rec_cli.errors import DataError, listed, raise_first
from llm4rec_cli.models.base import published_mapping
from llm4rec_studies import torch_file

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 6  # names in a message


@dataclass(frozen=True)
class Imported:
    """Our model's weights by name, the number of tensors that they were made of, and the file's other tensors."""

    state: dict[str, Tensor]
    n_tensors: int
    left_out: list[str]


def read_weights(path: Path, config: ModelConfig) -> Imported:
    """Read a file of the published code and return its weights as ours; nothing in it is run.

    Raises:
        DataError: it is not such a file, or its names and shapes differ from the published code's.
    """
    mapping = published_mapping(config.name)
    expected = mapping.shapes(config)
    with torch_file.opened(path) as file:
        left_out = [name for name in file.shapes if name in mapping.LEFT_OUT]
        shapes = {name: shape for name, shape in file.shapes.items() if name not in mapping.LEFT_OUT}
        raise_first(_problems_of_tensors(path, config, shapes, expected))
        tensors = {name: file.read(name) for name in expected}
    return Imported(mapping.imported_state(config, tensors), len(tensors), left_out)


def _problems_of_tensors(
    path: Path, config: ModelConfig, shapes: Mapping[str, object], expected: Mapping[str, object]
) -> Iterator[DataError]:
    wrong = [n for n in expected if n in shapes and shapes[n] != expected[n]]
    differences = [
        ("lacks", [name for name in expected if name not in shapes]),
        ("also has", [name for name in shapes if name not in expected]),
        ("has other shapes than the settings say:", [f"{n} {shapes[n]}, not {expected[n]}" for n in wrong]),
    ]
    if sentences := [f"it {verb} {listed(names, SHOWN)}" for verb, names in differences if names]:
        published = config.traits.published
        assert published is not None
        yield DataError(
            f"{path} does not have weights of {published.code} with these settings: {'; '.join(sentences)}",
            "name a file of this code, and type the settings that it was trained with",
        )
