"""`compare`: paired values worked out by hand, refusals of unpaired runs, names of runs, and output."""

import json

import numpy as np
import pandas as pd
import pytest

from llm4rec_cli.files import write_json
from tests.results.finished_runs import metrics_json
from tests.support.driver import python

# (n_better, n_tied) of five targets: rank 1, rank 3, tied at ranks 3 to 6, rank 10, rank 11.
RANKS = [(0, 1), (2, 1), (2, 4), (9, 1), (10, 1)]


@pytest.fixture
def write(tmp_path):
    """write(model, ranks, **facts): write a finished run under tmp_path/outputs with these ranks; return its folder."""

    def write(model, ranks, name="seed0-abc", users=None, status="done", **facts):
        users = [f"u{i}" for i in range(len(ranks))] if users is None else users
        intervals = {name: [0, 1] for name in ("hr@1", "hr@10", "recall@10", "ndcg@10", "mrr", "auc")}
        measured = {"metrics": {"coverage@10": 1.0}, "intervals": intervals, "dataset_fingerprint": "f" * 64}
        metrics = metrics_json(**{"model": model, "dataset": "demo", **measured, **facts})
        folder = tmp_path / "outputs" / model / metrics["dataset"] / metrics["task"] / name
        folder.mkdir(parents=True)
        rows = pd.DataFrame(ranks, columns=["n_better", "n_tied"]).assign(n_candidates=100, user_id=users, target="i")
        rows.to_parquet(folder / "predictions.parquet", index=False)
        write_json(folder / "status.json", {"status": status, "error": None})
        write_json(folder / "metrics.json", metrics)
        return folder

    return write


@pytest.fixture
def compared(llm4rec):
    """compared(*arguments): the output of `compare --json`, parsed strictly: without NaN and Infinity."""

    def compared(*arguments):
        answer = llm4rec("compare", "--json", *map(str, arguments))
        assert answer.code == 0, answer.err
        return json.loads(answer.out, parse_constant=pytest.fail)

    return compared


# ---- the numbers


def test_means_difference_and_counts_are_those_of_the_users(write, compared):
    a, b = write("a", RANKS), write("b", [(2, 1), (0, 1), (2, 4), (9, 1), (5, 1)])
    hit = compared(a, b)["metrics"]["hr@10"]
    assert (hit["a"], hit["b"], hit["difference"]) == pytest.approx((0.8, 1.0, 0.2))
    assert (hit["better"], hit["equal"], hit["worse"]) == (1, 4, 0)
    ndcg = compared(a, b)["metrics"]["ndcg@10"]
    assert ndcg["difference"] == pytest.approx(1 / np.log2(7) / 5)  # two users swap, one goes from nothing to rank 6
    assert (ndcg["better"], ndcg["equal"], ndcg["worse"]) == (2, 2, 1)


def test_ties_count_by_their_expectation(write, compared):
    tied, third = write("a", [(2, 4)] * 3), write("b", [(2, 1)] * 3)
    mrr = compared(tied, third, "--metric", "mrr")["metrics"]["mrr"]
    assert mrr["a"] == pytest.approx((1 / 3 + 1 / 4 + 1 / 5 + 1 / 6) / 4)
    assert mrr["better"] == 3


def test_if_all_users_differ_alike_p_is_that_of_the_permutation_test(write, compared):
    a, b = write("a", [(99, 1)] * 3), write("b", [(0, 1)] * 3)
    hit = compared(a, b, "--metric", "hr@1")["metrics"]["hr@1"]
    assert hit["difference"] == 1
    assert hit["p"] == pytest.approx(2 / 8, abs=0.015)  # all plus or all minus, of eight


def test_a_run_compared_with_itself_has_no_difference(write, compared):
    run = write("a", RANKS)
    for metric in compared(run, run)["metrics"].values():
        assert (metric["difference"], metric["p"], metric["equal"]) == (0, 1, 5)


def test_the_order_of_rows_does_not_matter(write, compared):
    order = [3, 0, 4, 1, 2]
    a, b = write("a", RANKS), write("b", [RANKS[i] for i in order], users=[f"u{i}" for i in order])
    assert compared(a, b)["metrics"]["mrr"]["equal"] == 5


def write_seeds(write, model, *ranks_by_seed, **facts):
    """Write runs of one variant, one per seed; return the folder of the first."""
    first, *_ = [
        write(model, ranks, f"seed{seed}-abc", seed=seed, variant=f"variant of {model}", **facts)
        for seed, ranks in enumerate(ranks_by_seed)
    ]
    return first


def test_over_seeds_each_user_counts_by_the_mean_and_each_seed_is_shown(write, compared):
    a = write_seeds(write, "a", [(0, 1), (99, 1)], [(0, 1), (99, 1)])
    b = write_seeds(write, "b", [(0, 1), (0, 1)], [(99, 1), (0, 1)])
    result = compared(a, b, "--seeds", "--metric", "hr@1")
    hit = result["metrics"]["hr@1"]
    assert (hit["a"], hit["b"], hit["difference"]) == pytest.approx((0.5, 0.75, 0.25))
    assert (hit["better"], hit["worse"]) == (1, 1)  # one user loses half a hit, one gains a whole hit
    assert result["by_seed"] == {"0": {"hr@1": 0.5}, "1": {"hr@1": 0.0}}


def test_seeds_of_one_side_alone_count_too_and_their_labels(write, compared, llm4rec):
    a = write_seeds(write, "a", [(0, 1), (99, 1)], [(0, 1), (99, 1)])
    b = write_seeds(write, "b", [(0, 1), (0, 1)], [(99, 1), (0, 1)])
    third = {"seed": 7, "variant": "variant of b", "labels": ["floor-not-beaten"]}
    write("b", [(0, 1), (0, 1)], "seed7-abc", **third)  # A has no such seed
    result = compared(a, b, "--seeds", "--metric", "hr@1")
    assert result["metrics"]["hr@1"]["b"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert [*result["by_seed"]] == ["0", "1"]
    assert result["a"]["labels"] == [] and result["b"]["labels"] == ["floor-not-beaten"]
    out = llm4rec("compare", str(a), str(b), "--seeds", "--metric", "hr@1").out
    assert "means over seeds 0, 1 (A) and 0, 1, 7 (B);" in " ".join(out.split())


def test_what_depends_on_no_seed_is_compared_as_it_is(write, llm4rec):
    rules = [write(model, RANKS, variant=model) for model in ("popularity", "item_knn")]
    out = " ".join(llm4rec("compare", *map(str, rules), "--seeds", "--metric", "mrr").out.split())
    assert "none of them depends on a seed; interval and p cover users" in out and "one seed each" not in out


def test_a_table_over_seeds_has_a_column_of_seeds_and_no_one_seed_warning(write, llm4rec):
    a, b = write_seeds(write, "a", RANKS, RANKS), write_seeds(write, "b", RANKS, RANKS[::-1])
    out = llm4rec("compare", str(a), str(b), "--seeds", "--metric", "mrr", "--markdown").out
    assert "| by seed |" in out
    assert "+0.0000 +0.0000" in out
    assert "means over seeds 0, 1" in out
    assert "no claim rests on one seed" not in out


def test_over_seeds_two_of_both_are_needed(write, llm4rec):
    a, b = write_seeds(write, "a", RANKS, RANKS), write_seeds(write, "b", RANKS)
    answer = llm4rec("compare", str(a), str(b), "--seeds")
    assert answer.code == 2
    assert "A has seeds 0, 1; B has only seed 0" in answer.err


def test_a_scored_file_is_compared_with_every_seed(write, compared, llm4rec):
    file = write("external", RANKS, variant="file", labels=["external"])
    a = write_seeds(write, "a", RANKS, RANKS[::-1])
    assert [*compared(a, file, "--seeds")["by_seed"]] == ["0", "1"]
    out = " ".join(llm4rec("compare", str(a), str(file), "--seeds", "--metric", "mrr").out.split())
    assert "B: one file, compared with every seed of the others; interval and p do not cover other trainings" in out


def test_a_rule_is_compared_with_every_seed(write, compared, llm4rec):
    rule = write("popularity", RANKS, variant="rule")
    better = [(0, 1), (0, 1), (2, 4), (9, 1), (5, 1)]
    folders = [write("b", ranks, f"seed{i}-b", variant="b", seed=i) for i, ranks in enumerate((better, RANKS))]
    result = compared(rule, folders[0], "--seeds")
    assert [*result["by_seed"]] == ["0", "1"]
    assert result["by_seed"]["1"]["mrr"] == pytest.approx(0)
    assert result["metrics"]["mrr"]["p_seeds"] is None, "the rule was not trained twice"
    alone = llm4rec("compare", str(rule), str(write("random", RANKS, "seed0-c", variant="c")), "--seeds")
    assert alone.code == 2 and "needs at least two seeds" in alone.err


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


def test_over_draws_the_metrics_of_each_user_are_averaged(write, compared, llm4rec):
    a = write_draws(write, "popularity", [(0, 1), (99, 1)], [(0, 1), (0, 1)])
    b = write_draws(write, "item_knn", [(99, 1), (0, 1)], [(0, 1), (0, 1)])
    result = compared(a, b, "--draws", "--metric", "hr@1")
    hit = result["metrics"]["hr@1"]
    assert [*result["a"]["draws"]] == ["0", "1"] and result["protocol"] == "uniform-100-draws0+1"
    assert (hit["a"], hit["b"]) == (0.75, 0.75)
    assert (hit["better"], hit["worse"]) == (1, 1)  # half a hit each
    out = " ".join(llm4rec("compare", str(a), str(b), "--draws", "--metric", "hr@1").out.split())
    assert "averaged over draws 0, 1 of the candidates" in out
    assert "draws" not in compared(a, b, "--metric", "hr@1")["a"]


def test_draws_and_seeds_are_averaged_together(write, compared):
    rule = write_draws(write, "popularity", [(99, 1), (99, 1)], [(99, 1), (99, 1)])
    seeds = [
        write_draws(write, "random", [(0, 1), (99, 1)], [(0, 1), (rank, 1)], seed=s) for s, rank in enumerate((0, 99))
    ]
    result = compared(rule, seeds[0], "--draws", "--seeds", "--metric", "hr@1")
    assert result["b"]["seeds"] == [0, 1]
    assert result["by_seed"] == {"0": {"hr@1": 0.75}, "1": {"hr@1": 0.5}}
    assert result["metrics"]["hr@1"]["b"] == 0.625


def test_a_seed_that_lacks_draws_is_asked_for_with_them(write, llm4rec):
    a, b = (write_draws(write, model, RANKS, RANKS) for model in ("random", "bpr_mf"))
    write_draws(write, "random", RANKS, seed=1)
    refused = llm4rec("compare", str(a), str(b), "--draws", "--seeds")
    assert refused.code == 2 and "eval -m seed=0,1,2 task.draw=0,1;" in " ".join(refused.err.split())


def test_over_draws_both_need_the_same_of_which_there_are_several(write, llm4rec):
    a = write_draws(write, "popularity", RANKS, RANKS)
    b = write_draws(write, "item_knn", RANKS, RANKS, RANKS)
    alone = write_draws(write, "random", RANKS)
    other = llm4rec("compare", str(a), str(b), "--draws")
    assert other.code == 2 and "uniform-100-draws0+1 in A and uniform-100-draws0+1+2 in B" in other.err
    one = llm4rec("compare", str(a), str(alone), "--draws")
    assert one.code == 2 and "has no other draws of candidates" in one.err and "task.draw=0,1,2" in one.err
    same = llm4rec("compare", str(a), str(a.with_name("seed0-1")), "--draws")
    assert same.code == 2 and "is a draw of a run that is already named" in same.err


def test_a_ratio_has_the_interval_of_logs(write, compared, llm4rec):
    a, b = write("a", RANKS), write("b", [(0, 1), (0, 1), (2, 4), (9, 1), (5, 1)])
    mrr = compared(a, b)["metrics"]["mrr"]
    assert mrr["ratio"] == pytest.approx(mrr["b"] / mrr["a"])
    low, high = mrr["ratio_interval"]
    assert low < mrr["ratio"] < high and low * high == pytest.approx(mrr["ratio"] ** 2)
    table = llm4rec("compare", str(a), str(b), "--ratio", "--metric", "mrr").out
    assert "B / A" in table and "B − A" not in table
    assert f"{mrr['ratio']:.3f}" in table and f"{low:.3f} to {high:.3f}" in table


def test_there_is_no_ratio_to_a_mean_of_zero(write, compared, llm4rec):
    a, b = write("a", [(20, 1)] * 5), write("b", RANKS)
    assert compared(a, b)["metrics"]["hr@10"]["ratio"] is None
    assert llm4rec("compare", str(a), str(b), "--ratio", "--metric", "hr@10").code == 0


def test_cold_targets_are_compared_alone(write, compared, llm4rec):
    a, b = write("a", [(99, 1), (0, 1), (0, 1)]), write("b", [(0, 1), (0, 1), (99, 1)])
    assert "no items were held out" in llm4rec("compare", str(a), str(b), "--targets", "cold").err
    for run in (a, b):
        file = run / "predictions.parquet"
        pd.read_parquet(file).assign(target_is_cold=[True, True, False]).to_parquet(file, index=False)
    cold, warm = (compared(a, b, "--targets", kind, "--metric", "hr@1") for kind in ("cold", "warm"))
    assert (cold["n_examples"], cold["metrics"]["hr@1"]["difference"]) == (2, 0.5)
    assert (warm["n_examples"], warm["metrics"]["hr@1"]["difference"]) == (1, -1)
    for run in (a, b):
        file = run / "predictions.parquet"
        pd.read_parquet(file).assign(target_is_cold=False).to_parquet(file, index=False)
    assert "no target of these runs is cold" in llm4rec("compare", str(a), str(b), "--targets", "cold").err


def test_one_user_may_have_the_same_target_twice(write, compared):
    a, b = (write(name, RANKS, users=["u0", "u0", "u1", "u1", "u2"]) for name in "ab")
    assert compared(a, b)["n_examples"] == 5


def test_the_same_command_prints_the_same(write, compared):
    a, b = write("a", RANKS), write("b", RANKS[::-1])
    assert compared(a, b) == compared(a, b)


def test_a_trained_run_is_compared_with_its_floor(compared, trained):
    result = compared(trained, "popularity/demo/sequential/seed0")
    assert (result["a"]["model"], result["b"]["model"], result["n_examples"]) == ("sasrec", "popularity", 100)
    metrics = json.loads((trained / "metrics.json").read_text())["metrics"]
    assert {name: d["a"] for name, d in result["metrics"].items()} == pytest.approx(
        {name: metrics[name] for name in result["metrics"]}
    )


# ---- choice of metrics


def test_by_default_the_table_metrics_of_both_are_compared(write, compared):
    a = write("a", RANKS)
    b = write("b", RANKS, intervals={"hr@10": [0, 1], "ndcg@10": [0, 1], "hr@7": [0, 1]})
    assert list(compared(a, b)["metrics"]) == ["hr@10", "ndcg@10"]


def test_the_chosen_metrics_are_compared(write, compared):
    a, b = write("a", RANKS), write("b", RANKS)
    assert list(compared(a, b, "--metric", "auc,recall@10")["metrics"]) == ["auc", "recall@10"]


# ---- runs that are not paired


def test_data_of_another_name_but_the_same_content_is_the_same(write, compared):
    assert compared(write("a", RANKS), write("b", RANKS, dataset="mine"))["n_examples"] == 5


def test_a_run_without_predictions_to_pair_is_refused(llm4rec, write):
    a, b = write("a", RANKS), write("b", RANKS)
    pd.DataFrame({"user_id": ["u0"], "prediction": [3.5]}).to_parquet(b / "predictions.parquet")
    answer = llm4rec("compare", str(a), str(b))
    assert answer.code == 2
    assert "has no predictions to pair" in answer.err


# ---- names of runs


@pytest.mark.parametrize(
    "name", ["a/demo/sequential/seed0-abc", "sequential/seed0-ab", "seed0-ab", "outputs/a/demo/sequential/seed0-abc/"]
)
def test_a_run_is_named_by_its_path_or_an_end_of_it(write, compared, name):
    write("a", RANKS)
    write("b", RANKS, name="seed1-abc")
    assert compared(name, "seed1")["a"]["model"] == "a"


def test_outputs_may_be_in_another_folder(write, compared, tmp_path):
    write("a", RANKS)
    (tmp_path / "outputs").rename(tmp_path / "kept")
    assert compared("seed0", "seed0", "--outputs", "kept")["n_examples"] == 5


# ---- output


def test_the_table_and_the_json_agree(llm4rec, write, compared):
    a, b = write("a", RANKS), write("b", RANKS[::-1])
    result = compared(a, b)["metrics"]["ndcg@10"]
    (row,) = [line.split() for line in llm4rec("compare", str(a), str(b)).out.splitlines() if "ndcg@10" in line]
    low, high = result["interval"]
    shown = [
        f"{result['a']:.4f}",
        f"{result['b']:.4f}",
        f"{result['difference']:+.4f}",
        f"{low:+.4f}",
        "to",
        f"{high:+.4f}",
    ]
    assert row[:7] == ["ndcg@10", *shown]
    assert row[7:9] == [f"{result['p']:.4f}", f"{result['p_holm']:.4f}"]
    assert row[9:] == [str(result[count]) for count in ("better", "equal", "worse")]


def test_markdown_is_a_table_with_notes(llm4rec, write):
    a, b = write("a", RANKS), write("b", RANKS)
    out = llm4rec("compare", str(a), str(b), "--markdown").out
    table = [line for line in out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert f"- A: a, {a}" in out
    assert f"- B: b, {b}" in out


def test_caveats_are_below_the_table(llm4rec, write):
    a, b = write("a", RANKS, labels=["synthetic", "subset"]), write("b", RANKS, labels=["synthetic"])
    out = llm4rec("compare", str(a), str(b)).out
    assert "two-sided p of t" in out
    assert "no claim rests on them" in out
    assert "synthetic data: these numbers settle no claim" in out
    assert "subset" in out


def test_the_endless_interval_of_a_single_user_is_null_in_json(write, compared):
    difference = compared(write("a", RANKS[:1]), write("b", RANKS[1:2]))["metrics"]["hr@1"]
    assert difference["difference"] == -1
    assert difference["interval"] == [None, None]


def test_of_fewer_than_four_users_the_table_has_neither_interval_nor_test(write, llm4rec):
    answer = llm4rec("compare", str(write("a", RANKS[:3])), str(write("b", RANKS[1:4])), "--metric", "hr@1", "--wide")
    assert "fewer than 4 users: no interval and no test" in answer.out
    (row,) = (line.split() for line in answer.out.splitlines() if line.startswith("hr@1"))
    assert row[4:7] == ["-", "-", "-"]


def test_comparing_never_imports_torch(write, tmp_path):
    write("a", RANKS)
    done = python(
        "import sys; from llm4rec_cli.cli import main; assert main(['compare', 'seed0', 'seed0']) == 0; "
        "assert 'torch' not in sys.modules",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


# ---- users × seeds


def test_over_seeds_the_permutation_tests_are_shown_too(write, compared):
    ranks = [[(99, 1)] * 8, [(0, 1)] * 8]
    a, b = (write_seeds(write, model, *([of_model] * 3)) for model, of_model in zip("ab", ranks, strict=True))
    hit = compared(a, b, "--seeds", "--metric", "hr@1")["metrics"]["hr@1"]
    assert hit["p_users"] == pytest.approx(2 / 2**8, abs=0.005)
    assert hit["p"] == hit["p_seeds"] == pytest.approx(2 / 20)
    alone = compared(a, b, "--metric", "hr@1")["metrics"]["hr@1"]
    assert (alone["p"], alone["p_seeds"]) == (hit["p_users"], None)


def test_over_seeds_the_interval_draws_seeds_too(write, compared):
    a = write_seeds(write, "a", *([[(0, 1), (99, 1)] * 50] * 3))
    b = write_seeds(write, "b", [(0, 1)] * 100, [(99, 1)] * 100, [(0, 1)] * 100)  # seeds disagree: + ½, - ½, + ½
    low, high = compared(a, b, "--seeds", "--metric", "hr@1")["metrics"]["hr@1"]["interval"]
    assert low < 0 < high


def test_the_note_says_what_interval_and_p_cover(write, llm4rec):
    a, b = write_seeds(write, "a", RANKS, RANKS, RANKS), write_seeds(write, "b", RANKS, RANKS, RANKS)
    assert "seeds, which are not" in llm4rec("compare", str(a), str(b), "--seeds").out
    assert "one seed each" in llm4rec("compare", str(a), str(b)).out


# ---- several runs


def test_the_note_says_where_tuning_budgets_differ(write, llm4rec):
    tuning = {"trials": 8, "minutes": 31.4, "metric": "ndcg@10", "score": 0.1}
    a, b, c = write("a", RANKS), write("b", RANKS, tuning=tuning), write("c", RANKS, tuning=tuning)
    words = "tuning budgets differ (A none stated, B 8 trials, 31 min)"
    assert words in " ".join(llm4rec("compare", str(a), str(b)).out.split())
    assert "tuning budgets" not in llm4rec("compare", str(b), str(c)).out
    d = write("d", RANKS, tuning=tuning | {"minutes": 5.0, "max_trials": 8})
    assert "tuning budgets" not in llm4rec("compare", str(b), str(d)).out, "equal limits, spent differently"


def test_each_other_run_is_compared_with_the_first(write, compared):
    a, b, c = write("a", RANKS), write("b", RANKS[::-1]), write("c", [(0, 1)] * 5)
    result = compared(a, b, c, "--metric", "mrr")
    (third,) = result["others"]
    assert (result["b"]["model"], third["b"]["model"]) == ("b", "c")
    assert third["metrics"]["mrr"]["b"] == 1
    assert third["metrics"]["mrr"]["a"] == result["metrics"]["mrr"]["a"]


def test_holm_is_over_all_pairs_and_metrics(write, compared):
    a, b, c = (
        write(name, ranks) for name, ranks in {"a": [(99, 1)] * 9, "b": [(0, 1)] * 9, "c": [(50, 1)] * 9}.items()
    )
    together, alone = compared(a, b, c, "--metric", "hr@1,mrr"), compared(a, b, "--metric", "hr@1,mrr")
    assert alone["metrics"]["mrr"]["p"] == together["metrics"]["mrr"]["p"]
    assert alone["metrics"]["mrr"]["p_holm"] == pytest.approx(2 * alone["metrics"]["mrr"]["p"])
    assert together["metrics"]["mrr"]["p_holm"] == pytest.approx(4 * together["metrics"]["mrr"]["p"])


def test_a_table_of_several_runs_names_them(write, llm4rec):
    a, b, c = (write(name, RANKS) for name in "abc")
    out = llm4rec("compare", str(a), str(b), str(c), "--metric", "mrr", "--markdown").out
    assert [line.split("|")[1].strip() for line in out.splitlines() if "| mrr |" in line] == ["B", "C"]
    assert f"- C: c, {c}" in out
    assert "Holm over the runs and metrics of this table" in out


def test_every_run_must_be_paired_with_the_first(write, llm4rec):
    a, b, c = write("a", RANKS), write("b", RANKS), write("c", RANKS, protocol="uniform-100")
    assert "protocol is full in A and uniform-100 in B" in llm4rec("compare", str(a), str(b), str(c)).err


# ---- equivalence


def test_equivalence_depends_on_the_margin(write, compared):
    a, b = write("a", [(4, 1)] * 100), write("b", [(4, 1)] * 98 + [(5, 1)] * 2)
    for margin, within in (("0.01", True), ("10%", True), ("0.0001", False)):
        result = compared(a, b, "--metric", "mrr", "--margin", margin)
        assert result["metrics"]["mrr"]["equivalent"] is within
    assert result["margin"] == {"size": 0.0001, "relative": False}
    assert compared(a, b)["metrics"]["mrr"]["equivalent"] is None


def test_the_margin_is_shown_with_the_verdict(write, llm4rec):
    a, b = write("a", RANKS), write("b", RANKS)
    out = llm4rec("compare", str(a), str(b), "--metric", "mrr", "--margin", "5%", "--markdown").out
    assert "| within ±5 % |" in out
    assert "| yes: +0.0000 to +0.0000 |" in out
    assert "within ±5 % of A's mean: whether the 90 % interval lies within the margin" in out


# ---- differences of examples


def test_other_ratings_of_the_same_items_are_refused(write, llm4rec):
    a, b = (write(name, RANKS, protocol="rating", task="rating", intervals={"mae": [0, 1]}) for name in "ab")
    for run, rating in ((a, 5.0), (b, 4.0)):
        rows = {"user_id": ["u0"], "target": ["i"], "rating": [rating], "prediction": [3.0]}
        pd.DataFrame(rows).to_parquet(run / "predictions.parquet")
    assert "1 of 1 examples have different ratings (5.0 in A, 4.0 in B)" in llm4rec("compare", str(a), str(b)).err


def test_datasets_of_one_name_are_refused_with_the_setting_that_differs(write, llm4rec):
    a, b = write("a", RANKS), write("b", RANKS, dataset_fingerprint="0" * 64)
    for run, seed in ((a, 0), (b, 7)):
        (run / "config.yaml").write_text(f"dataset: {{name: demo, seed: {seed}, user_core: 5, raw_dir: /{seed}}}\n")
    error = llm4rec("compare", str(a), str(b)).err
    assert "dataset.seed is 0 in A and 7 in B" in error
    assert "raw_dir" not in error


# ---- impressions


@pytest.fixture
def shown(write):
    """shown(model, auc, **columns): write a finished run on three impressions of two users with these AUCs."""

    def shown(model, auc, **columns):
        metrics = {name: [0, 1] for name in ("auc", "mrr", "ndcg@5", "ndcg@10")}
        folder = write(model, RANKS, dataset="news", task="direct", protocol="impression", intervals=metrics)
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

    return shown


def test_impressions_are_paired_by_their_own_metrics(shown, compared):
    a, b = shown("a", [0.0, 0.5, 1.0]), shown("b", [1.0, 0.5, 1.0])
    result = compared(a, b)
    assert (list(result["metrics"]), result["n_examples"]) == (["auc", "mrr", "ndcg@5", "ndcg@10"], 3)
    auc = result["metrics"]["auc"]
    assert (auc["a"], auc["b"]) == pytest.approx((0.5, 2.5 / 3))
    assert (auc["better"], auc["equal"]) == (1, 2)


def test_impressions_of_one_user_stay_together(shown, compared):
    a, b = shown("a", [0.0, 0.0, 0.0]), shown("b", [1.0, -1.0, 0.0])  # the two of u0 cancel in every resample
    assert compared(a, b, "--metric", "auc")["metrics"]["auc"]["interval"] == [0, 0]


def test_an_impression_with_other_items_is_refused(shown, llm4rec):
    a, b = shown("a", [0, 0, 0]), shown("b", [0, 0, 0], items=[["a", "b"], ["b", "c", "x"], ["a", "d"]])
    answer = llm4rec("compare", str(a), str(b))
    assert answer.code == 2
    assert "1 of 3 examples have different items shown (('b', 'c', 'd') in A, ('b', 'c', 'x') in B)" in answer.err


def test_other_impressions_are_refused(shown, llm4rec):
    a, b = shown("a", [0, 0, 0]), shown("b", [0, 0, 0], impression_id=["1", "2", "9"])
    error = llm4rec("compare", str(a), str(b)).err
    assert "of 3 impressions in A and 3 in B, 1 are in A only and 1 in B only (impression 3)" in error


def test_a_damaged_file_of_answers_is_named(write, llm4rec):
    runs = [write(model, RANKS) for model in ("a", "b")]
    (runs[1] / "predictions.parquet").write_bytes(b"PAR1")
    answer = llm4rec("compare", *map(str, runs))
    assert answer.code == 1
    assert f"{runs[1] / 'predictions.parquet'} is damaged" in answer.err
    assert "force=true" in answer.err
