from dataclasses import replace
from typing import Any

import pytest

from llm4rec_cli.config.schema import PaperStatistics
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.statistics import comparison, parts, profile, remarks

MANIFEST: dict[str, Any] = {
    "split": {"rule": "leave_one_out"},
    "read": {"all": {"read": 1000}},
    "users": 200,
    "items": 50,
    "interactions": 1000,
    "impressions": 0,
    "users_without_times": 0,
    "users_tied_at_end": 0,
    "items_without_title": 0,
    "items_without_text": 0,
    "item_order": "sorted ids",
    "synthetic": False,
}
PAPER = PaperStatistics(users=200, items=50, interactions=1000, source="Table 1")


def test_statistics_are_compared_with_the_papers_and_each_difference_is_a_sentence():
    assert remarks(MANIFEST, PAPER)[0] == "the statistics equal the paper's (Table 1)"
    assert [(row.ours, row.paper) for row in comparison(MANIFEST, PAPER)] == [(200, 200), (50, 50), (1000, 1000)]
    notes = remarks(MANIFEST | {"users": 1210}, PAPER)
    assert notes[0].startswith("users: 1,210 here, 200 in the paper (+1,010)")
    assert not any("equal" in sentence for sentence in notes)
    assert [row.paper for row in comparison(MANIFEST, None)] == [None] * 3
    assert remarks(MANIFEST, None) == ["item numbers: sorted ids"]


def test_doubtful_order_and_missing_text_are_shares():
    notes = remarks(
        MANIFEST
        | {"users_tied_at_end": 50, "users_without_times": 100, "times": [0, 1e9]}
        | {"items_without_title": 5, "synthetic": True},
        None,
    )
    assert [sentence.split()[0] for sentence in notes[:3]] == ["50.0%", "25.0%", "10.0%"]
    assert "synthetic" in notes[3]


CLICK_LOG = MANIFEST | {
    "interactions": 0,
    "impressions": 1700,
    "split": {
        "rule": "mind",
        **{"train": 950, "valid": 50, "test": 700},
        "users": {"train": 180, "valid": 40, "test": 150},
        "shown": {"train": 9500, "valid": 500, "test": 7000},
        "clicks": {"train": 1000, "valid": 60, "test": 800},
        "empty_history": {"train": 0, "valid": 0, "test": 0},
        "unrankable": {"train": 0, "valid": 0, "test": 0},
    },
}


SOME = {"train": 3, "valid": 0, "test": 12}


def log_with(**split: Any) -> dict[str, Any]:
    return CLICK_LOG | {"split": CLICK_LOG["split"] | split}


@pytest.mark.parametrize(
    ("facts", "place", "remark"),
    [
        (MANIFEST | {"users_without_times": 150}, 0, "no interaction has a time: file order is taken as time order"),
        (MANIFEST | {"repeated": 1200}, 0, "1,200 interactions have user, item and time of another: all are kept"),
        (log_with(rule="mind_last_day"), 0, "split by days: test is MIND's dev; validation is the last day of MIND's"),
        (log_with(empty_history=SOME), 1, "impressions without a history: 3 of 950 train, 0 of 50 valid and 12 of 700"),
        (log_with(unrankable=SOME), 1, "impressions where none or all of the items were clicked: 3 of 950 train,"),
    ],
    ids=["no times", "repeated", "by days", "no history", "unrankable"],
)
def test_what_is_odd_is_a_sentence(facts, place, remark):
    assert remarks(facts, None)[place].startswith(remark)


def test_a_click_log_is_compared_by_its_impressions_and_clicks_and_has_no_order_to_doubt():
    paper = PaperStatistics(
        users=200, items=50, impressions=1700, clicks=1860, train=950, valid=50, test=700, source="its counts"
    )
    assert comparison(CLICK_LOG, paper) == [
        *[("users", 200, 200), ("items", 50, 50), ("impressions", 1700, 1700), ("clicks", 1860, 1860)],
        *[("train", 950, 950), ("valid", 50, 50), ("test", 700, 700)],
    ]
    assert remarks(CLICK_LOG, paper)[0] == "the statistics equal the paper's (its counts)"
    assert remarks(CLICK_LOG, replace(paper, train=949))[0].startswith("train: 950 here, 949 in the paper (+1)")
    assert [sentence.split(":")[0] for sentence in remarks(CLICK_LOG, None)] == ["split as Prompt4NR's", "item numbers"]
    assert parts(CLICK_LOG)[1] == ["valid", "50", "40", "500", "60"]


def test_a_split_by_domain_reports_its_test_users_and_p5_s_random_split_that_it_leaks():
    parts = {"rule": "transfer", "test_domain": "toys", "train": 700, "valid": 150, "test": 90, "unused": 60}
    notes = remarks(
        MANIFEST
        | {"read": {"books": {"read": 800}, "toys": {"read": 200}}, "users_of_several_domains": 40}
        | {"split": parts | {"test_users": 40}},
        None,
    )
    for said in ("700 interactions of books", "there: 150; test", "90 of toys, by the 40 users", "60 of other users"):
        assert said in notes[0]
    assert notes[1] == "40 of 200 users are in more than one domain"
    parts = {"rule": "p5_reviews", "train": 800, "valid": 100, "test": 100, "unused": 0, "last_trained": 163}
    (note, _) = remarks(MANIFEST | {"split": parts}, None)
    for said in ("800 train, 100 validation, 100 test", "the last interaction of 163 users", "leaky"):
        assert said in note


def test_density_lengths_and_tested_users_by_hand():
    dataset = tiny_dataset([[0, 1, 2], [3, 4, 0, 1, 2], [1]])
    dense, few = profile(dataset, 2)
    assert dense == "3.0 interactions a user (median 3, 1 to 5), 1.8 an item; 60 % of all pairs"
    assert few == "the split leaves 2 users for test, which is too few to compare models"
    dataset.manifest["split"] = {"rule": "temporal"}
    assert profile(dataset, 99)[1].endswith("dataset.split=leave_one_out tests more")
    assert len(profile(dataset, 100)) == 1


def test_items_that_the_item_file_lacks_are_a_sentence():
    unknown = {"interactions": 300, "of": 1000, "items": 7, "example": "31.0", "meant": "31"}
    said = "300 of 1,000 interactions are of 7 items that the item file lacks, such as '31.0' (it has '31')"
    assert f"shop: {said}: they are dropped" in remarks(MANIFEST | {"unknown_items": {"shop": unknown}}, None)
