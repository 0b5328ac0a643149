"""Folders with a manifest: complete when it is written, and never another's."""

import json

import pytest

from llm4rec_cli.errors import UsageError
from llm4rec_cli.results.sealed import has_link, is_inside, read_manifest, sealed_folder


def test_the_manifest_is_written_last_and_names_every_file(tmp_path):
    with sealed_folder(tmp_path / "out", "m.json") as folder:
        folder.write_text("a/b.txt", "text\n")
        assert read_manifest(folder.path, "m.json") == {"complete": False, "files": {}}
        folder.facts = {"of": "us"}
    content = json.loads((tmp_path / "out/m.json").read_text())
    assert (content["complete"], content["of"], content["files"]["a/b.txt"]["bytes"]) == (True, "us", 5)
    assert not list(tmp_path.rglob(".*")), "neither locks nor parts are left"


def test_an_interrupted_folder_is_incomplete_and_written_again(tmp_path):
    with pytest.raises(KeyboardInterrupt), sealed_folder(tmp_path / "out", "m.json") as folder:
        folder.write_text("a.txt", "half")
        raise KeyboardInterrupt
    assert read_manifest(tmp_path / "out", "m.json")["complete"] is False
    with sealed_folder(tmp_path / "out", "m.json") as folder:
        folder.write_text("a.txt", "whole")
    assert (tmp_path / "out/a.txt").read_text() == "whole"


def test_files_named_outside_the_folder_or_through_links_are_not_removed(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("keep")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/link").symlink_to(tmp_path)
    names = ["../outside.txt", str(outside), "link/outside.txt"]
    (tmp_path / "out/m.json").write_text(json.dumps({"complete": True, "files": {name: {} for name in names}}))
    with sealed_folder(tmp_path / "out", "m.json"):
        pass
    assert outside.read_text() == "keep"


def test_a_folder_of_somebody_else_or_a_file_is_refused(tmp_path):
    (tmp_path / "m.json").write_text("{}")
    for path in (tmp_path, tmp_path / "m.json"):
        with (
            pytest.raises(UsageError, match=r"has files, and no m\.json of ours|is a file"),
            sealed_folder(path, "m.json"),
        ):
            pass


@pytest.mark.parametrize("name", ["../a", "/a", "a/../b", "a//b", ".", "a\\b", "./a", ""])
def test_names_that_leave_the_folder(name):
    assert not is_inside(name)


def test_links_on_the_way(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").touch()
    (tmp_path / "link").symlink_to("folder")
    assert is_inside("folder/file")
    assert not has_link(tmp_path, "folder/file")
    assert has_link(tmp_path, "link/file")
