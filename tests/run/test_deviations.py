"""Deviations: what differs from the paper's settings is listed without anybody writing it down."""

import pytest

from llm4rec_cli.run import deviations
from tests.support.driver import job_of

PAPERS = ("unisrec/paper", "unisrec/pretrain_paper", "p5/paper", "prompt4nr/paper")


def other_settings(*overrides):
    return deviations.other_settings(job_of(*overrides).config)


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
