"""P5's training examples: what each kind holds, and what it must not hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import TRAIN, leave_one_out
from llm4rec_cli.models.p5 import prompts
from llm4rec_cli.models.p5.filler import FieldValues
from llm4rec_cli.models.p5.prompts import example_kind
from llm4rec_cli.models.p5.settings import Negatives, PerUnit, Targets
from llm4rec_cli.models.p5.training_examples import KINDS, N_CANDIDATES, TrainingExamples
from tests.models.p5_data import config, prompt_filler, shop

pytestmark = pytest.mark.numeric


@pytest.fixture
def examples(tmp_path):
    def build(names=None, held_out=None, split=None, **samples) -> TrainingExamples:
        split = split or shop()
        settings = config()
        settings = replace(settings, samples=replace(settings.samples, **samples))
        filler = prompt_filler(settings, shop(), tmp_path)
        usable = [n for n in prompts.usable(settings.prompts, split.dataset) if settings.prompts[n].trained]
        return TrainingExamples(settings, split, filler, usable if names is None else names, 0, held_out)

    return build


def draws(examples: TrainingExamples, name: str, n: int = 300):
    """(unit, field values, answer) of n draws from a pool of one prompt."""
    (pool,) = examples.pools
    drawn = []
    for i in range(n):
        unit = int(pool.units[i % len(pool.units)])
        kind = example_kind(examples.filler.prompts[name])
        drawn.append((unit, *examples._draw_items(kind, unit, np.random.default_rng(i))))
    return drawn


def items_of(user: int, upto: int | None = None) -> list[int]:
    dataset = shop().dataset
    return dataset.sequence[dataset.offsets[user] : dataset.offsets[user + 1]][:upto].tolist()


def test_an_epoch_has_as_many_examples_of_each_kind_as_the_settings_say(examples):
    built = examples(sequential_item=5, direct_yes_no=10, rating=1, direct_candidates=0)
    counts = {pool.kind: len(pool.units) * pool.repeats for pool in built.pools}
    n_train = int((shop().assignment == TRAIN).sum())
    assert counts["rating"] == counts["explanation"] == counts["review_summary"] == n_train
    assert (counts["sequential_item"], counts["direct_yes_no"]) == (25 * 5, 25 * 10)
    assert len(built) == sum(counts.values())
    assert set(counts) <= {*KINDS} - {"direct_candidates"}
    batch = built.batch(0, list(range(0, len(built), 7)))
    lengths = batch["lengths"]  # targets carry loss, and padding none
    assert len(batch["targets"]) == len(batch["read"]) == lengths[:, 1].sum()
    assert batch["row"].bincount().tolist() == lengths[:, 1].tolist()
    assert (batch["words"] > 0).sum() == (lengths[:, 0] - 1).sum()
    assert batch["kind"].bincount(minlength=len(KINDS)).tolist() == batch["n_of_kind"].tolist()


@pytest.mark.parametrize("targets", list(Targets))
def test_no_training_prompt_has_a_held_out_item_as_target_or_in_its_history(examples, targets):
    every = {"sequential_item": 1, "sequential_candidates": 1, "sequential_yes_no": 1}
    for name in ("2-1", "2-7", "2-11", "5-1", "5-5", "straightforward"):
        built = examples([name], targets=targets, **every, direct_item=1, direct_candidates=1, direct_yes_no=1)
        for user, values, answer in draws(built, name):
            known = items_of(user, -2)
            assert values.history is not None
            assert set(values.history.tolist()) <= set(known)
            if answer != "no":
                assert values.item in known
            if name.startswith("2"):
                assert values.item not in values.history
                assert len(values.history) >= 1
            if values.candidates is not None:
                assert len(set(values.candidates.tolist())) == N_CANDIDATES
                assert values.item in values.candidates
            if answer == "no":
                assert values.item not in known
                assert values.one == values.item


def test_targets_are_the_last_three_or_every_item_with_a_history(examples):
    for user, values, _ in draws(examples(["2-1"], targets=Targets.last_three), "2-1"):
        known = items_of(user, -2)
        end = known.index(values.item)
        assert end >= len(known) - 3
        assert known.index(values.history[0]) <= 2
        assert values.history.tolist() == known[known.index(values.history[0]) : end]
    targets = {(user, values.item) for user, values, _ in draws(examples(["2-1"], targets=Targets.every), "2-1", 3000)}
    assert targets == {(u, i) for u in range(25) for i in items_of(u, -2)[1:]}


@pytest.mark.parametrize("targets", list(Targets))
def test_sequential_examples_counted_by_interaction_have_each_possible_target_equally_often(examples, targets):
    split = leave_one_out(tiny_dataset([[0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10], [11, 12, 13]], n_items=120))
    built = examples(["2-1"], split=split, sequential_item=2, sequential_per=PerUnit.interaction, targets=targets)
    expected = [(0, item) for item in ((1, 2, 3, 4) if targets is Targets.every else (2, 3, 4))] + [(1, 8)]
    assert len(built) == 2 * len(expected)
    for i in range(20):
        drawn = [
            built._draw_items("sequential_item", int(u), np.random.default_rng(i))[0] for u in built.pools[0].units
        ]
        assert [(values.user, values.item) for values in drawn] == expected
        for values in drawn:
            assert values.history[-1] == values.item - 1
            assert values.history[0] in ({0, 7} if targets is Targets.every else {0, 1, 2, 7})


def test_direct_examples_have_each_training_item_as_target_equally_often_and_held_out_ones_a_full_history(examples):
    built = examples(["5-5"], direct_candidates=2, direct_per=PerUnit.interaction)
    n_train = int((shop().assignment == TRAIN).sum())
    assert len(built) == 2 * n_train
    drawn = draws(built, "5-5", n_train)
    assert sorted((values.user, values.item) for _, values, _ in drawn) == sorted(
        (user, item) for user in range(25) for item in items_of(user, -2)
    )
    assert all(values.item in values.candidates for _, values, _ in drawn)
    held_out = shop().examples(SplitName.test)
    built = examples(["2-1"], held_out)
    for row, values, _ in draws(built, "2-1", len(held_out)):
        assert values.item == held_out.target[row]
        assert values.history.tolist() == items_of(int(held_out.user[row]), -1)


def test_whole_excludes_held_out_items_from_negatives_and_known_does_not(examples):
    def drawn(negatives):
        built = examples(["5-1"], negatives=negatives)
        return {(u, values.item) for u, values, answer in draws(built, "5-1", 6000) if answer == "no"}

    held_out = {(u, i) for u in range(25) for i in items_of(u)[-2:]}
    assert not drawn(Negatives.whole) & held_out
    assert drawn(Negatives.known) & held_out


def test_yes_and_no_are_equally_frequent_and_a_yes_alone_shows_the_true_stars(examples):
    answers = [answer for *_, answer in draws(examples(["5-2"]), "5-2", 2000)]
    assert 0.46 < answers.count("yes") / len(answers) < 0.54
    built = examples(["1-3"])
    star = shop().dataset.interactions["rating"].to_numpy()
    for i in range(400):
        row = int(built.pools[0].units[i % len(built.pools[0].units)])
        values = FieldValues(int(built.user[row]), 0, row)
        answer = built._draw_stars(built.filler.prompts["1-3"], values, np.random.default_rng(i))
        assert (values.star == star[row]) == (answer == "yes")
        assert 1 <= values.star <= 5


def test_a_text_that_is_missing_or_blank_is_no_target(examples):
    dataset = shop().dataset
    even = np.arange(len(dataset.interactions)) % 2 == 0
    for missing in (None, "", "  "):
        titles = dataset.interactions["review_title"].where(even, missing)
        split = leave_one_out(replace(dataset, interactions=dataset.interactions.assign(review_title=titles)))
        units = {pool.kind: pool.units.tolist() for pool in examples(["4-1", "1-1"], split=split).pools}
        trained = np.flatnonzero(split.assignment == TRAIN).tolist()
        # the target of 4-1 is the title of the review
        assert units == {"review_summary": [row for row in trained if row % 2 == 0], "rating": trained}


def test_stars_are_jittered_and_those_of_a_review_are_whole(examples):
    built, held_out, whole = examples(["1-1"]), examples(["1-1"], shop().examples(SplitName.valid)), examples(["4-2"])
    point = built.filler.short_text("4.7")[0][-2]
    assert all(point in target for target in [*targets_of(built), *targets_of(held_out)])
    assert not any(point in target for target in targets_of(whole))


def targets_of(examples: TrainingExamples) -> list[list[int]]:
    batch = examples.batch(0, list(range(len(examples))))
    return [part.tolist() for part in batch["targets"].split(batch["lengths"][:, 1].tolist())]
