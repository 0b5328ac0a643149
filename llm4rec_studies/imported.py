"""Weights that a method's published code wrote, as weights of our model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.config.schema import ModelConfig
from llm4rec_cli.errors import DataError, listed, raise_first
from llm4rec_cli.models.base import published_mapping

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 6  # names in a message
LARGEST = 4 << 30  # bytes of a file; those of P5-base have 1 GB
# What files of RecBole, and so of UniSRec, name besides tensors: their config, and a metric of numpy.
OF_RECBOLE = (
    *("recbole.config.configurator.Config", "unisrec.UniSRec", "yaml.loader.FullLoader"),
    *(f"recbole.utils.enum_type.{name}" for name in ("ModelType", "InputType", "EvaluatorType")),
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "_codecs.encode"),
)


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
    named = _named_tensors(path)
    left_out = [name for name in named if name in mapping.LEFT_OUT]
    tensors = {name: tensor for name, tensor in named.items() if name not in mapping.LEFT_OUT}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    raise_first(_problems_of_tensors(path, config, shapes, expected))
    raise_first(_problems_of_values(path, tensors))
    state = mapping.imported_state(config, {name: tensors[name].float().clone() for name in expected})
    return Imported(state, len(tensors), left_out)


class _Placeholder:
    """What is made of each object in OF_RECBOLE: it takes any argument and keeps none."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def _named_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors that torch.save wrote, at the top of the file or under `state_dict`, without the prefix
    `module.` of DistributedDataParallel."""
    import torch

    if (size := path.stat().st_size) > LARGEST:
        raise DataError(f"{path} has {size:,} bytes; {LARGEST:,} are the limit", "name the file of the weights alone")
    try:
        with torch.serialization.safe_globals([(_Placeholder, name) for name in OF_RECBOLE]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file, or one made for an attack, can raise anything
        if foreign := re.search(r"GLOBAL (\S+)", str(error)):
            raise DataError(
                f"{path} contains {foreign[1]}, which is not a tensor, and nothing of it was run",
                "load the file where you trust it, and save its state_dict alone",
            ) from error
        raise DataError(
            f"{path} is not a file that torch.save wrote, or is damaged",
            "get it again; a web page may have been saved in its place",
        ) from error
    named = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(named, dict) or not all(isinstance(value, torch.Tensor) for value in named.values()):
        raise DataError(f"{path} has not only named tensors", "name a file with a state_dict")
    prefix = "module." if all(name.startswith("module.") for name in named) else ""
    return {name.removeprefix(prefix): tensor.detach() for name, tensor in named.items()}


def _problems_of_values(path: Path, tensors: Mapping[str, Tensor]) -> Iterator[DataError]:
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            yield DataError(f"{path}: {name} is of type {tensor.dtype}", "weights are floating-point numbers")
        elif not bool(tensor.isfinite().all()):
            yield DataError(f"{path}: {name} has values that are not finite", "the training that wrote it failed")


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
