"""The store of completions: what is written stays, whatever happens to the process that wrote it."""

import hashlib
import logging
import math
import multiprocessing
import os
import signal
import sqlite3

import pytest

from llm4rec_cli.errors import RunError
from llm4rec_cli.llm.requests import Request
from llm4rec_cli.llm.store import Store, cache_key
from tests.llm.echo_backend import completion, request, requests

spawn = multiprocessing.get_context("spawn")
IDENTITY = {"backend": "echo", "temperature": 0.0}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "llm" / "answers.sqlite"


def add(store, request, result, cost=0.0):
    return store.add(cache_key(IDENTITY, request), IDENTITY, request, result, cost)


def fill(path, *batch):
    """Fill a store with a completion of each request; return their keys."""
    with Store(path) as store:
        for request in batch:
            add(store, request, completion(f"to {request.messages[0]['content']}"), 0.25)
    return [cache_key(IDENTITY, request) for request in batch]


def execute(path, statement, *values):
    """Change the file as our own code never does."""
    db = sqlite3.connect(path)
    with db:
        db.execute(statement, values)
    db.close()


@pytest.mark.parametrize(
    "stored",
    [
        completion("seven ☂ \ud83d \0 stars"),
        completion("", logprobs=(-1.5, -0.1, -math.inf), lengths=(1, 2, 3), attempts=4),
    ],
    ids=["generated", "scored"],
)
def test_a_completion_is_read_back_as_it_was(path, stored):
    with Store(path) as store:
        add(store, request("a"), stored)
    with Store(path) as store:
        assert store.get([cache_key(IDENTITY, request("a"))]) == {cache_key(IDENTITY, request("a")): stored}


def test_the_first_completion_is_stored_and_returned_to_later_writers_unless_another_process_damages_it(path):
    with Store(path) as store, Store(path) as other:
        assert add(store, request("a"), completion("first")).text == "first"
        assert add(other, request("a"), completion("second")).text == "first"
    key = cache_key(IDENTITY, request("a"))
    with Store(path) as store:
        execute(path, "UPDATE answers SET answer = 'x'")
        assert add(store, request("a"), completion("again")).text == "again"
        assert store.get([key])[key].text == "again"


def test_all_that_changes_a_completion_changes_the_key_which_is_that_of_canonical_json():
    variants = [
        request("a"),
        request("b"),
        request("a", max_tokens=11),
        request("a", repeat=1),
        request("a", continuations=("x",)),
        request("a", continuations=("x", "y")),
        Request(({"role": "system", "content": "a"},), max_tokens=10),
    ]
    keys = {cache_key(i, variant) for i in (IDENTITY, IDENTITY | {"temperature": 0.5}) for variant in variants}
    assert len(keys) == 2 * len(variants)
    assert cache_key({"b": 1, "a": "é"}, request("x")) == cache_key({"a": "é", "b": 1}, request("x"))
    text = '[{},{"continuations":null,"max_tokens":10,"messages":[{"content":"x","role":"user"}],"repeat":0}]'
    assert cache_key({}, request("x")) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "damage",
    [
        "SET answer = substr(answer, 1, 40)",
        "SET answer = replace(answer, 'to a', 'to b')",  # still JSON, but not what was written
        "SET answer = CAST(x'ff00fe' AS TEXT)",
        "SET answer = x'ff00fe'",
        "SET answer = ''",
        "SET digest = 'x'",
        "SET digest = x'ff'",
    ],
)
def test_a_damaged_completion_counts_as_missing_and_is_replaced(path, caplog, damage):
    damaged, whole = fill(path, request("a"), request("whole"))
    execute(path, f"UPDATE answers {damage} WHERE key = ?", damaged)
    with caplog.at_level(logging.WARNING), Store(path) as store:
        assert list(store.get([damaged, whole])) == [whole]
        assert "is damaged and counts as missing" in caplog.text
        assert add(store, request("a"), completion("again")).text == "again"
        assert store.get([damaged])[damaged].text == "again"


def test_a_file_that_is_no_store_is_refused_and_left_as_it_is_and_a_full_disk_is_reported_as_one(path):
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(RunError, match=r"answers\.sqlite: the store of answers cannot be used"):
        Store(path)
    assert path.read_bytes() == b"no database" * 1000
    path.unlink()
    with Store(path) as store:
        store._db.execute("PRAGMA max_page_count = 5")
        with pytest.raises(RunError, match="the disk is full"):
            add(store, request("a" * 100_000), completion("x"))


def write_in_process(path, step, barrier):
    """Store completions of 200 requests that name the process."""
    with Store(path) as store:
        barrier.wait(60)
        for r in requests(200)[::step]:
            add(store, r, completion(f"by {step}"))


def test_of_two_concurrent_writers_each_completion_is_stored_once(path):
    barrier = spawn.Barrier(2)
    writers = [spawn.Process(target=write_in_process, args=(path, step, barrier)) for step in (1, -1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    with Store(path) as store:
        stored = store.get(cache_key(IDENTITY, r) for r in requests(200))
    assert len(stored) == 200
    assert {c.text for c in stored.values()} <= {"by 1", "by -1"}
    assert sqlite3.connect(path).execute("SELECT count(*) FROM answers").fetchone() == (200,)


def write_endlessly(path, pipe):
    with Store(path) as store:
        for i in range(1_000_000):
            add(store, request(f"question {i}"), completion(f"to {i}"))
            pipe.send(i)


def test_what_a_killed_process_wrote_is_stored(path):
    receiver, sender = spawn.Pipe(duplex=False)
    writer = spawn.Process(target=write_endlessly, args=(path, sender))
    writer.start()
    while (written := receiver.recv()) < 50:
        pass
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    while receiver.poll():
        try:
            written = receiver.recv()
        except EOFError:
            break
    with Store(path) as store:
        stored = store.get(cache_key(IDENTITY, r) for r in requests(written + 1))
        assert [c.text for c in stored.values()] == [f"to {i}" for i in range(written + 1)]
        assert add(store, request("another"), completion("x")).text == "x"
