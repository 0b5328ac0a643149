"""Deviations: what differs from the paper's settings is listed without anybody writing it down."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from llm4rec_cli.results.result import MemorisationScore, result_of
from llm4rec_cli.run import marks
from tests.results.finished_runs import run as finished_run
from tests.support.driver import job_of, read

PAPERS = ("unisrec/paper", "unisrec/pretrain_paper", "p5/paper", "prompt4nr/paper")
SCORE = MemorisationScore(share=0.5, low=0.4, high=0.6, chance=0.2, n=90, made_up=0.3)


def other_settings(*overrides):
    return marks.other_settings(job_of(*overrides).config)


def test_the_papers_experiment_has_no_other_settings_nor_has_a_model_without_one(tmp_path):
    for experiment in PAPERS:
        assert other_settings(f"+experiment={experiment}") == []
    for model in ("sasrec", "popularity", "chatgptrec"):
        assert other_settings(f"model={model}") == []
    assert other_settings("+experiment=p5/paper", f"model.backbone={tmp_path / 't5-small'}") == [], "the papers' name"


@pytest.mark.parametrize(
    ("experiment", "override", "difference"),
    [
        ("unisrec/paper", "model.attention_dropout=0.1", "attention_dropout=0.1 (0.5)"),
        ("unisrec/pretrain_paper", "model.pretraining.drop=0.5", "pretraining.drop=0.5 (0.2)"),
        ("p5/paper", "model.max_target=32", "max_target=32 (64)"),
        ("p5/paper", "model.samples.rating=2", "samples.rating=2 (1)"),
        ("prompt4nr/paper", "trainer.valid_examples=200", "trainer.valid_examples=200 (None)"),
        ("prompt4nr/paper", "model.negatives=1", "negatives=1 (4)"),
    ],
)
def test_changing_a_setting_of_the_paper_adds_a_deviation(experiment, override, difference):
    assert other_settings(f"+experiment={experiment}", override) == [
        f"settings other than those of {experiment}: {difference}"
    ]


def test_measured_memorisation_replaces_the_blanket_warning(tmp_path):
    typed = ("model=chatgptrec", "model.answer=generate", "llm=openai", f"paths.cache={tmp_path}")
    job, other = (job_of(*typed, f"llm.model={name}") for name in ("x", "y"))
    dataset = SimpleNamespace(fingerprint="f")
    assert marks.memorisation_warning(marks.memorisation(job.config, dataset)).startswith("the chat model may have")
    assert marks.save_memorisation(job.config, dataset, {"rows": SCORE})
    assert marks.memorisation(job.config, dataset) == {"rows": SCORE}
    warning = marks.memorisation_warning({"rows": SCORE, "titles": replace(SCORE, made_up=None)})
    assert "rows 0.50 (0.40–0.60), chance 0.20, made-up records 0.30; titles 0.50 (0.40–0.60), chance 0.20" in warning
    assert not marks.save_memorisation(job.config, dataset, {"rows": replace(SCORE, n=4)})
    assert marks.memorisation(job.config, dataset) == {"rows": SCORE}, "those of more records"
    assert marks.save_memorisation(other.config, dataset, {"rows": replace(SCORE, made_up=None)})
    assert marks.save_memorisation(other.config, dataset, {"rows": replace(SCORE, n=4)}), "the older lack made-up ones"
    assert marks.memorisation(other.config, dataset) == {"rows": replace(SCORE, n=4)}
    assert marks.memorisation(job_of(*typed, "llm.model=z").config, dataset) is None
    elsewhere = job_of(*typed, "llm.model=x", "llm.base_url=http://localhost:8000/v1")
    assert marks.memorisation(elsewhere.config, dataset) is None
    assert marks.memorisation(job.config, SimpleNamespace(fingerprint="g")) is None


def test_a_finished_run_takes_up_what_was_measured_of_memory_since(tmp_path):
    job = job_of("model=chatgptrec", "model.answer=generate", "llm=openai", "llm.model=x", f"paths.cache={tmp_path}")
    dataset, facts = SimpleNamespace(fingerprint="f"), {"labels": ["may-be-memorised"], "metrics": {"rmse": 1.0}}
    run = finished_run(folder=tmp_path, warnings=["slow", marks.memorisation_warning(None)], **facts)
    assert marks.update_finished(run, job.config, dataset, []) == run
    for scores in ({"rows": SCORE}, {"rows": replace(SCORE, n=100, share=0.6)}):
        marks.save_memorisation(job.config, dataset, scores)
        run = marks.update_finished(run, job.config, dataset, [])
        assert run.memorisation == scores
        assert run.warnings == ["slow", marks.memorisation_warning(scores)]
        assert result_of(read(tmp_path / "metrics.json"), tmp_path) == run
    ours = replace(run, labels=["synthetic"])
    marks.save_memorisation(job.config, dataset, {"rows": replace(SCORE, n=200)})
    assert marks.update_finished(ours, job.config, dataset, []) == ours, "data of ours"


@pytest.mark.parametrize(
    ("typed", "trained_masked", "chosen", "selected", "label"),
    [
        (["model=sasrec"], False, None, {"epoch": False}, []),
        (["model=sasrec", "task.mask_history=true"], False, None, {"epoch": False}, ["selected-unmasked"]),
        (["model=sasrec", "task.mask_history=true"], True, None, {"epoch": True}, []),
        (["model=sasrec"], True, None, {"epoch": True}, ["selected-masked"]),
        (["model=sasrec", "trainer.keep=last", "task.mask_history=true"], False, None, {}, []),
        (
            ["+experiment=scientific/sasrec", "task.mask_history=true"],
            True,
            None,
            {"settings": False, "epoch": True},
            ["selected-unmasked"],
        ),
        (["model=transition_text", "task.mask_history=true"], None, {"text_weight": 2.0}, {"text_weight": True}, []),
        (["model=popularity", "task.mask_history=true"], None, None, {}, []),
        (["model=transition_text", "task=direct"], None, {"text_weight": 2.0}, {}, []),
    ],
)
def test_what_was_chosen_under_another_mask_than_the_evaluations_is_labelled(
    typed, trained_masked, chosen, selected, label
):
    job = job_of(*typed)
    assert marks.selected_masked(job.config, trained_masked, chosen) == selected
    assert marks.selection_labels(job.task, selected) == label


def test_a_training_is_above_popularity_if_the_whole_interval_of_its_gain_is():
    training = {"valid_ndcg@10": 0.0125, "popularity": 0.0121, "gain": 0.0004, "gain_low": -0.001, "gain_high": 0.0018}
    assert marks.training_labels(training) == ["not-above-popularity"]
    assert marks.training_warnings(training) == [
        "training probably failed: on validation, ndcg@10 is 0.0125, and popularity's 0.0121 (+0.0004, 95 % CI -0.0010 "
        "to +0.0018); llm4rec tune searches other settings"
    ]
    for better in ({"gain_low": 0.0001}, {}):
        other = training | better if better else {"valid_rmse": 1.0}
        assert marks.training_labels(other) == marks.training_warnings(other) == []


@pytest.mark.parametrize(("loss", "fails"), [(1.7, True), (1.6, True), (1.5999, False)])
def test_a_generative_model_has_learned_more_than_popularity_if_its_loss_is_lower(loss, fails):
    (*warnings,) = marks.training_warnings({"loss": loss, "uniform_loss": 1.667, "popularity_loss": 1.6})
    assert [warning.partition(":")[0] for warning in warnings] == ["has not learned more than popularity"] * fails
    assert marks.training_warnings({"loss": 9.0}) == []
