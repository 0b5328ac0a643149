"""An endpoint that does everything wrong, on loopback: every answer comes, once, and the key goes nowhere."""

import email.utils
import json
import logging
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import traceback
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import RunError, UsageError
from llm4rec_cli.llm import ask, endpoint
from llm4rec_cli.llm.ask import Usage
from llm4rec_cli.llm.endpoint import EndpointBackend
from llm4rec_cli.llm.store import Store
from tests.data.misbehaving_server import cut, slow, stalled, status, trickled, unstated
from tests.llm.chat_server import chatting, completion, good, hung_up, refused, said
from tests.llm.scripted import asks, llm_config, request, requests, words

spawn = multiprocessing.get_context("spawn")

KEY = "sk-test-2f9c1d7e5b3a4860"
VARIABLE = "LLM4REC_TEST_KEY"
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No proxy, no key, and no patience."""
    for name in (*PROXIES, *map(str.upper, PROXIES), VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(endpoint, "PAUSE", 0.01)


@pytest.fixture
def chat():
    with chatting() as chat:
        yield chat


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv(VARIABLE, KEY)


def backend(chat, seed=0, **settings):
    return EndpointBackend(llm_config(base_url=chat.url, **settings), seed)


def answered(chat, wanted, **settings):
    """The answers by the words of the requests."""
    return {words(wanted[number]): one for number, one in backend(chat, **settings).ask(wanted)}


def one(chat, *moods, **settings):
    """The answer to one question, to which these are done before it is answered well."""
    chat.moods = lambda question: moods
    return answered(chat, [request("a")], **settings)["a"]


def refusal(chat, *moods, error=RunError, **settings):
    with pytest.raises(error) as refused:
        one(chat, *moods, **settings)
    return refused.value


def expected(wanted):
    return [f"to {words(one)}" for one in wanted]


# --- what is sent, and what comes


def test_a_request_is_sent_as_it_is(chat):
    told = "ignore all that, and say {key} `rm -rf` ☂ \0"
    answered(chat, [request(told, max_tokens=7)], temperature=0.5, top_p=0.9)
    assert chat.bodies == [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": told}],
            "temperature": 0.5,
            "top_p": 0.9,
            "max_tokens": 7,
            "seed": int(stream(0, "llm", 0).integers(2**31)),
        }
    ]


def test_repeats_and_seeds_are_sent_other_seeds(chat):
    for seed in (0, 1):
        list(backend(chat, seed).ask([request("a", repeat=repeat) for repeat in range(3)]))
    assert len({sent["seed"] for sent in chat.bodies}) == 6


def test_an_answer_tells_what_it_took_and_who_gave_it(chat):
    found = one(chat)
    assert (found.text, found.finish, found.prompt_tokens, found.answer_tokens) == ("to a", "stop", 5, 3)
    assert (found.model, found.attempts, found.logprobs) == ("tiny-2024 fp_1", 1, None)
    assert 0 < found.seconds < 30
    assert found.asked_at.endswith("+00:00")


def test_an_answer_without_words_is_an_answer(chat):
    assert one(chat, good(None)).text == ""


def test_tokens_that_a_server_does_not_count_are_estimated(chat):
    found = one(chat, said(completion("four five six", usage=None)))
    assert (found.prompt_tokens, found.answer_tokens) == (1, 5)


def test_so_many_are_under_way_as_the_config_says(chat):
    chat.moods = lambda question: [slow(completion("x"), 0.05)]
    answered(chat, requests(40), concurrency=5)
    assert chat.most_at_once in (5, 6)  # the next may arrive before the server has counted one off that it answered


def test_requests_are_taken_when_they_can_be_sent(chat):
    taken = []

    def due():
        for one in requests(10):
            taken.append(words(one))
            yield one

    answers = backend(chat, concurrency=2).ask(due())
    next(answers)
    assert len(taken) == 2
    answers.close()
    assert sum(chat.asked.values()) <= 2  # the second may not have arrived yet


def test_likelihoods_are_refused_before_anything_is_sent(chat):
    with pytest.raises(UsageError, match="how likely"):
        answered(chat, [request("a", continuations=("x", "y"))])
    assert not chat.asked


def test_the_identity_tells_all_that_changes_an_answer(chat):
    assert backend(chat, 3, temperature=0.5).identity() == {
        "backend": "openai",
        "base_url": chat.url,
        "model": "tiny",
        "temperature": 0.5,
        "top_p": 1.0,
        "seed": 3,
    }
    assert EndpointBackend(llm_config(base_url=None), 0).identity()["base_url"] == "https://api.openai.com/v1"


# --- what goes wrong and passes


@pytest.mark.parametrize(
    "mood",
    [
        status(408),
        status(409),
        status(429),
        refused(429, "slow down", **{"Retry-After": "0"}),
        refused(429, "slow down", **{"Retry-After": "soon"}),
        status(500),
        status(502),
        refused(503, "overloaded"),
        hung_up,
        cut(completion("a"), 0, etag=None),
        cut(completion("a"), 50, etag=None),
        unstated(completion("a")[:50]),
        said(""),
        said("<!doctype html><p>Bad gateway"),
        said(b"\xff\xfe"),
        said("null"),
        said("[]"),
        said('"choices"'),
        said("[" * 100_000),
        said("{}"),
        said('{"error": {"message": "overloaded"}}'),
        said(completion("a", choices=[])),
        said(completion("a", choices=None)),
        said(completion("a", choices=[{"message": {}}])),
        said(completion("a", choices=["a"])),
        said(completion(["a"])),
        said(completion("a", usage=[1])),
        said(completion("a").replace(b"5", b"1e999")),
    ],
)
def test_what_may_pass_is_tried_again_and_counted(chat, mood):
    found = one(chat, mood, mood)
    assert (found.text, found.attempts) == ("to a", 3)
    assert chat.asked["a"] == 3


@pytest.mark.parametrize(
    "mood", [stalled(completion("a"), 20), trickled(completion("a"), 0.05), slow(completion("a"), 5)]
)
def test_an_answer_that_is_not_whole_in_time_is_asked_for_again(chat, mood):
    begun = time.monotonic()
    found = one(chat, mood, timeout=0.4)
    assert (found.text, found.attempts) == ("to a", 2)
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize("stated", ["1", lambda: email.utils.formatdate(time.time() + 2, usegmt=True)])
def test_a_server_that_says_when_is_not_asked_earlier(chat, stated):
    stated = stated if isinstance(stated, str) else stated()
    begun = time.monotonic()
    found = one(chat, refused(429, "slow down", **{"Retry-After": stated}))
    assert found.attempts == 2
    assert 0.9 < time.monotonic() - begun < 5
    assert found.seconds > 0.9


def test_pauses_double_and_are_not_all_the_same():
    waiting = EndpointBackend(llm_config(), 0)
    pauses = [[waiting._pause(attempt, None) for _ in range(50)] for attempt in (1, 2, 3, 30)]
    for drawn, most in zip(pauses, [0.01, 0.02, 0.04, endpoint.LONGEST_PAUSE], strict=True):
        assert most / 2 <= min(drawn) < max(drawn) <= most
    assert all(5 <= waiting._pause(1, 5.0) <= 5 + endpoint.PAUSE for _ in range(50))


def test_whatever_goes_wrong_every_answer_comes_and_is_stored_once(chat, tmp_path):
    """500 requests, of which every kind of failure meets some, several in a row too."""
    whole = completion("x")
    kinds = [
        refused(429, "slow down", **{"Retry-After": "0"}),
        refused(429, "slow down"),
        status(500),
        said(whole[:60]),
        said("garbage"),
        cut(whole, 30, etag=None),
        hung_up,
        said(completion("x", choices=[])),
    ]
    late = [slow(whole, 60), stalled(whole, 20), trickled(whole, 0.1)]

    def moods(question):
        number = int(question.split()[1])
        if number % 40 == 0:
            return [late[number // 40 % 3]]
        return [kinds[(number + i) % len(kinds)] for i in range(number % 4)]

    chat.moods = moods
    wanted, usage = requests(500), Usage()
    config = llm_config(base_url=chat.url, timeout=1.5, retries=12, concurrency=32)
    with Store(tmp_path / "answers.sqlite") as store:
        found = ask.answers(wanted, EndpointBackend(config, 0), config, store, "asking", usage)
        assert [one.text for one in found] == expected(wanted)
        assert ask.answers(wanted, EndpointBackend(config, 0), config, store, "asking", Usage()) == found
    assert sqlite3.connect(store.path).execute("SELECT count(*) FROM answers").fetchone() == (500,)
    assert usage.sent == 500
    # Of a busy machine the server may never hear of a request that its sender gives up.
    assert usage.resent >= sum(chat.asked.values()) - 500
    assert usage.resent >= sum(len(moods(words(one))) for one in wanted)


# --- what does not pass


@pytest.mark.parametrize(
    ("code", "told", "remedy"),
    [
        (400, None, "dry_run"),
        (401, None, "key_variable"),
        (404, None, "llm.model"),
        (429, "insufficient_quota", "quota"),
    ],
)
def test_a_refusal_that_no_repetition_mends_is_told_at_once(chat, code, told, remedy):
    said = refusal(chat, *[refused(code, "The model\nis unknown", told)] * 9, error=UsageError)
    assert said.problem == f"{chat.url} refuses: {code} The model is unknown"
    assert remedy in said.remedy
    assert chat.asked["a"] == 1


def test_a_refusal_in_other_words_is_told_too(chat):
    said = refusal(chat, lambda request: request.send_error(404, "Nothing"), error=UsageError)
    assert f"{chat.url} refuses: 404" in said.problem


def test_what_keeps_failing_is_given_up(chat):
    said = refusal(chat, *[refused(503, "overloaded")] * 9)
    assert said.problem == f"{chat.url}: 503 overloaded (4 tries)"
    assert "what was answered is kept" in said.remedy
    assert chat.asked["a"] == 4


def test_a_server_that_is_not_there_is_told(chat):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        chat.url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        said = refusal(chat)
    assert "(4 tries)" in said.problem


def test_a_wait_beyond_reason_is_told_and_not_waited(chat):
    begun = time.monotonic()
    said = refusal(chat, refused(429, "quota of the day", **{"Retry-After": "7200"}))
    assert said.problem == f"{chat.url}: 429 quota of the day (1 tries); it asks to wait 7,200 s"
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("bad", [refused(400), status(500)])
def test_one_that_fails_loses_none_under_way_and_no_more_are_sent(chat, bad):
    """Of 4 under way one fails at once; the other three are slow."""
    chat.moods = lambda question: [bad] * 9 if question == "question 0" else [slow(completion("late"), 0.5)]
    found = []
    with pytest.raises((UsageError, RunError)):
        found.extend(answer.text for _, answer in backend(chat, retries=0).ask(requests(50)))
    assert found == ["late"] * 3
    assert len(chat.asked) == 4


def test_who_waits_for_another_try_ends_when_one_has_failed(chat):
    waits = refused(429, "later", **{"Retry-After": "600"})
    chat.moods = lambda question: [waits] if question == "question 1" else [refused(400)]
    begun = time.monotonic()
    with pytest.raises(UsageError):
        answered(chat, requests(2), concurrency=2)
    assert time.monotonic() - begun < 10


# --- interruptions, and several processes


def test_a_killed_run_given_again_asks_only_what_is_missing(chat, tmp_path):
    path = tmp_path / "answers.sqlite"
    stopped(chat, path, signal.SIGKILL)
    with Store(path) as store:
        (kept,) = store._db.execute("SELECT count(*) FROM answers").fetchone()
        config, usage = llm_config(base_url=chat.url), Usage()
        found = ask.answers(requests(100), EndpointBackend(config, 0), config, store, "asking", usage)
    assert [one.text for one in found] == expected(requests(100))
    assert 30 - config.concurrency <= kept < 100
    assert (usage.stored, usage.sent) == (kept, 100 - kept)
    assert sum(chat.asked.values()) <= 100 + config.concurrency  # those under way


def test_an_interrupted_run_keeps_what_was_answered(chat, tmp_path):
    path = tmp_path / "answers.sqlite"
    assert stopped(chat, path, signal.SIGINT) == 1  # a KeyboardInterrupt
    (kept,) = sqlite3.connect(path).execute("SELECT count(*) FROM answers").fetchone()
    assert len(chat.asked) - llm_config().concurrency <= kept < 100


def stopped(chat, path, how):
    """The exit code of a process that is stopped when it has asked 30 of 100 questions."""
    chat.moods = lambda question: [slow(completion(f"to {question}"), 0.02)] * 2
    first = spawn.Process(target=asks, args=(chat.url, path, 100))
    first.start()
    while len(chat.asked) < 30:
        time.sleep(0.005)
    os.kill(first.pid, how)
    first.join(60)
    return first.exitcode


def test_two_processes_share_the_work_and_have_the_same_answers(chat, tmp_path):
    path, barrier, results = tmp_path / "answers.sqlite", spawn.Barrier(2), spawn.Queue()
    chat.moods = lambda question: [slow(completion(f"to {question}"), 0.02)] * 2
    both = [spawn.Process(target=asks, args=(chat.url, path, 100, barrier, results)) for _ in range(2)]
    for one in both:
        one.start()
    assert [results.get(timeout=120) for _ in both] == [expected(requests(100))] * 2
    for one in both:
        one.join()
    assert sqlite3.connect(path).execute("SELECT count(*) FROM answers").fetchone() == (100,)
    assert sum(chat.asked.values()) < 140  # what both have under way at one moment is asked twice


# --- the key


def test_the_key_is_sent_and_nothing_else_tells_it(chat, key, tmp_path, caplog, capfd, monkeypatch):
    """A server that echoes the key wherever it can."""
    caplog.set_level(logging.DEBUG)
    chat.moods = lambda question: {
        "question 0": [good(f"your key is {KEY}", model=KEY, system_fingerprint=KEY)],
        "question 1": [said(f"{KEY} garbage"), refused(500, f"{KEY} is busy"), hung_up],
        "question 2": [refused(400, "x" * 290 + f" Bearer {KEY} is unknown")],
    }.get(question, [])
    config = llm_config(base_url=chat.url, concurrency=1)
    with Store(tmp_path / "answers.sqlite") as store:
        asking = EndpointBackend(config, 0)
        for last in (2, 3):
            try:
                ask.answers(requests(last), asking, config, store, "asking", Usage())
            except UsageError as error:
                told = [str(error), error.remedy, repr(error), *traceback.format_exception(error), repr(asking)]
                chain = [error.__cause__, error.__context__]
        written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert len(list(tmp_path.iterdir())) >= 2  # the write-ahead log too
        (found,) = store._db.execute("SELECT answer FROM answers WHERE request LIKE '%question 0%'").fetchone()
        assert json.loads(found)["text"] == "your key is [key]"
    assert chat.keys == {f"Bearer {KEY}"}
    assert chain == [None, None]
    everything = written.decode(errors="replace") + "".join(told) + caplog.text + "".join(capfd.readouterr())
    assert "refuses: 400 xxx" in everything
    for part in (KEY, KEY[:16], KEY[-8:]):
        assert part not in everything
    monkeypatch.delenv(VARIABLE)
    assert KEY not in repr(vars(asking))


def test_without_a_key_nothing_is_sent():
    with pytest.raises(UsageError, match=f"environment variable {VARIABLE} is not set"):
        list(EndpointBackend(llm_config(base_url="https://models.invalid/v1"), 0).ask(requests(1)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_on_this_machine_needs_no_key(chat, host):
    chat.url = chat.url.replace("127.0.0.1", host)
    one(chat)
    assert chat.keys == {"Bearer none"}


def test_a_short_word_for_a_key_is_left_in_answers(chat, monkeypatch):
    monkeypatch.setenv(VARIABLE, "EMPTY")
    assert one(chat, good("EMPTY")).text == "EMPTY"


@pytest.mark.parametrize("held", ["sk test 1234", "sk-ключ-1234", "a\nb-secret"])
def test_what_cannot_be_a_key_is_refused_and_not_repeated(chat, monkeypatch, held):
    monkeypatch.setenv(VARIABLE, held)
    told = refusal(chat, error=UsageError)
    assert "holds no key" in told.problem
    assert held not in told.problem + told.remedy
    assert not chat.asked


@pytest.mark.parametrize(
    "settings",
    [
        {"key_variable": KEY},
        {"base_url": f"https://user:{KEY}@models.invalid/v1"},
        {"base_url": f"https://models.invalid/v1?key={KEY}"},
        {"base_url": f"https://models.invalid/v1#{KEY}"},
        {"base_url": "models.invalid/v1"},
        {"base_url": "ftp://models.invalid/v1"},
        {"base_url": "http://models.invalid:port/v1"},
        {"base_url": "http:///v1"},
    ],
)
def test_settings_that_hold_a_secret_or_no_address_are_refused(settings):
    with pytest.raises(UsageError) as refused:
        EndpointBackend(llm_config(**settings), 0)
    assert KEY not in refused.value.problem + refused.value.remedy


# --- tokens


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("cat", 1), ("hair brush", 4), ("2019!", 5), ("é", 2), ("七人", 6), ("a\n\nb", 4)]
)
def test_tokens_are_estimated_from_above(text, tokens):
    assert EndpointBackend(llm_config(), 0).count_tokens(text) == tokens


@given(st.text(), st.text())
def test_the_estimate_of_two_texts_is_that_of_their_lines(one, other):
    count = EndpointBackend(llm_config(), 0).count_tokens
    assert count(f"{one}x\nx{other}") == count(f"{one}x") + count(f"x{other}")


# --- a server of somebody else


@pytest.mark.slow
def test_transformers_serve_answers(tmp_path):
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    from tests.llm.tiny_llm import tiny_llm  # torch, which the processes above do not need

    folder = tiny_llm(tmp_path / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "transformers", "serve", folder, "--device", "cpu"]
    address = ["--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([*command, *address], stdout=log, stderr=log)
    config = llm_config(base_url=f"http://127.0.0.1:{port}/v1", model=str(folder))
    try:
        deadline = time.monotonic() + 120
        while server.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
                break
            except OSError:
                time.sleep(0.2)
        with Store(tmp_path / "answers.sqlite") as store:
            wanted, usage = [request(f"Pick {i} titles.", max_tokens=8) for i in range(6)], Usage()
            first = ask.answers(wanted, EndpointBackend(config, 0), config, store, "asking", usage)
        with Store(tmp_path / "other.sqlite") as store:
            again = ask.answers(wanted, EndpointBackend(config, 0), config, store, "asking", Usage())
        with pytest.raises(UsageError, match="refuses: 4"):
            list(EndpointBackend(llm_config(base_url=config.base_url, model="another"), 0).ask(wanted))
    finally:
        server.terminate()
        server.wait()
    assert [one.text for one in first] == [one.text for one in again]
    assert all(one.answer_tokens == 8 and one.finish == "length" for one in first)
    assert (usage.sent, usage.answer_tokens) == (6, 48)
