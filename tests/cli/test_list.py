"""`list`: what there is."""

import json

import pytest

from llm4rec_cli.commands.list import KINDS, described
from llm4rec_cli.hydra_app import options
from llm4rec_cli.models import base
from tests.driver import python


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "runs"])
def test_each_kind_names_all_its_options(llm4rec, kind):
    answer = llm4rec("list", kind)
    assert answer.code == 0
    assert all(name in answer.out for name in options(kind.removesuffix("s")))


def test_every_option_says_what_it_is():
    for kind in KINDS[:-1]:
        assert all(described(kind.removesuffix("s")).values()), kind


def test_models_tell_what_they_can_and_which_are_floors(llm4rec):
    lines = {line.split()[0]: line for line in llm4rec("list", "models").out.splitlines() if line.split()}
    for name in base.names():
        kind = base.config_class(name)
        assert all(capability in lines[name] for capability in kind.capabilities)
        assert (" floor " in lines[name]) == kind.floor


def test_nothing_named_lists_everything_but_runs(llm4rec):
    out = llm4rec("list").out
    assert all(name in out for name in ("unisrec", "demo", "sequential", "default"))
    assert "status" not in out


def test_a_users_own_options_are_listed(llm4rec, tmp_path):
    (tmp_path / "conf/dataset").mkdir(parents=True)
    (tmp_path / "conf/dataset/mine.yaml").write_text("# All my own.\ndefaults: [demo, _self_]\n")
    out = llm4rec("list", "datasets").out
    assert "mine" in out
    assert "All my own." in out


def test_runs_are_listed_with_their_state(llm4rec, tmp_path):
    for name, state, error in (
        ("seed0-a", "done", None),
        ("seed1-b", "failed", "diverged"),
        ("seed2-c", "running", None),
    ):
        folder = tmp_path / "outputs/sasrec/demo/sequential" / name
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps({"status": state, "error": error}))
    lines = llm4rec("list", "runs").out.splitlines()
    for name, state in (("seed0-a", "done"), ("seed1-b", "failed"), ("seed2-c", "running")):
        assert any(f"sasrec/demo/sequential/{name}" in line and state in line for line in lines)
    assert any("diverged" in line for line in lines)


def test_runs_of_another_folder_are_listed(llm4rec, tmp_path):
    assert llm4rec("list", "runs", "--outputs", str(tmp_path / "none")).code == 0


def test_listing_never_imports_torch(tmp_path):
    done = python(
        "import sys; from llm4rec_cli.cli import main; assert main(['list']) == 0; assert 'torch' not in sys.modules",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
