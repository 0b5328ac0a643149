import json
import logging

import pytest

from llm4rec_cli.errors import RunError
from llm4rec_cli.files import sha256
from llm4rec_cli.run import checkpoints


def saved(root, step, score=0.0):
    """A sealed checkpoint with two files, after those that are there."""
    before = checkpoints.list_complete(root)
    folder = root / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights of step %d" % step)
    (folder / "optimizer.pt").write_bytes(b"state")
    checkpoints.seal(folder, step, score, "1 x cpu", 2.5 * step, before)
    return folder


def all_saved(root, *scores):
    """The checkpoints of steps 1, 2, … with these scores."""
    for step, score in enumerate(scores, start=1):
        saved(root, step, score)
    return checkpoints.list_complete(root)


def test_a_manifest_holds_the_size_and_hash_of_each_file_and_pickled_arguments_are_dropped(tmp_path):
    folder = saved(tmp_path, 3, 0.25)
    (folder / "training_args.bin").write_bytes(b"pickle")
    checkpoints.seal(folder, 3, 0.25, "1 x cpu", 7.5, [])  # again: the manifest is no file of it
    assert not (folder / "training_args.bin").exists()
    assert json.loads((folder / "manifest.json").read_text()) == {
        "step": 3,
        "score": 0.25,
        "best_step": 3,
        "trained_on": "1 x cpu",
        "seconds": 7.5,
        "files": {
            "model.safetensors": {"bytes": 17, "sha256": sha256(folder / "model.safetensors")},
            "optimizer.pt": {"bytes": 5, "sha256": sha256(folder / "optimizer.pt")},
        },
    }


def test_complete_checkpoints_come_oldest_first_and_none_is_selected_before_the_end(tmp_path):
    for step in (10, 9, 100):
        saved(tmp_path, step)
    steps = [checkpoint.step for checkpoint in checkpoints.list_complete(tmp_path)]
    assert steps == [9, 10, 100]  # by number, not by name
    assert checkpoints.list_complete(tmp_path / "nowhere") == []
    with pytest.raises(RunError, match="no finished training"):
        checkpoints.selected(tmp_path)


def alter(folder):
    (folder / "model.safetensors").write_bytes(b"Weights of step 2")


TORN = {
    "model.safetensors, cut": ("model.safetensors", b"weights"),
    "model.safetensors, altered": ("model.safetensors", b"Weights of step 2"),
    "a file": ("optimizer.pt", None),
    "the manifest": ("manifest.json", None),
    "the manifest, cut": ("manifest.json", b'{"step": 2, "sco'),
}


@pytest.mark.parametrize(("name", "content"), TORN.values(), ids=TORN)
def test_an_incomplete_checkpoint_is_removed_with_a_warning(name, content, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("llm4rec_cli"), "propagate", True)  # the command line switches it off
    first, second = saved(tmp_path, 1), saved(tmp_path, 2)
    (second / name).unlink()
    if content is not None:
        (second / name).write_bytes(content)
    with caplog.at_level(logging.WARNING, "llm4rec_cli"):
        complete = checkpoints.list_complete(tmp_path)
    assert [checkpoint.folder for checkpoint in complete] == [first]
    assert not second.exists()
    assert f"{second} is incomplete or altered: removed" in caplog.text


def test_the_best_has_the_highest_score_the_earliest_of_equals_wins_and_each_checkpoint_records_it(tmp_path):
    saved = all_saved(tmp_path, 0.1, 0.3, 0.3, 0.2, 0.4)
    assert checkpoints.best(saved[:4]).step == 2
    assert [checkpoint.best_step for checkpoint in saved] == [1, 2, 2, 2, 5]


@pytest.mark.parametrize(("scores", "steps"), [((0.1, 0.3, 0.3, 0.2), [2, 4]), ((0.1, 0.3), [2])])
def test_rotation_keeps_the_best_and_the_last(tmp_path, scores, steps):
    left = checkpoints.rotate(all_saved(tmp_path, *scores))
    assert [checkpoint.step for checkpoint in left] == steps
    assert checkpoints.list_complete(tmp_path) == left


def test_checkpoints_after_a_lost_best_one_are_removed(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("llm4rec_cli"), "propagate", True)
    all_saved(tmp_path, 0.1, 0.3, 0.2)
    alter(tmp_path / "checkpoint-2")
    with caplog.at_level(logging.WARNING, "llm4rec_cli"):
        assert [checkpoint.step for checkpoint in checkpoints.list_complete(tmp_path)] == [1]
    assert "checkpoint-3 cannot be resumed without the best checkpoint, checkpoint-2: removed" in caplog.text
    assert not (tmp_path / "checkpoint-3").exists()


def test_a_finished_training_names_its_selected_checkpoint_and_reading_changes_nothing(tmp_path):
    checkpoints.mark_finished(tmp_path, all_saved(tmp_path, 0.1, 0.3, 0.2)[-1])
    assert checkpoints.selected(tmp_path).step == 2
    alter(tmp_path / "checkpoint-2")
    with pytest.raises(RunError, match="checkpoint-2, the selected checkpoint, is incomplete or altered"):
        checkpoints.selected(tmp_path)  # never silently the second best
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [f"checkpoint-{i}" for i in (1, 2, 3)]
