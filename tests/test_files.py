"""Atomic writes, and locks between processes."""

import hashlib
import multiprocessing
import os
import signal
import time

import pytest

from llm4rec_cli import files
from llm4rec_cli.files import SETTLED, fill_once, locked, remembered_sha256, write_atomic, write_once

spawn = multiprocessing.get_context("spawn")


def test_a_file_is_complete_or_absent(tmp_path):
    def broken(part):
        part.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomic(tmp_path / "kept", broken)
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_a_killed_process_left_is_removed_when_the_file_is_written_again(tmp_path):
    (tmp_path / ".page.html.1234.part").write_text("half")
    write_atomic(tmp_path / "page.html", lambda part: part.write_text("whole"))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_processes_of_two_hosts_with_the_same_number_write_to_different_parts(tmp_path, monkeypatch):
    parts = []
    for host in ("one", "two"):
        monkeypatch.setattr(files.platform, "node", lambda host=host: host)
        write_atomic(tmp_path / "kept", lambda part: parts.append(part.name) or part.write_text("whole"))
    assert parts == [f".kept.{host}-{os.getpid()}.part" for host in ("one", "two")]


def test_existing_files_and_folders_are_not_made_again(tmp_path):
    write_once(tmp_path / "kept", lambda part: part.write_text("1"))
    write_once(tmp_path / "kept", lambda part: part.write_text("2"))
    fill_once(tmp_path / "folder", lambda part: (part / "file").write_text("1"))
    fill_once(tmp_path / "folder", lambda part: (part / "file").write_text("2"))
    assert (tmp_path / "kept").read_text() == (tmp_path / "folder" / "file").read_text() == "1"


def test_a_folder_is_complete_or_absent(tmp_path):
    def broken(part):
        (part / "half").write_text("…")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fill_once(tmp_path / "kept", broken)
    assert list(tmp_path.iterdir()) == []


def slowly(part):
    (part / "file").write_text(str(os.getpid()))
    (part.parent / "begun").touch()
    time.sleep(0.3)


def test_of_two_processes_one_fills_a_folder_and_the_other_waits(tmp_path):
    workers = [spawn.Process(target=fill_once, args=(tmp_path / "kept", slowly)) for _ in range(2)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    assert [process.exitcode for process in workers] == [0, 0]
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "begun"}
    assert (tmp_path / "kept" / "file").read_text() in {str(process.pid) for process in workers}


def forever(part):
    (part / "file").write_text("half")
    (part.parent / "begun").touch()
    time.sleep(60)


def test_temporary_files_of_a_killed_process_are_removed_by_the_next(tmp_path):
    killed = spawn.Process(target=fill_once, args=(tmp_path / "kept", forever))
    killed.start()
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert len(list(tmp_path.glob(".kept.*.part"))) == 1
    assert not (tmp_path / "kept").exists()
    fill_once(tmp_path / "kept", lambda part: (part / "file").write_text("whole"))
    assert (tmp_path / "kept" / "file").read_text() == "whole"
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "begun"}


def hold(lock, done):
    with locked(lock, lock):
        done.with_suffix(".held").touch()
        time.sleep(0.3)
        done.touch()


def hold_and_fork(lock, forked):
    with locked(lock, lock):
        multiprocessing.get_context("fork").Process(target=live, args=(forked,)).start()
        time.sleep(60)


def live(forked):
    forked.put(os.getpid())  # what is done after a fork is done
    time.sleep(60)


def test_a_lock_is_free_after_its_holder_is_killed_though_a_process_that_it_forked_lives(tmp_path):
    forked = spawn.SimpleQueue()
    holder = spawn.Process(target=hold_and_fork, args=(tmp_path / "lock", forked))
    holder.start()
    child = forked.get()
    try:
        with pytest.raises(BlockingIOError), locked(tmp_path / "lock", tmp_path, wait=False):
            pass
        holder.kill()
        holder.join()
        os.kill(child, 0)  # it lives
        with locked(tmp_path / "lock", tmp_path, wait=False):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_lock_is_held_by_one_and_leaves_nothing_behind(tmp_path):
    lock, done = tmp_path / "lock", tmp_path / "done"
    holder = spawn.Process(target=hold, args=(lock, done))
    holder.start()
    while not done.with_suffix(".held").exists():
        time.sleep(0.01)
    with locked(lock, lock):
        assert done.exists()  # the holder had ended
        assert lock.read_text() == str(os.getpid())
    holder.join()
    assert not lock.exists()


def test_a_file_is_hashed_again_only_after_a_change(tmp_path, monkeypatch):
    path, notes = tmp_path / "raw.json", tmp_path / "notes"
    hashed = []

    def counted(file):
        hashed.append(file)
        return hashlib.sha256(file.read_bytes()).hexdigest()

    monkeypatch.setattr(files, "sha256", counted)

    def remembered(content, age):
        if content is not None:
            path.write_text(content)
            os.utime(path, ns=(time.time_ns() - age, time.time_ns() - age))
        return remembered_sha256(path, notes)

    old = 10 * SETTLED
    first = remembered("one", old)
    assert remembered(None, 0) == first == hashlib.sha256(b"one").hexdigest()
    assert len(hashed) == 1
    assert remembered("two", old + 1) == hashlib.sha256(b"two").hexdigest(), "another time, the same size"
    assert len(hashed) == 2
    (note,) = notes.glob("*.json")
    for damage in ("", "{}", "[]", '{"stamp": [1, 2, 3]}'):
        note.write_text(damage)
        assert remembered(None, 0) == hashlib.sha256(b"two").hexdigest()


def test_a_file_that_was_written_just_now_is_not_remembered(tmp_path):
    path, notes = tmp_path / "raw.json", tmp_path / "notes"
    path.write_text("one")
    assert remembered_sha256(path, notes) == hashlib.sha256(b"one").hexdigest()
    assert not notes.exists()
