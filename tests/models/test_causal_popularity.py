import numpy as np
import pytest

from llm4rec_cli.conformance.builders import tiny_log
from llm4rec_cli.data.split import TEST, TRAIN, VALID, split_dataset

LOG = tiny_log(
    [
        ("train", 0, 10, [], "0-1 1-0"),
        ("train", 1, 20, [], "0-1 1-1"),
        ("dev", 2, 20, [], "1-1 2-0 0-0"),
        ("dev", 0, 30, [], "0-0 1-0 2-1"),
        ("dev", 1, 30, [], "2-1 1-0 0-0"),
    ],
    ["a", "b", "c"],
)


def test_scores_are_the_clicks_of_the_whole_log_strictly_before(build):
    model, split = build("causal_popularity", LOG), split_dataset(LOG)
    shown = {part: model.score_shown(split.impressions(part)).tolist() for part in (TRAIN, VALID, TEST)}
    assert sorted([shown[TRAIN], shown[VALID]]) == [[0, 0], [1, 0]]
    assert shown[TEST] == [0, 0, 1, 2, 2, 0, 0, 2, 2]  # clicks at the same time do not count
    model, impressions = build("causal_popularity", LOG), split_dataset(LOG).impressions(TEST)
    assert model.score_shown(impressions)[1].item() == 0
    assert model.score_shown(impressions[np.array([1])]).tolist() == pytest.approx([2, 2, 0])


def test_counts_are_those_of_a_walk_through_the_log(build):
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(60):
        shown = rng.choice(9, size=4, replace=False)
        listed = " ".join(f"{item}-{int(rng.random() < 0.4)}" for item in shown)
        rows.append((rng.choice(["train", "dev"]), int(rng.integers(5)), float(rng.integers(15)), [], listed))
    log = tiny_log(rows, ["any"] * 9)
    everything = split_dataset(log).click_log
    scores = iter(build("causal_popularity", log).score_shown(everything).tolist())
    for _, _, time, _, listed in rows:
        for pair in listed.split():
            item = pair.split("-")[0]
            before = sum(f"{item}-1" in other.split() for _, _, moment, _, other in rows if moment < time)
            assert next(scores) == before
