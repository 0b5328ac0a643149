"""P5's training examples: what each kind may hold, and what none may."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.data.split import TRAIN, leave_one_out
from llm4rec_cli.models.p5 import prompts
from llm4rec_cli.models.p5.config import Negatives, Targets
from llm4rec_cli.models.p5.rows import KINDS, N_CANDIDATES, P5Rows, kind
from llm4rec_cli.models.shared.sequences import IGNORED
from tests.models.p5_data import config, prompter, shop

pytestmark = pytest.mark.numeric


@pytest.fixture
def rows(tmp_path):
    def build(names=None, held=None, split=None, **samples) -> P5Rows:
        split = split or shop()
        settings = config()
        settings = replace(settings, samples=replace(settings.samples, **samples))
        found = prompter(settings, shop(), tmp_path)
        usable = [n for n, p in prompts.usable(settings.prompts, split.dataset).items() if p.trained]
        return P5Rows(settings, split, found, usable if names is None else names, 0, held)

    return build


def questions(rows: P5Rows, name: str, n: int = 300):
    """What a pool of one prompt asks, and what is answered, in n draws."""
    (pool,) = rows.pools
    found = []
    for i in range(n):
        unit = int(pool.units[i % len(pool.units)])
        found.append((unit, *rows._of_user(kind(rows.config, name), unit, np.random.default_rng(i))))
    return found


def held_by(user: int, upto: int | None = None) -> list[int]:
    dataset = shop().dataset
    return dataset.sequence[dataset.offsets[user] : dataset.offsets[user + 1]][:upto].tolist()


def test_an_epoch_has_as_many_rows_of_each_kind_as_the_settings_say(rows):
    found = rows(sequential_item=5, direct_yes_no=10, rating=1)
    counts = {pool.kind: len(pool.units) * pool.times for pool in found.pools}
    n_train = int((shop().assignment == TRAIN).sum())
    assert counts["rating"] == counts["explanation"] == counts["review_summary"] == n_train
    assert (counts["sequential_item"], counts["direct_yes_no"]) == (25 * 5, 25 * 10)
    assert len(found) == sum(counts.values())
    assert set(counts) <= set(KINDS)


def test_a_kind_with_no_samples_is_left_out(rows):
    assert {p.kind for p in rows(direct_candidates=0, sequential_candidates=0).pools}.isdisjoint(
        {"direct_candidates", "sequential_candidates"}
    )


def test_a_batch_is_a_function_of_epoch_and_rows_alone(rows):
    found, again = rows(), rows()
    indices = [0, 40, len(found) - 1, 200]
    again.batch(7, [3, 2])
    first, second, later = found.batch(1, indices), again.batch(1, indices), found.batch(2, indices)
    assert all((first[key] == second[key]).all() for key in first)
    assert any(first[key].shape != later[key].shape or (first[key] != later[key]).any() for key in first)


def test_a_row_is_drawn_alike_in_any_batch(rows):
    found = rows()
    alone, among = found.batch(0, [5]), found.batch(0, [300, 5, 90])
    place = among["order"].tolist().index(1)
    before = among["lengths"][:place, 0]
    shapes = among["shapes"].tolist()
    at, row = 0, 0
    for n, longest, _ in shapes:
        if place < row + n:
            at += (place - row) * longest
            break
        at, row = at + n * longest, row + n
    length = int(among["lengths"][place, 0])
    assert among["source"][at : at + length].tolist() == alone["source"].tolist()
    assert len(before) == place


@pytest.mark.parametrize("name", ["2-1", "2-7", "2-11", "5-1", "5-5", "straightforward"])
@pytest.mark.parametrize("targets", list(Targets))
def test_no_question_of_training_holds_a_held_out_item_as_target_or_history(rows, name, targets):
    every = {"sequential_item": 1, "sequential_candidates": 1, "sequential_yes_no": 1}
    found = rows([name], targets=targets, **every, direct_item=1, direct_candidates=1, direct_yes_no=1)
    for user, question, told in questions(found, name):
        known = held_by(user, -2)
        assert question.history is not None
        assert set(question.history.tolist()) <= set(known)
        if told != "no":
            assert question.item in known
        if name.startswith("2"):
            assert question.item not in question.history
            assert len(question.history) >= 1
        if question.candidates is not None:
            assert len(set(question.candidates.tolist())) == N_CANDIDATES
            assert question.item in question.candidates
        if told == "no":
            assert question.item not in known
            assert question.one == question.item


def test_the_code_asks_for_the_last_three_training_items_after_a_start_among_the_first_three(rows):
    found = rows(["2-1"], targets=Targets.last_three)
    for user, question, _ in questions(found, "2-1"):
        known = held_by(user, -2)
        end = known.index(question.item)
        assert end >= len(known) - 3
        assert known.index(question.history[0]) <= 2
        assert question.history.tolist() == known[known.index(question.history[0]) : end]


def test_every_target_with_a_history_is_asked_for(rows):
    found = rows(["2-1"], targets=Targets.every)
    asked = {(user, question.item) for user, question, _ in questions(found, "2-1", 3000)}
    assert asked == {(u, i) for u in range(25) for i in held_by(u, -2)[1:]}


def test_a_negative_of_the_code_is_never_a_held_out_item_and_ours_may_be(rows):
    def drawn(negatives):
        found = rows(["5-1"], negatives=negatives)
        return {(u, q.item) for u, q, told in questions(found, "5-1", 6000) if told == "no"}

    held = {(u, i) for u in range(25) for i in held_by(u)[-2:]}
    assert not drawn(Negatives.whole) & held
    assert drawn(Negatives.known) & held


def test_yes_and_no_are_as_frequent(rows):
    told = [t for *_, t in questions(rows(["5-2"]), "5-2", 2000)]
    assert 0.46 < told.count("yes") / len(told) < 0.54


def test_a_held_out_interaction_is_asked_about_with_all_that_came_before(rows):
    asked = shop().examples(SplitName.test)
    found = rows(["2-1"], asked)
    for place, question, _ in questions(found, "2-1", len(asked)):
        assert question.item == asked.target[place]
        assert question.history.tolist() == held_by(int(asked.user[place]), -1)


def test_interactions_without_what_a_kind_tells_are_no_examples_of_it(rows):
    split = shop()
    interactions = split.dataset.interactions.copy()
    interactions.loc[:19, "explanation"] = None
    bare = leave_one_out(replace(split.dataset, interactions=interactions))
    counts = {pool.kind: pool.units.tolist() for pool in rows(split=bare).pools}
    assert min(counts["explanation"]) >= 20
    assert min(counts["rating"]) < 20


def test_answers_carry_loss_and_padding_none(rows):
    found = rows()
    batch = found.batch(0, list(range(0, len(found), 7)))
    lengths = batch["lengths"]
    assert (batch["wanted"] != IGNORED).sum() == lengths[:, 1].sum()
    assert (batch["words"] > 0).sum() == (lengths[:, 0] - 1).sum()
    assert batch["kind"].min() >= 0


def test_stars_are_jittered_and_those_of_a_review_are_whole(rows):
    found, held, whole = rows(["1-1"]), rows(["1-1"], shop().examples(SplitName.valid)), rows(["4-2"])
    point = found.prompter.word("4.7")[0][-2]
    assert all(point in row for row in [*targets_of(found), *targets_of(held)])
    assert not any(point in row for row in targets_of(whole))


def targets_of(rows: P5Rows) -> list[list[int]]:
    batch = rows.batch(0, list(range(len(rows))))
    found, at, place = [], 0, 0
    for n, _, longest in batch["shapes"].tolist():
        for _ in range(n):
            found.append(batch["wanted"][at : at + int(batch["lengths"][place, 1])].tolist())
            at, place = at + longest, place + 1
    return found


def test_yes_no_questions_about_stars_name_the_true_ones_only_for_a_yes(rows):
    found = rows(["1-3"])
    star = shop().dataset.interactions["rating"].to_numpy()
    for i in range(400):
        rng = np.random.default_rng(i)
        question = prompts_question(found, i)
        told = found._star_told(found.config.prompts["1-3"], question, rng)
        assert (question.star == star[question.row]) == (told == "yes")
        assert 1 <= question.star <= 5


def prompts_question(found: P5Rows, i: int):
    from llm4rec_cli.models.p5.questions import Question

    unit = int(found.pools[0].units[i % len(found.pools[0].units)])
    return Question(int(found.user[unit]), 0, unit)
