"""Labels: of masks in validation, and of trainings that probably failed."""

import pytest

from llm4rec_cli.run import labels
from tests.support.driver import job_of


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
    assert labels.selected_masked(job.config, trained_masked, chosen) == selected
    assert labels.selection_labels(job.task, selected) == label


def test_a_training_is_above_popularity_if_the_whole_interval_of_its_gain_is():
    training = {"valid_ndcg@10": 0.0125, "popularity": 0.0121, "gain": 0.0004, "gain_low": -0.001, "gain_high": 0.0018}
    assert labels.training_labels(training) == ["not-above-popularity"]
    assert labels.training_warnings(training) == [
        "training probably failed: on validation, ndcg@10 is 0.0125, and popularity's 0.0121 (+0.0004, 95 % CI -0.0010 "
        "to +0.0018); llm4rec tune searches other settings"
    ]
    for better in ({"gain_low": 0.0001}, {}):
        other = training | better if better else {"valid_rmse": 1.0}
        assert labels.training_labels(other) == labels.training_warnings(other) == []


@pytest.mark.parametrize(("loss", "fails"), [(1.7, True), (1.6, True), (1.5999, False)])
def test_a_generative_model_has_learned_more_than_popularity_if_its_loss_is_lower(loss, fails):
    (*warnings,) = labels.training_warnings({"loss": loss, "uniform_loss": 1.667, "popularity_loss": 1.6})
    assert [warning.partition(":")[0] for warning in warnings] == ["has not learned more than popularity"] * fails
    assert labels.training_warnings({"loss": 9.0}) == []
