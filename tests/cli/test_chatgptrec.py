"""`llm4rec train model=chatgptrec` as a user drives it: local weights, an endpoint, the store, a kill."""

import json
import sqlite3
import time

import pandas as pd
import pytest

from llm4rec_cli.llm import local as backend
from tests import forked
from tests.driver import read
from tests.llm.chat_server import chatting, good, hung_up, refused
from tests.llm.tiny_llm import tiny_llm

KEY = "sk-a-key-that-must-be-found-nowhere"
ASKED = ("train", "model=chatgptrec", "task.floors=[]", "task.bootstrap=20")
UNLIKE = ("seconds", "peak_rss_mb", "llm", "overrides")  # of a run that was killed, and had a store of its own
SMALL = ("llm.context=512", "llm.max_tokens=8", "prompt.history_tokens=40", "prompt.review_tokens=40")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llm(tmp_path_factory.mktemp("llm"))


@pytest.fixture
def local(llm4rec, folder, tmp_path):
    """local(*overrides): a run on the demo with a tiny chat model, its answers in a store of this test."""
    typed = (f"llm.model={folder}", f"llm.store={tmp_path}/answers.sqlite")
    return lambda *overrides: llm4rec(*ASKED, *SMALL, "task.max_examples=6", *typed, *overrides)


@pytest.fixture
def endpoint(monkeypatch, tmp_path):
    """A server that says "4", and what to type so that it is asked."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with chatting() as chat:
        chat.moods = lambda question: [good("4")]
        chat.typed = ("llm=openai", f"llm.base_url={chat.url}", f"llm.store={tmp_path}/answers.sqlite")
        yield chat


@pytest.mark.parametrize("task", ["rating", "sequential", "explanation", "review_summary"])
def test_every_task_is_asked_and_accounted_for(local, task):
    metrics = local(f"task={task}", "model.answer=generate").metrics
    assert metrics["n_examples"] == 6
    shares = [metrics["metrics"][f"answers/{status}"] for status in ("ok", "repaired", "invalid")]
    assert sum(shares) == pytest.approx(1)
    assert metrics["llm"]["requests"] == 6 and metrics["llm"]["prompt_tokens"] > 0
    assert "substitute-llm" in metrics["labels"]


def test_candidates_are_judged_by_likelihood_and_by_pmi(local):
    likely = local("task=direct", "task.negatives=4", "model.answer=likelihood")
    pmi = local("task=direct", "task.negatives=4", "model.answer=pmi")
    assert likely.metrics["metrics"] != pmi.metrics["metrics"]
    assert likely.metrics["protocol"] == "uniform-5"


def test_a_backend_that_answers_otherwise_makes_another_run(local, monkeypatch):
    first = local("task=rating")
    assert local("task=rating").folder == first.folder
    monkeypatch.setattr(backend, "VERSION", -1)
    other = local("task=rating")
    assert other.folder != first.folder
    assert other.metrics["variant"] != first.metrics["variant"], "seeds of both are not averaged"


def test_raw_answers_stand_beside_the_predictions(local):
    rows = pd.read_parquet(local("task=sequential", "model.answer=generate").folder / "predictions.parquet")
    assert {"answer", "status", "n_listed", "n_hallucinated"} <= set(rows)


def test_several_orders_of_candidates_are_rows_of_their_own(local):
    found = local("task=direct", "task.negatives=4", "prompt.shuffles=3")
    rows = pd.read_parquet(found.folder / "predictions.parquet")
    assert len(rows) == 18 and rows["user_id"].nunique() == 6
    assert set(rows["turn"]) == {0, 1, 2}
    assert found.metrics["n_examples"] == 6 and "subset" in found.metrics["labels"]


def test_a_replayed_run_is_the_same_run_and_asks_nothing(local):
    first = local("task=rating").metrics
    again = local("task=rating", "llm.replay=true", "force=true").metrics
    # `overrides` says what was typed; of answers from the store the seconds are those that they took.
    same = [name for name in first if name not in ("seconds", "peak_rss_mb", "overrides")]
    assert {name: again[name] for name in same} == {name: first[name] for name in same}


def test_a_missing_answer_is_no_guess(local):
    refusal = local("task=rating", "llm.replay=true")
    assert refusal.code == 1 and "6 of 6 answers" in refusal.err


def test_a_dry_run_shows_and_leaves_no_run(local, tmp_path):
    shown = local("task=rating", "llm.dry_run=true")
    assert shown.code == 0
    assert "6 requests" in shown.out and "How many stars" in shown.out
    assert not list(tmp_path.glob("outputs/chatgptrec/*/*/*/status.json"))


def test_another_threshold_asks_nothing_anew(local):
    local("task=sequential")
    again = local("task=sequential", "model.threshold=100", "llm.replay=true")
    assert again.code == 0, again.err


def test_an_endpoint_that_misbehaves_is_asked_until_it_answers(llm4rec, endpoint, monkeypatch):
    monkeypatch.setattr("llm4rec_cli.llm.endpoint.PAUSE", 0.01)
    endpoint.moods = lambda question: [hung_up, refused(500), good("4")]
    metrics = llm4rec(*ASKED, "task=rating", "task.max_examples=3", *endpoint.typed).metrics
    assert metrics["metrics"]["said/coverage"] == 1
    assert metrics["llm"]["resent"] == 6


def test_the_key_stands_in_nothing_that_is_written(llm4rec, endpoint, tmp_path):
    done = llm4rec(*ASKED, "task=rating", "task.max_examples=3", *endpoint.typed, "-v")
    assert done.code == 0, done.err
    assert endpoint.keys == {f"Bearer {KEY}"}
    refusal = llm4rec(*ASKED, "task=rating", "task.max_examples=2", "prompt.shots=1", *endpoint.typed, "-v")
    endpoint.moods = lambda question: [refused(401, f"{KEY} is no key")]
    refusal = llm4rec(*ASKED, "task=rating", "task.max_examples=2", "prompt.noun=film", *endpoint.typed, "-v")
    assert refusal.code == 2
    assert KEY not in done.out + done.err + refusal.out + refusal.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def test_without_a_key_nothing_is_sent(llm4rec, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    refusal = llm4rec(*ASKED, "task=rating", "task.max_examples=2", "llm=openai", "llm.model=any")
    assert refusal.code == 2 and "OPENAI_API_KEY" in refusal.err


def test_likelihoods_are_refused_where_nobody_tells_them(llm4rec):
    refusal = llm4rec(*ASKED, "task=direct", "llm=openai", "model.answer=pmi")
    assert refusal.code == 2 and "llm=local" in refusal.err


def test_a_budget_that_is_too_small_loses_nothing(llm4rec, endpoint, tmp_path):
    few = llm4rec(*ASKED, "task=rating", "task.max_examples=30", *endpoint.typed, "llm.budget_tokens=150")
    assert few.code == 1 and "llm.budget_tokens=" in few.err
    asked = sum(endpoint.asked.values())
    assert 0 < asked < 30
    assert llm4rec(*ASKED, "task=rating", "task.max_examples=30", *endpoint.typed).code == 0
    assert set(endpoint.asked.values()) == {1}, "no question was paid for twice"


@pytest.mark.slow
def test_a_run_killed_amid_its_questions_ends_as_if_it_had_not_been(llm4rec, endpoint, tmp_path, cache):
    endpoint.moods = lambda question: [lambda request: (time.sleep(0.05), good("3 stars")(request))] * 3
    typed = (*ASKED, "task=rating", "task.max_examples=60", *endpoint.typed, "llm.concurrency=2")
    command = (*typed, "paths.outputs=killed", f"paths.cache={cache / 'llm4rec'}")
    (running,) = forked.start(forked.llm4rec, *command, cwd=tmp_path)
    while sum(endpoint.asked.values()) < 10:
        time.sleep(0.02)
    running.kill()
    running.join()
    with sqlite3.connect(tmp_path / "answers.sqlite") as store:
        (kept,) = store.execute("select count(*) from answers").fetchone()
    before = sum(endpoint.asked.values())
    assert 0 < kept < 60
    resumed = llm4rec(*typed, "paths.outputs=killed")
    distinct = len(endpoint.asked)  # two users asked about one title are one question
    assert sum(endpoint.asked.values()) - before == distinct - kept
    whole = llm4rec(*typed, "paths.outputs=whole", f"llm.store={tmp_path}/other.sqlite")
    same = [name for name in read(whole.folder / "metrics.json") if name not in UNLIKE]
    assert {n: resumed.metrics[n] for n in same} == {n: whole.metrics[n] for n in same}
    assert json.dumps(resumed.metrics["llm"]["prompt_tokens"]) == json.dumps(whole.metrics["llm"]["prompt_tokens"])
