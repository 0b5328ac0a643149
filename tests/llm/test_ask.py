"""Asking: what the store has is not asked again, groups stay whole, and the budget is never exceeded."""

import logging
import re
import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec_cli.commands import train
from llm4rec_cli.errors import DryRun, RunError
from llm4rec_cli.llm import ask
from llm4rec_cli.llm.ask import Usage
from llm4rec_cli.llm.endpoint import EndpointBackend
from llm4rec_cli.llm.store import Store, key_of
from tests.llm.scripted import Scripted, answer, llm_config, request, requests


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "answers.sqlite") as store:
        yield store


def asked(backend, store, wanted, usage=None, **settings):
    """The texts of the answers."""
    usage = usage if usage is not None else Usage()
    return [one.text for one in ask.answers(wanted, backend, llm_config(**settings), store, "asking", usage)]


def interrupted(store, after, error, size=None):
    """A run that ends by an error after so many answers."""
    with pytest.raises(type(error)):
        asked(Scripted(size, after, error), store, requests(10))


# --- what is asked


def test_answers_come_in_the_order_of_the_requests(store):
    assert asked(Scripted(), store, requests(10)) == [f"to question {i} " for i in range(10)]


def test_what_is_stored_is_not_asked_again(store):
    first, again, more = Scripted(), Scripted(), Scripted()
    answers = asked(first, store, requests(10))
    assert asked(again, store, requests(10)) == answers
    assert again.asked == []
    assert asked(more, store, requests(12))[:10] == answers
    assert sorted(more.all_asked) == ["question 10", "question 11"]


def test_the_same_request_twice_is_asked_once(store):
    backend = Scripted()
    assert asked(backend, store, [request("a"), request("b"), request("a")]) == ["to a ", "to b ", "to a "]
    assert sorted(backend.all_asked) == ["a", "b"]


def test_nothing_is_asked_where_there_is_no_request(store):
    backend = Scripted()
    assert asked(backend, store, []) == []
    assert backend.asked == []


@pytest.mark.parametrize("error", [RunError("gone"), KeyboardInterrupt(), ZeroDivisionError()])
def test_what_was_answered_before_an_error_is_kept(store, error):
    interrupted(store, 4, error)
    backend = Scripted()
    assert asked(backend, store, requests(10)) == [f"to question {i} " for i in range(10)]
    assert len(backend.all_asked) == 6


@pytest.mark.parametrize("after", range(10))
def test_answers_that_depend_on_their_group_do_not_depend_on_where_a_run_stopped(store, tmp_path, after):
    with Store(tmp_path / "undisturbed.sqlite") as other:
        undisturbed = asked(Scripted(3), other, requests(10))
    interrupted(store, after, RunError("gone"), size=3)
    backend = Scripted(3)
    assert asked(backend, store, requests(10)) == undisturbed
    assert len(backend.all_asked) >= 10 - after


def test_a_group_is_asked_whole_and_alone(store):
    backend = Scripted(3)
    asked(backend, store, requests(10))
    assert sorted(map(sorted, backend.asked)) == [
        ["question 0", "question 1", "question 2"],
        ["question 3", "question 4", "question 5"],
        ["question 6", "question 7", "question 8"],
        ["question 9"],
    ]


def test_what_another_process_answered_meanwhile_is_not_asked(store):
    class Slow(Scripted):
        def ask(self, requests):
            for number, one in super().ask(requests):
                if number == 0:
                    keys, _ = ask.keys_of(self.elsewhere, self)
                    for key, wanted in zip(keys, self.elsewhere, strict=True):
                        store.keep(key, self.identity(), wanted, answer("elsewhere"), 0.0)
                yield number, one

    for backend in (Slow(), Slow(3)):
        backend.elsewhere = requests(9)
        usage = Usage()
        texts = asked(backend, store, requests(9), usage)
        sent = backend.size or 1
        assert len(backend.all_asked) == sent
        assert texts.count("elsewhere") == 9  # the answer that was first is kept
        assert (usage.sent, usage.stored) == (sent, 9 - sent)


def test_an_answer_that_depends_on_its_group_is_kept_for_that_group_alone(store, tmp_path):
    asked(Scripted(3), store, requests(4))
    more = asked(Scripted(3), store, requests(10))
    with Store(tmp_path / "fresh.sqlite") as other:
        assert more == asked(Scripted(3), other, requests(10))


# --- the store alone


def test_a_replay_asks_nothing(store):
    answers = asked(Scripted(), store, requests(10))
    assert asked(Scripted(fails_after=0, error=AssertionError()), store, requests(10), replay=True) == answers


def test_a_replay_says_how_many_answers_are_missing(store):
    asked(Scripted(), store, requests(7))
    backend = Scripted()
    with pytest.raises(RunError, match=r"asking: 3 of 10 answers are not in .*answers\.sqlite") as refused:
        asked(backend, store, requests(10), replay=True)
    assert "llm.replay=false" in refused.value.remedy
    assert backend.asked == []


# --- what it costs


def test_usage_is_that_of_all_answers_and_tells_what_was_asked_now(store):
    usage = Usage()
    asked(Scripted(), store, requests(4))
    thrice, identity = request("sent thrice"), Scripted().identity()
    store.keep(key_of(identity, thrice), identity, thrice, answer("x", attempts=3), 0.0)
    asked(Scripted(), store, [*requests(10), request("sent thrice")], usage)
    assert usage == Usage(
        requests=11,
        stored=5,
        sent=6,
        resent=2,
        prompt_tokens=55,
        answer_tokens=33,
        seconds=5.5,
        cost=pytest.approx((55 + 2 * 33) / 1e6),
        spent_tokens=48,
        spent_cost=pytest.approx((30 + 2 * 18) / 1e6),
    )


def test_a_resumed_run_describes_the_same_usage(store, tmp_path):
    undisturbed, resumed = Usage(), Usage()
    with Store(tmp_path / "undisturbed.sqlite") as other:
        asked(Scripted(3), other, requests(10), undisturbed)
    interrupted(store, 5, RunError("gone"), size=3)
    asked(Scripted(3), store, requests(10), resumed)
    assert resumed.describe() == undisturbed.describe()
    assert resumed.describe().keys() == {"requests", "resent", "prompt_tokens", "answer_tokens", "seconds", "cost"}


def test_what_each_answer_cost_is_stored(store):
    asked(Scripted(), store, requests(3))
    costs = sqlite3.connect(store.path).execute("SELECT cost FROM answers").fetchall()
    assert costs == [(pytest.approx(11e-6),)] * 3


# An answer takes 8 tokens; a request is estimated at 32 + 8 + 2 of prompt and 10 of answer: 52.
@pytest.mark.parametrize(("budget", "sent"), [(0, 0), (51, 0), (52, 1), (59, 1), (60, 2), (124, 10)])
def test_a_budget_of_tokens_is_checked_before_each_call(store, budget, sent):
    usage, backend = Usage(), Scripted()
    if sent == 10:
        asked(backend, store, requests(10), usage, budget_tokens=budget)
    else:
        with pytest.raises(RunError) as ended:
            asked(backend, store, requests(10), usage, budget_tokens=budget)
        left = 10 - sent
        assert f"llm.budget_tokens={budget}: {8 * sent} are spent" in ended.value.problem
        assert f"{left} of 10 answers are missing, and the next may take 52" in ended.value.problem
        assert f"llm.budget_tokens={52 * left} is enough" in ended.value.remedy
    assert len(backend.all_asked) == sent
    assert usage.spent_tokens == 8 * sent


def test_a_budget_of_cost_is_checked_before_each_call(store):
    backend = Scripted()  # at most (42 + 2 * 10) / 1e6 a request, and 11 / 1e6 in the end
    with pytest.raises(RunError, match=r"llm.budget_cost=8e-05: 0.0000 is spent, 8 of 10 answers are missing") as ended:
        asked(backend, store, requests(10), budget_cost=80e-6)
    assert "llm.budget_cost=0.0005 is enough for the rest" in ended.value.remedy
    assert len(backend.all_asked) == 2


def test_what_the_budget_paid_for_is_kept_and_costs_nothing_again(store):
    with pytest.raises(RunError):
        asked(Scripted(), store, requests(10), budget_tokens=60)
    backend = Scripted()
    asked(backend, store, requests(10), budget_tokens=8 * 52)
    assert len(backend.all_asked) == 8


def test_the_budget_is_one_for_all_that_a_run_asks(store):
    usage = Usage()
    asked(Scripted(), store, requests(10), usage, budget_tokens=150)
    with pytest.raises(RunError, match=r"budget_tokens=150: 104 are spent, 7 of 10 answers are missing"):
        asked(Scripted(), store, [request(f"another {i}") for i in range(10)], usage, budget_tokens=150)


def test_a_group_that_the_budget_does_not_reach_for_is_not_begun(store):
    backend = Scripted(3)
    with pytest.raises(RunError, match="24 are spent, 6 of 9 answers are missing"):
        asked(backend, store, requests(9), budget_tokens=3 * 52 + 10)
    assert len(backend.all_asked) == 3


@settings(max_examples=25, deadline=None)
@given(budget=st.integers(0, 700), slots=st.integers(1, 5))
def test_no_budget_is_exceeded_however_many_are_under_way(tmp_path_factory, budget, slots):
    class Parallel(Scripted):
        """Takes several requests before it answers one, whose answers take all that they may."""

        def ask(self, requests):
            under_way, waiting = [], enumerate(requests)
            while True:
                under_way += [due for due in [next(waiting, None) for _ in range(slots - len(under_way))] if due]
                if not under_way:
                    return
                number, _ = under_way.pop()
                yield number, answer("x", prompt_tokens=42, answer_tokens=10)

    usage = Usage()
    with Store(tmp_path_factory.mktemp("store") / "answers.sqlite") as store:
        try:
            asked(Parallel(), store, requests(10), usage, budget_tokens=budget)
        except RunError:
            assert budget < 520
    assert usage.spent_tokens == 52 * min(10, budget // 52)


# --- nothing asked


def test_a_dry_run_shows_requests_and_what_they_would_cost(store, capsys):
    backend = Scripted()
    asked(backend, store, requests(4))
    with pytest.raises(DryRun):
        asked(Scripted(fails_after=0, error=AssertionError()), store, requests(10), dry_run=True)
    shown = capsys.readouterr().out
    assert f"asking: 10 requests, 4 of them answered in {store.path}" in shown
    assert "to be asked: 6, at most 312 tokens at a cost of 0.0004" in shown
    assert shown.count("user:\n    question") == ask.SHOWN


def test_a_dry_run_shows_texts_that_cannot_act_on_a_terminal(store, capsys):
    wanted = [request("é\x1b[2J\u202e\nnext {x} [red]"), request("b", continuations=("a\x1b", "b"))]
    with pytest.raises(DryRun):
        asked(Scripted(), store, wanted, dry_run=True)
    shown = capsys.readouterr().out
    assert "    é\\x1b[2J\\u202e\n    next {x} [red]\n" in shown
    assert "judges 2, first 'a\\x1b'" in shown
    assert "\x1b" not in shown


def test_a_dry_run_ends_a_command_well(llm4rec, monkeypatch):
    monkeypatch.setattr(train, "run", shows)
    done = llm4rec("train")
    assert (done.code, done.out, done.err) == (0, "shown\n", "")


def test_a_dry_run_ends_each_job_of_a_sweep_well(llm4rec, monkeypatch):
    monkeypatch.setattr(train, "run", shows)
    done = llm4rec("train", "-m", "seed=0,1")
    assert done.code == 0, done.err
    assert len(re.findall(r"shown +a dry run", done.out)) == 2


def shows(config):
    print("shown")
    raise DryRun("a dry run")


# --- who and where


def test_the_backend_is_chosen_by_name(tmp_path):
    backend = ask.backend(llm_config(), tmp_path, "cpu", 0)
    assert isinstance(backend, EndpointBackend)


def test_the_store_lies_in_the_cache_unless_it_is_named(tmp_path):
    assert ask.store_path(llm_config(), tmp_path) == tmp_path / "llm" / "answers.sqlite"
    assert ask.store_path(llm_config(store="/x/y.sqlite"), tmp_path).as_posix() == "/x/y.sqlite"


def test_the_log_tells_how_it_ended(store, caplog):
    with caplog.at_level(logging.INFO):
        interrupted(store, 4, RunError("gone"))
    assert (
        "asking: 4 of 10 answers are in the store, 4 requests were sent, 32 tokens spent at a cost of 0.0"
        in caplog.text
    )


def test_repeats_of_a_request_are_asked_apart(store):
    backend = Scripted()
    assert len(asked(backend, store, [replace(request("a"), repeat=i) for i in range(3)])) == 3
    assert len({key_of({}, replace(request("a"), repeat=i)) for i in range(3)}) == len(backend.all_asked) == 3
