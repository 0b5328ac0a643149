import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from llm4rec_cli.config.schema import (
    Candidates,
    Config,
    Control,
    DatasetConfig,
    Question,
    SeenItems,
    SplitName,
    TaskConfig,
    TrainerConfig,
)
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import hold_out, leave_one_out
from llm4rec_cli.errors import DataError, RunError
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.ids.item_ids import ItemIds
from llm4rec_cli.models.baselines.next_id import NextId
from llm4rec_cli.models.baselines.popularity import Popularity
from llm4rec_cli.tasks import ranking

SEQUENCES = [[0, 1, 2, 3], [4, 3, 2, 1, 0], [5, 5, 5], [1, 0], [2, 4, 2, 4], [3, 0, 1, 2]]
SPLIT = leave_one_out(tiny_dataset(SEQUENCES, n_items=8))
EXAMPLES = SPLIT.examples(SplitName.test)  # targets 3, 0, 5, 4, 2


class Scorer:
    """Scores from a (user, item) table."""

    def __init__(self, table):
        self.table = torch.as_tensor(table, dtype=torch.float32)

    def score(self, examples):
        scores = self.table[torch.from_numpy(examples.user).long()]
        if examples.candidates is None:
            return scores
        return scores.gather(1, torch.from_numpy(examples.candidates).long())


def scorer(seed=0, n_users=6, n_items=8):
    return Scorer(np.random.default_rng(seed).normal(size=(n_users, n_items)))


def config(control=Control.none, dataset_seed=0, **task):
    """A config with the settings that the ranking task reads."""
    settings: dict[str, Any] = {"cutoffs": [1, 2, 5], "selection": "ndcg@5", "negatives": 3, "top_items": 3}
    return Config(
        dataset=DatasetConfig(name="tiny", control=control, seed=dataset_seed),
        task=TaskConfig("any", Question.rank, bootstrap=50, **settings | task),
        trainer=TrainerConfig(eval_batch_size=2),
    )


def test_ranks_by_hand():
    scores = np.tile([0.0, 8, 7, 6, 5, 4, 3, 2], (6, 1))  # item 1 best, then 2, 3, …; item 0 last
    result = ranking.rank(Scorer(scores), EXAMPLES, False, 3, 2)
    assert result.n_better.tolist() == [2, 7, 4, 3, 1]
    assert result.n_tied.tolist() == [1] * 5
    assert result.top_items.tolist() == [[1, 2, 3]] * 5


def test_a_constant_scorer_scores_as_chance():
    result = ranking.rank(Scorer(np.zeros((6, 8))), EXAMPLES, False, 3, 2)
    assert result.n_better.tolist() == [0] * 5
    assert result.n_tied.tolist() == [8] * 5
    values = ranking_metrics(result.n_better, result.n_tied, result.n_candidates, [2])
    assert values["hr@2"].mean() == pytest.approx(2 / 8)
    assert values["mrr"].mean() == pytest.approx(sum(1 / r for r in range(1, 9)) / 8)
    assert values["auc"].mean() == 0.5


def test_the_target_shares_the_place_of_items_that_tie_with_it():
    scores = np.tile([3.0, 1, 2, 2, 2, 0, 0, 0], (6, 1))
    result = ranking.rank(Scorer(scores), EXAMPLES[np.array([0])], False, 3, 2)  # target 3 ties with 2 and 4, below 0
    assert (result.n_better.tolist(), result.n_tied.tolist()) == ([1], [3])


def test_an_unranked_target_is_a_miss_and_ties_with_nothing():
    scores = np.full((6, 8), -np.inf)
    scores[:, [1, 2]] = [2.0, 1.0]
    result = ranking.rank(Scorer(scores), EXAMPLES, False, 3, 2)  # targets 3, 0, 5, 4, 2
    assert result.n_better.tolist() == [7, 7, 7, 7, 1]
    assert result.n_tied.tolist() == [0, 0, 0, 0, 1]
    assert result.top_items.tolist() == [[1, 2, ranking.PADDING]] * 5


def test_a_model_that_ranks_no_item_hits_nothing_and_recommends_nothing(tmp_path):
    model = Scorer(np.full((6, 8), -np.inf))
    for candidates in (Candidates.full, Candidates.uniform):
        settings = config(candidates=candidates)
        examples = ranking.examples(SPLIT, SplitName.test, settings, tmp_path)
        result = ranking.evaluate(model, SPLIT, examples, settings)
        assert {result.metrics[name] for name in ("hr@5", "mrr", "auc", "coverage@3")} == {0}
        assert [len(items) for items in result.predictions["top_items"]] == [0] * len(examples)


def test_the_bootstrap_draws_users_with_all_their_repeated_examples():
    settings = config()
    once = ranking.evaluate(scorer(), SPLIT, EXAMPLES, settings)
    thrice = ranking.evaluate(scorer(), SPLIT, EXAMPLES.repeated(3), settings)
    assert thrice.metrics == pytest.approx(once.metrics)
    low, high = thrice.intervals["hr@2"]
    assert high - low == pytest.approx(np.subtract(*once.intervals["hr@2"][::-1]), abs=0.15)


def test_masked_items_of_the_history_never_outrank_the_target():
    scores = np.tile([8.0, 7, 6, 5, 4, 3, 2, 1], (6, 1))
    result = ranking.rank(Scorer(scores), EXAMPLES[np.array([0])], True, 5, 2)  # history 0, 1, 2; target 3
    assert (result.n_better.tolist(), result.n_tied.tolist()) == ([0], [1])
    assert result.top_items.tolist() == [[3, 4, 5, 6, 7]]
    assert ranking.rank(Scorer(scores), EXAMPLES[np.array([0])], False, 5, 2).n_better.tolist() == [3]


def test_zeroed_items_of_the_history_are_ranked_with_a_score_of_0():
    scores = np.tile([8.0, 7, 6, 0.5, -1, -2, 0, 4], (6, 1))
    result = ranking.rank(Scorer(scores), EXAMPLES[np.array([0])], True, 5, 2, zeroed=True)  # history 0, 1, 2; target 3
    assert (result.n_better.tolist(), result.n_tied.tolist(), result.n_candidates.tolist()) == ([1], [1], [8])
    assert result.top_items.tolist() == [[7, 3, 0, 1, 2]]
    again = ranking.rank(Scorer(scores), EXAMPLES[np.array([2])], True, 5, 2, zeroed=True)  # history 5, 5; target 5
    assert (again.n_better.tolist(), again.n_tied.tolist()) == ([5], [2])
    evaluated = ranking.evaluate(
        Scorer(scores), SPLIT, EXAMPLES, config(mask_history=True, seen_items=SeenItems.zeroed)
    )
    assert evaluated.warnings == []


def test_masked_items_are_no_candidates():
    examples = EXAMPLES[np.array([0, 2, 3])]  # histories 0 1 2; 5 5; 2 4 2; targets 3, 5, 4
    assert ranking.rank(scorer(), examples, True, 3, 2).n_candidates.tolist() == [5, 7, 6]
    assert ranking.rank(scorer(), examples, False, 3, 2).n_candidates.tolist() == [8, 8, 8]


@pytest.mark.parametrize("mask_history", [False, True])
def test_items_outside_are_neither_ranked_nor_candidates(mask_history):
    outside = np.array([1, 7])
    kept = np.setdiff1d(np.arange(8), outside)
    few = EXAMPLES[~np.isin(EXAMPLES.target, outside)]
    model = scorer()
    result = ranking.rank(model, replace(few, outside=outside), mask_history, 3, 2)
    assert not np.isin(result.top_items, outside).any()
    for i in range(len(few)):
        history = few[i : i + 1].histories()[0]
        ranked = np.setdiff1d(kept, history) if mask_history else kept
        assert result.n_candidates[i] == len(ranked)
        scores = model.table[few.user[i]].numpy()
        if few.target[i] in ranked:
            assert result.n_better[i] == (scores[ranked] > scores[few.target[i]]).sum()


def test_a_target_in_the_masked_history_is_a_miss_and_counted():
    scores = np.tile([0.0, 1, 2, 3, 4, 9, 6, 7], (6, 1))
    result = ranking.rank(Scorer(scores), EXAMPLES[np.array([2])], True, 2, 2)  # history 5, 5; target 5
    assert (result.n_better.tolist(), result.n_tied.tolist()) == ([6], [0])
    assert result.top_items.tolist() == [[7, 6]]
    masked = ranking.evaluate(Scorer(scores), SPLIT, EXAMPLES, config(mask_history=True))
    n_masked = sum(SEQUENCES[user][-1] in SEQUENCES[user][:-1] for user in EXAMPLES.user)
    assert masked.warnings == [f"{n_masked} of {len(EXAMPLES)} targets are in the masked history, and count as misses"]
    assert ranking.evaluate(Scorer(scores), SPLIT, EXAMPLES, config()).warnings == []


@pytest.mark.parametrize("broken", [slice(None), 3, 7])
def test_scores_that_are_not_numbers_end_the_run(broken):
    table = np.zeros((6, 8))
    table[0, broken] = np.nan  # all of them, the target's, another item's
    with pytest.raises(RunError, match="not numbers"):
        ranking.rank(Scorer(table), EXAMPLES, False, 3, 2)


@pytest.mark.parametrize("mask_history", [False, True])
def test_ranks_do_not_depend_on_the_batch_size_or_the_order_of_examples(mask_history):
    whole = ranking.rank(scorer(), EXAMPLES, mask_history, 3, 100)
    order = np.array([3, 0, 4, 1, 2])
    for batch_size in (1, 2, 3):
        result = ranking.rank(scorer(), EXAMPLES[order], mask_history, 3, batch_size)
        for column in ("n_better", "n_tied", "n_candidates", "top_items"):
            assert np.array_equal(getattr(result, column), getattr(whole, column)[order])
    without = ranking.rank(scorer(), EXAMPLES, mask_history, 0, 2)
    assert without.top_items.shape == (5, 0) and np.array_equal(without.n_better, whole.n_better)


def test_memory_is_bounded_in_scores_whatever_the_batch_size(monkeypatch):
    monkeypatch.setitem(ranking.SCORES_AT_ONCE, "cpu", 20)  # two rows of eight items
    batch_sizes = []

    class Counting(Scorer):
        def score(self, examples):
            batch_sizes.append(len(examples))
            return super().score(examples)

    whole = ranking.rank(scorer(), EXAMPLES, True, 3, 2)
    assert np.array_equal(ranking.rank(Counting(scorer().table), EXAMPLES, True, 3, 100).n_better, whole.n_better)
    assert max(batch_sizes) == 2
    monkeypatch.setitem(ranking.SCORES_AT_ONCE, "cpu", 1)  # less than a catalogue
    assert np.array_equal(ranking.rank(Counting(scorer().table), EXAMPLES, True, 3, 100).n_better, whole.n_better)


class Products(Scorer):
    """The scores of a table, as inner products of its rows with unit vectors."""

    def item_vectors(self):
        return torch.eye(self.table.shape[1])

    def queries(self, examples):
        return self.table[torch.from_numpy(examples.user).long()]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("at_once", [1, 20])
def test_inner_products_are_ranked_as_their_scores_in_any_blocks_and_threads(monkeypatch, threads, at_once):
    monkeypatch.setitem(ranking.PRODUCTS_AT_ONCE, "cpu", at_once)  # one row, or two rows of eight items
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole, result = (ranking.rank(kind(scorer().table), EXAMPLES, True, 3, 3) for kind in (Scorer, Products))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for column in ("n_better", "n_tied", "n_candidates", "top_items"):
        assert np.array_equal(getattr(result, column), getattr(whole, column))


def test_an_error_in_a_thread_is_raised(monkeypatch):
    table = np.zeros((6, 8))
    table[4, 2] = np.nan
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(RunError, match="not numbers"):
        ranking.rank(Products(table), EXAMPLES, False, 0, 2)


def test_more_items_may_be_stored_than_are_judged():
    scores = np.tile([0.0, 8, 7, 6, 5, 4, 3, 2], (6, 1))
    usual, more = (
        ranking.evaluate(Scorer(scores), SPLIT, EXAMPLES, config(**task)) for task in ({}, {"stored_items": 5})
    )
    assert more.metrics == usual.metrics
    assert [list(top) for top in more.predictions["top_items"]] == [["i1", "i2", "i3", "i4", "i5"]] * 5


def test_ranking_switches_dropout_off():
    class Noisy(torch.nn.Module, Scorer):
        def __init__(self):
            torch.nn.Module.__init__(self)
            Scorer.__init__(self, np.ones((6, 8)))

        def score(self, examples):
            assert not self.training
            return Scorer.score(self, examples)

    ranking.rank(Noisy().train(), EXAMPLES, False, 3, 2)


def test_candidates_are_ranked_among_themselves():
    candidates = np.array([[3, 7, 6], [0, 7, 6], [5, 0, 1], [4, 7, 0], [2, 3, 7]])
    scores = np.tile(np.arange(8.0), (6, 1))  # the higher the number the better
    result = ranking.rank(Scorer(scores), replace(EXAMPLES, candidates=candidates), True, 2, 2)
    assert result.n_better.tolist() == [2, 2, 0, 1, 2]
    assert result.n_candidates.tolist() == [3] * 5
    assert result.top_items.tolist() == [[7, 6], [7, 6], [5, 1], [7, 4], [7, 3]]


@pytest.mark.parametrize("top", [3, 50])
def test_tied_candidates_are_ordered_by_item(top):
    one = replace(EXAMPLES[np.array([0])], candidates=np.array([[3, 7, 6]]))
    result = ranking.rank(Scorer(np.zeros((6, 8))), one, False, top, 2)
    assert result.top_items.tolist() == [[3, 6, 7]]
    assert (result.n_better.tolist(), result.n_tied.tolist()) == ([0], [3])


@pytest.mark.parametrize(
    ("candidates", "negatives", "expected"),
    [
        (Candidates.full, 99, "full"),
        (Candidates.uniform, 99, "uniform-100"),
        (Candidates.popularity, 3, "popularity-4"),
    ],
)
def test_the_protocol_names_the_candidates_and_their_number(candidates, negatives, expected):
    assert ranking.protocol(TaskConfig("any", Question.rank, candidates=candidates, negatives=negatives)) == expected


def test_sampled_candidates_come_with_the_target_first_and_a_subset_keeps_them(tmp_path):
    whole, some = (
        ranking.examples(SPLIT, SplitName.test, config(candidates=Candidates.uniform, max_examples=n), tmp_path)
        for n in (None, 3)
    )
    assert whole.candidates is not None and some.candidates is not None
    assert whole.candidates.shape == (5, 4)
    assert (whole.candidates[:, 0] == whole.target).all()
    assert np.array_equal(some.candidates, whole.candidates[np.isin(whole.row, some.row)])
    assert len(some) == 3


def test_subsets_differ_by_the_datasets_seed(tmp_path):
    drawn = {
        tuple(ranking.examples(SPLIT, SplitName.test, config(max_examples=3, dataset_seed=seed), tmp_path).row)
        for seed in range(10)
    }
    assert len(drawn) > 1


def test_swapped_users_keep_targets_and_lose_their_histories(tmp_path):
    examples = ranking.examples(SPLIT, SplitName.test, config(control=Control.swap_users), tmp_path)
    assert np.array_equal(examples.target, EXAMPLES.target)
    assert (examples.start != EXAMPLES.start).all()


def test_a_dataset_without_examples_says_why(tmp_path):
    split = leave_one_out(tiny_dataset([[0, 1], [1, 2]]))
    with pytest.raises(DataError, match="no user has three interactions"):
        ranking.examples(split, SplitName.test, config(), tmp_path)


def test_predictions_hold_one_row_an_example_with_raw_ids():
    scores = np.tile([0.0, 8, 7, 6, 5, 4, 3, 2], (6, 1))
    result = ranking.evaluate(Scorer(scores), SPLIT, EXAMPLES, config())
    assert result.metrics["coverage@3"] == 3 / 8
    rows = result.predictions
    assert rows["user_id"].tolist() == ["u0", "u1", "u2", "u4", "u5"]
    assert rows["target"].tolist() == ["i3", "i0", "i5", "i4", "i2"]
    assert rows["history_length"].tolist() == [3, 4, 2, 3, 3]
    assert rows["n_better"].tolist() == [2, 7, 4, 3, 1]
    assert rows["n_tied"].tolist() == [1] * 5
    assert rows["n_candidates"].tolist() == [8] * 5
    assert rows["target_train_count"].tolist() == [2, 3, 1, 2, 2]  # train parts: 0 1 | 4 3 2 | 5 | 1 0 | 2 4 | 3 0
    assert [list(top) for top in rows["top_items"]] == [["i1", "i2", "i3"]] * 5
    assert [list(top) for top in rows["top_scores"]] == [[8, 7, 6]] * 5
    values = ranking_metrics(rows["n_better"].to_numpy(), np.ones(5, int), np.full(5, 8), list(config().task.cutoffs))
    assert {name: rows[name].tolist() for name in values} == {name: value.tolist() for name, value in values.items()}
    assert [name for name in rows if not name.startswith("slice/")] == [
        *("user_id", "target", "target_train_count", "history_length", "n_better", "n_tied", "n_candidates"),
        *("top_items", "top_scores"),
        *values,
    ]


def test_a_model_with_item_ids_has_slices_by_their_codes():
    assert "near_codes" not in ranking.evaluate(scorer(), SPLIT, EXAMPLES, config()).breakdown["slice"]
    model = scorer()
    model.item_codes = ItemIds(np.array([[0, 0], [1, 0], [1, 1], [1, 1], [2, 0], [3, 0], [4, 0], [5, 0]]))
    predictions = ranking.evaluate(model, SPLIT, EXAMPLES, config()).predictions
    # 3 after 0 1 2; 0 after 4 3 2 1; 5 after 5 5; 4 after 2 4 2; 2 after 3 0 1
    assert predictions["slice/near_codes"].tolist() == [True, False, False, False, True]
    assert predictions["slice/far_codes"].tolist() == [False, True, False, True, False]


def test_every_slice_has_a_column_of_predictions_and_its_means_in_the_breakdown():
    result = ranking.evaluate(scorer(), SPLIT, EXAMPLES, config())
    assert result.predictions["slice/repeated"].tolist() == [False, False, True, True, False]  # 0 1 2 3 | 4 3 2 1 0 | …
    breakdown = result.breakdown["slice"]
    assert breakdown["repeated"]["n"] == 2
    ranks = result.predictions["n_better"][result.predictions["slice/repeated"]] + 1
    assert breakdown["repeated"]["mrr"] == pytest.approx((1 / ranks).mean())
    assert "cold" not in breakdown  # no target is


def test_the_breakdown_by_training_frequency_adds_up():
    result = ranking.evaluate(scorer(), SPLIT, EXAMPLES, config())
    groups = result.breakdown["target_train_count"].values()
    assert sum(group["n"] for group in groups) == 5
    assert sum(group["n"] * group["mrr"] for group in groups) / 5 == pytest.approx(result.metrics["mrr"])


def test_recommended_titles_are_compared_with_the_history_and_with_the_targets():
    titles = ["red hat", "red shoe", "red coat", "red sock", "blue pen", "blue ink", "cup", ""]
    split = replace(SPLIT, dataset=replace(SPLIT.dataset, items=SPLIT.dataset.items.assign(title=titles)))
    scores = np.tile([-9.0, -9, -9, 0, 9, 8, -9, -9], (6, 1))  # pen, ink, then the sock
    result = ranking.evaluate(
        Scorer(scores), split, EXAMPLES[np.array([0])], config()
    )  # hat, shoe, coat; the sock is next
    assert result.metrics["title_similarity@3"] == pytest.approx((0 + 0 + 1 / 3) / 3)
    assert result.metrics["title_similarity_of_target"] == pytest.approx(1 / 3)
    assert result.metrics["title_diversity@3"] == pytest.approx(1 - (1 / 3) / 3)


def test_cold_and_warm_targets_are_reported_separately():
    split = replace(SPLIT, cold=np.isin(np.arange(8), [4, 5, 7]))  # of the targets 3, 0, 5, 4, 2: the third and fourth
    scores = np.tile([0.0, 8, 7, 6, 5, 4, 3, 2], (6, 1))  # ranks 3, 8, 5, 4, 2
    result = ranking.evaluate(Scorer(scores), split, EXAMPLES, config())
    assert result.metrics["cold/hr@5"] == 1
    assert result.metrics["cold/mrr"] == pytest.approx((1 / 5 + 1 / 4) / 2)
    assert result.metrics["warm/mrr"] == pytest.approx((1 / 3 + 1 / 8 + 1 / 2) / 3)
    assert result.breakdown["target_is_cold"]["cold"]["n"] == 2
    assert result.breakdown["target_is_cold"]["warm"]["mrr"] == pytest.approx(result.metrics["warm/mrr"])
    assert result.predictions["target_is_cold"].tolist() == [False, False, True, True, False]


def test_each_ranking_metric_has_a_mean_and_an_interval_of_cold_and_of_warm_targets():
    plain = ranking.evaluate(scorer(), SPLIT, EXAMPLES, config())
    result = ranking.evaluate(scorer(), hold_out(SPLIT, 0.3, 1.0, seed=0), EXAMPLES, config())
    assert set(plain.metrics) == set(plain.intervals) | {"coverage@3", "novelty@3"}
    assert set(plain.intervals) == {
        *("hr@1", "hr@2", "hr@5", "recall@1", "recall@2", "recall@5", "ndcg@2", "ndcg@5", "mrr", "auc"),
    }
    names = {f"{group}/{name}" for group in ("cold", "warm") for name in plain.intervals}
    assert set(result.metrics) == set(plain.metrics) | names
    assert set(result.intervals) == set(plain.intervals) | names
    assert {name: result.metrics[name] for name in plain.intervals} == {n: plain.metrics[n] for n in plain.intervals}
    assert result.intervals | plain.intervals == result.intervals
    for name in result.intervals:
        low, high = result.intervals[name]
        assert low <= result.metrics[name] <= high


@pytest.mark.parametrize(("cold", "group"), [([], "warm"), (range(8), "cold")])
def test_a_group_without_targets_has_no_metrics(cold, group):
    result = ranking.evaluate(scorer(), replace(SPLIT, cold=np.isin(np.arange(8), cold)), EXAMPLES, config())
    assert set(result.breakdown["target_is_cold"]) == {group}
    assert {name.partition("/")[0] for name in result.metrics if "/" in name} == {group}


@pytest.mark.parametrize("mask_history", [False, True])
def test_a_constant_scorer_gets_the_chance_that_the_breakdown_states(mask_history):
    split = replace(SPLIT, cold=np.isin(np.arange(8), [4, 5]))
    settings = config(mask_history=mask_history)
    result = ranking.evaluate(Scorer(np.zeros((6, 8))), split, EXAMPLES, settings).breakdown
    assert result["target_is_cold"] == {group: pytest.approx(means) for group, means in result["chance"].items()}
    other = ranking.evaluate(scorer(), split, EXAMPLES, settings).breakdown
    assert other["chance"] == result["chance"]


def test_validation_scores_the_selection_metric():
    scores = np.tile([0.0, 8, 7, 6, 5, 4, 3, 2], (6, 1))  # ranks 3, 8, 5, 4, 2
    expected = sum(1 / math.log2(rank + 1) for rank in (3, 5, 4, 2)) / 5
    assert ranking.validation_score(Scorer(scores), SPLIT, EXAMPLES, config()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gain", "n", "alarm"),
    [(0.069, 1000, False), (0.09, 1000, True), (0.09, 500, True), (0.09, 499, False), (0.0, 1000, False)],
)
def test_hits_that_are_nearly_all_first_raise_the_leak_alarm(gain, n, alarm):
    """Of 100 hits at ranks 1 to 5 with equal frequency NDCG@5 / HR@5 is the mean discount, 0.59."""
    discounts = 1 / np.log2(np.arange(2, 7))
    assert discounts.mean() == pytest.approx(0.59, abs=0.005)
    assert ranking.leaks({"hr@5": 0.1, "ndcg@5": gain}, n) is alarm


class OnlyScores:
    """A model's scores without its other capabilities."""

    def __init__(self, model):
        self.score = model.score


@pytest.mark.parametrize("mask_history", [False, True])
@pytest.mark.parametrize("zeroed", [False, True])
@pytest.mark.parametrize(
    "model", [Popularity(np.array([3, 1, 1, 0, 4, 1, 0, 1])), NextId(np.array([2, 7, 1, 0, 4, 3, 6, 5]))]
)
def test_scores_that_are_the_same_for_most_items_rank_as_their_whole_table(model, mask_history, zeroed):
    examples = replace(EXAMPLES, outside=np.array([6]))
    arguments = (examples, mask_history, 4, 2, zeroed)
    quick, whole = ranking.rank(model, *arguments), ranking.rank(OnlyScores(model), *arguments)
    for name, column in vars(whole).items():
        np.testing.assert_array_equal(getattr(quick, name), column, err_msg=name)
        assert getattr(quick, name).dtype == column.dtype
