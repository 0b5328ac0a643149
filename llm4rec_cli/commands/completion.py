"""`llm4rec completion`: makes the shell complete commands, options, and overrides with their values.

eval "$(llm4rec completion bash)"        now; as a line of ~/.bashrc always
eval "$(llm4rec completion zsh)"         a line of ~/.zshrc
llm4rec train model=uni<TAB>             model=unisrec
llm4rec train trainer.ep<TAB>            trainer.epochs=
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

from llm4rec_cli.commands import HYDRA_COMMANDS, PLAIN_COMMANDS

# Bash breaks words at `=` too, and replaces only what follows: the part before it is taken off again.
BASH = """\
_llm4rec() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$'\\n'
    COMPREPLY=($("$1" completion --line "$line" 2>/dev/null))
    local word="${line##*[[:space:]]}"
    if [[ $COMP_WORDBREAKS == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
    if [[ ${COMPREPLY[0]} == *[=.] ]]; then
        compopt -o nospace
    fi
}
complete -o default -F _llm4rec llm4rec
"""
ZSH = """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_llm4rec() {
    local -a found
    found=("${(@f)$("$words[1]" completion --line "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    if [[ -n $found ]]; then
        compadd -S '' -- ${(M)found:#*[=.]}
        compadd -- ${found:#*[=.]}
        return 0
    else
        compset -P '*='
        _files
    fi
}
compdef _llm4rec llm4rec
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH}

FLAGS = ("--cfg", "--help", "--multirun", "--verbose")  # of Hydra commands


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "llm4rec completion", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("shell", nargs="?", choices=SCRIPTS, help="whose script to print")
    asked.add_argument("--line", help=argparse.SUPPRESS)  # what the scripts ask: the line up to the cursor
    options = parser.parse_args(argv)
    if options.line is None:
        print(SCRIPTS[options.shell], end="")
    else:
        for word in completions(options.line):
            print(word)
    return 0


def completions(line: str) -> list[str]:
    """The words that the last word of a command line may become; none where it is free text or a file."""
    try:
        words = shlex.split(line)
    except ValueError:  # inside quotes
        return []
    if line[-1:].isspace():
        words.append("")
    match words[1:]:
        case []:
            offered: Iterable[str] = ()
        case [word]:
            offered = (*HYDRA_COMMANDS, *PLAIN_COMMANDS, *(("--help", "--version") if word else ()))
        case [command, *before, word] if command in HYDRA_COMMANDS:
            offered = _of_hydra_command(command, before, word)
        case [command, *before, word] if command in PLAIN_COMMANDS:
            offered = _of_plain_command(command, before, word)
        case _:
            offered = ()
    return sorted({found for found in offered if found.startswith(words[-1])})


def _of_hydra_command(command: str, before: list[str], word: str) -> Iterable[str]:
    from llm4rec_cli.launch import WITH_OPTIONS

    options: dict[str, bool] = {}
    if command in WITH_OPTIONS:
        options = _options(importlib.import_module(f"llm4rec_cli.commands.{command}").parser().format_help())
    last = before[-1] if before else ""
    if last in ("--cfg", "-c"):
        return ("job", "hydra", "all")
    if options.get(last):
        return ()
    return (*FLAGS, *options) if word.startswith("-") else _overrides(word, before)


def _of_plain_command(command: str, before: list[str], word: str) -> Iterable[str]:
    module = importlib.import_module(f"llm4rec_cli.commands.{command}")
    page = _help(module)
    found = re.search(r"^  {([\w,]+)}", page, re.M)
    choices = found.group(1).split(",") if found else []
    if before and before[0] in choices:
        page = _help(module, before[0])
    options = _options(page)
    if before and options.get(before[-1]):
        return ()
    if word.startswith("-"):
        return options
    if before:
        return _overrides(word, before) if "[overrides]" in page else ()
    return module.KINDS if command == "list" else choices


def _help(module: Any, *chosen: str) -> str:
    """The page of help of a plain command, or of what its first word chooses."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        module.main([*chosen, "--help"])
    return shown.getvalue()


def _options(page: str) -> dict[str, bool]:
    """The long options that a page of help lists, and whether each takes a value."""
    return {name: value != "" for name, value in re.findall(r"^ +(?:-\w.*?, )?(--[\w-]+)(| [^ ]+)(?:$|  )", page, re.M)}


def _overrides(word: str, before: list[str]) -> Iterator[str]:
    return _values(word, before) if "=" in word else _keys(word, before)


def _values(word: str, before: list[str]) -> Iterator[str]:
    """`key=value` for each value that the key's last element may become, in a sweep's list too."""
    from llm4rec_cli.config.compose import options
    from llm4rec_cli.config.overrides import GROUPS

    key, _, value = word.partition("=")
    if key.lstrip("+") in GROUPS:
        found = options(key.lstrip("+"))
    else:
        kind = _types(before).get(key)
        if kind is bool:
            found = ["true", "false"]
        elif isinstance(kind, type) and issubclass(kind, Enum):
            found = list(kind.__members__)
        else:
            return
    earlier = re.sub(r"[^,\[]*$", "", value)
    for one in found:
        if not any(part.startswith("_") for part in one.split("/")):  # a type, or a part of others
            yield f"{key}={earlier}{one}"


def _keys(word: str, before: list[str]) -> Iterator[str]:
    """Groups and keys, one level at a time: what goes on ends in a dot, what takes a value in `=`."""
    from llm4rec_cli.config.overrides import GROUPS

    if word.startswith("+"):
        yield "+experiment="
        return
    parent = word.rpartition(".")[0]
    for path, kind in _types(before).items():
        if path.rpartition(".")[0] == parent:
            if path in GROUPS or not is_dataclass(kind):
                yield f"{path}="
            if is_dataclass(kind):
                yield f"{path}."


def _types(before: list[str]) -> dict[str, Any]:
    """The type of every key; under `model.` the keys of the typed model, or of all where that is open."""
    from llm4rec_cli.config.registry import config_class, model_names
    from llm4rec_cli.config.schema import Config

    typed = [word.partition("=")[2].split(",") for word in before if word.startswith("model=")]
    named = [name for name in (typed[-1] if typed else []) if name in model_names()]
    found = _nodes("", Config)
    for name in named or model_names():
        found |= _nodes("model.", config_class(name))
    return found


def _nodes(prefix: str, kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    found = {}
    for field in fields(kind):
        hint = hints[field.name]
        if get_origin(hint) is dict and is_dataclass(get_args(hint)[1]):
            found["prompt"] = hint  # of such a dictionary files are chosen, but no key is typed
            continue
        kinds = (hint,) if prefix == "dataset." else (hint, *get_args(hint))  # dataset.paper is written in YAML alone
        node = next((kind for kind in kinds if is_dataclass(kind)), None)
        if isinstance(node, type) and field.name == "prompts":  # typed as `prompt.…`; their texts are written in YAML
            found["prompt"] = node
            found |= {
                key: of for key, of in _nodes("prompt.", node).items() if key.count(".") == 1 and not is_dataclass(of)
            }
            continue
        found[prefix + field.name] = node or hint
        if isinstance(node, type):
            found |= _nodes(f"{prefix}{field.name}.", node)
    return found
