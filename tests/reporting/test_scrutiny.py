"""What `inspect data` says of a dataset: rules on slices, sentences and tables."""

from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.data.scrutiny import Catalogue, ClickLog, Order
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.reporting.scrutiny import ALL, CHANCE, RULES, Scrutiny, scrutinise, tables, verdicts
from llm4rec_cli.reporting.tables import show
from tests.support.builders import tiny_dataset
from tests.support.driver import spec_of

CATALOGUE = Catalogue(100, 0.0, 0.0, 0.0, 0.0, gini=0.4, head_interactions=0.5, tail_items=0.3)
QUIET = Order(1000, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, None, None, 0.5)
SLICES = {ALL: 100, "same_day": 0, "near_duplicate": 0, "repeated": 0, "cold": 0, "long_tail": 0, "short_history": 0}


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
    assert sentences() == ["The most popular fifth of the items has 50% of the training interactions (Gini 0.40)."]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"users_split_by_ties": 0.02}, "For 2% of the users, equal times leave open"),
        ({"tied_pairs": 7, "tied_ascending_id": 0.95}, "95% of the 7 adjacent interactions of equal time ascend"),
        ({"tied_pairs": 7, "tied_ascending_id": 0.05}, "95% of the 7 adjacent interactions of equal time descend"),
        ({"later_training": 0.2}, "On average 20% of the training interactions are later"),
        ({"without_time": 1.0}, "No interaction has a time"),
        ({"without_time": 1.0, "other_ascending_id": 0.7}, "70% of adjacent interactions ascend by raw id"),
    ],
)
def test_what_is_said_of_order(changed, said):
    assert any(sentence.startswith(said) for sentence in sentences(replace(QUIET, **changed)))


@pytest.mark.parametrize(
    ("slices", "by_rule", "said"),
    [
        ({"same_day": 20}, {}, "20% of the targets are on the day of the last history item"),
        ({}, {"next_raw_id": {ALL: 0.04}}, "next_raw_id, which knows only the order of raw ids, has HR@10 0.0400"),
        # 10 targets of 100 with HR 0.41, of 0.1 overall
        (
            {"near_duplicate": 10},
            {"transition_text": {ALL: 0.1, "near_duplicate": 0.41}},
            "41% of what transition_text hits are near-duplicates of a history item, which 10.0% of all targets are.",
        ),
        (
            {"ascending_id": 70, "descending_id": 30},
            {"last_item": {ALL: 0.1, "ascending_id": 0.12, "descending_id": 0.05}},
            "last_item has HR@10 0.1200 on targets with a higher raw id",
        ),
        ({"cold": 3}, {}, "3.0% of the targets never occur in training."),
        ({}, {"next_raw_id": {ALL: 0.2}}, "next_raw_id is not below the floors of ordinary tables"),
    ],
)
def test_what_is_said_of_slices(slices, by_rule, said):
    assert any(sentence.startswith(said) for sentence in sentences(slices=slices, by_rule=by_rule))


@pytest.mark.parametrize(
    ("slices", "by_rule"),
    [
        ({"same_day": 9}, {}),
        ({}, {"next_raw_id": {ALL: 0.03}}),
        ({"near_duplicate": 10}, {"transition_text": {ALL: 0.1, "near_duplicate": 0.11}}),  # as many as of all targets
    ],
)
def test_what_is_small_is_not_said(slices, by_rule):
    assert len(sentences(slices=slices, by_rule=by_rule)) == 1


def test_what_is_said_of_a_click_log():
    log = ClickLog(10, 0.1, 20.0, 1.5, unseen_clicks=0.6, click_place=0.2)
    said = sentences(order=None, click_log=log, slices={}, by_rule=None)
    assert said[0].startswith("60% of the clicks are on items that training never shows")
    assert said[1].startswith("Clicks are at 20% of their lists")


def test_rules_are_scored_on_every_slice(capsys):
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 30, rng.integers(3, 9)).tolist() for _ in range(40)]
    dataset = tiny_dataset(sequences, [f"word{i // 2} thing" for i in range(30)])
    dataset.manifest["synthetic"] = False
    scrutiny = scrutinise(spec_of("model=popularity"), leave_one_out(dataset))
    assert scrutiny.slices[ALL] == 40
    assert scrutiny.scores[CHANCE]["hr@10"][ALL] == pytest.approx(10 / 30)
    assert set(scrutiny.scores) == {CHANCE, *RULES}
    slices = {name for name, n in scrutiny.slices.items() if n}
    assert {"near_duplicate", "repeated", "ascending_id"} <= slices
    assert all(set(means) == slices for scores in scrutiny.scores.values() for means in scores.values())
    assert scrutiny.scores["next_raw_id"]["hr@10"]["descending_id"] < scrutiny.scores["next_raw_id"]["hr@10"][ALL]
    assert 0 < scrutiny.share_of_hits("transition_text", "repeated") < 1
    show(*tables(scrutiny))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100
