"""The store of answers: what is written once stays, whatever happens to the process that wrote it."""

import hashlib
import logging
import math
import multiprocessing
import os
import signal
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec_cli.errors import RunError
from llm4rec_cli.llm.requests import Request
from llm4rec_cli.llm.store import Store, key_of
from tests.llm.scripted import answer, request, requests

spawn = multiprocessing.get_context("spawn")
WHO = {"backend": "scripted", "temperature": 0.0}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "llm" / "answers.sqlite"


def filled(path, *asked):
    """A store with an answer to each, and their keys."""
    with Store(path) as store:
        for one in asked:
            store.keep(key_of(WHO, one), WHO, one, answer(f"to {one.messages[0]['content']}"), 0.25)
    return [key_of(WHO, one) for one in asked]


def changed(path, statement, *values):
    """Does to the file what our own code never does."""
    db = sqlite3.connect(path)
    with db:
        db.execute(statement, values)
    db.close()


@pytest.mark.parametrize(
    "kept",
    [
        answer("seven ☂ \ud83d \0 stars"),
        answer("", logprobs=(-1.5, -0.1, -math.inf), lengths=(1, 2, 3), attempts=4),
    ],
    ids=["generated", "judged"],
)
def test_an_answer_comes_back_as_it_was(path, kept):
    with Store(path) as store:
        store.keep(key_of(WHO, request("a")), WHO, request("a"), kept, 0.0)
    with Store(path) as store:
        assert store.find([key_of(WHO, request("a"))]) == {key_of(WHO, request("a")): kept}


def test_the_first_answer_is_kept_and_given_to_whoever_comes_second(path):
    with Store(path) as store, Store(path) as other:
        assert store.keep(key_of(WHO, request("a")), WHO, request("a"), answer("first"), 0.0).text == "first"
        assert other.keep(key_of(WHO, request("a")), WHO, request("a"), answer("second"), 0.0).text == "first"


def test_what_was_paid_can_be_read_with_sql(path):
    filled(path, *requests(3))
    ((who, cost),) = sqlite3.connect(path).execute("SELECT identity, sum(cost) FROM answers GROUP BY identity")
    assert (who, cost) == ('{"backend":"scripted","temperature":0.0}', 0.75)


def test_all_that_changes_an_answer_changes_the_key():
    asked = [
        request("a"),
        request("b"),
        request("a", max_tokens=11),
        request("a", repeat=1),
        request("a", continuations=("x",)),
        request("a", continuations=("x", "y")),
        Request(({"role": "system", "content": "a"},), max_tokens=10),
    ]
    keys = {key_of(who, one) for who in (WHO, WHO | {"temperature": 0.5}) for one in asked}
    assert len(keys) == 2 * len(asked)


def test_the_key_is_that_of_canonical_json():
    assert key_of({"b": 1, "a": "é"}, request("x")) == key_of({"a": "é", "b": 1}, request("x"))
    text = '[{},{"continuations":null,"max_tokens":10,"messages":[{"content":"x","role":"user"}],"repeat":0}]'
    assert key_of({}, request("x")) == hashlib.sha256(text.encode()).hexdigest()


@given(st.text(), st.text())
def test_texts_that_differ_have_different_keys(one, other):
    assert (key_of(WHO, request(one)) == key_of(WHO, request(other))) == (one == other)


@pytest.mark.parametrize(
    "damage",
    [
        "SET answer = substr(answer, 1, 40)",
        "SET answer = replace(answer, 'to a', 'to b')",  # JSON still, but not what was written
        "SET answer = CAST(x'ff00fe' AS TEXT)",
        "SET answer = x'ff00fe'",
        "SET answer = ''",
        "SET digest = 'x'",
        "SET digest = x'ff'",
    ],
)
def test_a_damaged_answer_counts_as_missing_and_is_replaced(path, caplog, damage):
    damaged, whole = filled(path, request("a"), request("whole"))
    changed(path, f"UPDATE answers {damage} WHERE key = ?", damaged)
    with caplog.at_level(logging.WARNING), Store(path) as store:
        assert list(store.find([damaged, whole])) == [whole]
        assert "is damaged, and counts as missing" in caplog.text
        assert store.keep(key_of(WHO, request("a")), WHO, request("a"), answer("anew"), 0.0).text == "anew"
        assert store.find([damaged])[damaged].text == "anew"


def test_an_answer_that_another_process_damages_meanwhile_is_replaced(path):
    (key,) = filled(path, request("a"))
    with Store(path) as store:
        changed(path, "UPDATE answers SET answer = 'x'")
        assert store.keep(key_of(WHO, request("a")), WHO, request("a"), answer("anew"), 0.0).text == "anew"
        assert store.find([key])[key].text == "anew"


def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(path):
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(RunError, match=r"answers\.sqlite: the store of answers cannot be used"):
        Store(path)
    assert path.read_bytes() == b"no database" * 1000


def test_a_full_disk_is_told_as_one(path):
    with Store(path) as store:
        store._db.execute("PRAGMA max_page_count = 5")
        with pytest.raises(RunError, match="the disk is full"):
            store.keep(key_of(WHO, request("a" * 100_000)), WHO, request("a" * 100_000), answer("x"), 0.0)


def writes(path, first, barrier):
    """In a process of its own: answers 200 requests, telling who it is."""
    with Store(path) as store:
        barrier.wait(60)
        for one in requests(200)[::first]:
            store.keep(key_of(WHO, one), WHO, one, answer(f"by {first}"), 0.0)


def test_two_processes_write_at_once_and_each_answer_is_there_once(path):
    barrier = spawn.Barrier(2)
    writers = [spawn.Process(target=writes, args=(path, step, barrier)) for step in (1, -1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    with Store(path) as store:
        found = store.find(key_of(WHO, one) for one in requests(200))
    assert len(found) == 200
    assert {one.text for one in found.values()} <= {"by 1", "by -1"}
    assert sqlite3.connect(path).execute("SELECT count(*) FROM answers").fetchone() == (200,)


def writes_without_end(path, tells):
    with Store(path) as store:
        for i in range(1_000_000):
            store.keep(key_of(WHO, request(f"question {i}")), WHO, request(f"question {i}"), answer(f"to {i}"), 0.0)
            tells.send(i)


def test_what_a_killed_process_wrote_is_there(path):
    hears, tells = spawn.Pipe(duplex=False)
    writer = spawn.Process(target=writes_without_end, args=(path, tells))
    writer.start()
    while (written := hears.recv()) < 50:
        pass
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    while hears.poll():
        try:
            written = hears.recv()
        except EOFError:
            break
    with Store(path) as store:
        found = store.find(key_of(WHO, one) for one in requests(written + 1))
        assert [one.text for one in found.values()] == [f"to {i}" for i in range(written + 1)]
        assert store.keep(key_of(WHO, request("another")), WHO, request("another"), answer("x"), 0.0).text == "x"
