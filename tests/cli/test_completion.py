"""Completion: the words that TAB offers, also in real bash and zsh."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from llm4rec_cli.cli import HYDRA_COMMANDS, PLAIN_COMMANDS
from llm4rec_cli.commands.completion import BASH, completions
from llm4rec_cli.commands.list import KINDS
from llm4rec_cli.config.folders import options
from llm4rec_cli.config.overrides import GROUPS
from llm4rec_cli.config.registry import model_names
from tests.support.driver import compose, python

PROGRAMS = Path(sys.executable).parent  # the folder of this Python and `llm4rec`


def offered(line):
    return completions(f"llm4rec {line}")


# ---- completions


def test_the_first_word_is_a_command():
    assert offered("") == sorted({**HYDRA_COMMANDS, **PLAIN_COMMANDS})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tra", ["train"]),
        ("--v", ["--version"]),
        ("train model=uni", ["model=unisrec"]),
        ("train model=unisrec,sas", ["model=unisrec,sasrec"]),
        ("train trainer.ep", ["trainer.epochs="]),
        ("train trai", ["trainer.", "trainer="]),
        ("train see", ["seed="]),
        ("train pa", ["paths."]),
        ("train model.enc", ["model.encoder."]),
        ("train model.encoder.po", ["model.encoder.pooling="]),
        ("train model.encoder.pooling=", [f"model.encoder.pooling={name}" for name in ("cls", "last", "mean")]),
        ("train force=", ["force=false", "force=true"]),
        ("train model=p5 pro", ["prompt="]),
        ("train model=sasrec pro", []),
        ("train prompt=[p5/rating,p5/seq", ["prompt=[p5/rating,p5/sequential"]),
        ("train prompt=[p5/seq", ["prompt=[p5/sequential"]),
        ("train -m split=valid,t", ["split=valid,test"]),
        ("train +", ["+experiment="]),
        ("train +experiment=unisrec/pap", ["+experiment=unisrec/paper"]),
        ("train --cf", ["--cfg"]),
        ("train --cfg j", ["job"]),
        ("eval model=sasrec task=di", ["task=direct"]),
        ("recommend --t", ["--title"]),
        ("recommend --user 7 mod", ["model.", "model="]),
        ("protocols mod", ["model.", "model="]),
        ("protocols --dr", ["--draws"]),
        ("report --ma", ["--markdown"]),
        ("list ", sorted(KINDS)),
        ("completion ", ["bash", "zsh"]),
        ("human ", ["export", "judge", "score"]),
        ("human export --no", ["--no-reference"]),
        ("human score --c", ["--csv"]),
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
        "train nothing.",
        "train seed=",
        "train dataset.raw_dir=",
        "report --metrics ",
        "recommend --title ",
        "recommend --title m",
        "recommend --title 'the m",
        "list runs ",
    ],
)
def test_free_text_files_and_unknown_words_are_left_alone(line):
    assert offered(line) == []


def test_a_models_own_keys_are_offered_and_no_others():
    assert "model.experts=" in offered("train model=unisrec model.")
    assert "model.experts=" not in offered("train model=sasrec model.")
    assert {"model.experts=", "model.embedding_size="} <= set(offered("train model.")) & set(
        offered("train -m model=bpr_mf,unisrec model.")
    )


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


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_of_a_group_is_offered_and_no_type(group):
    key = f"+{group}" if group == "experiment" else group
    assert offered(f"train {key}=") == [f"{key}={option}" for option in options(group)]
    assert offered(f"train {key}=_") == []


def test_a_users_own_options_are_offered_and_their_parts_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "_part", "shop/_part", "shop/other"):
        file = tmp_path / "conf/dataset" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("name: x\n")
    words = offered("train dataset=")
    assert {"dataset=mine", "dataset=shop/other"} <= set(words)
    assert not any("_part" in word for word in words)


def test_a_tab_imports_nothing_heavy(tmp_path):
    done = python(
        "import sys; from llm4rec_cli.cli import main\n"
        "for line in ('tr', 'train model=uni', 'train model.', 'recommend --ti', 'report --m', 'list '):\n"
        "    assert main(['completion', '--line', f'llm4rec {line}']) == 0\n"
        "sys.exit(str({'torch', 'transformers', 'pandas'} & set(sys.modules)).replace('set()', '') or 0)",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


# ---- the scripts


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_is_printed(llm4rec, shell):
    answer = llm4rec("completion", shell)
    assert answer.code == 0
    assert "llm4rec" in answer.out


def test_another_shell_is_refused(llm4rec):
    assert llm4rec("completion", "fish").code == 2


@pytest.mark.parametrize(
    ("breaks", "line", "point", "reply"),
    [
        ("=", "llm4rec train model=uni", None, "unisrec"),
        ("", "llm4rec train model=uni", None, "model=unisrec"),
        ("=", "llm4rec train trainer.ep", None, "trainer.epochs="),
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


@pytest.mark.parametrize("shell", [["bash", "--norc", "--noprofile", "-i"], ["zsh", "-f", "-i"]], ids=lambda s: s[0])
@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("train model=uni", "train model=unisrec "),
        ("train model=unisrec trainer.ep", "trainer.epochs="),
        ("train dataset.raw_dir=./fold", "dataset.raw_dir=./folder/"),
    ],
)
def test_a_tab_in_a_terminal_completes(tmp_path, shell, typed, becomes):
    if shutil.which(shell[0]) is None:
        pytest.skip(f"needs {shell[0]}")
    (tmp_path / "folder").mkdir()
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        path = f"{PROGRAMS}:{os.environ['PATH']}"
        os.execvpe(shell[0], shell, {**os.environ, "PATH": path, "HOME": str(tmp_path), "TERM": "dumb", "PS1": "$ "})
    try:
        os.write(terminal, f'eval "$(llm4rec completion {shell[0]})"; echo rea""dy\n'.encode())
        wait_for(terminal, "ready\r")
        os.write(terminal, f"llm4rec {typed}\t".encode())
        wait_for(terminal, becomes)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


def wait_for(terminal, text, seconds=30):
    """Read from the terminal until the text appears; bells are ignored."""
    output, end = "", time.monotonic() + seconds
    while text not in output.replace("\a", ""):
        assert time.monotonic() < end, f"no {text!r} in {output!r}"
        if select.select([terminal], [], [], 0.1)[0]:
            output += os.read(terminal, 4096).decode(errors="replace")
