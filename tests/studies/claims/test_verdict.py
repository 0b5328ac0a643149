"""Verdicts on handmade runs: what supports or refutes a claim, and what leaves it open."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from llm4rec_studies.claims.spec import Rule, Verdict, shipped_claims
from llm4rec_studies.claims.verdict import decide, judge_claims, p_of_claim
from tests.results.finished_runs import rankings
from tests.studies.claims.examples import claim, claim_about_one, claim_about_texts

BETTER, WORSE = 1, 4  # candidates above the target: reciprocal ranks of 1/2 and 1/5

# ---- B compared with A


@pytest.mark.parametrize(
    ("rule", "supported", "refuted", "inconclusive"),
    [
        (Rule.superior, (0.2, 0.4), (-0.4, 0.05), (0.05, 0.2)),
        (Rule.superior, (0.2, 0.4), (0.01, 0.05), (-0.2, 0.2)),  # a gain within the margin
        (Rule.not_inferior, (-0.05, 0.4), (-0.4, -0.2), (-0.2, 0.4)),
        (Rule.inferior, (-0.4, -0.2), (-0.05, 0.0), (-0.2, -0.05)),
        (Rule.equivalent, (-0.05, 0.05), (0.2, 0.4), (-0.05, 0.2)),
        (Rule.equivalent, (-0.05, 0.05), (-0.4, -0.2), (-0.2, 0.2)),
    ],
)
def test_the_side_of_the_margin_on_which_the_interval_lies_decides(rule, supported, refuted, inconclusive):
    assert decide(rule, *supported, 0.1) is Verdict.supported
    assert decide(rule, *refuted, 0.1) is Verdict.not_supported
    assert decide(rule, *inconclusive, 0.1) is Verdict.inconclusive


@pytest.mark.parametrize(
    ("rule", "higher_is_better", "lower_is_better"),
    [  # by hand, of P(B − A ≤ −margin) = 0.01 and P(B − A ≤ margin) = 0.3
        (Rule.superior, 0.6, 1.0),
        (Rule.not_inferior, 0.01, 0.7),
        (Rule.inferior, 1.0, 0.6),
        (Rule.equivalent, 0.7, 0.7),
    ],
)
def test_the_p_of_a_claim_is_of_the_hypothesis_that_its_rule_rejects(rule, higher_is_better, lower_is_better):
    assert p_of_claim(rule, (0.01, 0.3), 1) == pytest.approx(higher_is_better)
    assert p_of_claim(rule, (0.01, 0.3), -1) == pytest.approx(lower_is_better)


def test_a_gain_must_survive_holms_correction_within_its_family(tmp_path, write):
    write("sasrec", [WORSE] * 30)
    write("unisrec", [BETTER] * 10 + [5] * 20)
    tests = [claim(about=f"the same {i}") for i in range(40)]
    alone, *_ = judge_claims(tmp_path / "outputs", tests[:1])
    family = judge_claims(tmp_path / "outputs", tests)
    others = judge_claims(tmp_path / "outputs", [replace(c, family=c.tests[0].about) for c in tests])
    assert 0.05 / 40 < alone.p < 0.05
    assert (alone.verdict, alone.reason) == (Verdict.supported, "")
    assert {result.verdict for result in family} == {Verdict.inconclusive}
    corrected = f"p {alone.p:.2g}, after Holm's correction for 40 comparisons {40 * alone.p:.2g}"
    assert family[0].reason == corrected
    assert {result.verdict for result in others} == {Verdict.supported}


def test_masked_and_unmasked_runs_are_compared_where_both_sides_say_so(write, result):
    write("sasrec", [WORSE] * 50, settings={"task.mask_history": False})
    write("sasrec", [BETTER] * 50, settings={"task.mask_history": True}, mask_history=True)
    sides = {name: {"model": "sasrec", "settings": {"task.mask_history": name == "b"}} for name in "ab"}
    assert result(**sides).verdict is Verdict.supported
    write("bpr_mf", [WORSE] * 50)
    assert result(a={"model": "bpr_mf"}, b=sides["b"]).verdict is Verdict.not_run


def test_a_clear_gain_in_every_seed_supports_the_claim(write, result):
    write("sasrec", [WORSE] * 50)
    write("unisrec", [BETTER] * 45 + [WORSE] * 5)
    gain = result()
    assert (gain.verdict, gain.reason) == (Verdict.supported, "")
    assert gain.data == "shop · sequential · test · full ranking · history not masked"
    assert "A sasrec 0.2000, B unisrec 0.4700; B − A +0.2700" in gain.numbers
    assert "by seed A 0.2000 0.2000 0.2000, B 0.4700 0.4700 0.4700" in gain.numbers
    assert "margin 0.0100" in gain.numbers  # 5 % of A's mean
    assert len(gain.runs) == 6


UNEQUAL = "tuning budgets differ: A 8 trials, 31 min, B 8 trials, 31 min"
EIGHT = {"trials": 8, "minutes": 31.0, "max_trials": 8, "metric": "ndcg@10", "score": 0.1}


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (None, EIGHT, UNEQUAL.replace("A 8 trials, 31 min", "A none stated")),
        (EIGHT | {"max_trials": 4, "trials": 4}, EIGHT, UNEQUAL.replace("A 8", "A 4")),
        (EIGHT | {"max_minutes": 20.0}, EIGHT, UNEQUAL),
        (EIGHT | {"minutes": 5.0}, EIGHT, ""),  # equal limits
        (EIGHT, None, ""),  # B wins with less
        (EIGHT | {"max_minutes": 20.0}, EIGHT | {"max_trials": 4}, UNEQUAL),  # fewer trials, without a limit of minutes
        (EIGHT | {"dataset": "x"}, EIGHT, UNEQUAL.replace("min,", "min on x,")),
        (EIGHT, EIGHT, ""),
    ],
)
def test_a_gain_of_the_side_with_the_larger_search_is_inconclusive(write, result, a, b, reason):
    write("sasrec", [WORSE] * 50, tuning=a)
    write("unisrec", [BETTER] * 45 + [WORSE] * 5, tuning=b)
    verdict = Verdict.inconclusive if reason else Verdict.supported
    assert (result().verdict, result().reason) == (verdict, reason)


def test_a_clear_loss_refutes_it_also_after_the_larger_search(write, result):
    write("sasrec", [BETTER] * 50)
    write("unisrec", [WORSE] * 50, tuning=EIGHT)
    assert result().verdict is Verdict.not_supported


def test_a_gain_that_is_clear_but_below_the_margin_refutes_it(write, result):
    write("sasrec", [4] * 99 + [9])
    write("unisrec", [4] * 100)  # + 0.001 of 0.199
    assert result().verdict is Verdict.not_supported
    assert result(rule="equivalent").verdict is Verdict.supported
    assert result(rule="not_inferior").verdict is Verdict.supported
    assert result(rule="inferior").verdict is Verdict.not_supported


def test_an_interval_that_crosses_the_margin_is_inconclusive(write, result):
    write("sasrec", [WORSE, BETTER] * 20)
    write("unisrec", [BETTER, WORSE] * 19 + [BETTER, BETTER])
    crossing = result()
    assert (crossing.verdict, crossing.reason) == (Verdict.inconclusive, "the interval crosses the margin")


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_fewer_than_three_seeds_of_a_trained_model_are_inconclusive(write, result, seeds):
    write("sasrec", [WORSE] * 50)
    write("unisrec", [BETTER] * 50, seeds)
    few = result()
    assert (few.verdict, few.reason) == (Verdict.inconclusive, f"{len(seeds)} of 3 required seeds")
    assert "+0.3000" in few.numbers


def test_seeds_need_not_be_the_same(write, result):
    write("sasrec", [WORSE] * 50, (3, 4, 5))
    write("unisrec", [BETTER] * 50, (0, 1, 2, 7))
    gain = result()
    assert gain.verdict is Verdict.supported and len(gain.runs) == 7


def test_an_untrained_model_needs_one_run_which_is_paired_with_every_seed(write, result):
    write("popularity", [WORSE] * 50, [0])
    write("unisrec", [BETTER] * 50)
    paired = result(a={"model": "popularity"})
    assert paired.verdict is Verdict.supported
    assert "by seed A 0.2000, B 0.5000 0.5000 0.5000" in paired.numbers
    write("next_id", [BETTER] * 50, [0])
    assert result(a={"model": "popularity"}, b={"model": "next_id"}).verdict is Verdict.supported


def test_an_ensemble_is_as_trained_as_its_members(write, result):
    members = write("prompt4nr", [WORSE] * 50)
    write("ensemble", [BETTER] * 50, [0], n_trainable=0, members=members)
    assert result(a={"model": "prompt4nr"}, b={"model": "ensemble"}).verdict is Verdict.inconclusive


def test_seeds_that_vary_too_much_are_inconclusive(write, result):
    write("sasrec", [2] * 50)
    write("unisrec", {0: [BETTER] * 50, 1: [WORSE] * 50, 2: [BETTER] * 50})
    assert result().verdict is Verdict.inconclusive


def test_lower_errors_are_better(write, result):
    for model, error in (("mf", 2.0), ("p5", 1.0)):
        users = [f"u{i}" for i in range(40)]
        ratings = pd.DataFrame({"user_id": users, "target": "i", "rating": 4.0, "prediction": 4.0 - error})
        facts = {"task": "rating", "protocol": "rating", "metrics": {"mae": error}, "intervals": {"mae": [0, 3]}}
        write(model, ratings, **facts)
    changes = {"task": "rating", "metric": "mae", "a": {"model": "mf"}, "b": {"model": "p5"}}
    lower = result(**changes)
    assert lower.verdict is Verdict.supported
    assert "B − A -1.0000" in lower.numbers
    assert result(**changes, rule="inferior").verdict is Verdict.not_supported


def test_a_metric_with_one_value_a_run_is_compared_over_seeds_which_even_untrained_models_need(write, result):
    for model, coverage, seeds in (
        *(("sasrec", 0.3, range(3)), ("unisrec", 0.6, range(3))),
        *(("popularity", 0.3, [0]), ("next_id", 0.6, [0])),
    ):
        write(model, [WORSE] * 5, seeds, metrics={"coverage@10": coverage})
    assert result(metric="coverage@10").verdict is Verdict.supported
    assert result(metric="coverage@10", b={"model": "sasrec"}, rule="equivalent").verdict is Verdict.supported
    single = result(metric="coverage@10", a={"model": "popularity"}, b={"model": "next_id"})
    assert single.verdict is Verdict.inconclusive


def test_only_cold_targets_count_if_the_claim_is_about_them(write, result):
    for model, cold in (("sasrec", WORSE), ("unisrec", BETTER)):
        predictions = rankings([cold] * 30 + [WORSE] * 30).assign(target_is_cold=[True] * 30 + [False] * 30)
        write(model, predictions, labels=["cold-items"])
    sides = {name: {"model": model, "labels": ["cold-items"]} for name, model in (("a", "sasrec"), ("b", "unisrec"))}
    assert "B − A +0.3000" in result(**sides, targets="cold").numbers
    assert "B − A +0.0000" in result(**sides, targets="warm").numbers


@pytest.mark.parametrize("labels", [[], ["synthetic"]])
def test_runs_on_other_examples_cannot_be_paired(write, result, labels):
    write("sasrec", [WORSE] * 3, labels=labels)
    write("unisrec", [BETTER] * 3, users=[0, 1, "x"], labels=labels)
    unpaired = result()
    assert unpaired.verdict is Verdict.not_run
    assert "1 users in A only, 1 in B only" in unpaired.reason


def test_every_dataset_has_a_verdict(write, judge):
    for dataset, n_better in (("books", BETTER), ("films", WORSE)):
        write("sasrec", [2] * 50, dataset=dataset, dataset_fingerprint=dataset)
        write("unisrec", [n_better] * 50, dataset=dataset, dataset_fingerprint=dataset)
    by_dataset = {result.data.split(" · ")[0]: result.verdict for result in judge(claim())}
    assert by_dataset == {"books": Verdict.supported, "films": Verdict.not_supported}


def test_the_shipped_claim_about_ensembles_is_decided_by_impressions(write, judge):
    def write_news(model, auc, **facts):
        news = pd.DataFrame(
            {"impression_id": [f"{i}" for i in range(30)], "user_id": [f"u{i // 2}" for i in range(30)]}
        )
        news["items"], news["clicked"] = [["a", "b"]] * 30, [[True, False]] * 30
        news[["auc", "mrr", "ndcg@5", "ndcg@10"]] = auc
        protocol = {"dataset": "news", "task": "direct", "protocol": "impression"}
        return write(model, news, metrics={"auc": auc}, intervals={"auc": [0, 1]}, **protocol, **facts)

    (ensembles,) = [claim for claim in shipped_claims() if claim.id == "prompt4nr-ensembles"]
    members = write_news("prompt4nr", 0.6)
    members += write_news("prompt4nr", 0.64)  # another template, the best
    write_news("prompt4nr", 0.9)  # no member
    write_news("ensemble", 0.62, n_trainable=0, members=members)
    (result,) = judge(ensembles)
    assert result.verdict is Verdict.not_supported
    assert "A prompt4nr 0.6400, B ensemble 0.6200" in result.numbers
    write_news("ensemble", 0.65, n_trainable=0, members=members)
    assert [result.verdict for result in judge(ensembles)] == [Verdict.supported]
    write_news("ensemble", 0.66, n_trainable=0, members=members, labels=["untrained-head"])
    assert [result.verdict for result in judge(ensembles)] == [Verdict.supported]  # testable runs come first


# ---- metrics of B alone


@pytest.mark.parametrize(("share", "verdict"), [(0.3, Verdict.supported), (0.01, Verdict.not_supported)])
def test_a_metric_is_compared_with_a_fixed_value(write, judge, share, verdict):
    write("chatgptrec", [WORSE] * 100, [0], metrics={"listed/hallucinated": share})
    (result,) = judge(claim_about_one())
    assert result.verdict is verdict
    assert f"listed/hallucinated {share:.4f} (no interval)" in result.numbers


def test_a_metric_is_compared_with_another_of_the_run(write, judge):
    write("chatgptrec", [WORSE] * 100, [0], metrics={"title_similarity@10": 0.2, "title_similarity_of_target": 0.1})
    changes = {"metric": "title_similarity@10", "threshold": "title_similarity_of_target"}
    (result,) = judge(claim_about_one(**changes, margin="10%"))
    assert result.verdict is Verdict.supported
    assert "title_similarity_of_target 0.1000" in result.numbers
    (result,) = judge(claim_about_one(**changes, margin="200%"))
    assert result.verdict is Verdict.not_supported


def test_the_interval_of_a_metric_decides_if_there_is_one(write, judge):
    write("chatgptrec", [WORSE] * 10, [0], metrics={"mrr": 0.06}, intervals={"mrr": [0.04, 0.08]})
    (result,) = judge(claim_about_one(metric="mrr"))
    assert (result.verdict, result.reason) == (Verdict.inconclusive, "the interval crosses the margin")
    assert "mrr 0.0600 (0.0400 to 0.0800)" in result.numbers


def test_the_interval_of_several_seeds_is_that_over_users_and_seeds(write, judge):
    write("chatgptrec", [1] * 50 + [20] * 50, intervals={"mrr": [0.0, 1.0]})
    (result,) = judge(claim_about_one(metric="mrr"))
    assert result.verdict is Verdict.supported, "each seed's own interval is no interval of their mean"


def test_seeds_without_predictions_have_no_interval_and_decide_nothing(write, judge):
    folders = write("chatgptrec", [1] * 50 + [20] * 50, intervals={"mrr": [0.3, 0.6]})
    for folder in folders:
        Path(folder, "predictions.parquet").unlink()
    (result,) = judge(claim_about_one(metric="mrr"))
    assert (result.verdict, "predictions are missing" in result.reason) == (Verdict.inconclusive, True)


def test_a_metric_without_an_interval_needs_a_hundred_examples_and_three_seeds_of_a_trained_model(write, judge):
    write("chatgptrec", [WORSE] * 99, [0])
    write("unisrec", [WORSE] * 100, [0])
    (few,), (single,) = judge(claim_about_one()), judge(claim_about_one(b={"model": "unisrec"}))
    assert few.verdict is single.verdict is Verdict.inconclusive
    assert "100 examples" in few.reason and "1 of 3 required seeds" in single.reason


# ---- not testable and not run


def test_a_run_that_cannot_test_the_claim_makes_it_not_testable_whatever_its_numbers(write, result):
    write("sasrec", [WORSE] * 50)
    write("unisrec", [BETTER] * 50, labels=["substitute-encoder"])
    substitute = result()
    assert (substitute.verdict, substitute.reason) == (Verdict.not_testable, "it is about another encoder")
    assert "+0.3000" in substitute.numbers


def test_a_missing_run_is_reported_with_its_command(write, result):
    assert result().reason == "no finished run of A or B on real data"
    write("sasrec", [WORSE] * 50)
    missing = result()
    assert missing.verdict is Verdict.not_run
    assert missing.reason == "no finished run of B on real data"
    assert missing.commands == ["llm4rec train model=unisrec"]
    assert (missing.data, missing.numbers) == ("", "")


def test_synthetic_data_give_numbers_but_no_verdict(write, result, judge):
    for model, n_better in (("sasrec", WORSE), ("unisrec", BETTER), ("chatgptrec", BETTER)):
        write(model, [n_better] * 100, labels=["synthetic"])
    for synthetic, numbers in ((result(), "A sasrec"), (*judge(claim_about_one()), "chatgptrec")):
        assert synthetic.verdict is Verdict.not_run
        assert synthetic.reason.startswith("only runs on synthetic data, which do not count")
        assert numbers in synthetic.numbers and synthetic.commands


def test_real_data_hide_synthetic_results(write, result):
    for model, n_better in (("sasrec", WORSE), ("unisrec", BETTER)):
        write(model, [n_better] * 100, labels=["synthetic"], dataset="demo", dataset_fingerprint="d")
    write("sasrec", [WORSE] * 100)
    write("unisrec", [BETTER] * 100, protocol="uniform-100")
    assert result().reason == "the runs of A and B differ in data, protocol, examples or settings"
    assert result().data.startswith("demo")
    write("unisrec", [BETTER] * 100)
    assert result().verdict is Verdict.supported


# ---- people's judgements


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [([1.1, 1.4], Verdict.supported), ([2.6, 2.9], Verdict.not_supported), ([1.6, 2.1], Verdict.inconclusive)],
)
def test_intervals_of_mean_ranks_decide_what_people_prefer(write_scores, judge, interval, verdict):
    systems = {"p5": [2.0, 2.4], "retrieval": [2.5, 2.8], "chatgptrec pmi": interval, "reference": [1.0, 1.0]}
    write_scores(systems)
    (result,) = judge(claim_about_texts())
    assert result.verdict is verdict
    assert result.data == "books · explanation · clarity"
    assert "p5 mean rank 2.20 (2.00 to 2.40); chatgptrec pmi mean rank" in result.numbers  # the best other system


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({"enough": False}, Verdict.inconclusive),
        ({"labels": ["substitute-encoder"]}, Verdict.not_testable),
        ({"synthetic": True}, Verdict.not_run),
    ],
    ids=["few judgements", "another encoder", "synthetic data"],
)
def test_some_judgements_decide_nothing(write_scores, judge, facts, verdict):
    write_scores({"p5": [2.0, 2.4], "chatgptrec": [1.1, 1.4]}, **facts)
    (result,) = judge(claim_about_texts())
    assert result.verdict is verdict
    assert ("chatgptrec mean rank" in result.numbers) == ("enough" not in facts)
