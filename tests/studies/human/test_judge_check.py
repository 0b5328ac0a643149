"""The check of a chat model that judges: hand-made judges with one habit each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llm4rec_cli.results.result import Result
from llm4rec_cli.studies.human import judge_check
from llm4rec_cli.studies.human.agreement import Scale
from llm4rec_cli.studies.human.judge_check import FOREIGN, INTACT, SHUFFLED, Gap
from llm4rec_cli.studies.human.sheets import Example, Key, Sheet

TEXTS = [
    ("a warm light tent", "it is fine", "good"),
    ("the zip of the bag breaks", "it is fine", "bad zip"),
    ("two kites fly high", "it is not fine", "good"),
    ("soap that smells of pine", "it is fine", "smell of pine"),
]
EXAMPLES = [
    Example(f"item {i}", "4", "", dict(zip("ABC", texts, strict=True)), f"ab-{i}") for i, texts in enumerate(TEXTS)
]
KEY = Key(
    sheet="ab",
    dataset="demo",
    dataset_fingerprint="f",
    task="explanation",
    split="test",
    protocol="explanation",
    seed=0,
    scale=Scale.score,
    criteria=["clarity"],
    runs=[],
    systems=["p5", "chatgptrec", "reference"],
    examples={e.name: {"A": ["reference"], "B": ["p5"], "C": ["chatgptrec"]} for e in EXAMPLES},
)
SHEET = Sheet("ab", "explanation", Scale.score, ["clarity"], EXAMPLES)
PROBES = judge_check.probes(EXAMPLES, KEY)


def check(judge, scale=Scale.score, own=(), people=None):
    """Return the check of `judge`, a function of the texts shown, in their order, that returns their scores."""
    parsed = []
    for probe in PROBES:
        labels, texts = probe.example.texts.keys(), [*probe.example.texts.values()]
        values = judge(texts)
        parsed.append({} if values is None else {"clarity": dict(zip(labels, values, strict=True))})
    sheet = Sheet("ab", "explanation", scale, ["clarity"], EXAMPLES)
    return judge_check.measure(sheet, KEY, PROBES, parsed, own, people or {})["clarity"]


def longest(texts):
    return [5 if text == max(texts, key=len) else 2 for text in texts]


def test_every_text_is_shown_once_at_each_place():
    for example in EXAMPLES:
        orders = [probe for probe in PROBES if probe.example.name == example.name and probe.order is not None]
        assert [probe.order for probe in orders] == [0, 1, 2]
        assert orders[0].example.texts == example.texts
        places = np.array([[*probe.example.texts.values()] for probe in orders])
        assert all(sorted(column) == sorted(example.texts.values()) for column in places.T)
        for probe in orders:
            assert [example.texts[label] for label in probe.origin] == [*probe.example.texts.values()]


@pytest.mark.parametrize("sizes", [(3,) * 8, (2, 3) * 6, (2, 5) * 6])
def test_a_judge_that_ignores_places_has_no_variance_by_place_whatever_the_number_of_texts(sizes):
    examples = [
        Example("item", "", "", {label: f"{i}{label}" for label in "ABCDE"[:size]}, f"ab-{i}")
        for i, size in enumerate(sizes)
    ]
    shown = [probe for example in examples for probe in judge_check.rotations(example)]
    assert {place for probe in shown for place, label in enumerate(probe.origin) if label == "E"} in (set(), {1, 3, 4})
    of_texts = [{"clarity": {label: "ABCDE".index(label) + 1 for label in probe.origin}} for probe in shown]
    sheet = Sheet("ab", "explanation", Scale.rank, ["clarity"], examples)
    measured = judge_check.measure(sheet, KEY, shown, of_texts, (), {})["clarity"]
    assert measured.variance_by_place == pytest.approx(0)
    assert np.ptp(measured.mean_by_place) == pytest.approx(0)


def test_two_texts_have_two_orders():
    example = Example("item", "", "", {"A": "one", "B": "two"}, "ab-9")
    assert [[*probe.example.texts.values()] for probe in judge_check.rotations(example)] == [
        ["one", "two"],
        ["two", "one"],
    ]


def test_damaged_texts_are_the_users_own_in_disorder_and_another_users():
    of_users = {texts[0] for texts in TEXTS}
    damaged = [probe for probe in PROBES if probe.order is None]
    assert len(damaged) == len(EXAMPLES)
    for probe, (own, *_) in zip(damaged, TEXTS, strict=True):
        texts = dict(zip(probe.origin, probe.example.texts.values(), strict=True))
        assert texts[INTACT] == own
        assert texts[SHUFFLED] != own and sorted(texts[SHUFFLED].split()) == sorted(own.split())
        assert texts[FOREIGN] in of_users - {own}
    assert len({probe.origin for probe in damaged}) > 1, "the intact text has no fixed place"


def test_a_text_of_one_word_is_not_shuffled_and_a_lone_one_has_no_foreign_text():
    key = replace(KEY, examples={"ab-9": {"A": ["reference"], "B": ["p5", "chatgptrec"]}})
    lone = Example("item", "", "", {"A": "good", "B": "bad"}, "ab-9")
    assert list(judge_check.damaged([lone], key)) == []


def test_a_judge_that_prefers_the_first_place_is_seen():
    measured = check(lambda texts: [5, 3, 1][: len(texts)])
    assert measured.mean_by_place == [5, 3, 1]
    assert measured.variance_by_place == pytest.approx(1)
    assert measured.alpha_between_orders < 0
    assert measured.judgements == 12


def test_a_judge_of_texts_alone_has_no_variance_by_place_and_agrees_with_itself():
    measured = check(longest)
    assert measured.variance_by_place == pytest.approx(0)
    assert measured.mean_by_place == [3, 3, 3]
    assert measured.alpha_between_orders == pytest.approx(1)


def test_the_intact_text_is_compared_with_each_damage_and_ties_count_half():
    originals = {text for texts in TEXTS for text in texts}
    sees_disorder = check(lambda texts: [5 if text in originals else 1 for text in texts]).known_order
    assert (sees_disorder[SHUFFLED].mean, sees_disorder[SHUFFLED].n) == (1, 4)
    assert sees_disorder[FOREIGN].mean == 0.5, "the text of another example is as orderly"
    by_rank = check(lambda texts: [1 + (text not in originals) for text in texts], Scale.rank).known_order
    assert by_rank[SHUFFLED].mean == 1, "of ranks, the lower is the better"


def test_ranks_of_own_texts_are_compared_with_those_by_people():
    people = {
        system: Result.of_numbers(Path(), "", {"clarity/mean_rank": rank})
        for system, rank in {"p5": 2.0, "chatgptrec": 2.5, "reference": 1.5}.items()
    }
    mine = {texts[2] for texts in TEXTS}
    own = check(lambda texts: [5 if t in mine else 1 for t in texts], own=["chatgptrec"], people=people).own_texts
    assert own["chatgptrec"].mean == pytest.approx((2.5 + 2.5) / 2 - 1)
    assert own["chatgptrec"].people == pytest.approx((2.0 + 1.5) / 2 - 2.5)
    assert check(longest, own=["chatgptrec"]).own_texts["chatgptrec"].people is None
    others = {system: Result.of_numbers(Path(), "", {"reasonableness/mean_rank": 2.0}) for system in people}
    assert check(longest, own=["chatgptrec"], people=others).own_texts["chatgptrec"].people is None


def test_a_judge_without_answers_has_no_numbers():
    measured = check(lambda texts: None, own=["p5"])
    assert (measured.judgements, measured.mean_by_place, measured.variance_by_place) == (0, [], None)
    assert measured.alpha_between_orders is None
    assert measured.known_order[SHUFFLED] == measured.known_order[FOREIGN] == Gap(None, None, 0)
    assert measured.own_texts["p5"].n == 0
