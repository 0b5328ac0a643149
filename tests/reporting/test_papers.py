"""Papers' numbers beside ours: only where both answer the same question."""

import pytest

from llm4rec_cli.reporting.papers import METHODS, apart, beside, printed
from llm4rec_cli.reporting.variants import Variant
from tests.reporting.made import metrics_json, run, written

NAMES = ("hr@1", "hr@5", "hr@10", "hr@50", "recall@10", "ndcg@5", "ndcg@10", "ndcg@50", "rmse", "mae", "bleu4", "auc")
# A run whose question UniSRec's table answers: SASRec has recall@10 0.1080 there.
SCIENTIFIC = {"dataset": "amazon2018-scientific", "metrics": dict.fromkeys(NAMES, 0.1)}
BEAUTY = {"dataset": "amazon2014-beauty", "mask_history": True, "metrics": dict.fromkeys(NAMES, 0.1)}
IMPRESSIONS = {"dataset": "mind-small", "task": "direct", "protocol": "impression", "split_rule": "mind"}


def of(**facts):
    return Variant([run(**facts)])


def found(**facts):
    """(metric, value, marks, whose) of each paper's number beside a run that says so."""
    return [(b.metric, b.printed.value, b.marks, b.printed.whose) for b in beside(of(**facts))]


def test_every_row_of_the_files_is_read_and_quotes_stand_once():
    assert len(printed()) == 1142 + 392 - 90  # ChatGPTRec's baselines are P5's numbers


def test_a_paper_stands_beside_the_same_model_on_the_same_question():
    told = {metric: value for metric, value, _, _ in found(**SCIENTIFIC)}
    assert told["hr@10"] == 0.1080
    assert {whose for *_, whose in found(**SCIENTIFIC)} == {"SASRec, UniSRec"}
    assert {marks for _, _, marks, _ in found(**SCIENTIFIC)} == {""}


def test_recall_of_one_target_is_hit_rate():
    told = found(dataset="amazon2018-scientific", metrics={"recall@10": 0.1})
    assert told == [("recall@10", 0.1080, "", "SASRec, UniSRec")]


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "amazon2018-instruments-reviews"},
        {"task": "direct"},
        {"split": "valid"},
        {"split_rule": "temporal"},
        {"protocol": "uniform-100"},
        {"mask_history": True},
        {"model": "bpr_mf"},
        {"shown_as": "sasrec + tokens"},
        {"model": "external", "shown_as": "sasrec"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_paper_never_stands_beside_another_question_or_method(other):
    assert found(**SCIENTIFIC | other) == []


@pytest.mark.parametrize(
    "label", ["synthetic", "control-shuffle_text", "cold-items", "few-users", "llm-tokens", "transfer"]
)
def test_what_is_synthetic_or_of_changed_data_stands_beside_no_paper_and_says_why(label):
    assert found(**SCIENTIFIC, labels=[label, "no-timestamps"]) == []
    assert apart(of(**SCIENTIFIC, labels=[label, "no-timestamps"])) == [label]


def test_what_was_typed_of_the_data_makes_it_another():
    typed = ["dataset.raw_dir=x", "dataset.seed=1", "dataset.user_core=3", "model.layers=1"]
    assert found(**SCIENTIFIC, overrides=typed) == []
    assert apart(of(**SCIENTIFIC, overrides=typed)) == ["dataset.user_core=3"]


def test_what_no_paper_asks_is_not_said_to_stand_apart():
    assert apart(of(labels=["synthetic"])) == []


@pytest.mark.parametrize("dataset", ["amazon2018-scientific", "amazon2018-scientific-raw"])
def test_data_made_of_other_files_to_be_the_same_count_as_the_same(dataset):
    assert found(**SCIENTIFIC | {"dataset": dataset})


@pytest.mark.parametrize(
    ("shown", "value"),
    [
        ("unisrec", 0.1188),
        ("unisrec, pre-trained, frozen encoder", 0.1188),
        ("unisrec + ids", 0.1235),
        ("unisrec, linear adaptor", None),
    ],
)
def test_each_form_of_a_method_has_its_own_numbers_and_ablations_none(shown, value):
    told = {m: v for m, v, *_ in found(**SCIENTIFIC, model="unisrec", shown_as=shown)}
    assert told.get("hr@10") == value


def test_masked_histories_join_the_paper_that_masked_and_unknown_ones_are_marked():
    assert {(0.0387, "")} == {(v, marks) for m, v, marks, _ in found(**BEAUTY) if m == "hr@5"}
    told = found(**BEAUTY, model="p5", shown_as="p5 t5-small, random ids")
    assert told
    assert all("?" in marks for *_, marks, _ in told)
    assert {whose.split(", ")[-1] for *_, whose in told} == {"LLM-RecSys-ID", "TIGER"}


def test_unverified_numbers_are_marked():
    told = found(**BEAUTY | {"mask_history": False}, model="chatgptrec", shown_as="chatgptrec generate, zero-shot")
    assert told
    assert all("u" in marks for *_, marks, _ in told)


def test_samples_are_marked_ours_and_the_papers():
    assert {marks for *_, marks, _ in found(**SCIENTIFIC, labels=["subset"])} == {"s"}
    told = found(**BEAUTY | {"mask_history": False}, model="chatgptrec", shown_as="chatgptrec generate, 3-shot")
    assert all("s" in marks for *_, marks, _ in told)


def test_percents_are_told_as_fractions_and_stars_as_they_are():
    reviews = {"dataset": "amazon2014-beauty-reviews", "split_rule": "p5_reviews", "model": "p5"}
    reviews |= {"metrics": BEAUTY["metrics"], "shown_as": "p5 t5-small, leaky_p5 ids"}
    bleu = [v for m, v, *_ in found(**reviews, task="explanation", protocol="explanation") if m == "bleu4"]
    rmse = [v for m, v, *_ in found(**reviews, task="rating", protocol="rating") if m == "rmse"]
    assert all(0 < value < 0.1 for value in bleu)
    assert all(1 < value < 2 for value in rmse)
    assert bleu
    assert rmse


def test_rankings_beside_randomly_split_reviews_are_leave_one_out():
    told = found(**BEAUTY | {"dataset": "amazon2014-beauty-reviews", "split_rule": "p5_reviews"})
    assert told == found(**BEAUTY)


def test_impressions_join_impressions():
    told = found(**IMPRESSIONS, model="prompt4nr", shown_as="prompt4nr discrete", metrics={"auc": 0.6, "mrr": 0.3})
    assert [(m, v) for m, v, *_ in told] == [("auc", 0.6848), ("mrr", 0.3329)]


@pytest.mark.parametrize(("asked", "prompts", "marks"), [("2-3", {"2-3"}, ""), ("2-1", {"2-3", "2-13"}, "p")])
def test_of_several_prompts_the_same_counts_and_another_is_marked(tmp_path, asked, prompts, marks):
    facts = BEAUTY | {"mask_history": False, "model": "p5", "shown_as": "p5 t5-small, leaky_p5 ids"}
    made = written(tmp_path, metrics_json(**facts), config={"model": {"ask": {"sequential": asked}}})
    told = [b for b in beside(Variant([made])) if b.printed.model == "P5-S"]
    assert {b.printed.prompt for b in told} == prompts
    assert {b.marks for b in told} == {marks}


@pytest.mark.parametrize(("interval", "inside"), [([0.10, 0.11], True), ([0.11, 0.12], False), (None, None)])
def test_a_papers_number_lies_in_our_interval_or_not(interval, inside):
    intervals = {} if interval is None else {"hr@10": interval}
    (hr,) = (b for b in beside(of(**SCIENTIFIC, intervals=intervals)) if b.metric == "hr@10")
    assert hr.inside is inside


def test_every_method_named_is_in_the_files():
    known = {one.model for one in printed()}
    assert {method.theirs for method in METHODS} <= known
