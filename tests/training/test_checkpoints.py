import json
import logging

import pytest

from llm4rec_cli.files import sha256
from llm4rec_cli.training import checkpoints


def saved(root, step, score=0.0):
    """A sealed checkpoint with two files."""
    folder = root / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights of step %d" % step)
    (folder / "optimizer.pt").write_bytes(b"state")
    checkpoints.seal(folder, step, score)
    return folder


def test_a_manifest_holds_the_size_and_hash_of_each_file(tmp_path):
    folder = saved(tmp_path, 3, 0.25)
    assert json.loads((folder / "manifest.json").read_text()) == {
        "step": 3,
        "score": 0.25,
        "files": {
            "model.safetensors": {"bytes": 17, "sha256": sha256(folder / "model.safetensors")},
            "optimizer.pt": {"bytes": 5, "sha256": sha256(folder / "optimizer.pt")},
        },
    }


def test_sealing_drops_the_pickled_arguments(tmp_path):
    folder = saved(tmp_path, 1, 0.0)
    (folder / "training_args.bin").write_bytes(b"pickle")
    checkpoints.seal(folder, 1, 0.0)
    assert not (folder / "training_args.bin").exists()
    assert checkpoints.whole(tmp_path)


def test_sealing_again_does_not_count_the_manifest(tmp_path):
    folder = saved(tmp_path, 1, 0.5)
    before = (folder / "manifest.json").read_text()
    checkpoints.seal(folder, 1, 0.5)
    assert (folder / "manifest.json").read_text() == before


def test_whole_checkpoints_come_oldest_first(tmp_path):
    for step in (10, 9, 100):
        saved(tmp_path, step)
    assert [found.step for found in checkpoints.whole(tmp_path)] == [9, 10, 100]  # by number, not by name


def test_no_folder_holds_no_checkpoint(tmp_path):
    assert checkpoints.whole(tmp_path / "nowhere") == []


def truncate(folder):
    (folder / "model.safetensors").write_bytes(b"weights")


def alter(folder):
    (folder / "model.safetensors").write_bytes(b"Weights of step 2")


def lose_a_file(folder):
    (folder / "optimizer.pt").unlink()


def lose_the_manifest(folder):
    (folder / "manifest.json").unlink()


def tear_the_manifest(folder):
    (folder / "manifest.json").write_text('{"step": 2, "sco')


@pytest.mark.parametrize("tear", [truncate, alter, lose_a_file, lose_the_manifest, tear_the_manifest])
def test_a_torn_checkpoint_is_removed_and_said(tear, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("llm4rec_cli"), "propagate", True)  # the command line switches it off
    first, second = saved(tmp_path, 1), saved(tmp_path, 2)
    tear(second)
    with caplog.at_level(logging.WARNING, "llm4rec_cli"):
        found = checkpoints.whole(tmp_path)
    assert [checkpoint.folder for checkpoint in found] == [first]
    assert not second.exists()
    assert f"{second} is incomplete or altered: removed" in caplog.text


def test_the_best_has_the_highest_score_and_the_earliest_of_equals_wins(tmp_path):
    for step, score in [(1, 0.1), (2, 0.3), (3, 0.3), (4, 0.2)]:
        saved(tmp_path, step, score)
    assert checkpoints.best(checkpoints.whole(tmp_path)).step == 2


def test_rotation_keeps_the_best_and_the_last(tmp_path):
    for step, score in [(1, 0.1), (2, 0.3), (3, 0.3), (4, 0.2)]:
        saved(tmp_path, step, score)
    left = checkpoints.rotate(checkpoints.whole(tmp_path))
    assert [found.step for found in left] == [2, 4]
    assert checkpoints.whole(tmp_path) == left


def test_rotation_keeps_a_checkpoint_that_is_both(tmp_path):
    for step, score in [(1, 0.1), (2, 0.3)]:
        saved(tmp_path, step, score)
    left = checkpoints.rotate(checkpoints.whole(tmp_path))
    assert [found.step for found in left] == [2]
    assert checkpoints.whole(tmp_path) == left
