"""Readers of raw formats: one module a format; a config names the module."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, cast

from llm4rec_cli.data.recdataset import RawData
from llm4rec_cli.errors import UsageError, did_you_mean

Forms = tuple[tuple[frozenset[str], frozenset[str]], ...]


class Reader(Protocol):
    """What a module of this folder offers.

    Attributes:
        VERSION: raised when the same files give another result.
        FORMS: the sets of roles it reads, each as (needed, optional).

    A module may also offer COLUMNS, our names of columns that the files may call otherwise: its `read` then takes a map
    of them, `columns` (our name -> the file's).
    """

    VERSION: int
    FORMS: Forms

    def read(self, files: dict[str, Path], **mapped: Mapping[str, str]) -> RawData:
        """What the files hold, each given under its role."""
        ...


def names() -> list[str]:
    """Every reader: the modules of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Reader:
    """The reader of that name.

    Raises:
        UsageError: no such reader.
    """
    if name not in names():
        raise UsageError(f"unknown reader '{name}'", did_you_mean(name, names()))
    return cast(Reader, importlib.import_module(f"{__name__}.{name}"))


def of(domain: Mapping[str, str], default: str) -> tuple[str, dict[str, str]]:
    """Which reader a domain's files go to, and the files by role.

    Args:
        domain: role -> file, as in a config; `reader`, in place of a role, names the domain's own reader.
        default: the dataset's reader.
    """
    return domain.get("reader", default), {role: file for role, file in domain.items() if role != "reader"}


def columns(name: str) -> frozenset[str]:
    """Our names of the columns that the files of a reader may call otherwise; none where it takes no map of them."""
    known: frozenset[str] = getattr(load(name), "COLUMNS", frozenset())
    return known


def problems_of_columns(name: str, mapped: Iterable[str]) -> Iterator[UsageError]:
    """A column map that the reader of that name does not take, or names in it that are none of ours."""
    known = columns(name)
    for column in mapped:
        if not known:
            yield UsageError(
                f"reader '{name}' knows the columns of its files and takes no dataset.columns", "reader: table does"
            )
        elif column not in known:
            yield UsageError(f"dataset.columns names '{column}', no column of ours", did_you_mean(column, known))


def problems_of_roles(name: str, roles: Iterable[str]) -> Iterator[UsageError]:
    """Roles that the reader of that name does not know, or that are not enough for it; the remedy lists what it
    takes."""
    given, forms = set(roles), load(name).FORMS
    if any(needed <= given <= needed | optional for needed, optional in forms):
        return
    known = " | ".join(
        ", ".join([*sorted(needed), *(f"[{role}]" for role in sorted(optional))]) for needed, optional in forms
    )
    yield UsageError(
        f"reader '{name}' cannot work with these roles of files: {', '.join(sorted(given))}", f"it takes {known}"
    )
