"""Completion: the words that TAB offers, also in bash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from llm4rec_cli.commands.completion import BASH, completions
from llm4rec_cli.commands.list import KINDS
from llm4rec_cli.config.commands import commands
from llm4rec_cli.config.overrides import GROUPS
from llm4rec_cli.config.registry import model_names
from tests.support.driver import compose

PROGRAMS = Path(sys.executable).parent  # the folder of this Python and `llm4rec`


def offered(line):
    return completions(f"llm4rec {line}")


# ---- completions


def test_the_first_word_is_a_command():
    assert offered("") == sorted({command.typed.split()[0] for command in commands().values()})
    assert offered("inspect ") == ["answers", "data", "ids", "memorisation", "result"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tra", ["train"]),
        ("train model=uni", ["model=unisrec"]),
        ("train model=unisrec,sas", ["model=unisrec,sasrec"]),
        ("train trainer.ep", ["trainer.epochs="]),
        ("train model.enc", ["model.encoder."]),
        ("train model.encoder.pooling=", [f"model.encoder.pooling={name}" for name in ("cls", "last", "mean")]),
        ("train model=p5 pro", ["prompt="]),
        ("train model=sasrec pro", []),
        ("train prompt=[p5/rating,p5/seq", ["prompt=[p5/rating,p5/sequential"]),
        ("train -m split=valid,t", ["split=valid,test"]),
        ("train +experiment=unisrec/pap", ["+experiment=unisrec/paper"]),
        ("recommend --user 7 mod", ["model.", "model="]),
        ("report --ma", ["--markdown"]),
        ("list ", sorted([*KINDS, "papers"])),
        ("human judge sheets llm=op", ["llm=openai"]),
    ],
)
def test_a_word_is_completed(line, words):
    assert offered(line) == words


@pytest.mark.parametrize(
    "line",
    [
        "nothing ",
        "train nothing=",
        "train seed=",
        "report --metrics ",
        "recommend --title ",
        "recommend --title 'the m",
        "list runs ",
    ],
)
def test_free_text_files_and_unknown_words_are_left_alone(line):
    assert offered(line) == []


def leaves(node, path=""):
    """Return the keys of all values; mappings with the user's own keys are one value, and prompt texts are left out."""
    if path == "model.prompts":
        return {f"prompt.{key}" for key, value in node.items() if not isinstance(value, dict)}
    if not isinstance(node, dict) or path in ("dataset.domains", "dataset.columns", "dataset.paper"):
        return {path}
    return set().union(*(leaves(value, f"{path}.{key}".lstrip(".")) for key, value in node.items()))


def reachable(line):
    """Yield all keys that repeated TABs lead to."""
    for word in offered(line):
        if word.endswith("."):
            yield from reachable(line.rpartition(" ")[0] + f" {word}")
        else:
            yield word.removesuffix("=")


@pytest.mark.parametrize("model", model_names())
def test_every_key_of_the_config_is_reachable_and_no_other(model):
    config = OmegaConf.to_container(compose(f"model={model}"))
    assert set(reachable(f"train model={model} ")) - set(GROUPS) == leaves(config)


def test_a_users_own_options_are_offered_and_their_parts_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "_part", "shop/_part", "shop/other"):
        file = tmp_path / "conf/dataset" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("name: x\n")
    words = offered("train dataset=")
    assert {"dataset=mine", "dataset=shop/other"} <= set(words)
    assert not any("_part" in word for word in words)


# ---- the scripts


@pytest.mark.parametrize(
    ("breaks", "line", "point", "reply"),
    [
        ("=", "llm4rec train model=uni", None, "unisrec"),
        ("", "llm4rec train model=uni", None, "model=unisrec"),
        ("=", "llm4rec train model=sas seed=1", 23, "sasrec"),
        ("=", "llm4rec train model=unisrec,sas", None, "unisrec,sasrec"),
        ("=", "llm4rec train nothing=", None, ""),
    ],
)
def test_bash_gets_the_replacement_of_the_part_that_it_replaces(breaks, line, point, reply):
    script = (
        f"{BASH}\ncompopt() {{ :; }}\nCOMP_WORDBREAKS='{breaks}' COMP_LINE='{line}' COMP_POINT={point or len(line)}\n"
        '_llm4rec llm4rec; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{PROGRAMS}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.strip() == reply
