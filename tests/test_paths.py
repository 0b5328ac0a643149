"""Folders that the environment names, and what typed ones change."""

from pathlib import Path

from llm4rec_cli import paths
from tests.support import forked
from tests.support.driver import TINY


def test_the_cache_is_typed_or_of_the_project_or_of_the_user(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/user")
    assert paths.cache_folder(None) == Path("/user/llm4rec")
    monkeypatch.setenv("LLM4REC_CACHE", "~/project")
    assert paths.cache_folder(None) == Path.home() / "project"
    assert paths.cache_folder("typed") == Path("typed")


def test_runs_are_written_and_found_where_the_environment_says(llm4rec, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM4REC_OUTPUTS", str(tmp_path / "runs"))
    first = forked.run(forked.llm4rec, "train", *TINY, cwd=tmp_path)  # read as configs are registered
    assert f"run folder: {tmp_path / 'runs'}" in first
    assert "--outputs" not in first
    for command in (("report",), ("list", "runs")):
        answer = llm4rec(*command)
        assert answer.code == 0 and "sasrec" in answer.out, answer.err
    elsewhere = llm4rec("train", *TINY, f"paths.outputs={tmp_path / 'typed'}")
    assert elsewhere.folder.is_relative_to(tmp_path / "typed")
