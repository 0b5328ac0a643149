"""Translate the overrides that a user types into Hydra's grammar."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import NoneType

from llm4rec_cli.errors import UsageError, did_you_mean

GROUPS = ("dataset", "task", "trainer", "llm", "enrichment", "model", "prompt", "experiment")
FOLDERS = (*GROUPS, "home", "size")  # of conf/; files of the last two belong to a model, with a dataset or a trainer
MASK = "task.mask_history"
SEARCH_SPACES, PAPER_TABLES = "search", "paper"  # folders of conf/ whose files a run does not choose
# Flags of Hydra and the values that each takes; --config-dir is not offered, as user configs live in ./conf.
FLAGS: dict[str, tuple[str, ...]] = {
    "--help": (),
    "--multirun": (),
    "--cfg": ("job", "hydra", "all"),
    "--resolve": (),
    "--package": ("model", "dataset", "task", "trainer", "llm", "enrichment", "paths"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
SHORT_FLAGS = {"-h": "--help", "-m": "--multirun", "-c": "--cfg", "-p": "--package", "-i": "--info"}


def split_flags(arguments: Sequence[str], options: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Separate Hydra's flags, each in full and followed by its value, from overrides, which it wants to be contiguous.
    The command's own `options` are for suggestions.

    Raises:
        UsageError: an unknown flag, or one with a wrong value.
    """
    flags, overrides = [], []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        name, equals, value = argument.partition("=")
        flag = SHORT_FLAGS.get(name, name)
        if flag not in FLAGS:
            setting = setting_of(name.lstrip("-"))
            remedy = f"settings are written without dashes: {setting}={value or '…'}" if setting else ""
            raise UsageError(f"unknown option '{argument}'", remedy or did_you_mean(argument, [*FLAGS, *options]))
        values = FLAGS[flag]
        if values and not equals:
            value = next(rest, "")
        if value not in (values or ("",)):
            taken = f"one of {', '.join(values)}" if values else "no value"
            raise UsageError(f"'{argument}': {flag} takes {taken}", " ".join([flag, *values[:1]]))
        flags += [flag, value] if value else [flag]
    return flags, overrides


def setting_of(name: str) -> str | None:
    """Return the group or the first key that ends with a name: `trainer.epochs` of `epochs`."""
    from llm4rec_cli.config.keys import all_declarations

    keys = [*GROUPS, *(declared.key for declared in all_declarations() if not declared.is_node)]
    return next((key for key in keys if key == name or key.endswith(f".{name}")), None)


def key_typed(override: str) -> str:
    """Return the key that an override sets or deletes: `experiment` for `+experiment=p5/demo`."""
    return override.partition("=")[0].lstrip("+~")


@cache
def _paths() -> frozenset[str]:
    """Return the keys whose values may be paths, including those that name weights."""
    from llm4rec_cli.config.keys import all_declarations

    return frozenset(
        setting.key for setting in all_declarations() if {"path", "weights"} & setting.field.metadata.keys()
    )


def hydra_override(argument: str) -> str:
    """Return an override in Hydra's grammar, with `~` expanded and paths quoted.

    Raises:
        UsageError: it is not an override, would add keys to the schema or remove them, sets what belongs in a YAML, or
            may contain a secret.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from llm4rec_cli.config import secrets

    secrets.check_override(key_typed(argument), argument.partition("=")[2])
    override = _translated(argument)
    try:
        OverridesParser.create().parse_override(override)
    except HydraException as error:
        if "=" not in argument:
            remedy = "for example model=sasrec; llm4rec list names the options"
            raise UsageError(f"expected KEY=VALUE, got '{argument}'", remedy) from error
        key = key_typed(argument)
        if key in GROUPS:
            raise UsageError(f"{argument}: {key} takes a name", f"llm4rec list {key}s") from error
        remedy = f"a list is {key}=[a,b]; spaces, brackets and the like need quotes within quotes: \"{key}='a value'\""
        raise UsageError(f"{argument}: the value cannot be read", remedy) from error
    return override


def _translated(argument: str) -> str:
    """Return an override as Hydra wants it, which may not be in its grammar yet."""
    key, equals, value = argument.partition("=")
    if key == "++experiment":
        raise UsageError(f"'{argument}': an experiment is added with one +", f"+experiment={value}")
    if key == "experiment":
        raise UsageError(f"'{argument}': an experiment is added with +", f"+experiment={value}")
    folder, _, within = key.lstrip("+").partition("/")
    if folder == "experiment" and within:
        raise UsageError(f"'{argument}': an experiment is added by its whole name", f"+experiment={within}/{value}")
    if folder == "prompt" and within and "@" not in within:
        raise UsageError(f"'{argument}': prompts are chosen by prompt=…", as_typed(f"{key.lstrip('+')}={value}"))
    if key.startswith("~") and not key.startswith("~dataset.domains."):
        from llm4rec_cli.config.keys import value_types

        name = key[1:]
        remedy = f"{name}=null" if NoneType in value_types(name) else "leave it out for the default"
        remedy += f"; llm4rec list {name}s" if name in GROUPS else ""
        raise UsageError(f"'{argument}': keys cannot be removed from the config", remedy)
    if (
        key.startswith("+")
        and key.lstrip("+") != "experiment"
        and not key.lstrip("+").startswith(("hydra", "dataset.domains.", "dataset.columns."))
    ):
        raise UsageError(f"'{argument}': keys cannot be added to the config", f"{key.lstrip('+')}=…")
    if key == MASK:
        return f"{key}={','.join('null' if choice == 'auto' else choice for choice in value.split(','))}"
    if key == "prompt":
        return _prompts(value)
    if key.startswith("prompt."):
        return f"model.prompts.{argument.removeprefix('prompt.')}"
    if key.startswith("model.prompts"):
        raise UsageError(
            f"{key}: prompts are written in YAML, in conf/prompt/MODEL/NAME.yaml",
            "choose them by prompt=[…,p5/NAME] or prompt=chatgptrec/NAME; set chatgptrec values by prompt.shots=3",
        )
    if key.lstrip("+") in GROUPS and any(v.startswith("_") for v in value.split(",")):
        raise UsageError(f"'{value}' is a type, not an option of {key}", f"llm4rec list {key.lstrip('+')}s")
    if key in GROUPS and (value == "null" or re.fullmatch(r"\[.*\]", value)):
        raise UsageError(f"{argument}: {key} takes the name of one option", f"llm4rec list {key}s")
    if key.partition(".")[0] == "tuning" and value != "null":
        raise UsageError(
            f"{key}: llm4rec tune writes what a search cost into a YAML", "llm4rec tune … --save NAME, or tuning=null"
        )
    if key == "dataset.domains" or (key.split(".")[:2] == ["dataset", "paper"] and value != "null"):
        raise UsageError(
            f"{key} is set in a dataset's YAML, not here", "write conf/dataset/NAME.yaml and use dataset=NAME"
        )
    if key == "dataset.columns" and value.startswith("{"):
        return f"+{argument}"  # Hydra cannot replace a dictionary, only add to it
    if equals and key in _paths() and value not in ("", "null") and value[0] not in "'\"":
        paths = re.split(r",(?!\s)", value)  # a comma before a space belongs to a name
        paths = [str(Path(path).expanduser()) if path.startswith("~") else path for path in paths]
        plain = r"[A-Za-z_./][A-Za-z0-9_./-]*"  # unquoted, 1e5 would become 100000.0
        return f"{key}={','.join(path if re.fullmatch(plain, path) else quoted(path) for path in paths)}"
    return argument


def sweep_model_settings(overrides: Sequence[str]) -> list[str]:
    """Return a sweep's overrides in a form that Hydra accepts.

    If the sweep varies the model or the experiment, the model's settings and prompts become sweeps over one value:
    Hydra first composes the config without the swept overrides, and the default model has other settings.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    if not {override.key_or_group for override in parsed if override.is_sweep_override()} & {"model", "experiment"}:
        return list(overrides)
    result = []
    for text, override in zip(overrides, parsed, strict=True):
        key, _, value = text.partition("=")
        single = key.startswith(("model.", "prompt/")) and value and not override.is_sweep_override()
        result.append(f"{key}=choice({value})" if single else text)
    return result


def sweep_jobs(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides, in Hydra's grammar, of each job of a sweep: one for every combination of the values of its
    swept overrides."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    alternatives = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [text]
        for text, override in zip(overrides, parsed, strict=True)
    ]
    return [list(job) for job in itertools.product(*alternatives)]


def _prompts(value: str) -> str:
    """Translate `prompt=[p5/rating,p5/mine]` or `prompt=chatgptrec/paper` for Hydra.

    The options belong to one model's group and go to `model.prompts`. A key below `prompt.` is a setting of theirs.
    """
    folders = {name.rpartition("/")[0].partition("/")[0] for name in re.findall(r"[^\s\[\],]+", value)}
    if len(folders) != 1 or "" in folders:
        raise UsageError(f"prompt={value} does not name prompts of one model", "prompt=[p5/rating,p5/sequential,…]")
    (model,) = folders
    return f"prompt/{model}@model.prompts={value.replace(f'{model}/', '')}"


def as_typed(override: str) -> str:
    """Return a translated override as typed: `prompt=[p5/rating]` for `prompt/p5@model.prompts=[rating]`, and a path
    without Hydra's quotes."""
    key, _, value = override.partition("=")
    if not key.startswith("prompt/"):
        plain = f"{key}={value[1:-1]}"
        if value[:1] == value[-1:] == "'" and _translated(plain) == override:
            return plain
        return override.replace("model.prompts.", "prompt.", 1)
    model = key.removeprefix("prompt/").partition("@")[0]
    return "prompt=" + re.sub(r"[^\s\[\],]+", rf"{model}/\g<0>", value)


def command_line(command: str, overrides: Iterable[str], *options: str) -> str:
    """Return `llm4rec <command> <overrides> <options>` to be copied into a shell: each value quoted once, if at all."""
    return " ".join(["llm4rec", command, *map(shell_word, overrides), *map(shlex.quote, options)])


def typed_besides_path(overrides: Iterable[str]) -> list[str]:
    """Return the typed overrides that a run's path does not show, quoted for a shell."""
    in_path = ("model", "dataset", "task", "seed", "force")
    return [shell_word(override) for override in overrides if key_typed(override) not in in_path]


def shell_word(override: str) -> str:
    """Return an override quoted for a shell. Only the value is quoted, if necessary."""
    key, equals, value = as_typed(override).partition("=")
    return f"{key}{equals}{shlex.quote(value) if value else value}"


def quoted(text: str) -> str:
    """Quote any text as a value in Hydra's grammar."""
    from hydra.core.override_parser.types import Quote, QuotedString  # imported here to keep --help fast

    return str(QuotedString(text, Quote.single).with_quotes())
