"""Printed numbers next to ours: what joins plainly, what joins with a difference, and what does not join."""

import pytest

from llm4rec_cli.config.registry import model_names
from llm4rec_cli.errors import DataError
from llm4rec_cli.results.papers import (
    NOT_READ,
    comparisons,
    excluded,
    not_compared,
    printed,
    related,
    related_to,
    select,
)
from llm4rec_cli.results.variants import Variant
from tests.results.finished_runs import PRINTED, run, started_from
from tests.support.driver import job_of

NAMES = ("hr@1", "hr@5", "hr@10", "hr@50", "recall@10", "ndcg@5", "ndcg@10", "ndcg@50", "rmse", "mae", "bleu4", "auc")
OWN_WAY = ("said/rmse", "said/mae", "said_paper/rmse", "said_paper/mae", "rouge1", "paper/bleu4", "paper/rouge1")
METRICS = dict.fromkeys(NAMES + OWN_WAY, 0.1)
# A run whose question UniSRec's table answers: SASRec has recall@10 0.1080 there.
SCIENTIFIC = {"dataset": "amazon2018-scientific", "metrics": METRICS}
BEAUTY = {"dataset": "amazon2014-beauty", "metrics": METRICS}
REVIEWS = {"dataset": "amazon2014-beauty-reviews", "split_rule": "p5_reviews", "metrics": METRICS}
UNISREC = {
    "model": "unisrec",
    "init_from": started_from("amazon2018-fhckm"),
    "paper_method": {
        **{"method": "unisrec", "items": "text", "text encoder": "bert-base-uncased cls"},
        "frozen": "encoder",
    },
}
P5 = {
    **{"method": "p5", "size": "small", "weights": "t5-small", "ids": "leaky_p5", "prompt": "2-3"},
    **{"whole-word embeddings in evaluation": "no", "decoding": "beam search of 20, any text"},
    "direct samples of a user": "5",
}
CHAT = {"method": "chatgptrec", "shots": "zero-shot", "answers": "generated", "chat model": "gpt-3.5-turbo"}
WEIGHTS = {"file": "w.pth", "sha256": "s", "code": "RUCAIBox/UniSRec"}


def variant(**facts):
    return Variant([run(**facts)])


def p5(question="sequential", trained_for="all", base=BEAUTY, labels=(), **method):
    """A run of P5 as the paper has it, but for these facts of its method."""
    protocols = {"sequential": "full", "direct": "uniform-100", "review_summary": "review_title"}
    return variant(
        **base
        | {"model": "p5", "task": question, "protocol": protocols.get(question, question), "labels": list(labels)},
        trained_run=f"p5/x/{trained_for}/seed0-0",
        paper_method=P5 | method,
    )


def chat(answers="generated"):
    method = CHAT | {"answers": answers}
    return variant(**BEAUTY, model="chatgptrec", task="direct", protocol="uniform-100", paper_method=method)


def by_number(compared):
    """The comparisons of a variant as {(metric, value): differences}."""
    return {(c.metric, c.printed.value): list(c.differences) for c in comparisons(compared)}


def differences(compared, model=None):
    """The differences in all comparisons of a variant, or in those with one model."""
    rows = [c for c in comparisons(compared) if model in (None, c.printed.model)]
    assert rows
    return {difference for c in rows for difference in c.differences}


# --- the files


def test_every_row_of_the_files_is_read_and_quotations_are_left_out():
    assert len(printed()) == 1197 + 392 + 62 + 161 - 90  # ChatGPTRec's baselines are P5's numbers
    assert len(related()) == 170


def test_every_identity_applies_to_some_row():
    from llm4rec_cli.results import papers

    identities = [id(identity) for _, identity in papers._identities()]
    assert {id(row.identity) for row in printed()} - {id(None)} == {*identities}


@pytest.mark.parametrize("name", model_names())
def test_facts_that_rows_compare_are_facts_that_models_state(name):
    """Else a typing error would print a difference for ever."""
    generic = {"pre-trained on", "trained for", "explanations", "chat model", "semantic ids", "labelled rows"}
    if name not in ("external", "ensemble"):
        stated = {*job_of(f"model={name}").config.model.paper_method("sequential")} | generic
        rows = [row.identity for row in printed() if row.identity and row.identity.equal["method"] == name]
        assert {key for identity in rows for key in (*identity.equal, *identity.compare)} <= stated


# --- plain comparisons


def test_the_same_method_on_the_same_question_joins_plainly():
    assert by_number(variant(**SCIENTIFIC))["hr@10", 0.1080] == []
    assert {c.printed.owner for c in comparisons(variant(**SCIENTIFIC))} == {"SASRec, UniSRec"}
    raw = variant(**SCIENTIFIC | {"dataset": "amazon2018-scientific-raw"})
    assert by_number(raw), "other files, made to be the same data"


def test_recall_of_one_target_is_hit_rate():
    assert by_number(variant(dataset="amazon2018-scientific", metrics={"recall@10": 0.1})) == {
        ("recall@10", 0.1080): []
    }


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
        {"paper_method": {"method": "sasrec", "items": "ids + tokens"}},
        {"model": "external", "shown_as": "sasrec"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_question_or_method_never_joins(other):
    assert by_number(variant(**SCIENTIFIC | other)) == {}


def test_the_papers_own_settings_have_no_difference():
    assert differences(variant(**SCIENTIFIC, **UNISREC)) == set()
    assert differences(p5(), "P5-S") == set()


# --- differences

ONE_FEWER = ["~dataset.domains.home", "dataset.raw_dir=/data", "seed=1"]


@pytest.mark.parametrize(
    ("compared", "difference"),
    [
        (
            variant(**SCIENTIFIC | UNISREC | {"init_from": started_from("amazon2018-fhckm", overrides=ONE_FEWER)}),
            "pre-trained on: ours amazon2018-fhckm ~dataset.domains.home, the paper's amazon2018-fhckm",
        ),
        (p5(ids="random"), "ids: ours random, the paper's leaky_p5"),
        (
            p5("explanation", base=REVIEWS, labels=["extracted-explanations"], prompt="3-3"),
            "explanations: ours extracted from reviews, the paper's of Sentires",
        ),
        (chat("chosen by pmi"), "answers: ours chosen by pmi, the paper's generated"),
        (chat(), NOT_READ),
        (chat(), "examples: a sample is the paper's"),
        (variant(**SCIENTIFIC, labels=["subset"]), "examples: a sample is ours"),
        (
            variant(**SCIENTIFIC, model="bert4rec", paper_method={"method": "bert4rec"}),
            "dropout: ours not recorded, the paper's 0.5",  # and not missing from the method
        ),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_what_differs_is_named(compared, difference):
    assert difference in differences(compared)


def test_imported_weights_are_never_our_reproduction_of_a_number():
    imported = variant(**SCIENTIFIC, **UNISREC, labels=["imported"])
    assert differences(imported) == {"weights: ours imported, the paper's its own training"}
    assert {c.inside for c in comparisons(imported)} == {None}
    origin = {"imported": WEIGHTS, "init_from": None, "labels": ["imported"]}
    for dataset, source in (("amazon2018-pantry", "amazon2018-pantry"), ("amazon2018-scientific", "unknown")):
        evaluated = variant(**SCIENTIFIC, **UNISREC | origin, trained_run=f"unisrec/{dataset}/pretrain/seed0-ab")
        assert f"pre-trained on: ours {source}, the paper's amazon2018-fhckm" in differences(evaluated)


def test_text_and_ids_are_two_methods_and_an_ablation_is_neither():
    with_ids = variant(**SCIENTIFIC | UNISREC | {"paper_method": UNISREC["paper_method"] | {"items": "text + ids"}})
    assert ("hr@10", 0.1235) in by_number(with_ids)
    ablation = {"items": "text, an ablation of the adaptor"}
    assert by_number(variant(**SCIENTIFIC | UNISREC | {"paper_method": UNISREC["paper_method"] | ablation})) == {}


def test_published_rmse_joins_the_rmse_computed_in_the_papers_way_alone():
    assert {metric for metric, _ in by_number(p5("rating", base=REVIEWS, prompt="1-6"))} == {
        "said_paper/rmse",
        "said_paper/mae",
    }
    chat = variant(**REVIEWS | {"model": "chatgptrec", "task": "rating", "protocol": "rating", "paper_method": CHAT})
    assert {metric for metric, _ in by_number(chat)} == {"said/rmse", "said/mae"}


def test_a_rating_read_from_the_review_joins_review_preference_alone():
    review = p5("rating", base=REVIEWS, prompt="4-2", task="review_preference")
    assert {c.printed.prompt for c in comparisons(review)} == {"4-2"}
    assert {c.printed.task for c in comparisons(review)} == {"review_preference"}
    assert {c.printed.task for c in comparisons(p5("rating", base=REVIEWS, prompt="1-6"))} == {"rating"}


def test_published_bleu_and_rouge_join_those_computed_in_the_papers_way_alone():
    metrics = {metric for metric, _ in by_number(p5("explanation", base=REVIEWS, prompt="3-3"))}
    assert metrics == {"paper/bleu4", "paper/rouge1"}


def test_of_another_loss_is_another_sasrec():
    zeroed = variant(**BEAUTY, mask_history="zeroed")
    assert not any("history" in difference for c in comparisons(zeroed) for difference in c.differences)
    masked = variant(**BEAUTY, mask_history=True)
    assert differences(masked, "SASRec") == {
        "loss: ours cross-entropy over the catalogue, the paper's binary cross-entropy with one negative",
        "history: ours masked, the paper's scores of seen items set to 0",
    }


@pytest.mark.parametrize(("prompt", "rows", "differ"), [("2-3", {"2-3"}, False), ("2-1", {"2-3", "2-13"}, True)])
def test_of_several_prompts_the_same_counts_and_another_is_a_difference(prompt, rows, differ):
    compared = [c for c in comparisons(p5(prompt=prompt)) if c.printed.model == "P5-S"]
    assert {c.printed.prompt for c in compared} == rows
    assert {any(d.startswith("prompt:") for d in c.differences) for c in compared} == {differ}


def test_an_unknown_mask_is_a_difference():
    compared = [c for c in comparisons(p5(ids="random")) if c.printed.paper == "tiger"]
    assert compared
    assert all("history: ours not masked, the paper's unknown" in c.differences for c in compared)


def semantic(model, **method):
    """A run of TIGER or RPG on Beauty, with these facts of its method."""
    facts = {"method": model, "text encoder": "sentence-t5-base mean", "layers": "4"}
    return variant(**BEAUTY, model=model, paper_method=facts | method)


def test_reruns_of_tiger_join_by_ids_encoder_beams_and_size():
    beams = {"decoding": "beam search of 50, item ids"}
    compared = [c for c in comparisons(semantic("tiger", ids="rq_kmeans", **beams)) if c.metric == "hr@10"]
    found = {
        (c.printed.paper, c.printed.variant): (c.printed.value, c.printed.verified, [*c.differences]) for c in compared
    }
    assert found["cornac", "GRID recipe"] == (0.0564, True, [])
    paischer = "PAISCHER recipe; residual k-means"
    assert found["cornac", paischer] == (0.0641, True, ["layers: ours 4, the paper's 6"])
    other_encoder = "text encoder: ours sentence-t5-base mean, the paper's sentence-t5-xxl mean"
    assert other_encoder in found["cornac", f"{paischer}; Sentence-T5-XXL"][2]
    assert not any(paper == "tiger" for paper, _ in found)  # its ids are those of an RQ-VAE
    compared = comparisons(semantic("tiger", ids="rq_vae", decoding="beam search of 50, any code"))
    rows = [c for c in compared if c.printed.paper == "tiger" and c.printed.value == 0.0648]
    assert [(c.printed.verified, NOT_READ in c.differences) for c in rows] == [(False, True)]


def test_what_is_not_compared_says_why():
    (row,) = select("hr@5", {"paper": "p5", "model": "P5-S", "dataset": "amazon2014-beauty", "prompt": "2-3"})
    other_prompt = p5(prompt="2-13")
    assert row not in [c.printed for c in comparisons(other_prompt)]
    assert not_compared(row, other_prompt) == ["prompt: ours 2-13, the paper's 2-3"]
    assert not_compared(row, p5()) == []
    (unknown,) = select("hr@5", {"paper": "p5", "model": "Caser", "dataset": "amazon2014-beauty"})
    assert not_compared(unknown, p5()) == ["which of our methods is the paper's is not recorded"]


@pytest.mark.parametrize(("interval", "inside"), [([0.10, 0.11], True), ([0.11, 0.12], False), (None, None)])
def test_a_papers_number_lies_in_our_interval_or_not(interval, inside):
    intervals = {} if interval is None else {"hr@10": interval}
    (hr,) = (c for c in comparisons(variant(**SCIENTIFIC, intervals=intervals)) if c.metric == "hr@10")
    assert hr.inside is inside


# --- splits, data


def test_rankings_of_randomly_split_reviews_are_leave_one_out():
    rankings = {"mask_history": True, "metrics": METRICS}
    assert by_number(variant(**REVIEWS | rankings)) == by_number(variant(**BEAUTY | rankings))


@pytest.mark.parametrize(
    "label",
    ["synthetic", "control-shuffle_text", "cold-items", "few-impressions", "few-users", "llm-tokens", "transfer"],
)
def test_synthetic_and_changed_data_are_compared_with_no_paper_and_say_why(label):
    assert by_number(variant(**SCIENTIFIC, labels=[label, "no-timestamps"])) == {}
    assert excluded(variant(**SCIENTIFIC, labels=[label, "no-timestamps"])) == [label]


def test_overrides_of_the_data_make_it_another():
    overrides = ["dataset.raw_dir=x", "dataset.seed=1", "dataset.user_core=3", "model.layers=1"]
    assert by_number(variant(**SCIENTIFIC, overrides=overrides)) == {}
    assert excluded(variant(**SCIENTIFIC, overrides=overrides)) == ["dataset.user_core=3"]
    assert excluded(variant(labels=["synthetic"])) == [], "no paper has the question"


# --- related work and numbers of one's own


def test_related_work_on_the_same_data_is_listed_whatever_its_method():
    assert {row.model for row in related_to(variant(**SCIENTIFIC))} == {"VQ-Rec", "MISSRec"}
    assert related_to(variant(metrics=METRICS)) == []


def test_a_file_of_ones_own_joins_our_models_by_their_names(tmp_path):
    own = tmp_path / "own.csv"
    row = "Doe 2026,item_knn,,amazon2018-scientific,sequential,,hr@10,7.5,percent,leave_one_out,full,no,Table 1,yes"
    own.write_text(f"{PRINTED}{row}\n")
    (compared,) = comparisons(variant(**SCIENTIFIC, model="item_knn"), own)
    assert (compared.printed.value, compared.printed.owner, compared.differences) == (0.075, "item_knn, Doe 2026", [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("paper,model\nDoe 2026,sasrec\n", "no column"),
        (f"{PRINTED}Doe 2026,bpr_mf,,d,sequential,,hr@10,high,percent\n", ""),
        (f"{PRINTED}Doe 2026,bpr_mf,,d,sequential,,hr@10\n", ""),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_line(tmp_path, text, problem):
    own = tmp_path / "own.csv"
    own.write_text(text)
    with pytest.raises(DataError, match=rf"own\.csv:2: {problem}"):
        printed(own)


def test_each_deviation_that_a_run_lists_is_a_difference():
    deviations = ["histories are shown newest first; the paper's oldest first"]
    plain, deviating = (comparisons(variant(**SCIENTIFIC, deviations=own)) for own in ([], deviations))
    assert plain and [[*item.differences, *deviations] for item in plain] == [item.differences for item in deviating]
    assert all(item.inside is None for item in deviating)
