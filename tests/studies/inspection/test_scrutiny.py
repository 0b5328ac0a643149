"""What `inspect data` says of a dataset: rules on slices, sentences and tables."""

from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.evaluation.crossed import Estimate
from llm4rec_cli.evaluation.proportions import Proportion
from llm4rec_cli.results.tables import show
from llm4rec_studies.inspection.dataset import Catalogue, ClickLog, Order
from llm4rec_studies.inspection.scrutiny import ALL, CHANCE, RULES, Scrutiny, scrutinise, tables, verdicts
from tests.support.driver import job_of

CATALOGUE = Catalogue(100, 0.0, 0.0, 0.0, gini=0.4, head_interactions=0.5, tail_items=0.3)
QUIET = Order(1000, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None, Proportion.of(0.5, 1000))
SLICES = {ALL: 1000, "same_day": 0, "near_duplicate": 0, "repeated": 0, "cold": 0, "long_tail": 0, "short_history": 0}


def scores(hr=0.1, **by_rule):
    """Return HR@10 of all rules on all targets, with those of some rules by slice."""
    means = {CHANCE: {ALL: 0.01}} | {rule: {ALL: hr} for rule in RULES} | {"next_id": {ALL: 0.02}}
    means |= {"next_raw_id": {ALL: 0.02}} | by_rule
    return {rule: {"hr@10": values, "ndcg@10": values} for rule, values in means.items()}


def sentences(order=QUIET, slices=(), by_rule=None, synthetic=False, **facts):
    """Return the verdicts on a dataset of which nothing need be said, with these facts changed."""
    scrutiny = Scrutiny(
        {"synthetic": synthetic}, CATALOGUE, order, None, SLICES | dict(slices), scores(**(by_rule or {}))
    )
    return list(verdicts(replace(scrutiny, **facts)))


def test_of_data_without_accidents_only_popularity_is_said():
    assert sentences() == ["The most popular fifth of the items has 50 % of the training interactions (Gini 0.40)."]


IDS = "of the 500 adjacent interactions of equal time"
FEW = "pairs of adjacent interactions"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"users_split_by_ties": 0.02}, "For 2 % of the users, equal times leave open"),
        ({"tied_ascending_id": (0.95, 500)}, f"95.0 % (95 % interval 92.7 % to 96.6 %) {IDS} ascend by raw id: the"),
        ({"tied_ascending_id": (0.05, 500)}, f"95.0 % (95 % interval 92.7 % to 96.6 %) {IDS} descend by raw id: the"),
        (
            {"tied_ascending_id": (0.9, 500)},
            f"90.0 % (95 % interval 87.1 % to 92.3 %) {IDS} ascend by raw id, where 50",
        ),
        ({"later_training": 0.2}, "On average 20 % of the training interactions are later"),
        ({"without_time": 1.0}, "No interaction has a time"),
        (
            {"without_time": 1.0, "other_ascending_id": (0.7, 500)},
            "70.0 % (95 % interval 65.8 % to 73.9 %) of the 500 adjacent interactions ascend by raw id",
        ),
        (
            {"tied_ascending_id": (1, 1)},
            f"1 of 1 {FEW} of equal time ascend by raw id (95 % interval 20.7 % to 100.0 %",
        ),
        ({"tied_ascending_id": (0.5, 20)}, f"10 of 20 {FEW} of equal time ascend by raw id (95 % interval 29.9 % to"),
        (
            {"without_time": 1.0, "other_ascending_id": (0.6, 20)},
            f"12 of 20 {FEW} ascend by raw id (95 % interval 38.7",
        ),
    ],
)
def test_what_is_said_of_order(changed, said):
    order = {key: Proportion.of(*value) if isinstance(value, tuple) else value for key, value in changed.items()}
    assert any(sentence.startswith(said) for sentence in sentences(replace(QUIET, **order)))


def test_of_many_pairs_without_an_order_nothing_is_said():
    even = Proportion.of(0.5, 1000)
    assert len(sentences(replace(QUIET, tied_ascending_id=even))) == 1
    assert len(sentences(replace(QUIET, without_time=1.0, other_ascending_id=even))) == 2  # no times; popularity


@pytest.mark.parametrize(
    ("slices", "by_rule", "said"),
    [
        ({"same_day": 200}, {}, "20 % of the 1,000 targets are on the day of the last history item"),
        ({"cold": 30}, {}, "3.0 % of the targets never occur in training."),
        (
            {},
            {"next_raw_id": {ALL: 0.06}},
            "has HR@10 0.0600 (95 % interval 0.0469 to 0.0765), where chance is 0.0100: a",
        ),
        ({ALL: 30}, {"next_raw_id": {ALL: 0.04}}, "where chance is 0.0100: too few targets to be sure."),
        # 100 targets of 1,000 with HR 0.41, of 0.1 overall: 41 of 100 hits
        (
            {"near_duplicate": 100},
            {"transition_text": {ALL: 0.1, "near_duplicate": 0.41}},
            "41.0 % (95 % interval 31.9 % to 50.8 %) of the 100 targets that transition_text hits are near-duplicates "
            "of a history item, which 10.0 % of all targets are.",
        ),
        (
            {ALL: 30, "near_duplicate": 3},
            {"transition_text": {ALL: 0.1, "near_duplicate": 0.4}},
            "near-duplicates of a history item, which 10.0 % of all targets are: too few hits to be sure.",
        ),
        (
            {"ascending_id": 700, "descending_id": 300},
            {"last_item": {ALL: 0.1, "ascending_id": 0.14, "descending_id": 0.05}},
            "0.1400 on the 700 targets with a higher raw id than the last item (95 % interval 0.1163 to 0.1677), and "
            "0.0500 on the 300 others (0.0305 to 0.0808): part of what it learns may be the order of ids.",
        ),
        (
            {"ascending_id": 70, "descending_id": 30},
            {"last_item": {ALL: 0.1, "ascending_id": 0.12, "descending_id": 0.05}},
            "too few targets to be sure.",
        ),
    ],
)
def test_what_is_said_of_slices_and_whether_targets_or_hits_are_too_few(slices, by_rule, said):
    assert any(said in sentence for sentence in sentences(slices=slices, by_rule=by_rule))


@pytest.mark.parametrize(
    ("slices", "by_rule"),
    [
        ({"same_day": 90}, {}),
        ({}, {"next_raw_id": {ALL: 0.03}}),
        ({"near_duplicate": 100}, {"transition_text": {ALL: 0.1, "near_duplicate": 0.11}}),  # as many as of all targets
    ],
)
def test_what_is_small_is_not_said(slices, by_rule):
    assert len(sentences(slices=slices, by_rule=by_rule)) == 1


@pytest.mark.parametrize(("error", "relation"), [(0.001, "is better than"), (0.01, "is not distinguishable from")])
def test_a_rule_that_is_not_below_the_strongest_floor_of_train_is_named(error, relation):
    over_floor = {"last_item": Estimate(0.0122, error, 999), "next_raw_id": Estimate(-0.08, 0.01, 999)}
    floors = ["popularity", "next_id", "transition_text"]
    by_rule = {"transition_text": {ALL: 0.2581}, "last_item": {ALL: 0.2703}}
    said = sentences(by_rule=by_rule, floors=floors, over_floor=over_floor)
    assert len(said) == 2  # and popularity
    assert f"{relation} transition_text, the strongest floor" in said[0]
    assert "NDCG@10 0.2703 and 0.2581, difference +0.0122 (95 % interval " in said[0]
    assert said[0].endswith(
        "llm4rec train model=transition_text model.recent=1 model.steps=1 'model.text_weights=[0]'."
    )


def test_what_is_said_of_a_click_log():
    log = ClickLog(10, 0.1, 20.0, 1.5, unseen_clicks=0.6, click_place=0.2, click_place_interval=(0.1, 0.3))
    said = sentences(order=None, click_log=log)
    assert said[0].startswith("60 % of the clicks are on items that training never shows")
    assert said[1].startswith("Clicks are at 20.0 % of their lists on average (95 % interval 10.0 % to 30.0 %)")
    assert said[1].endswith("the order of items within a list gives clicks away.")
    few = sentences(order=None, click_log=replace(log, click_place_interval=(-0.2, 0.6)))[1]
    assert "(95 % interval 0.0 % to 60.0 %)" in few and "too few clicks to tell whether" in few
    assert len(sentences(order=None, click_log=replace(log, click_place=0.5, click_place_interval=(0.48, 0.52)))) == 2


def test_rules_are_scored_on_every_slice(capsys):
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 30, rng.integers(3, 9)).tolist() for _ in range(40)]
    dataset = tiny_dataset(sequences, [f"word{i // 2} thing" for i in range(30)], has_times=False)
    dataset.manifest["synthetic"] = False
    scrutiny = scrutinise(job_of("model=popularity"), leave_one_out(dataset))
    assert scrutiny.slices[ALL] == 40
    assert scrutiny.scores[CHANCE]["hr@10"][ALL] == pytest.approx(10 / 30)
    assert set(scrutiny.scores) == {CHANCE, *RULES}
    slices = {name for name, n in scrutiny.slices.items() if n}
    assert {"near_duplicate", "repeated", "ascending_id"} <= slices
    assert all(set(means) == slices for scores in scrutiny.scores.values() for means in scores.values())
    assert scrutiny.scores["next_raw_id"]["hr@10"]["descending_id"] < scrutiny.scores["next_raw_id"]["hr@10"][ALL]
    assert 0 < scrutiny.share_of_hits("transition_text", "repeated").share < 1
    assert scrutiny.floors == ["popularity", "next_id", "transition_text"]
    assert set(scrutiny.over_floor) == {"next_raw_id", "last_item"}
    gain = scrutiny.over_floor["last_item"].value
    means = {rule: scores["ndcg@10"][ALL] for rule, scores in scrutiny.scores.items()}
    assert gain == pytest.approx(means["last_item"] - max(means[floor] for floor in scrutiny.floors))
    show(*tables(scrutiny))
    shown = capsys.readouterr().out
    assert "train runs popularity, next_id, transition_text as floors, but not next_raw_id, last_item" in shown


def test_without_floors_no_rule_is_compared_with_them():
    dataset = tiny_dataset([[0, 1, 2], [1, 2, 3], [2, 3, 0]])
    dataset.manifest["synthetic"] = False
    scrutiny = scrutinise(job_of("model=popularity", "task.floors=[]"), leave_one_out(dataset))
    assert (scrutiny.floors, scrutiny.over_floor) == ([], {})
    assert not any("floor" in sentence for sentence in verdicts(scrutiny))
