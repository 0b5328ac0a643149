"""The search behind `llm4rec tune`, with functions in place of models."""

import itertools
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llm4rec_cli.errors import RunError, UsageError
from llm4rec_studies.tuning.search import JOURNAL, SETTINGS, Budget, Score, Search, Trial, best, expected_best
from llm4rec_studies.tuning.space import Interval, Values

pytest.importorskip("optuna")
SPACE = {"trainer.learning_rate": Interval(1e-4, 1e-1, log=True), "model.layers": Values((1, 2, 3))}
START = {"trainer.learning_rate": 0.01, "model.layers": 2}


@pytest.fixture
def search(tmp_path):
    """search(**settings): the search in a folder, opened anew."""
    return lambda space=SPACE, **settings: Search(tmp_path / "tune", space, [START], settings, seed=0)


class Killed(BaseException):
    """What ends the process of a trial."""


def closeness(settings, on_epoch):
    """The closer the learning rate is to 0.003, the better."""
    return Score(-abs(math.log(settings["trainer.learning_rate"] / 0.003)))


def test_trial_0_is_the_setting_before_tuning_and_the_best_one_is_chosen(search):
    opened = search()
    opened.run(Budget(trials=12), closeness)
    trials = opened.trials()
    assert [trial.number for trial in trials] == list(range(12))
    assert trials[0].settings == START
    assert best(trials).score == max(trial.score for trial in trials) > trials[0].score
    rates = np.array([trial.settings["trainer.learning_rate"] for trial in trials])
    assert ((rates >= 1e-4) & (rates <= 1e-1)).all()
    assert {trial.settings["model.layers"] for trial in trials} == {1, 2, 3}


def test_a_search_killed_while_it_wrote_to_its_journal_goes_on_and_can_be_opened_again(search, tmp_path):
    search().run(Budget(trials=2), closeness)
    journal = tmp_path / "tune" / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-5])  # the end of the second trial
    search().run(Budget(trials=3), closeness)
    counted = [trial for trial in search().trials() if trial.counts]
    assert [trial.state for trial in counted] == ["complete"] * 3
    assert len({trial.settings["trainer.learning_rate"] for trial in counted}) == 3


def test_trial_0_may_lie_outside_the_space_and_the_others_do_not(tmp_path):
    space = {
        "trainer.weight_decay": Interval(1e-5, 1e-1, log=True),
        "model.days": Interval(1, 3, whole=True),
        "model.layers": Values((1, 3)),
    }
    start = {"trainer.weight_decay": 0.0, "model.days": 30, "model.layers": 2}
    opened = Search(tmp_path / "outside", space, [start], {}, seed=0)
    opened.run(Budget(trials=8), lambda settings, _: Score(settings["trainer.weight_decay"]))
    first, *others = [trial.settings for trial in opened.trials()]
    assert first == start
    for settings in others:
        assert 1e-5 <= settings["trainer.weight_decay"] <= 1e-1
        assert settings["model.days"] in (1, 2, 3) and settings["model.layers"] in (1, 3)


def test_no_settings_are_tried_twice_and_a_space_without_others_ends_the_search(tmp_path, caplog):
    space = {"model.layers": Values((1, 2)), "model.heads": Values((1, 2, 3))}
    opened = Search(tmp_path / "small", space, [{"model.layers": 1, "model.heads": 1}], {}, seed=0)
    opened.run(Budget(trials=50), lambda settings, _: Score(settings["model.heads"]))
    tried = [tuple(trial.settings.values()) for trial in opened.trials()]
    assert len(tried) == len(set(tried)) == 6
    assert "tried before" in caplog.text
    again = Search(tmp_path / "small", space, [{"model.layers": 1, "model.heads": 1}], {}, seed=0)
    assert [trial.counts for trial in again.trials()] == [True] * len(tried)


def test_a_budget_is_spent_where_few_values_are_to_choose_from(tmp_path):
    """After two trials TPE alone proposes the better one of them, whatever its seed."""
    space = {"model.recent": Values((1, 2, 3, 5, 10)), "model.steps": Values((1, 2, 3, 5))}
    opened = Search(tmp_path / "floor", space, [{"model.recent": 3, "model.steps": 3}], {}, seed=0)
    opened.run(Budget(trials=8), lambda settings, _: Score(settings["model.steps"] - settings["model.recent"]))
    assert len(opened.trials()) == 8


def test_links_of_a_killed_processs_lock_are_removed_after_a_while(search, tmp_path):
    search()
    old, new = (tmp_path / "tune" / f"{JOURNAL}.lock{name}.rename" for name in ("old", "new"))
    for link in (old, new):
        link.symlink_to(JOURNAL)
    os.utime(old, (0, 0), follow_symlinks=False)
    search()
    assert not old.is_symlink()
    assert new.is_symlink()


def test_further_starts_follow_trial_0_and_are_repeated_after_a_kill(tmp_path):
    def killed_at_the_second(settings, on_epoch):
        if settings["model.layers"] == 7:
            raise Killed
        return Score(1.0)

    starts = [{**START}, {"trainer.learning_rate": 0.05, "model.layers": 7}, {**START, "model.layers": 1}]
    with pytest.raises(Killed):
        Search(tmp_path / "starts", SPACE, starts, {}, seed=0).run(Budget(trials=5), killed_at_the_second)
    opened = Search(tmp_path / "starts", SPACE, starts, {}, seed=0)
    opened.run(Budget(trials=5), closeness)
    counted = [trial for trial in opened.trials() if trial.counts]
    assert len(counted) == 5
    assert [settings in [trial.settings for trial in counted] for settings in starts] == [True] * 3
    seventh = [(trial.state, trial.error) for trial in opened.trials() if trial.settings["model.layers"] == 7]
    assert seventh == [("failed", "killed"), ("complete", None)], "the killed one, and its repetition"
    with pytest.raises(UsageError, match="other settings"):
        Search(tmp_path / "starts", SPACE, starts[:2], {}, seed=0)


def test_a_setting_may_take_one_of_several_lists(tmp_path):
    space = {"model.text_weights": Values(([0.0], [0.5], [2.0]))}
    opened = Search(tmp_path / "lists", space, [{"model.text_weights": [0.5]}], {}, seed=0)
    opened.run(Budget(trials=3), lambda settings, _: Score(settings["model.text_weights"][0]))
    assert best(opened.trials()).settings == {"model.text_weights": [2.0]}


def test_trial_0_outside_the_space_has_another_turn_with_its_own_settings(tmp_path):
    def killed(settings, on_epoch):
        raise Killed

    space, start = {"model.days": Interval(1, 3, whole=True)}, {"model.days": 30}
    with pytest.raises(Killed):
        Search(tmp_path / "killed", space, [start], {}, seed=0).run(Budget(trials=2), killed)
    opened = Search(tmp_path / "killed", space, [start], {}, seed=0)
    opened.run(Budget(trials=2), lambda settings, _: Score(settings["model.days"]))
    assert [trial.settings["model.days"] == 30 for trial in opened.trials()] == [True, True, False]


def test_a_process_that_finds_every_trial_begun_waits_for_one(search):
    first, second = search(), search()
    begun, may_end = threading.Event(), threading.Event()

    def slowly(settings, on_epoch):
        begun.set()
        may_end.wait(10)
        return closeness(settings, on_epoch)

    budget = Budget(trials=1)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(first.run, budget, slowly)
        begun.wait(10)
        waiting = pool.submit(second.run, budget, lambda *_: pytest.fail("the budget is spent"))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)
        may_end.set()
        waiting.result(timeout=10)
    assert best(second.trials()) is not None


def test_the_time_of_a_killed_trial_is_spent_and_its_score_is_counted_once(search, monkeypatch):
    clock = itertools.count(step=60)
    monkeypatch.setattr("llm4rec_studies.tuning.search.time", SimpleNamespace(monotonic=lambda: next(clock)))

    def until_killed(settings, on_epoch):
        for epoch in range(1, 4):
            on_epoch(epoch, epoch / 10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search().run(Budget(trials=1), until_killed)
    opened = search()
    opened.run(Budget(trials=1), lambda *_: Score(0.4, seconds=240))  # its run, which ended before the search knew it
    trials = opened.trials()
    assert [trial.minutes for trial in trials] == [3, 1]
    assert expected_best(trials) == [0.4]
    with pytest.raises(KeyboardInterrupt):
        search().run(Budget(trials=9, minutes=7), until_killed)
    search().run(Budget(trials=9, minutes=7), lambda *_: pytest.fail("the minutes are spent"))


def test_minutes_end_a_search_too(search):
    opened = search()
    opened.run(Budget(trials=50, minutes=10), lambda *_: Score(0.0, seconds=240))
    assert len(opened.trials()) == 3  # 4, 8, 12 minutes


def test_a_trial_below_the_median_of_the_earlier_ones_is_pruned_after_its_fifth_epoch(search):
    levels, epochs = itertools.chain([0.5, 0.6], itertools.repeat(0.1)), []

    def by_epoch(settings, on_epoch):
        level = next(levels)
        for epoch in range(1, 10):
            epochs.append(epoch)
            on_epoch(epoch, level)
        return Score(level)

    opened = search()
    opened.run(Budget(trials=3), by_epoch)
    assert [trial.state for trial in opened.trials()] == ["complete", "complete", "pruned"]
    assert [trial.score for trial in opened.trials()] == [0.5, 0.6, 0.1]
    assert epochs == [*range(1, 10), *range(1, 10), *range(1, 6)]


def test_a_killed_trial_is_judged_by_its_epochs_before_the_kill_too(search):
    """The third trial is best at its second epoch. Its run goes on after the sixth and reports the later ones."""
    levels = iter([[0.5] * 9, [0.5] * 9, [0.1, 0.9, *[0.1] * 4], [*[None] * 6, 0.1, 0.1, 0.1]])

    def by_epoch(settings, on_epoch):
        of_trial = next(levels)
        for epoch, level in enumerate(of_trial, start=1):
            if level is not None:
                on_epoch(epoch, level)
        if len(of_trial) == 6:
            raise KeyboardInterrupt
        return Score(0.9 if None in of_trial else 0.5)

    with pytest.raises(KeyboardInterrupt):
        search().run(Budget(trials=3), by_epoch)
    opened = search()
    opened.run(Budget(trials=3), by_epoch)
    assert [(t.state, t.score) for t in opened.trials() if t.counts] == [("complete", s) for s in (0.5, 0.5, 0.9)]


def test_a_killed_search_makes_the_proposals_of_one_that_never_was(search, tmp_path):
    calls = itertools.count()

    def killed_once(settings, on_epoch):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return closeness(settings, on_epoch)

    with pytest.raises(KeyboardInterrupt):
        search().run(Budget(trials=8), killed_once)
    opened = search()
    opened.run(Budget(trials=8), killed_once)
    whole = Search(tmp_path / "whole", SPACE, [START], {}, seed=0)
    whole.run(Budget(trials=8), closeness)
    assert [t.settings for t in opened.trials() if t.counts] == [t.settings for t in whole.trials()]
    search().run(Budget(trials=8), lambda *_: pytest.fail("the budget is spent"))


def test_a_crash_is_a_failed_trial_and_a_full_disk_ends_the_search(search):
    crashing = {1}

    def crashes(settings, on_epoch):
        if len([t for t in opened.trials() if t.counts]) - 1 in crashing:
            raise torch.OutOfMemoryError("CUDA out of memory\nTried to allocate")
        return closeness(settings, on_epoch)

    opened = search()
    opened.run(Budget(trials=3), crashes)
    states = [("complete", None), ("failed", "OutOfMemoryError: CUDA out of memory"), ("complete", None)]
    assert [(t.state, t.error) for t in opened.trials()] == states
    crashing |= {3, 4}
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        opened.run(Budget(trials=6), crashes)  # twice in a row

    def fills_the_disk(settings, on_epoch):
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="the disk is full"):
        opened.run(Budget(trials=6), fills_the_disk)


def test_a_crash_of_the_first_trial_ends_the_search_which_makes_it_again(search):
    def crashes(settings, on_epoch):
        raise RuntimeError("no kernel image")

    with pytest.raises(RuntimeError, match="no kernel image"):
        search().run(Budget(trials=2), crashes)
    opened = search()
    opened.run(Budget(trials=2), closeness)
    assert next(t.settings for t in opened.trials() if t.counts) == START


def test_a_failed_trial_is_counted_and_stops_no_other(search):
    def fails_once(settings, on_epoch):
        if settings == START:
            raise RunError("the loss is not finite", "lower it")
        return closeness(settings, on_epoch)

    opened = search()
    opened.run(Budget(trials=2), fails_once)
    assert [(t.state, t.error) for t in opened.trials()] == [("failed", "the loss is not finite"), ("complete", None)]


def test_another_space_other_settings_and_other_data_are_another_search_and_damaged_settings_none(search, tmp_path):
    same = {"mask": True, "dataset_fingerprint": "a"}
    for _ in range(2):
        search(**same)
    with pytest.raises(UsageError, match="other settings"):
        search(**same | {"mask": False})
    with pytest.raises(UsageError, match="on other data"):
        search(**same | {"dataset_fingerprint": "b"})
    with pytest.raises(UsageError, match="another space"):
        search({**SPACE, "model.layers": Values((1, 2))}, **same)
    (tmp_path / "tune" / SETTINGS).write_bytes(b"{\xed")
    with pytest.raises(RunError, match=r"settings.json is damaged"):
        search(**same)


def test_a_search_goes_on_with_other_settings_that_affect_no_number(search):
    same = {"dataset_fingerprint": "a"}
    search(overrides=["+experiment=p5/demo", "device=cuda", "paths.cache=a"], **same)
    typed = ["+experiment=p5/demo", "dataset.raw_dir=b", "trainer.eval_batch_size=64", "task.floors=[]"]
    search(overrides=typed, **same)
    for others in (["+experiment=p5/beauty"], ["+experiment=p5/demo", "trainer.batch_size=64"]):
        with pytest.raises(UsageError, match="other settings"):
            search(overrides=others, **same)


def test_the_best_of_n_is_that_of_draws_without_replacement():
    scores = [0.3, 0.1, 0.7, 0.2]
    trials = [Trial(i, "complete", {}, score, 1.0) for i, score in enumerate(scores)]
    trials.append(Trial(9, "failed", {}, None, 1))
    naive = [np.mean([max(drawn) for drawn in itertools.combinations(scores, n)]) for n in range(1, 5)]
    assert expected_best(trials) == pytest.approx(naive)
