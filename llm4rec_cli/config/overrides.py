"""What a user types, made ready for Hydra's grammar."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from llm4rec_cli.errors import UsageError

GROUPS = ("dataset", "task", "trainer", "llm", "enrichment", "model", "prompt", "experiment")
FOLDERS = (*GROUPS, "home")  # of conf/; what is in the last is not chosen but goes with a model and a dataset
FLAGS = (  # Hydra's; other configs are searched for in ./conf alone
    *("--help", "--cfg", "--resolve", "--package", "--multirun", "--info", "--hydra-help", "--version"),
    "--shell-completion",
)
FLAGS_WITH_VALUE = ("--cfg", "-c", "--info", "-i", "--package", "-p")


def divided(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Flags (with their values) and overrides: Hydra's own parser wants all overrides behind one another."""
    flags, overrides = [], []
    rest = iter(arguments)
    for argument in rest:
        if argument in FLAGS_WITH_VALUE:
            flags += [argument, *itertools.islice(rest, 1)]
        elif argument.startswith("-"):
            flags.append(argument)
        else:
            overrides.append(argument)
    return flags, overrides


def key_typed(override: str) -> str:
    """The key that an override sets, `experiment` of `+experiment=p5/demo`."""
    return override.partition("=")[0].lstrip("+")


@cache
def _paths() -> frozenset[str]:
    """The keys whose values are paths, or may be: weights are named by folders, too."""
    from llm4rec_cli.config.keys import all_declared

    return frozenset(one.key for one in all_declared() if {"path", "weights"} & one.field.metadata.keys())


def prepared(argument: str) -> str:
    """An override ready for Hydra's grammar: `~` expanded and paths quoted; refused where it would open the schema."""
    key, equals, value = argument.partition("=")
    if key.startswith("~") and not key.startswith("~dataset.domains."):
        raise UsageError(f"'{argument}': the config is closed, nothing can be taken from it", f"{key[1:]}=null")
    if (
        key.startswith("+")
        and key.lstrip("+") != "experiment"
        and not key.lstrip("+").startswith(("hydra", "dataset.domains.", "dataset.columns."))
    ):
        raise UsageError(f"'{argument}': the config is closed, nothing can be added to it", f"{key.lstrip('+')}=…")
    if key == "prompt":
        return _prompts(value)
    if key.startswith("prompt."):
        return f"model.prompts.{argument.removeprefix('prompt.')}"
    if key.startswith("model.prompts"):
        raise UsageError(
            f"{key}: prompts are written in YAML, in conf/prompt/MODEL/NAME.yaml",
            "prompt=[…,p5/NAME] or prompt=chatgptrec/NAME chooses them; a setting of chatgptrec's: prompt.shots=3",
        )
    if key.lstrip("+") in GROUPS and any(v.startswith("_") for v in value.split(",")):
        raise UsageError(f"'{value}' is a type, not an option of {key}", f"llm4rec list {key}s")
    if key == "dataset.domains" or (key.split(".")[:2] == ["dataset", "paper"] and value != "null"):
        raise UsageError(f"{key} is set in a dataset's YAML, not here", "conf/dataset/NAME.yaml, and dataset=NAME")
    if key == "dataset.columns" and value.startswith("{"):
        return f"+{argument}"  # Hydra replaces no dictionary, it adds to one
    if equals and key in _paths() and value not in ("", "null") and value[0] not in "'\"":
        expanded = str(Path(value).expanduser()) if value.startswith("~") else value
        plain = re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./,-]*", expanded)  # without, 1e5 would be the number 100000.0
        return f"{key}={expanded}" if plain else f"{key}={quoted(expanded)}"
    return argument


def swept_along(overrides: Sequence[str]) -> list[str]:
    """A sweep's overrides as Hydra can take them: of a model that is swept, itself or by experiments, each setting and
    its prompts are swept, too, over one value.

    Hydra composes a sweep's config first without what is swept: with the default model, which has other settings.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    read = OverridesParser.create().parse_overrides(list(overrides))
    if not {one.key_or_group for one in read if one.is_sweep_override()} & {"model", "experiment"}:
        return list(overrides)
    made = []
    for text, one in zip(overrides, read, strict=True):
        key, _, value = text.partition("=")
        alone = key.startswith(("model.", "prompt/")) and value and not one.is_sweep_override()
        made.append(f"{key}=choice({value})" if alone else text)
    return made


def _prompts(value: str) -> str:
    """`prompt=[p5/rating,p5/mine]` as Hydra knows it: options of one model's group, which go to `model.prompts`.

    `prompt=chatgptrec/paper` likewise; what is typed below `prompt.` is a setting of these.
    """
    folders = {name.rpartition("/")[0].partition("/")[0] for name in re.findall(r"[^\s\[\],]+", value)}
    if len(folders) != 1 or "" in folders:
        raise UsageError(f"prompt={value} does not name prompts of one model", "prompt=[p5/rating,p5/sequential,…]")
    (model,) = folders
    return f"prompt/{model}@model.prompts={value.replace(f'{model}/', '')}"


def quoted(text: str) -> str:
    """A value as Hydra's grammar takes it, whatever it holds."""
    from hydra.core.override_parser.types import Quote, QuotedString  # not at the top: completion must be instant

    return str(QuotedString(text, Quote.single).with_quotes())
