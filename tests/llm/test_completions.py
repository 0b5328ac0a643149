"""Stored completions are not requested again, batches stay whole, and the budget is never exceeded."""

import re
import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec_cli.commands import train
from llm4rec_cli.errors import DryRun, RunError
from llm4rec_cli.llm import completions
from llm4rec_cli.llm.completions import Usage, cache_keys
from llm4rec_cli.llm.store import Store, cache_key
from tests.llm.echo_backend import EchoBackend, completion, llm_config, request, requests
from tests.llm.fake_backend import FakeBackend


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "answers.sqlite") as store:
        yield store


def texts(backend, store, batch, usage=None, **settings):
    """The texts of the completions."""
    usage = usage if usage is not None else Usage()
    return [c.text for c in completions.complete(batch, backend, llm_config(**settings), store, "querying", usage)]


def interrupted(store, after, error, size=None):
    """Run until an error after so many completions."""
    with pytest.raises(type(error)):
        texts(EchoBackend(size, after, error), store, requests(10))


# --- requests


def test_completions_come_in_the_order_of_the_requests_and_stored_ones_are_not_requested_again(store):
    first, again, more = EchoBackend(), EchoBackend(), EchoBackend()
    before = texts(first, store, requests(10))
    assert before == [f"to question {i} " for i in range(10)]
    assert texts(again, store, requests(10)) == before
    assert texts(again, store, []) == []
    assert again.calls == []
    assert texts(more, store, requests(12))[:10] == before
    assert sorted(more.sent) == ["question 10", "question 11"]


def test_stored_completions_are_asked_again_once_a_run_where_that_is_typed(tmp_path):
    path, backends = tmp_path / "answers.sqlite", [EchoBackend(), EchoBackend(), EchoBackend()]
    with Store(path) as first:
        texts(backends[0], first, requests(3))
    with Store(path) as second:
        for _ in range(2):  # answers are completed, and later read again for the metrics
            texts(backends[1], second, requests(3), ask_again=True)
        assert len(second.get(cache_keys(requests(3), EchoBackend())[0])) == 3
    assert [len(backend.sent) for backend in backends] == [3, 3, 0]


def test_asking_again_loses_nothing_before_an_answer_arrives_and_mixes_no_old_ones_with_new(tmp_path, capsys):
    keys = cache_keys(requests(3), EchoBackend())[0]
    with Store(tmp_path / "answers.sqlite") as store:
        texts(EchoBackend(), store, requests(3))
    with Store(tmp_path / "answers.sqlite") as dry, pytest.raises(DryRun):
        texts(EchoBackend(), dry, requests(3), ask_again=True, dry_run=True)
    assert "to send: 3," in capsys.readouterr().out
    with Store(tmp_path / "answers.sqlite") as refused, pytest.raises(RunError, match="budget_tokens=1"):
        texts(EchoBackend(), refused, requests(3), ask_again=True, budget_tokens=1)
    with Store(tmp_path / "answers.sqlite") as store:
        assert len(store.get(keys)) == 3
        assert [store.replace(keys[:2]), store.replace(keys)] == [2, 1], "each once"
        assert store.get(keys) == {}
        new = completion("another text")
        store.add(keys[0], {}, requests(1)[0], new, 0.0)
        assert store.get(keys) == {keys[0]: new}


def test_continuations_that_are_scored_one_by_one_are_paid_for_once(store):
    """A run that ends after three of five keeps these."""
    titles = ("Heat", "Alien", "Jaws", "Fargo", "Up")

    def scored(most):
        def reply(one):
            assert len(one.continuations) == 1 and len(backend.requests) <= most, "no more are sent"
            return [-len(one.continuations[0])]

        backend = FakeBackend(reply)
        backend.scores_one_by_one = True
        (whole,) = completions.complete(
            [request("a", continuations=titles)], backend, llm_config(), store, "querying", Usage()
        )
        return whole, backend.requests

    with pytest.raises(AssertionError, match="no more are sent"):
        scored(3)
    whole, sent = scored(2)
    assert len(sent) == 2 and whole.logprobs == (-4, -5, -4, -5, -2) and whole.lengths == (1, 1, 1, 1, 1)
    assert (whole.prompt_tokens, whole.answer_tokens) == (5, 5)


def test_equal_requests_are_sent_once_and_repeats_separately(store):
    backend = EchoBackend()
    assert texts(backend, store, [request("a"), request("b"), request("a")]) == ["to a ", "to b ", "to a "]
    assert sorted(backend.sent) == ["a", "b"]
    repeats = [replace(request("c"), repeat=i) for i in range(3)]
    assert len(texts(backend, store, repeats)) == 3
    assert len({cache_key({}, repeat) for repeat in repeats}) == backend.sent.count("c") == 3


@pytest.mark.parametrize("error", [RunError("gone"), KeyboardInterrupt(), ZeroDivisionError()])
def test_completions_before_an_error_are_stored(store, error):
    interrupted(store, 4, error)
    backend = EchoBackend()
    assert texts(backend, store, requests(10)) == [f"to question {i} " for i in range(10)]
    assert len(backend.sent) == 6


def test_batched_completions_do_not_depend_on_where_a_run_stopped(tmp_path):
    usages = []
    for after in (None, *range(10)):
        with Store(tmp_path / f"{after}.sqlite") as store:
            if after is not None:
                interrupted(store, after, RunError("gone"), size=3)
            backend, usage = EchoBackend(3), Usage()
            resumed = texts(backend, store, requests(10), usage)
        if after is None:
            undisturbed = resumed
        assert resumed == undisturbed
        assert len(backend.sent) >= 10 - (after or 0)
        usages.append(usage.describe())
    assert all(usage == usages[0] for usage in usages)


def test_a_batch_is_sent_whole_and_alone_and_its_completions_are_stored_for_it_alone(store, tmp_path):
    texts(EchoBackend(3), store, requests(4))
    more = texts(EchoBackend(3), store, requests(10))
    backend = EchoBackend(3)
    with Store(tmp_path / "fresh.sqlite") as other:
        assert more == texts(backend, other, requests(10))
    assert sorted(map(sorted, backend.calls)) == [
        ["question 0", "question 1", "question 2"],
        ["question 3", "question 4", "question 5"],
        ["question 6", "question 7", "question 8"],
        ["question 9"],
    ]


def test_what_another_process_completed_meanwhile_is_not_requested(store):
    class SlowBackend(EchoBackend):
        def complete(self, requests):
            for index, result in super().complete(requests):
                if index == 0:
                    keys, _ = completions.cache_keys(self.elsewhere, self)
                    for key, other in zip(keys, self.elsewhere, strict=True):
                        store.add(key, self.identity(), other, completion("elsewhere"), 0.0)
                yield index, result

    for backend in (SlowBackend(), SlowBackend(3)):
        backend.elsewhere = requests(9)
        usage = Usage()
        results = texts(backend, store, requests(9), usage)
        sent = backend.size or 1
        assert len(backend.sent) == sent
        assert results.count("elsewhere") == 9  # the first completion is the stored one
        assert (usage.sent, usage.stored) == (sent, 9 - sent)


# --- replay


def test_a_replay_sends_nothing_and_says_how_many_answers_are_missing(store):
    before = texts(EchoBackend(), store, requests(7))
    backend = EchoBackend(fails_after=0, error=AssertionError())
    assert texts(backend, store, requests(7), replay=True) == before
    with pytest.raises(RunError, match=r"querying: 3 of 10 answers are not in .*answers\.sqlite") as refused:
        texts(backend, store, requests(10), replay=True)
    assert "llm.replay=false" in refused.value.remedy
    assert backend.calls == []


# --- usage and budget


def test_usage_covers_all_completions_and_counts_those_of_this_run(store):
    usage = Usage()
    texts(EchoBackend(), store, requests(4))
    thrice, identity = request("sent thrice"), EchoBackend().identity()
    store.add(cache_key(identity, thrice), identity, thrice, completion("x", attempts=3), 0.0)
    texts(EchoBackend(), store, [*requests(10), request("sent thrice")], usage)
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
    costs = sorted(cost for (cost,) in sqlite3.connect(store.path).execute("SELECT cost FROM answers"))
    assert costs == pytest.approx([0.0, *[11e-6] * 10]), "the cost of each completion is stored"


def test_tokens_that_the_server_had_cached_have_their_own_price(store):
    class Cached(EchoBackend):
        def complete(self, requests):
            for index, _ in super().complete(requests):
                yield index, completion("x", cached_tokens=4)

    usage = Usage()
    texts(Cached(), store, requests(10), usage, price_cached=0.1)
    assert usage.describe()["cached_tokens"] == 40
    assert usage.cost == usage.spent_cost == pytest.approx(10 * (1 + 4 * 0.1 + 2 * 3) / 1e6)
    assert completions._cost_of(llm_config(), completion("x", cached_tokens=4)) == pytest.approx(11e-6)


# A request takes 8 tokens; it is estimated at 32 + 8 + 2 of the prompt and 10 of the completion: 52.
@pytest.mark.parametrize(("budget", "sent"), [(0, 0), (51, 0), (52, 1), (59, 1), (60, 2), (124, 10)])
def test_a_budget_of_tokens_is_checked_before_each_call(store, budget, sent):
    usage, backend = Usage(), EchoBackend()
    if sent == 10:
        texts(backend, store, requests(10), usage, budget_tokens=budget)
    else:
        with pytest.raises(RunError) as ended:
            texts(backend, store, requests(10), usage, budget_tokens=budget)
        left = 10 - sent
        assert f"llm.budget_tokens={budget}: {8 * sent} tokens are spent" in ended.value.problem
        assert f"{left} of 10 answers are missing, and the next may take 52" in ended.value.problem
        assert f"set llm.budget_tokens={52 * left}, enough" in ended.value.remedy
        again = EchoBackend()
        texts(again, store, requests(10), budget_tokens=52 * left)
        assert len(again.sent) == left, "those that were paid for are stored and cost nothing again"
    assert len(backend.sent) == sent
    assert usage.spent_tokens == 8 * sent


def test_a_budget_of_cost_is_checked_before_each_call(store):
    backend = EchoBackend()  # at most (42 + 2 * 10) / 1e6 a request, and 11 / 1e6 in the end
    with pytest.raises(RunError, match=r"llm.budget_cost=8e-05: 0.0000 is spent, 8 of 10 answers are missing") as ended:
        texts(backend, store, requests(10), budget_cost=80e-6)
    assert "set llm.budget_cost=0.0005, enough for the rest" in ended.value.remedy
    assert len(backend.sent) == 2


def test_one_budget_covers_all_calls_of_a_run(store):
    usage = Usage()
    texts(EchoBackend(), store, requests(10), usage, budget_tokens=150)
    with pytest.raises(RunError, match=r"budget_tokens=150: 104 tokens are spent, 7 of 10 answers are missing"):
        texts(EchoBackend(), store, [request(f"another {i}") for i in range(10)], usage, budget_tokens=150)
    backend = EchoBackend(3)
    with pytest.raises(RunError, match="24 tokens are spent, 6 of 9 answers are missing"):  # no batch is begun
        texts(backend, store, [request(f"other {i}") for i in range(9)], budget_tokens=3 * 52 + 10)
    assert len(backend.sent) == 3


@settings(max_examples=25)
@given(budget=st.integers(0, 700), slots=st.integers(1, 5))
def test_no_budget_is_exceeded_however_many_are_under_way(tmp_path_factory, budget, slots):
    class ParallelBackend(EchoBackend):
        """Takes several requests before it completes one, with as many tokens as estimated."""

        def complete(self, requests):
            under_way, waiting = [], enumerate(requests)
            while True:
                under_way += [due for due in [next(waiting, None) for _ in range(slots - len(under_way))] if due]
                if not under_way:
                    return
                index, _ = under_way.pop()
                yield index, completion("x", prompt_tokens=42, answer_tokens=10)

    usage = Usage()
    with Store(tmp_path_factory.mktemp("store") / "answers.sqlite") as store:
        try:
            texts(ParallelBackend(), store, requests(10), usage, budget_tokens=budget)
        except RunError:
            assert budget < 520
    assert usage.spent_tokens == 52 * min(10, budget // 52)


# --- dry run


def test_a_dry_run_shows_requests_what_they_would_cost_and_no_text_that_could_act_on_a_terminal(store, capsys):
    backend = EchoBackend()
    texts(backend, store, requests(4))
    with pytest.raises(DryRun):
        texts(EchoBackend(fails_after=0, error=AssertionError()), store, requests(10), dry_run=True)
    shown = capsys.readouterr().out
    assert f"querying: 10 requests, 4 in {store.path}" in shown
    assert "to send: 6, about 252 prompt tokens, at most 60 answer tokens, about 0.0004 in cost" in shown
    assert shown.count("user:\n    question") == completions.DRY_RUN_REQUESTS
    batch = [request("é\x1b[2J\u202e\nnext {x} [red]"), request("b", continuations=("a\x1b", "b"))]
    with pytest.raises(DryRun):
        texts(EchoBackend(), store, batch, dry_run=True)
    shown = capsys.readouterr().out
    assert "    é\\x1b[2J\\u202e\n    next {x} [red]\n" in shown
    assert "score 2, first 'a\\x1b'" in shown
    assert "\x1b" not in shown


def test_a_dry_run_ends_a_command_and_each_job_of_a_sweep_well(llm4rec, monkeypatch):
    def shows(config):
        raise DryRun("a dry run")

    monkeypatch.setattr(train, "run", shows)
    assert llm4rec("train").code == 0
    swept = llm4rec("train", "-m", "seed=0,1")
    assert swept.code == 0, swept.err
    assert len(re.findall(r"shown +a dry run", swept.out)) == 2
