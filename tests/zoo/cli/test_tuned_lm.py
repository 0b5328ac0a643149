"""tuned_lm as a user drives it: trained small, evaluated again, killed and resumed, untuned, and what it refuses."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file

from llm4rec_cli.run import fit
from tests.llm.tiny_llm import tiny_llm
from tests.support.small_log import small_log

SETTINGS = (
    *("model=tuned_lm", "task.floors=[]", "model.rows=24", "model.titles=4", "trainer.epochs=2"),
    *("trainer.batch_size=8", "trainer.valid_examples=5", "task.max_examples=10"),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return (*SETTINGS, f"model.backbone={tiny_llm(tmp_path_factory.mktemp('causal') / 'llm')}")


def weights(folder):
    (done,) = folder.glob("checkpoints/training_done.json")
    return load_file(folder / f"checkpoints/checkpoint-{json.loads(done.read_text())['best_step']}/model.safetensors")


@pytest.mark.parametrize(
    ("typed", "protocol"),
    [
        (["task=direct"], "uniform-100"),
        (["model.answer=item_head"], "full"),
        (["task=direct", "model.score=mean", "model.loss_on=all", "model.targets=last"], "uniform-100"),
        (["task=direct", "model.answer=yes_no", "task.negatives=5"], "uniform-6"),
    ],
)
def test_each_answer_runs_small(llm4rec, small, typed, protocol):
    answer = llm4rec("train", *small, *typed)
    assert answer.code == 0, answer.err
    assert (answer.metrics["protocol"], answer.metrics["training"]["rows"]) == (protocol, 24)
    assert answer.metrics["n_trainable"] < answer.metrics["n_parameters"]


def test_a_finished_run_answers_again_from_its_adapter(llm4rec, small):
    trained = llm4rec("train", *small, "task=direct")
    assert all("lora_" in name for name in weights(trained.folder))
    again = llm4rec("eval", f"run={trained.folder}", "force=true", "task.floors=[]")
    assert again.code == 0, again.err
    assert again.metrics["metrics"] == trained.metrics["metrics"]


def test_the_head_is_asked_with_another_users_history_and_trained_on_permuted_titles(llm4rec, small):
    trained = llm4rec("train", *small, "model.answer=item_head")
    assert trained.code == 0, trained.err
    swapped = llm4rec("eval", f"run={trained.folder}", "dataset.control=swap_users", "task.floors=[]")
    assert swapped.code == 0, swapped.err
    assert swapped.metrics["trained_run"].endswith(trained.folder.name)
    permuted = llm4rec("train", *small, "model.answer=item_head", "dataset.control=shuffle_text")
    for control, answer in (("swap_users", swapped), ("shuffle_text", permuted)):
        assert f"control-{control}" in answer.metrics["labels"]
        assert answer.metrics["metrics"] != trained.metrics["metrics"]
    refused = llm4rec("eval", f"run={trained.folder}", "dataset.control=shuffle_text")
    assert "was trained with dataset.control=none, not shuffle_text" in refused.err


def test_impressions_are_ranked_by_yes_or_no(llm4rec, small, tmp_path):
    log = small_log(tmp_path / "log")
    answer = llm4rec("train", *small, "dataset=mind-small-5k", f"dataset.raw_dir={log}", "trainer.epochs=1")
    assert answer.code == 0, answer.err
    assert answer.metrics["shown_as"] == "tuned_lm yes no, LoRA 8"
    assert 0 <= answer.metrics["metrics"]["auc"] <= 1


def test_likes_are_learned_from_few_labels(llm4rec, small):
    settings = [typed for typed in small if not typed.startswith(("model.rows", "model.titles"))]
    answer = llm4rec("train", *settings, "task=like", "dataset.split=temporal", "task.shots=16")
    assert answer.code == 0, answer.err
    assert (answer.metrics["training"]["rows"], answer.metrics["shown_as"]) == (16, "tuned_lm yes no, LoRA 8")
    assert 0 <= answer.metrics["metrics"]["auc"] <= 1


def test_a_killed_tuning_resumes_to_equal_weights(llm4rec, small, monkeypatch):
    whole = llm4rec("train", *small, "task=direct", "paths.outputs=whole")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        seal = fit.checkpoints.seal

        def seal_and_die(*arguments):
            seal(*arguments)
            killed()

        patch.setattr(fit.checkpoints, "seal", seal_and_die)
        assert llm4rec("train", *small, "task=direct", "paths.outputs=killed").code == 130
    resumed = llm4rec("train", *small, "task=direct", "paths.outputs=killed")
    assert "resuming at step 3" in resumed.err
    assert resumed.metrics["metrics"] == whole.metrics["metrics"]
    ours, theirs = weights(resumed.folder), weights(whole.folder)
    assert all((ours[name] == theirs[name]).all() for name in ours)


def test_an_address_holds_weights_prompt_and_adapter(llm4rec, small, tmp_path):
    def folder(*typed):
        answer = llm4rec("train", *small, "task=direct", "trainer.epochs=1", *typed)
        assert answer.code == 0, answer.err
        return answer.folder.name

    first = folder()
    backbone = next(typed for typed in small if typed.startswith("model.backbone")).partition("=")[2]
    copied = shutil.copytree(backbone, tmp_path / "elsewhere")
    assert folder(f"model.backbone={copied}") == first, "the same weights in another place"
    assert len({first, folder("model.lora.rank=4"), folder("prompt.noun=product"), folder("seed=1")}) == 4
