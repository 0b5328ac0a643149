"""`compare`: paired values worked out by hand, and refusals of unpaired runs; results/test_pinned.py has its output."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

from tests.cli.states import RANKS, write_run

ONE, MISS = (0, 1), (99, 1)  # rank 1, and beyond every cutoff


@pytest.fixture
def write(tmp_path):
    """write(model, ranks, **facts): write a finished run under tmp_path/outputs with these ranks; return its folder."""
    return partial(write_run, tmp_path)


@pytest.fixture
def compared(llm4rec):
    """compared(*arguments): the output of `compare --json`, parsed strictly: without NaN and Infinity."""

    def compared(*arguments):
        answer = llm4rec("compare", "--json", *map(str, arguments))
        assert answer.code == 0, answer.err
        return json.loads(answer.out, parse_constant=pytest.fail)

    return compared


@pytest.fixture
def refused(llm4rec):
    """refused(*arguments): why `compare` refuses, in one line."""

    def refused(*arguments, code=2):
        answer = llm4rec("compare", *map(str, arguments))
        assert (answer.code, answer.out) == (code, "")
        return " ".join(answer.err.split())

    return refused


def with_columns(*runs, **columns):
    """Write these columns into the predictions of runs."""
    for run in runs:
        file = run / "predictions.parquet"
        pd.read_parquet(file).assign(**columns).to_parquet(file, index=False)


# ---- the numbers


def test_means_difference_ratio_and_counts_are_those_of_the_users(write, compared, llm4rec):
    a, b = write("a"), write("b", [(2, 1), (0, 1), (2, 4), (9, 1), (5, 1)])
    result = compared(a, b)
    assert compared(a, b) == result, "the same command prints the same"
    hit = result["metrics"]["hr@10"]
    assert (hit["a"], hit["b"], hit["difference"]) == pytest.approx((0.8, 1.0, 0.2))
    assert (hit["better"], hit["equal"], hit["worse"]) == (1, 4, 0)
    ndcg = result["metrics"]["ndcg@10"]
    assert ndcg["difference"] == pytest.approx(1 / np.log2(7) / 5)  # two users swap, one goes from nothing to rank 6
    assert (ndcg["better"], ndcg["equal"], ndcg["worse"]) == (2, 2, 1)
    for metric in compared(a, a)["metrics"].values():
        assert (metric["difference"], metric["p"], metric["equal"]) == (0, 1, 5)

    c = write("c", [(0, 1), (0, 1), (2, 4), (9, 1), (5, 1)])
    mrr = compared(a, c)["metrics"]["mrr"]
    assert mrr["ratio"] == pytest.approx(mrr["b"] / mrr["a"])
    low, high = mrr["ratio_interval"]
    assert low < mrr["ratio"] < high and low * high == pytest.approx(mrr["ratio"] ** 2)
    zero = write("d", [(20, 1)] * 5)
    assert compared(zero, a)["metrics"]["hr@10"]["ratio"] is None
    assert llm4rec("compare", str(zero), str(a), "--ratio", "--metric", "hr@10").code == 0


def test_ties_count_by_their_expectation(write, compared):
    tied, third = write("a", [(2, 4)] * 3), write("b", [(2, 1)] * 3)
    mrr = compared(tied, third, "--metric", "mrr")["metrics"]["mrr"]
    assert mrr["a"] == pytest.approx((1 / 3 + 1 / 4 + 1 / 5 + 1 / 6) / 4)
    assert mrr["better"] == 3


def test_rows_are_paired_by_user_and_target_in_whatever_order(write, compared):
    order = [3, 0, 4, 1, 2]
    a, b = write("a"), write("b", [RANKS[i] for i in order], users=[f"u{i}" for i in order])
    assert compared(a, b)["metrics"]["mrr"]["equal"] == 5
    twice = [write(name, users=["u0", "u0", "u1", "u1", "u2"]) for name in "cd"]
    assert compared(*twice)["n_examples"] == 5


def write_seeds(write, model, *ranks_by_seed, **facts):
    """Write runs of one variant, one per seed; return the folder of the first."""
    first, *_ = [
        write(model, ranks, f"seed{seed}-abc", seed=seed, variant=f"variant of {model}", **facts)
        for seed, ranks in enumerate(ranks_by_seed)
    ]
    return first


def test_over_seeds_each_user_counts_by_the_mean_and_each_seed_is_shown(write, compared):
    a = write_seeds(write, "a", [ONE, MISS], [ONE, MISS])
    b = write_seeds(write, "b", [ONE, ONE], [MISS, ONE])
    over_seeds = (a, b, "--seeds", "--metric", "hr@1")
    result = compared(*over_seeds)
    hit = result["metrics"]["hr@1"]
    assert (hit["a"], hit["b"], hit["difference"]) == pytest.approx((0.5, 0.75, 0.25))
    assert (hit["better"], hit["worse"]) == (1, 1)  # one user loses half a hit, one gains a whole hit
    assert result["by_seed"] == {"0": {"hr@1": 0.5}, "1": {"hr@1": 0.0}}
    third = {"seed": 7, "variant": "variant of b", "labels": ["floor-not-beaten"]}
    write("b", [ONE, ONE], "seed7-abc", **third)  # A has no such seed
    result = compared(*over_seeds)
    assert result["metrics"]["hr@1"]["b"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert [*result["by_seed"]] == ["0", "1"]
    assert result["a"]["labels"] == [] and result["b"]["labels"] == ["floor-not-beaten"]


def test_a_scored_file_and_a_rule_are_compared_with_every_seed(write, compared, refused):
    file, rule = write("external", variant="file", labels=["external"]), write("popularity", variant="rule")
    a = write_seeds(write, "a", [(0, 1), (0, 1), (2, 4), (9, 1), (5, 1)], RANKS)
    assert [*compared(a, file, "--seeds")["by_seed"]] == ["0", "1"]
    result = compared(rule, a, "--seeds")
    assert [*result["by_seed"]] == ["0", "1"]
    assert result["by_seed"]["1"]["mrr"] == pytest.approx(0)
    assert "needs at least two seeds" in refused(rule, write("random", RANKS, "seed0-c", variant="c"), "--seeds")
    assert "A has seeds 0, 1; B has only seed 0" in refused(a, write_seeds(write, "c", RANKS), "--seeds")


def write_draws(write, model, *ranks_by_draw, seed=0):
    """Write runs of a rule that differ only in the draw of their candidates; return the folder of the first."""
    shared = {"task": "direct", "deviations": [], "breakdown": {}, "seconds": {}, "config_hash": "c"}
    shared |= dict.fromkeys(("trained_run", "init_from", "text_encoder", "tokens")) | {"seed": seed}
    folders = []
    for draw, ranks in enumerate(ranks_by_draw):
        protocol = f"uniform-100-draw{draw}" if draw else "uniform-100"
        folder = write(model, ranks, f"seed{seed}-{draw}", protocol=protocol, variant=f"{model} {draw}", **shared)
        (folder / "config.yaml").write_text(f"task: {{draw: {draw}}}")
        folders.append(folder)
    return folders[0]


def test_over_draws_and_seeds_the_metrics_of_each_user_are_averaged(write, compared):
    a = write_draws(write, "popularity", [ONE, MISS], [ONE, ONE])
    b = write_draws(write, "item_knn", [MISS, ONE], [ONE, ONE])
    result = compared(a, b, "--draws", "--metric", "hr@1")
    hit = result["metrics"]["hr@1"]
    assert [*result["a"]["draws"]] == ["0", "1"] and result["protocol"] == "uniform-100-draws0+1"
    assert (hit["a"], hit["b"]) == (0.75, 0.75)
    assert (hit["better"], hit["worse"]) == (1, 1)  # half a hit each
    assert "draws" not in compared(a, b, "--metric", "hr@1")["a"]
    rule = write_draws(write, "next_id", [MISS, MISS], [MISS, MISS])
    seeds = [write_draws(write, "random", [ONE, MISS], [ONE, last], seed=s) for s, last in enumerate((ONE, MISS))]
    result = compared(rule, seeds[0], "--draws", "--seeds", "--metric", "hr@1")
    assert result["b"]["seeds"] == [0, 1]
    assert result["by_seed"] == {"0": {"hr@1": 0.75}, "1": {"hr@1": 0.5}}
    assert result["metrics"]["hr@1"]["b"] == 0.625


def test_over_draws_both_need_the_same_of_which_there_are_several(write, refused):
    a = write_draws(write, "popularity", RANKS, RANKS)
    b = write_draws(write, "item_knn", RANKS, RANKS, RANKS)
    alone = write_draws(write, "next_id", RANKS)
    assert "uniform-100-draws0+1 in A and uniform-100-draws0+1+2 in B" in refused(a, b, "--draws")
    one = refused(a, alone, "--draws")
    assert "has no other draws of candidates" in one and "task.draw=0,1,2" in one
    same = refused(a, a.with_name("seed0-1"), "--draws")
    assert "is a draw of a run that is already named" in same


def test_cold_targets_are_compared_alone(write, compared, refused):
    a, b = write("a", [MISS, ONE, ONE]), write("b", [ONE, ONE, MISS])
    with_columns(a, b, target_is_cold=[True, True, False])
    cold, warm = (compared(a, b, "--targets", kind, "--metric", "hr@1") for kind in ("cold", "warm"))
    assert (cold["n_examples"], cold["metrics"]["hr@1"]["difference"]) == (2, 0.5)
    assert (warm["n_examples"], warm["metrics"]["hr@1"]["difference"]) == (1, -1)
    with_columns(a, b, target_is_cold=False)
    assert "no target of these runs is cold" in refused(a, b, "--targets", "cold", code=2)


def test_a_trained_run_is_compared_with_its_floor(compared, trained):
    result = compared(trained, "popularity/demo/sequential/seed0")
    assert (result["a"]["model"], result["b"]["model"], result["n_examples"]) == ("sasrec", "popularity", 100)
    metrics = json.loads((trained / "metrics.json").read_text())["metrics"]
    assert {name: d["a"] for name, d in result["metrics"].items()} == pytest.approx(
        {name: metrics[name] for name in result["metrics"]}
    )


# ---- metrics, runs and what is no pair


def test_metrics_of_both_are_compared_or_those_chosen_and_a_datasets_name_does_not_matter(write, compared):
    a = write("a")
    b = write("b", intervals={"hr@10": [0, 1], "ndcg@10": [0, 1], "hr@7": [0, 1]})
    assert list(compared(a, b)["metrics"]) == ["hr@10", "ndcg@10"]
    assert list(compared(a, write("c"), "--metric", "auc,recall@10")["metrics"]) == ["auc", "recall@10"]
    assert compared(a, write("d", dataset="mine"))["n_examples"] == 5


def test_what_cannot_be_paired_is_refused_with_the_reason(write, refused):
    a, b = write("a"), write("b")
    pd.DataFrame({"user_id": ["u0"], "prediction": [3.5]}).to_parquet(b / "predictions.parquet")
    assert "has no predictions to pair" in refused(a, b)
    (b / "predictions.parquet").write_bytes(b"PAR1")
    damaged = refused(a, b, code=1)
    assert f"{b / 'predictions.parquet'} is damaged" in damaged and "force=true" in damaged
    rated = [write(name, protocol="rating", task="rating", intervals={"mae": [0, 1]}) for name in "cd"]
    for run, rating in zip(rated, (5.0, 4.0), strict=True):
        rows = {"user_id": ["u0"], "target": ["i"], "rating": [rating], "prediction": [3.0]}
        pd.DataFrame(rows).to_parquet(run / "predictions.parquet")
    assert "1 of 1 examples have different ratings (5.0 in A, 4.0 in B)" in refused(*rated)
    other = write("e", dataset_fingerprint="0" * 64)
    for run, seed in ((a, 0), (other, 7)):
        (run / "config.yaml").write_text(f"dataset: {{name: demo, seed: {seed}, user_core: 5, raw_dir: /{seed}}}\n")
    assert "dataset.seed is 0 in A and 7 in B" in refused(a, other)


# ---- output


def test_of_fewer_than_four_users_there_is_neither_interval_nor_test(write, compared, llm4rec):
    difference = compared(write("a", RANKS[:1]), write("b", RANKS[1:2]))["metrics"]["hr@1"]
    assert (difference["difference"], difference["interval"]) == (-1, [None, None])
    answer = llm4rec("compare", str(write("c", RANKS[:3])), str(write("d", RANKS[1:4])), "--metric", "hr@1", "--wide")
    (row,) = (line.split() for line in answer.out.splitlines() if line.startswith("hr@1"))
    assert row[4:7] == ["-", "-", "-"]


# ---- several runs, equivalence


def test_each_other_run_is_paired_with_the_first_and_holm_is_over_all_pairs_and_metrics(write, compared, refused):
    a, b, c = (write(name, [rank] * 9) for name, rank in (("a", MISS), ("b", ONE), ("c", (50, 1))))
    together, alone = compared(a, b, c, "--metric", "hr@1,mrr"), compared(a, b, "--metric", "hr@1,mrr")
    (third,) = together["others"]
    assert (together["b"]["model"], third["b"]["model"]) == ("b", "c")
    assert third["metrics"]["mrr"]["b"] == pytest.approx(1 / 51)
    assert third["metrics"]["mrr"]["a"] == together["metrics"]["mrr"]["a"]
    assert alone["metrics"]["mrr"]["p"] == together["metrics"]["mrr"]["p"]
    assert alone["metrics"]["mrr"]["p_holm"] == pytest.approx(2 * alone["metrics"]["mrr"]["p"])
    assert together["metrics"]["mrr"]["p_holm"] == pytest.approx(4 * together["metrics"]["mrr"]["p"])
    d = write("d", [ONE] * 9, protocol="uniform-100")
    assert "protocol is full in A and uniform-100 in B" in refused(a, b, d)


# ---- impressions


@pytest.fixture
def impressions(write):
    """impressions(model, auc, **columns): write a run on three impressions of two users with these AUCs."""

    def impressions(model, auc, **columns):
        metrics = {name: [0, 1] for name in ("auc", "mrr", "ndcg@5", "ndcg@10")}
        folder = write(model, dataset="news", task="direct", protocol="impression", intervals=metrics)
        rows = {
            "impression_id": ["1", "2", "3"],
            "user_id": ["u0", "u0", "u1"],
            "items": [["a", "b"], ["b", "c", "d"], ["a", "d"]],
            "clicked": [[True, False], [False, True, True], [False, True]],
            **dict.fromkeys(metrics, auc),
            **columns,
        }
        pd.DataFrame(rows).to_parquet(folder / "predictions.parquet")
        return folder

    return impressions


def test_impressions_are_paired_by_their_own_metrics_and_those_of_one_user_stay_together(impressions, compared):
    a, b = impressions("a", [0.0, 0.5, 1.0]), impressions("b", [1.0, 0.5, 1.0])
    result = compared(a, b)
    assert (list(result["metrics"]), result["n_examples"]) == (["auc", "mrr", "ndcg@5", "ndcg@10"], 3)
    auc = result["metrics"]["auc"]
    assert (auc["a"], auc["b"]) == pytest.approx((0.5, 2.5 / 3))
    assert (auc["better"], auc["equal"]) == (1, 2)
    c, d = impressions("c", [0.0, 0.0, 0.0]), impressions("d", [1.0, -1.0, 0.0])
    assert compared(c, d, "--metric", "auc")["metrics"]["auc"]["interval"] == [0, 0], "u0 cancels in every resample"


def test_other_impressions_or_items_shown_are_refused(impressions, refused):
    a = impressions("a", [0, 0, 0])
    items = impressions("b", [0, 0, 0], items=[["a", "b"], ["b", "c", "x"], ["a", "d"]])
    assert "1 of 3 examples have different items shown" in refused(a, items)
    ids = impressions("c", [0, 0, 0], impression_id=["1", "2", "9"])
    assert "1 are in A only and 1 in B only (impression 3)" in refused(a, ids)
