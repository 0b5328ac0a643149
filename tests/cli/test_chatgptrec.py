"""`llm4rec train model=chatgptrec` from the command line: local weights, an endpoint, the store, a kill."""

import json
import re
import sqlite3
import time

import pandas as pd
import pytest

from llm4rec_cli.llm import local as local_backend
from tests.llm.chat_server import api_error, chat_server, completed
from tests.llm.tiny_llm import tiny_llm
from tests.support import forked

KEY = "sk-a-key-that-must-appear-nowhere"
TRAIN = ("train", "model=chatgptrec", "task.floors=[]", "task.bootstrap=20")
SMALL = ("model.controls=0", "llm.context=512", "llm.max_tokens=8", "prompt.history_tokens=40")
SMALL += ("prompt.review_tokens=40",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llm(tmp_path_factory.mktemp("llm"))


@pytest.fixture
def local(llm4rec, folder, tmp_path):
    """local(*overrides): a run on the demo with a tiny chat model, with a store of this test."""
    typed = (f"llm.model={folder}", f"llm.store={tmp_path}/answers.sqlite")
    return lambda *overrides: llm4rec(*TRAIN, *SMALL, "task.max_examples=6", *typed, *overrides)


@pytest.fixture
def endpoint(monkeypatch, tmp_path, llm4rec):
    """A server that replies "4"; `endpoint.run` is a run that asks it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with chat_server() as chat:
        chat.responses = lambda prompt: [completed("4")]
        chat.typed = ("llm=openai", f"llm.base_url={chat.url}", f"llm.store={tmp_path}/answers.sqlite")
        chat.run = lambda *typed: llm4rec(*TRAIN, *chat.typed, *typed)
        yield chat


@pytest.fixture(scope="module")
def constrained(tmp_path_factory):
    """Overrides for lists of five candidates, which need more context than other answers."""
    roomy = tiny_llm(tmp_path_factory.mktemp("roomy"), 2048)
    return ("task=direct", "task.negatives=4", "model.answer=constrained", f"llm.model={roomy}", "llm.context=2048")


def requests_of(run):
    """How many requests a run and its controls sent."""
    return run.metrics["llm"]["requests"] + run.metrics["controls"]["llm"]["requests"]


# ---- local weights


@pytest.mark.parametrize("task", ["sequential", "explanation"])
def test_every_task_is_evaluated_and_accounted_for(local, task):
    run = local(f"task={task}", "model.answer=generate")
    metrics = run.metrics
    assert metrics["n_examples"] == 6
    shares = [metrics["metrics"][f"answers/{status}"] for status in ("ok", "repaired", "invalid")]
    assert sum(shares) == pytest.approx(1)
    assert metrics["llm"]["requests"] == 6 and metrics["llm"]["prompt_tokens"] > 0
    assert "substitute-llm" in metrics["labels"]
    if task == "sequential":
        rows = pd.read_parquet(run.folder / "predictions.parquet")
        assert {"answer", "status", "n_listed", "n_hallucinated"} <= set(rows)


def test_constrained_lists_are_valid_and_come_with_controls_which_a_dry_run_counts(local, constrained):
    typed = (*constrained, "model.controls=4")
    shown = local(*typed, "llm.dry_run=true")
    assert shown.code == 0
    counts = [int(n) for n in re.findall(r"^to send: (\d+),", shown.out, re.MULTILINE)]
    assert counts[0] == 6 and len(counts) > 5, "the run's, and a line for each variation"
    assert f"in all, as estimated: {sum(counts)} requests, " in shown.out
    run = local(*typed)
    assert sum(counts) - 2 <= requests_of(run) <= sum(counts), "a short history may be shuffled into itself"
    metrics = run.metrics["metrics"]
    assert metrics["answers/ok"] == 1 and metrics["listed/exact"] == 1
    assert metrics["listed/mean"] == 5 and metrics["hr@10"] == 1, "all five are named"
    controls = run.metrics["controls"]
    assert controls["users"] == 4 and controls["order"]["orders"] == 3
    assert run.metrics["llm"]["requests"] == 6, "the run's own"
    rows = pd.read_parquet(run.folder / "predictions.parquet")
    assert all(len(log_probs) == 5 and max(log_probs) <= 0 for log_probs in rows["log_probability"])
    assert local(*typed, "llm.replay=true", "force=true").metrics["controls"] == controls


def test_a_list_among_the_whole_catalogue_is_valid_and_a_replay_without_answers_of_controls_has_none(
    local, constrained
):
    metrics = local("task=sequential", *constrained[2:]).metrics["metrics"]
    assert metrics["answers/ok"] == 1 and metrics["listed/exact"] == 1 and metrics["listed/mean"] == 10
    local(*constrained)
    assert "controls" not in local(*constrained, "llm.replay=true", "force=true", "model.controls=3").metrics


def test_a_replayed_run_is_the_same_run_and_another_version_of_the_backend_makes_another(local, monkeypatch):
    refusal = local("task=rating", "llm.replay=true")
    assert refusal.code == 1 and "6 of 6 answers" in refusal.err
    first = local("task=rating")
    again = local("task=rating", "llm.replay=true", "force=true").metrics
    # `overrides` are those typed; the seconds of stored answers are those of their requests.
    same = [name for name in first.metrics if name not in ("seconds", "peak_rss_mb", "overrides")]
    assert {name: again[name] for name in same} == {name: first.metrics[name] for name in same}
    assert local("task=rating").folder == first.folder
    monkeypatch.setattr(local_backend, "VERSION", -1)
    other = local("task=rating")
    assert other.folder != first.folder
    assert other.metrics["variant"] != first.metrics["variant"], "seeds of both are not averaged"


@pytest.mark.parametrize("typed", [("model.answer=pmi",), ("model.answer=generate", "prompt.shuffles=3")])
def test_a_dry_run_counts_no_request_twice_and_leaves_no_run(local, tmp_path, typed):
    typed = ("task=direct", "task.negatives=4", "model.controls=4", *typed)
    shown = local(*typed, "llm.dry_run=true")
    assert not list(tmp_path.glob("outputs/*/*/*/*/status.json")), "nor one of a floor"
    (estimated,) = map(int, re.findall(r"in all, as estimated: (\d+) requests", shown.out))
    assert estimated - 2 <= requests_of(local(*typed)) <= estimated, "a short history may be shuffled into itself"


# ---- an endpoint


def test_an_endpoint_lists_candidates_as_its_schema_demands(endpoint):
    def answer(http):
        schema = json.loads(http.sent)["response_format"]["json_schema"]["schema"]["properties"]["answer"]
        completed(json.dumps({"answer": sorted(schema["items"]["enum"])[: schema["minItems"]]}))(http)

    endpoint.responses = lambda prompt: [answer]
    typed = ("task=direct", "task.negatives=19", "task.max_examples=5", "model.answer=constrained", "model.controls=0")
    run = endpoint.run(*typed, "llm.structured=json_schema")
    assert run.code == 0, run.err
    metrics = run.metrics["metrics"]
    assert metrics["answers/ok"] == 1 and metrics["listed/hallucinated"] == 0
    assert len(endpoint.bodies) == 5 and not run.metrics["warnings"][1:]


def test_a_finished_run_is_asked_again_after_the_server_was_mended(endpoint):
    typed = ("task=rating", "task.max_examples=3", "model.controls=0")
    endpoint.responses = lambda prompt: [completed("I do not know"), completed("4")]  # the first time, the second
    unread = endpoint.run(*typed)
    assert "none of 3 answers could be read" in unread.out and "'I do not know'" in unread.out
    assert endpoint.run(*typed, "force=true").metrics["metrics"]["answers/invalid"] == 1  # stored answers
    assert "unread-answers" in unread.metrics["labels"]
    again = endpoint.run(*typed, "llm.ask_again=true")
    assert again.metrics["metrics"]["said/coverage"] == 1
    assert sum(endpoint.counts.values()) == 6
    refused = endpoint.run(*typed, "llm.ask_again=true", "llm.replay=true")
    assert refused.code == 2 and "llm.replay sends none" in refused.err


def test_the_key_is_written_nowhere(endpoint, tmp_path):
    done = endpoint.run("task=rating", "task.max_examples=3", "-v")
    assert done.code == 0, done.err
    assert endpoint.keys == {f"Bearer {KEY}"}
    other = endpoint.run("task=rating", "task.max_examples=2", "prompt.shots=1", "-v")
    endpoint.responses = lambda prompt: [api_error(401, f"{KEY} is no key")]
    refusal = endpoint.run("task=rating", "task.max_examples=2", "prompt.noun=film", "-v")
    assert refusal.code == 2
    assert KEY not in done.out + done.err + other.out + other.err + refusal.out + refusal.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def test_a_budget_that_is_too_small_loses_nothing(endpoint):
    few = endpoint.run("task=rating", "task.max_examples=30", "llm.budget_tokens=150")
    assert few.code == 1 and "llm.budget_tokens=" in few.err
    assert 0 < sum(endpoint.counts.values()) < 30
    assert endpoint.run("task=rating", "task.max_examples=30").code == 0
    assert set(endpoint.counts.values()) == {1}, "no request was paid for twice"


@pytest.mark.slow
def test_a_run_killed_amid_its_requests_resumes_as_if_undisturbed(llm4rec, endpoint, tmp_path, cache):
    endpoint.responses = lambda prompt: [lambda request: (time.sleep(0.05), completed("3 stars")(request))] * 3
    typed = (*TRAIN, "task=rating", "task.max_examples=60", *endpoint.typed, "llm.concurrency=2")
    command = (*typed, "paths.outputs=killed", f"paths.cache={cache / 'llm4rec'}")
    (running,) = forked.start(forked.llm4rec, *command, cwd=tmp_path)
    while sum(endpoint.counts.values()) < 10:
        time.sleep(0.02)
    running.kill()
    running.join()
    with sqlite3.connect(tmp_path / "answers.sqlite") as store:
        (n_stored,) = store.execute("select count(*) from answers").fetchone()
    before = sum(endpoint.counts.values())
    assert 0 < n_stored < 60
    resumed = llm4rec(*typed, "paths.outputs=killed")
    distinct = len(endpoint.counts)  # two users with the same prompt share a request
    assert sum(endpoint.counts.values()) - before == distinct - n_stored
    whole = llm4rec(*typed, "paths.outputs=whole", f"llm.store={tmp_path}/other.sqlite")
    different = ("seconds", "peak_rss_mb", "llm", "overrides")
    same = [name for name in whole.metrics if name not in different]
    assert {n: resumed.metrics[n] for n in same} == {n: whole.metrics[n] for n in same}
    assert resumed.metrics["llm"]["prompt_tokens"] == whole.metrics["llm"]["prompt_tokens"]
