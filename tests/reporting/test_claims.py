"""Claims: each verdict by runs made by hand, what never counts, and that the shipped ones name what exists."""

import io
import json
import os
import re
import shlex
from functools import cache

import numpy as np
import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf
from rich.console import Console

from llm4rec_cli.commands import HYDRA_COMMANDS
from llm4rec_cli.config import compose as composing
from llm4rec_cli.config.overrides import prepared
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.evaluation.paired import Margin
from llm4rec_cli.files import write_json
from llm4rec_cli.reporting.claims import (
    COLUMNS,
    Rule,
    Verdict,
    claims_of,
    claims_rows,
    claims_table,
    decided,
    judged,
    judged_claims,
    shipped,
)
from llm4rec_cli.runs import rules
from llm4rec_cli.tasks import base as tasks
from tests.driver import compose, spec_of

TESTS = [(claim, test) for claim in shipped() for test in claim.tests]
IDS = [f"{claim.id}: {test.about}" for claim, test in TESTS]
COMMANDS_TOLD = sorted({command for _, test in TESTS for command in test.run})
PLACEHOLDERS = {"PATH": "/raw", "NAME": "some-model", "RUN": "outputs/run"}

CLAIM = """
- id: text
  words: Text is better than numbers.
  source: a paper
  tests:
    - task: sequential
      a: {model: sasrec}
      b: {model: unisrec}
      metric: mrr
      rule: superior
      margin: 5%
      experiments: [unisrec/scientific]
      untestable: {substitute-encoder: it is about another encoder, llm=smollm2: it is about a larger model}
      run: [llm4rec train model=unisrec]
"""
BETTER, WORSE = (1, 1), (4, 1)  # reciprocal ranks of 1/2 and 1/5


def claim(**changed):
    """The claim above, with other attributes of its test; None = without."""
    (told,) = yaml.safe_load(CLAIM)
    test = {key: value for key, value in {**told["tests"][0], **changed}.items() if value is not None}
    (one,) = claims_of(yaml.safe_dump([{**told, "tests": [test]}]))
    return one


@pytest.fixture
def write(tmp_path):
    """write(model, ranks, seeds, **facts): finished runs under tmp_path/outputs whose targets came out so, a seed each;
    ranks may be told seed by seed."""
    written = []

    def one(model, ranks, seeds=(0, 1, 2), settings=None, users=None, where="outputs", **facts):
        variant = f"variant {len(written)}"
        for seed, ranks_of_seed in (ranks if isinstance(ranks, dict) else dict.fromkeys(seeds, ranks)).items():
            written.append(model)
            metrics = {
                "model": model,
                "shown_as": model,
                "dataset": "shop",
                "task": "sequential",
                "split": "test",
                "split_rule": "leave_one_out",
                "protocol": "full",
                "mask_history": False,
                "seed": seed,
                "variant": variant,
                "trained_run": None,
                "init_from": None,
                "dataset_fingerprint": "f" * 64,
                "labels": [],
                "n_examples": len(ranks_of_seed),
                "n_trainable": 0 if model in ("popularity", "next_id", "chatgptrec") else 10,
                "metrics": {"mrr": 0.1, "hr@10": 0.1, "coverage@10": 0.5, "listed/hallucinated": 0.3},
                "intervals": {"mrr": [0, 1], "hr@10": [0, 1]},
            } | facts
            folder = tmp_path / where / model / metrics["dataset"] / metrics["task"] / f"seed{seed}-{len(written)}"
            folder.mkdir(parents=True)
            rows = pd.DataFrame(ranks_of_seed, columns=["n_better", "n_tied"]).assign(n_candidates=100, target="i")
            rows["user_id"] = [f"u{i}" for i in range(len(rows))] if users is None else users
            rows.to_parquet(folder / "predictions.parquet", index=False)
            config = {"model": {"name": model}, "dataset": {"name": "shop"}, "llm": {"model": "smollm2"}}
            for key, value in (settings or {}).items():
                group, _, name = key.partition(".")
                config[group][name] = value
            (folder / "config.yaml").write_text(yaml.safe_dump(config | {"seed": seed}))
            write_json(folder / "status.json", {"status": "done", "error": None})
            write_json(folder / "metrics.json", metrics)
            os.utime(folder / "metrics.json", (1e9 + len(written), 1e9 + len(written)))
        return folder

    return one


@pytest.fixture
def verdicts(tmp_path):
    """verdicts(claim): what comes of it under tmp_path/outputs."""
    return lambda of: judged_claims([of], tmp_path / "outputs")


@pytest.fixture
def verdict(verdicts):
    """verdict(**changed): the only one of the claim above, so changed."""

    def only(**changed):
        (found,) = verdicts(claim(**changed))
        return found

    return only


# ---- the rules


@pytest.mark.parametrize(
    ("rule", "supported", "refuted", "open_"),
    [
        (Rule.superior, (0.2, 0.4), (-0.4, 0.05), (0.05, 0.2)),
        (Rule.superior, (0.2, 0.4), (0.01, 0.05), (-0.2, 0.2)),  # a small gain is none
        (Rule.not_inferior, (-0.05, 0.4), (-0.4, -0.2), (-0.2, 0.4)),
        (Rule.inferior, (-0.4, -0.2), (-0.05, 0.0), (-0.2, -0.05)),
        (Rule.equivalent, (-0.05, 0.05), (0.2, 0.4), (-0.05, 0.2)),
        (Rule.equivalent, (-0.05, 0.05), (-0.4, -0.2), (-0.2, 0.2)),
    ],
)
def test_an_interval_decides_by_the_side_of_the_margin_that_it_is_on(rule, supported, refuted, open_):
    assert decided(rule, *supported, 0.1) is Verdict.supported
    assert decided(rule, *refuted, 0.1) is Verdict.not_supported
    assert decided(rule, *open_, 0.1) is Verdict.inconclusive


def test_a_clear_gain_in_every_seed_supports_the_claim(write, verdict):
    write("sasrec", [WORSE] * 50)
    write("unisrec", [BETTER] * 45 + [WORSE] * 5)
    found = verdict()
    assert (found.verdict, found.because) == (Verdict.supported, "")
    assert found.data == "shop · sequential · test · full ranking · history not masked"
    assert "A sasrec 0.2000, B unisrec 0.4700; B − A +0.2700" in found.numbers
    assert "by seed +0.2700 +0.2700 +0.2700" in found.numbers
    assert "margin 0.0100" in found.numbers  # a twentieth of A's mean
    assert len(found.runs) == 6


def test_a_clear_loss_refutes_it(write, verdict):
    write("sasrec", [BETTER] * 50)
    write("unisrec", [WORSE] * 50)
    assert verdict().verdict is Verdict.not_supported


def test_a_gain_that_is_clear_but_below_the_margin_refutes_it(write, verdict):
    write("sasrec", [(4, 1)] * 99 + [(9, 1)])
    write("unisrec", [(4, 1)] * 100)  # + 0.001 of 0.199
    assert verdict().verdict is Verdict.not_supported
    assert verdict(rule="equivalent").verdict is Verdict.supported
    assert verdict(rule="not_inferior").verdict is Verdict.supported
    assert verdict(rule="inferior").verdict is Verdict.not_supported


def test_an_interval_on_both_sides_of_the_margin_leaves_it_open(write, verdict):
    write("sasrec", [WORSE, BETTER] * 20)
    write("unisrec", [BETTER, WORSE] * 19 + [BETTER, BETTER])
    found = verdict()
    assert (found.verdict, found.because) == (Verdict.inconclusive, "the interval is on both sides of the margin")


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_fewer_than_three_seeds_of_what_is_trained_settle_nothing(write, verdict, seeds):
    write("sasrec", [WORSE] * 50)
    write("unisrec", [BETTER] * 50, seeds)
    found = verdict()
    assert found.verdict is Verdict.inconclusive
    assert f"{len(seeds)} seed" in found.because
    assert "a claim rests on 3" in found.because
    assert "+0.3000" in found.numbers


def test_what_is_not_trained_needs_one_run_and_stands_beside_every_seed(write, verdict):
    write("popularity", [WORSE] * 50, [0])
    write("unisrec", [BETTER] * 50)
    found = verdict(a={"model": "popularity"})
    assert found.verdict is Verdict.supported
    assert "by seed +0.3000 +0.3000 +0.3000" in found.numbers
    write("next_id", [BETTER] * 50, [0])
    assert verdict(a={"model": "popularity"}, b={"model": "next_id"}).verdict is Verdict.supported


def test_an_ensemble_is_as_trained_as_its_members(write, verdict):
    write("prompt4nr", [WORSE] * 50)
    write("ensemble", [BETTER] * 50, [0], n_trainable=0, members=["outputs/prompt4nr/x"])
    found = verdict(a={"model": "prompt4nr"}, b={"model": "ensemble"})
    assert found.verdict is Verdict.inconclusive


def test_seeds_that_disagree_leave_it_open(write, verdict):
    write("sasrec", [(2, 1)] * 50)
    write("unisrec", {0: [BETTER] * 50, 1: [WORSE] * 50, 2: [BETTER] * 50})
    assert verdict().verdict is Verdict.inconclusive
    # Of ten seeds one is no wider an interval, and still another answer.
    write("sasrec", [WORSE] * 50, range(20))
    write("unisrec", {seed: [BETTER if seed else (4, 1)] * 50 for seed in range(20)})
    found = verdict()
    assert (found.verdict, found.because) == (Verdict.inconclusive, "the seeds disagree")


def test_of_an_error_the_lower_is_better(write, verdict):
    for model, error in (("mf", 2.0), ("p5", 1.0)):
        folder = write(model, [WORSE] * 40, [0, 1, 2], task="rating", protocol="rating")
        for run in folder.parent.iterdir():
            metrics = json.loads((run / "metrics.json").read_text())
            metrics |= {"metrics": {"mae": error}, "intervals": {"mae": [0, 3]}}
            write_json(run / "metrics.json", metrics)
            rows = {"user_id": [f"u{i}" for i in range(40)], "target": "i", "rating": 4.0, "prediction": 4.0 - error}
            pd.DataFrame(rows).to_parquet(run / "predictions.parquet")
    of_ratings = {"task": "rating", "metric": "mae", "a": {"model": "mf"}, "b": {"model": "p5"}}
    found = verdict(**of_ratings)
    assert found.verdict is Verdict.supported
    assert "B − A -1.0000" in found.numbers
    assert verdict(**of_ratings, rule="inferior").verdict is Verdict.not_supported


def test_a_metric_of_a_whole_run_is_compared_over_seeds(write, verdict):
    write("sasrec", [WORSE] * 5, metrics={"coverage@10": 0.3})
    write("unisrec", [WORSE] * 5, metrics={"coverage@10": 0.6})
    assert verdict(metric="coverage@10").verdict is Verdict.supported
    assert verdict(metric="coverage@10", b={"model": "sasrec"}, rule="equivalent").verdict is Verdict.supported


def test_a_metric_of_a_whole_run_needs_seeds_even_of_what_is_not_trained(write, verdict):
    write("popularity", [WORSE] * 5, [0], metrics={"coverage@10": 0.3})
    write("next_id", [WORSE] * 5, [0], metrics={"coverage@10": 0.6})
    found = verdict(metric="coverage@10", a={"model": "popularity"}, b={"model": "next_id"})
    assert found.verdict is Verdict.inconclusive


def test_cold_targets_count_alone_where_the_claim_is_about_them(write, verdict):
    for model, cold in (("sasrec", WORSE), ("unisrec", BETTER)):
        folder = write(model, [cold] * 30 + [WORSE] * 30, labels=["cold-items"])
        for run in folder.parent.iterdir():
            file = run / "predictions.parquet"
            pd.read_parquet(file).assign(target_is_cold=[True] * 30 + [False] * 30).to_parquet(file)
    sides = {name: {"model": model, "labels": ["cold-items"]} for name, model in (("a", "sasrec"), ("b", "unisrec"))}
    assert "B − A +0.3000" in verdict(**sides, targets="cold").numbers
    assert "B − A +0.0000" in verdict(**sides, targets="warm").numbers


# ---- a number of its own run


def own(**changed):
    """A claim about B's own numbers."""
    told = {"b": {"model": "chatgptrec"}, "metric": "listed/hallucinated", "rule": "above", "than": 0.05, "margin": 0}
    return claim(a=None, **{**told, **changed})


@pytest.mark.parametrize(("share", "expected"), [(0.3, Verdict.supported), (0.01, Verdict.not_supported)])
def test_a_number_is_held_against_a_fixed_value(write, verdicts, share, expected):
    write("chatgptrec", [WORSE] * 100, [0], metrics={"listed/hallucinated": share})
    (found,) = verdicts(own())
    assert found.verdict is expected
    assert f"listed/hallucinated {share:.4f} (no interval)" in found.numbers


def test_a_number_is_held_against_another_of_the_run(write, verdicts):
    write("chatgptrec", [WORSE] * 100, [0], metrics={"title_similarity@10": 0.2, "title_similarity_of_target": 0.1})
    of_titles = {"metric": "title_similarity@10", "than": "title_similarity_of_target"}
    (found,) = verdicts(own(**of_titles, margin="10%"))
    assert found.verdict is Verdict.supported
    assert "title_similarity_of_target 0.1000" in found.numbers
    (found,) = verdicts(own(**of_titles, margin="200%"))
    assert found.verdict is Verdict.not_supported


def test_a_number_has_its_interval_where_there_is_one(write, verdicts):
    write("chatgptrec", [WORSE] * 10, [0], metrics={"mrr": 0.06}, intervals={"mrr": [0.04, 0.08]})
    (found,) = verdicts(own(metric="mrr"))
    assert (found.verdict, found.because) == (Verdict.inconclusive, "the interval is on both sides of the margin")
    assert "mrr 0.0600 (0.0400 to 0.0800)" in found.numbers


def test_a_number_of_few_examples_without_an_interval_settles_nothing(write, verdicts):
    write("chatgptrec", [WORSE] * 99, [0])
    (found,) = verdicts(own())
    assert found.verdict is Verdict.inconclusive
    assert "100 examples" in found.because


def test_a_number_of_one_training_settles_nothing(write, verdicts):
    write("unisrec", [WORSE] * 100, [0])
    (found,) = verdicts(own(b={"model": "unisrec"}))
    assert found.verdict is Verdict.inconclusive


# ---- not testable, not run, and what never counts


def test_a_run_that_is_no_test_of_the_claim_makes_it_not_testable_whatever_its_numbers(write, verdict):
    write("sasrec", [WORSE] * 50)
    write("unisrec", [BETTER] * 50, labels=["substitute-encoder"])
    found = verdict()
    assert (found.verdict, found.because) == (Verdict.not_testable, "it is about another encoder")
    assert "+0.3000" in found.numbers


def test_a_chat_model_of_that_name_makes_it_not_testable_where_numbers_build_on_it(write, verdict):
    write("sasrec", [WORSE] * 50)
    write("chatgptrec", [BETTER] * 50, [0], labels=["substitute-llm"])
    asked = verdict(b={"model": "chatgptrec"})
    assert (asked.verdict, asked.because) == (Verdict.not_testable, "it is about a larger model")
    write("chatgptrec", [BETTER] * 50, [0], labels=["substitute-llm"], settings={"llm.model": "large"})
    assert verdict(b={"model": "chatgptrec"}).verdict is Verdict.supported
    write("unisrec", [BETTER] * 50)  # it has the setting, and asks nobody
    assert verdict().verdict is Verdict.supported


def test_what_was_not_run_is_told_with_its_command(write, verdict):
    write("sasrec", [WORSE] * 50)
    found = verdict()
    assert found.verdict is Verdict.not_run
    assert found.because == "no finished run of B on real data"
    assert found.commands == ["llm4rec train model=unisrec"]
    assert (found.data, found.numbers) == ("", "")


def test_without_any_run_nothing_was_run(verdict):
    assert verdict().because == "no finished run of A or B on real data"


def test_synthetic_data_settle_nothing(write, verdict, verdicts):
    for model, ranks in (("sasrec", WORSE), ("unisrec", BETTER), ("chatgptrec", BETTER)):
        write(model, [ranks] * 100, labels=["synthetic"])
    found = verdict()
    assert found.verdict is Verdict.not_run
    assert found.because == "on synthetic data alone, which settle nothing"
    assert "A sasrec" in found.numbers  # what they gave can be seen
    assert found.commands
    (found,) = verdicts(own())
    assert (found.verdict, found.because[:22]) == (Verdict.not_run, "on synthetic data alon")
    assert found.numbers.startswith("chatgptrec")


def test_a_side_that_names_no_tokens_means_a_model_without(write, verdict):
    write("sasrec", [WORSE] * 100)
    write("unisrec", [BETTER] * 100)
    write("sasrec", [BETTER] * 100, settings={"model.tokens": True})
    assert verdict().verdict is Verdict.supported


def test_of_synthetic_data_that_cannot_be_paired_the_reason_is_told(write, verdict):
    write("sasrec", [WORSE] * 3, labels=["synthetic"])
    write("unisrec", [BETTER] * 3, labels=["synthetic"], users=["u0", "u1", "x"])
    assert verdict().because.startswith("on synthetic data alone, which settle nothing; these runs are not paired")


def test_real_runs_that_were_asked_otherwise_are_told_of_beside_synthetic_ones(write, verdict):
    for model, ranks in (("sasrec", WORSE), ("unisrec", BETTER)):
        write(model, [ranks] * 100, labels=["synthetic"], dataset="demo", dataset_fingerprint="d" * 64)
    write("sasrec", [WORSE] * 50)
    write("unisrec", [BETTER] * 50, protocol="uniform-100")
    found = verdict()
    assert (found.because, found.data[:4]) == ("A and B were not asked alike", "demo")


def test_beside_real_data_synthetic_ones_are_not_told(write, verdict):
    for model, ranks in (("sasrec", WORSE), ("unisrec", BETTER)):
        write(model, [ranks] * 100, labels=["synthetic"], dataset="demo", dataset_fingerprint="d" * 64)
        write(model, [ranks] * 100)
    assert verdict().verdict is Verdict.supported


def test_runs_that_were_not_asked_alike_are_no_pair(write, verdict):
    write("sasrec", [WORSE] * 50)
    write("unisrec", [BETTER] * 50, protocol="uniform-100")
    assert verdict().because == "A and B were not asked alike"
    write("unisrec", [BETTER] * 40)  # about fewer users
    assert verdict().because == "A and B were not asked alike"


def test_runs_about_other_examples_say_in_what(write, verdict):
    write("sasrec", [WORSE] * 3)
    write("unisrec", [BETTER] * 3, users=["u0", "u1", "x"])
    found = verdict()
    assert found.verdict is Verdict.not_run
    assert "1 users in A only, 1 in B only" in found.because


@pytest.mark.parametrize(
    "labels", [["control-shuffle_text"], ["few-users"], ["cold-items"], ["leaky"], ["oracle_input"], ["transfer"]]
)
def test_a_run_asked_or_trained_otherwise_counts_only_where_it_is_named(write, verdict, labels):
    write("sasrec", [WORSE] * 50, labels=labels)
    write("unisrec", [BETTER] * 50)
    assert verdict().verdict is Verdict.not_run
    assert verdict(a={"model": "sasrec", "labels": labels}).verdict is Verdict.supported


def test_validation_does_not_count(write, verdict):
    write("sasrec", [WORSE] * 50, split="valid")
    write("unisrec", [BETTER] * 50, split="valid")
    assert verdict().verdict is Verdict.not_run


# ---- which runs


def test_a_side_is_known_by_its_settings(write, verdict):
    write("sasrec", [WORSE] * 50)
    write("unisrec", [BETTER] * 50, settings={"model.use_ids": True})
    assert verdict(b={"model": "unisrec", "settings": {"model.use_ids": False}}).verdict is Verdict.not_run
    assert verdict(b={"model": "unisrec", "settings": {"model.use_ids": [False, True]}}).verdict is Verdict.supported


def test_a_side_is_known_by_what_it_was_trained_for(write, verdict):
    write("p5", [WORSE] * 50)
    write("p5", [BETTER] * 50, trained_run="p5/shop/all/seed0-abc")
    sides = {"a": {"model": "p5", "trained_for": "sequential"}, "b": {"model": "p5", "trained_for": "all"}}
    assert verdict(**sides).verdict is Verdict.supported


def test_a_side_is_known_by_what_its_training_began_with(write, verdict):
    write("unisrec", [WORSE] * 50, settings={"model.init_from": None})
    write("unisrec", [BETTER] * 50, settings={"model.init_from": "/run"}, init_from={"dataset": "other"})
    sides = {"a": {"model": "unisrec", "pretrained": False}, "b": {"model": "unisrec", "pretrained": True}}
    assert verdict(**sides, alike_but=[]).verdict is Verdict.supported


def test_alike_are_those_that_differ_in_what_the_sides_name_alone(write, verdict):
    sides = {
        name: {"model": "p5", "settings": {"model.whole_word": of}} for name, of in (("a", "never"), ("b", "always"))
    }
    write("p5", [WORSE] * 50, settings={"model.whole_word": "never", "model.index": "random"})
    write("p5", [BETTER] * 50, settings={"model.whole_word": "always", "model.index": "sequential"})
    assert verdict(**sides, alike_but=[]).because == "A and B were not asked alike"
    assert verdict(**sides, alike_but=["model.index"]).verdict is Verdict.supported
    assert verdict(**sides).verdict is Verdict.supported
    write("p5", [WORSE] * 50, settings={"model.whole_word": "never", "model.index": "sequential"})
    assert verdict(**sides, alike_but=[]).verdict is Verdict.supported


def test_where_files_lie_makes_no_two_runs_unlike(write, verdict):
    for model, ranks, folder in (("sasrec", WORSE, "/a"), ("sasrec", BETTER, "/b")):
        write(model, [ranks] * 50, settings={"dataset.raw_dir": folder, "model.tokens": folder == "/b"})
    sides = {name: {"model": "sasrec", "settings": {"model.tokens": of}} for name, of in (("a", False), ("b", True))}
    assert verdict(**sides, alike_but=[]).verdict is Verdict.supported


def test_of_several_runs_the_testable_then_the_larger_then_that_of_more_seeds_then_the_newest_counts(write, verdict):
    write("sasrec", [WORSE] * 50)
    write("sasrec", [WORSE] * 60)
    write("unisrec", [BETTER] * 50)
    write("unisrec", [BETTER] * 60, [0])
    write("unisrec", [WORSE] * 60, labels=["substitute-encoder"])
    assert "60 users" in verdict().numbers
    assert verdict().verdict is Verdict.inconclusive  # larger, and one seed
    write("unisrec", [BETTER] * 60)
    write("unisrec", [WORSE] * 60)
    assert verdict().verdict is Verdict.not_supported  # the newest


def test_the_best_of_several_is_the_harder_to_beat(write, verdict):
    write("sasrec", [BETTER] * 50, metrics={"mrr": 0.5})
    write("sasrec", [WORSE] * 50, metrics={"mrr": 0.2})
    write("unisrec", [BETTER] * 50)
    assert verdict().verdict is Verdict.supported  # beside the newest
    assert verdict(a={"model": "sasrec", "best": True}).verdict is Verdict.not_supported


def test_every_dataset_has_a_verdict(write, verdicts):
    for dataset, ranks in (("books", BETTER), ("films", WORSE)):
        write("sasrec", [(2, 1)] * 50, dataset=dataset, dataset_fingerprint=dataset)
        write("unisrec", [ranks] * 50, dataset=dataset, dataset_fingerprint=dataset)
    found = {of.data.split(" · ")[0]: of.verdict for of in verdicts(claim())}
    assert found == {"books": Verdict.supported, "films": Verdict.not_supported}


def test_impressions_are_judged_by_the_shipped_claim_about_ensembles(write, verdicts):
    def told(model, auc, **facts):
        news = {"dataset": "news", "task": "direct", "protocol": "impression", "n_examples": 30, **facts}
        numbers = {"metrics": {"auc": auc}, "intervals": {"auc": [0, 1]}}
        folder = write(model, [WORSE] * 30, **news, **numbers)
        for run in folder.parent.iterdir():
            if json.loads((run / "metrics.json").read_text())["metrics"]["auc"] == auc:
                rows = {"impression_id": [f"{i}" for i in range(30)], "user_id": [f"u{i // 2}" for i in range(30)]}
                rows |= {"items": [["a", "b"]] * 30, "clicked": [[True, False]] * 30}
                rows |= dict.fromkeys(("auc", "mrr", "ndcg@5", "ndcg@10"), auc)
                pd.DataFrame(rows).to_parquet(run / "predictions.parquet")

    (ensembles,) = [of for of in shipped() if of.id == "prompt4nr-ensembles"]
    told("prompt4nr", 0.6)
    told("prompt4nr", 0.64)  # another template, the best
    told("ensemble", 0.62, n_trainable=0, members=["outputs/prompt4nr/a", "outputs/prompt4nr/b"])
    (found,) = verdicts(ensembles)
    assert found.verdict is Verdict.not_supported
    assert "A prompt4nr 0.6400, B ensemble 0.6200" in found.numbers
    told("ensemble", 0.65, n_trainable=0, members=["outputs/prompt4nr/a", "outputs/prompt4nr/b"])
    assert [of.verdict for of in verdicts(ensembles)] == [Verdict.supported]
    told("ensemble", 0.66, n_trainable=0, members=["outputs/prompt4nr/a"], labels=["untrained-head"])
    assert [of.verdict for of in verdicts(ensembles)] == [Verdict.supported]  # those that can test it come first


def test_runs_in_folders_of_outputs_count_too(write, verdict):
    write("sasrec", [WORSE] * 50, where="outputs/study")
    write("unisrec", [BETTER] * 50)
    assert verdict().verdict is Verdict.supported


# ---- people


@pytest.fixture
def judge(tmp_path):
    """judge(systems, **facts): sheets were scored, and each system's mean rank is within this interval."""

    def one(systems, labels=(), enough=True, **facts):
        of = {
            name: {"mean_rank": {"mean": float(np.mean(interval)), "interval": interval}}
            for name, interval in systems.items()
        }
        runs = [
            {"system": name, "run": f"/{name}", "model": name.split()[0], "labels": list(labels)}
            for name in systems
            if name != "reference"
        ]
        result = {"dataset": "books", "task": "explanation", "synthetic": False, "runs": runs}
        result |= {"criteria": {"clarity": {"raters": 3, "examples": 50, "enough": enough, "systems": of}}}
        write_json(tmp_path / "outputs/sheets/human.json", result | facts)

    return one


def of_people():
    told = {"task": "explanation", "metric": "rouge1", "rule": "preferred", "margin": 0}
    return claim(a=None, b={"model": "chatgptrec"}, **told)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([1.1, 1.4], Verdict.supported),
        ([2.6, 2.9], Verdict.not_supported),
        ([1.6, 2.1], Verdict.inconclusive),
    ],
)
def test_people_decide_by_the_intervals_of_mean_ranks(judge, verdicts, own, expected):
    judge({"p5": [2.0, 2.4], "retrieval": [2.5, 2.8], "chatgptrec pmi": own, "reference": [1.0, 1.0]})
    (found,) = verdicts(of_people())
    assert found.verdict is expected
    assert found.data == "books · explanation · clarity"
    assert "p5 mean rank 2.20 (2.00 to 2.40); chatgptrec pmi mean rank" in found.numbers  # the best of the others


def test_too_few_people_settle_nothing(judge, verdicts):
    judge({"p5": [2.0, 2.4], "chatgptrec": [1.1, 1.4]}, enough=False)
    (found,) = verdicts(of_people())
    assert found.verdict is Verdict.inconclusive


def test_people_who_judged_synthetic_data_settle_nothing(judge, verdicts):
    judge({"p5": [2.0, 2.4], "chatgptrec": [1.1, 1.4]}, synthetic=True)
    (found,) = verdicts(of_people())
    assert (found.verdict, found.because[:9]) == (Verdict.not_run, "on synthe")
    assert "chatgptrec mean rank" in found.numbers


def test_people_who_judged_another_model_than_the_claim_is_about_test_nothing(judge, verdicts):
    judge({"p5": [2.0, 2.4], "chatgptrec": [1.1, 1.4]}, labels=["substitute-encoder"])
    (found,) = verdicts(of_people())
    assert found.verdict is Verdict.not_testable


def test_without_filled_sheets_the_command_is_told(verdicts):
    (found,) = verdicts(of_people())
    assert found.because == "nobody's filled sheets were scored"
    assert found.commands


# ---- how it is said


def test_rows_are_whole_and_the_table_says_every_verdict(write, verdicts):
    write("sasrec", [WORSE] * 50)
    write("unisrec", [BETTER] * 50)
    told = [*verdicts(claim()), *verdicts(own())]
    columns, rows = claims_rows(told)
    assert columns == list(COLUMNS)
    assert all(len(row) == len(columns) for row in rows)
    first = dict(zip(columns, rows[0], strict=True))
    assert (first["claim"], first["words"], first["source"]) == ("text", "Text is better than numbers.", "a paper")
    assert (first["tested by"], first["verdict"]) == ("unisrec/scientific", "supported")
    assert first["rule"] == "mrr: B better than A by more than 5 %; A: sasrec; B: unisrec"
    shown = Console(width=300, record=True, markup=False, file=io.StringIO())
    shown.print(claims_table(told))
    text = shown.export_text()
    assert "supported" in text
    assert "not run" in text
    assert "text: llm4rec train model=unisrec" in text.splitlines()[-1]
    assert dict(zip(columns, rows[1], strict=True))["to run"] == "llm4rec train model=unisrec"
    assert first["to run"] == ""


# ---- the shipped claims


def test_there_is_a_claim_for_everything_that_was_to_be_tested():
    assert {claim.id for claim in shipped()} == {
        *("p5-rating", "p5-ranking", "p5-id-leak", "p5-several-tasks", "p5-whole-word", "p5-transfer"),
        *("prompting-rating", "prompting-ranking", "prompting-titles", "prompting-personal"),
        *("prompting-hallucinates", "prompting-texts"),
        *("unisrec-cold-items", "unisrec-pretraining", "unisrec-frozen", "no-feature-engineering"),
        *("prompt4nr-ensembles", "language-model-tokens", "collaborative-signal"),
    }


def test_rules_and_margins_are_as_they_were_fixed():
    """A rule that is moved after the runs proves nothing: who changes one changes it here too, and says why."""
    rules = {}
    for claim_, test in TESTS:
        rules.setdefault(claim_.id, []).append(f"{test.rule.value} {test.margin}")
    assert rules == {
        "p5-rating": ["equivalent 10 %"],
        "p5-ranking": ["not_inferior 5 %"] * 2,
        "p5-id-leak": ["superior 0.01", "superior 10 %"],
        "p5-several-tasks": ["not_inferior 10 %", *["not_inferior 5 %"] * 3],
        "p5-whole-word": ["superior 2 %"],
        "p5-transfer": ["superior 0"] * 2,
        "prompting-rating": ["not_inferior 10 %"] * 2,
        "prompting-ranking": ["inferior 50 %"] * 2,
        "prompting-titles": ["above 10 %"] * 2,
        "prompting-personal": ["equivalent 10 %"] * 2,
        "prompting-hallucinates": ["above 0"] * 2,
        "prompting-texts": ["preferred 0"] * 2,
        "unisrec-cold-items": ["superior 5 %"],
        "unisrec-pretraining": ["superior 2 %"] * 3,
        "unisrec-frozen": ["not_inferior 5 %"] * 2,
        "no-feature-engineering": ["not_inferior 5 %"] * 2,
        "prompt4nr-ensembles": ["superior 0.001"],
        "language-model-tokens": ["superior 2 %"] * 4,
        "collaborative-signal": ["superior 10 %", "superior 2 %", "superior 5 %"],
    }


@pytest.mark.parametrize(("claim_", "test"), TESTS, ids=IDS)
def test_a_shipped_test_names_what_exists(claim_, test):
    asked = composed(f"task={test.task}").task
    of_task = {f"title_{kind}@10" for kind in ("similarity", "diversity")} | {"listed/hallucinated"}
    assert claim_.words.endswith(".")
    assert test.run
    assert {*test.experiments} <= {*composing.options("experiment")}
    assert test.metric in tasks.metric_names(asked) | of_task
    assert (test.a is None) == (test.rule in (Rule.above, Rule.preferred))
    assert (test.than is not None) == (test.rule is Rule.above)
    assert test.protocol in (None, "impression")
    for side in filter(None, (test.a, test.b)):
        needed = "rank_impressions" if test.protocol else rules.needed_capability(asked)
        assert needed in config_class(side.model).capabilities
        config = composed(f"task={test.task}", f"model={side.model}").copy()
        for key, value in side.settings.items():
            for each in value if isinstance(value, list) else [value]:
                OmegaConf.update(config, key, each)  # refused where there is no such setting, or it takes no such value


@cache
def composed(*overrides):
    return compose(*overrides)


@pytest.mark.parametrize("command", COMMANDS_TOLD)
def test_a_command_of_a_claim_is_one(command):
    program, name, *arguments = shlex.split(command)
    assert program == "llm4rec"
    if name in ("human", "ensemble"):
        return
    assert name in HYDRA_COMMANDS
    for placeholder, value in PLACEHOLDERS.items():
        arguments = [argument.replace(placeholder, value) for argument in arguments]
    # Of a sweep the last value.
    given = [re.sub(r"^([^\s=]+=)[^\[]*,", r"\1", argument) for argument in arguments if argument != "-m"]
    config = spec_of(*map(prepared, given)).config
    assert [*rules.problems(config)] == []


def test_a_margin_and_a_rule_that_are_none_are_refused():
    with pytest.raises(ValueError):
        claim(margin="little")
    with pytest.raises(ValueError):
        claim(rule="better")
    with pytest.raises(TypeError):
        claim(wether=1)
    assert claim(margin=0.5).tests[0].margin == Margin(0.5)


def test_every_shipped_test_is_told_where_nothing_was_run(tmp_path):
    told = judged(tmp_path / "nowhere")
    assert [of.test for of in told] == [test for _, test in TESTS]
    assert {of.verdict for of in told} == {Verdict.not_run}
    assert all(of.commands for of in told)
