"""`llm4rec completion`: shell completion of commands, options, and overrides with their values.

eval "$(llm4rec completion bash)"        for this shell; in ~/.bashrc for every shell
eval "$(llm4rec completion zsh)"         the same for zsh, in ~/.zshrc
llm4rec train model=uni<TAB>             model=unisrec
llm4rec train trainer.ep<TAB>            trainer.epochs=
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from llm4rec_cli.commands import command_parser
from llm4rec_cli.config.commands import Command, commands, second_words

# Bash splits words at `=` too and replaces only the last part, so the part up to `=` is removed from each reply.
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
    local -a replies
    replies=("${(@f)$("$words[1]" completion --line "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    if [[ -n $replies ]]; then
        compadd -S '' -- ${(M)replies:#*[=.]}
        compadd -- ${replies:#*[=.]}
        return 0
    else
        compset -P '*='
        _files
    fi
}
compdef _llm4rec llm4rec
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH}

FLAGS = ("--cfg", "--help", "--multirun", "--verbose", "--wide")  # of commands that take overrides


def main(argv: list[str]) -> int:
    parser = command_parser("completion", __doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("shell", nargs="?", choices=SCRIPTS, help="the shell to print the script for")
    choice.add_argument("--line", help=argparse.SUPPRESS)  # used by the scripts: the line up to the cursor
    options = parser.parse_args(argv)
    if options.line is None:
        print(SCRIPTS[options.shell], end="")
    else:
        for word in completions(options.line):
            print(word)
    return 0


def completions(line: str) -> list[str]:
    """Return completions of the last word of a command line; empty for free text and file names."""
    try:
        words = shlex.split(line)
    except ValueError:  # inside quotes
        return []
    if line[-1:].isspace():
        words.append("")
    known = commands()
    match words[1:]:
        case [word]:
            first_words = {command.typed.split()[0] for command in known.values()}
            candidates: Iterable[str] = (*first_words, *(("--help", "--version") if word else ()))
        case [first, second, *before, word] if command := known.get(f"{first}-{second}"):
            candidates = _of_command(command, before, word)
        case [first, *before, word]:
            candidates = () if before else second_words(first)
            if command := known.get(first):
                candidates = (*candidates, *_of_command(command, before, word))
        case _:
            candidates = ()
    return sorted({candidate for candidate in candidates if candidate.startswith(words[-1])})


def _of_command(command: Command, before: list[str], word: str) -> Iterable[str]:
    if command.takes_overrides:
        return _of_overrides(command, before, word)
    return _of_options(command, before, word) if command.is_ours else ()  # a package's would run


def _of_overrides(command: Command, before: list[str], word: str) -> Iterable[str]:
    options = _options(command.load().parser().format_help()) if command.has_options else {}
    last = before[-1] if before else ""
    if last in ("--cfg", "-c"):
        return ("job", "hydra", "all")
    if options.get(last):
        return ()
    return (*FLAGS, *options) if word.startswith("-") else _overrides(word, before)


def _of_options(command: Command, before: list[str], word: str) -> Iterable[str]:
    module = command.load()
    page = _help(module)
    match = re.search(r"^  {([\w,]+)}", page, re.M)
    choices = match.group(1).split(",") if match else []
    if before and before[0] in choices:
        page = _help(module, before[0])
    options = _options(page)
    if before and options.get(before[-1]):
        return ()
    if word.startswith("-"):
        return options
    if before or f"{command.typed} [overrides]" in page:
        return _overrides(word, before) if "[overrides]" in page else ()
    return module.KINDS if command.name == "list" else choices


def _help(module: Any, *subcommand: str) -> str:
    """Return the help page of a plain command, or of its subcommand."""
    page = io.StringIO()
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        module.main([*subcommand, "--help"])
    return page.getvalue()


def _options(page: str) -> dict[str, bool]:
    """Return the long options that a help page lists, and whether each takes a value."""
    return {name: value != "" for name, value in re.findall(r"^ +(?:-\w.*?, )?(--[\w-]+)(| [^ ]+)(?:$|  )", page, re.M)}


def _overrides(word: str, before: list[str]) -> Iterator[str]:
    return _values(word, before) if "=" in word else _keys(word, before)


def _values(word: str, before: list[str]) -> Iterator[str]:
    """Yield `key=value` for each possible value; in a list or sweep, for each value of its last element."""
    from llm4rec_cli.config.folders import options
    from llm4rec_cli.config.overrides import GROUPS

    key, _, value = word.partition("=")
    if key.lstrip("+") in GROUPS:
        values = options(key.lstrip("+"))
    else:
        kind = _key_types(before).get(key)
        if kind is bool:
            values = ["true", "false"]
        elif isinstance(kind, type) and issubclass(kind, Enum):
            values = list(kind.__members__)
        else:
            return
    earlier = re.sub(r"[^,\[]*$", "", value)
    for last in values:
        if not any(part.startswith("_") for part in last.split("/")):  # typed bases and parts of other configs
            yield f"{key}={earlier}{last}"


def _keys(word: str, before: list[str]) -> Iterator[str]:
    """Yield groups and keys one level at a time: nodes with a final dot, keys that take a value with `=`."""
    from llm4rec_cli.config.overrides import GROUPS

    if word.startswith("+"):
        yield "+experiment="
        return
    keys = _key_types(before)
    nodes = {key.rpartition(".")[0] for key in keys}
    for key in keys:
        if key.rpartition(".")[0] == word.rpartition(".")[0]:
            if key in GROUPS or key not in nodes:
                yield f"{key}="
            if key in nodes:
                yield f"{key}."


def _key_types(before: list[str]) -> Mapping[str, object]:
    """Return the type of every key. Under `model.` these are the keys of the typed models, by default of all."""
    from llm4rec_cli.config.keys import declarations_with
    from llm4rec_cli.config.registry import config_class, model_names
    from llm4rec_cli.config.schema import ModelConfig

    typed = [word.partition("=")[2].split(",") for word in before if word.startswith("model=")]
    models = [name for name in (typed[-1] if typed else []) if name in model_names()]
    types: dict[str, object] = {"model": ModelConfig}
    config: Any
    for config in map(config_class, models or model_names()):
        for setting in declarations_with(config):
            key = setting.key.replace("model.prompts", "prompt", 1)  # as it is typed
            is_prompt_text = key.startswith("prompt.") and (setting.is_node or key.count(".") > 1)
            if not (is_prompt_text or key.startswith(("dataset.paper.", "tuning."))):  # all are written in YAML only
                types[key] = setting.kind
    return types
