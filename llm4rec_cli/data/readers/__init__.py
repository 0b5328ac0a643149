"""Readers of raw formats, one module a format, here or in an installed package. A config selects a reader by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd

from llm4rec_cli.config.plugins import Offers, offers
from llm4rec_cli.data.recdataset import RawData
from llm4rec_cli.errors import UsageError, did_you_mean

# Names under which one file is passed on: P5's own, and that of later work on P5's data.
USUAL_NAMES = {"sequential_data.txt": "sequential.txt", "sequential.txt": "sequential_data.txt"}

FileRoles = tuple[tuple[frozenset[str], frozenset[str]], ...]


class Reader(Protocol):
    """The interface of each reader's module.

    Attributes:
        VERSION: raised when the same files give a different result.
        ROLES: the combinations of file roles that it reads, each as (required, optional).

    A module may also define COLUMNS, the column names (ours) that users may map to the names in their files. Its `read`
    then takes that map as `columns` (our name -> the file's). With KEEPS_EMPTY its `read` takes `keep_empty`: whether a
    text field that is present but empty is empty text in the items, or always null. With HAS_LONG_TEXTS its `read`
    takes `scratch`, a folder for `RawData.texts`.
    """

    VERSION: int
    ROLES: FileRoles

    def read(self, files: dict[str, Path], **options: Any) -> RawData:
        """Read the files of a domain, keyed by role."""
        ...


def names() -> list[str]:
    """Return the names of all readers: the modules of this package, and of installed ones."""
    return sorted({*_shipped(), *offered().plugins})


@cache
def _shipped() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(__path__))


def offered() -> Offers:
    """Return the readers of installed packages."""
    return offers("readers", _shipped(), needs=("VERSION", "ROLES", "read"))


def load(name: str) -> Reader:
    """Return the reader called `name`.

    Raises:
        UsageError: unknown reader.
    """
    if name in _shipped():
        return cast(Reader, importlib.import_module(f"{__name__}.{name}"))
    if plugin := offered().plugins.get(name):
        return cast(Reader, plugin.load())
    raise offered().problems.get(name) or UsageError(f"unknown reader '{name}'", did_you_mean(name, names()))


def reader_and_files(domain: Mapping[str, str], default: str) -> tuple[str, dict[str, str]]:
    """Return the name of a domain's reader and its file names by role.

    Args:
        domain: role -> file, as in a config. An optional entry `reader` names the domain's own reader.
    """
    return domain.get("reader", default), {role: file for role, file in domain.items() if role != "reader"}


def mappable_columns(name: str) -> frozenset[str]:
    """Return the column names (ours) that `dataset.columns` may map for a reader; empty if its columns are fixed."""
    columns: frozenset[str] = getattr(load(name), "COLUMNS", frozenset())
    return columns


def keeps_empty(name: str) -> bool:
    """Return whether a reader can keep text fields that are present but empty."""
    return getattr(load(name), "KEEPS_EMPTY", False)


def has_long_texts(name: str) -> bool:
    """Return whether a reader can keep the texts of interactions out of memory."""
    return getattr(load(name), "HAS_LONG_TEXTS", False)


def column_problems(name: str, mapped: Iterable[str]) -> Iterator[UsageError]:
    """Yield the problems of a column map: the reader does not support one, or a mapped column is unknown."""
    mappable = mappable_columns(name)
    for column in mapped:
        if not mappable:
            yield UsageError(
                f"reader '{name}' has fixed columns and does not take dataset.columns",
                "leave out dataset.columns, or use reader: table or recbole",
            )
        elif column not in mappable:
            yield UsageError(
                f"dataset.columns maps '{column}', which is not a known column", did_you_mean(column, mappable)
            )


def role_problems(name: str, roles: Iterable[str]) -> Iterator[UsageError]:
    """Yield a problem if a reader cannot read this set of file roles. The remedy lists the sets it reads."""
    roles, combinations = set(roles), load(name).ROLES
    if any(required <= roles <= required | optional for required, optional in combinations):
        return
    readable = " | ".join(
        ", ".join([*sorted(required), *(f"[{role}]" for role in sorted(optional))])
        for required, optional in combinations
    )
    yield UsageError(
        f"reader '{name}' cannot read these file roles: {', '.join(sorted(roles))}", f"it reads {readable}"
    )


def interactions_of(
    sequences: Mapping[str, Sequence[str]], users: Mapping[str, str], items: Mapping[str, str]
) -> pd.DataFrame:
    """Return `user_id` and `item_id` of each interaction of whole sequences.

    Args:
        sequences: user -> items, oldest first, by keys of `users` and `items`, which hold raw ids.
    """
    lengths = [len(sequence) for sequence in sequences.values()]
    item_ids = [items[item] for item in chain.from_iterable(sequences.values())]
    return pd.DataFrame({"user_id": np.repeat([users[user] for user in sequences], lengths), "item_id": item_ids})
