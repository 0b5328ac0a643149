"""`eval`: asks a trained model another question, and says of which run."""

import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from llm4rec_cli.run import source
from tests.support.driver import TINY, read

NO_FLOORS = "task.floors=[]"
DIRECT = ("eval", "task=direct", "task.max_examples=50", NO_FLOORS)
AGAIN = ("eval", "model=sasrec", "split=valid", "force=true", NO_FLOORS)


def rewrite_config(run, change):
    """Change the stored config of a run."""
    stored = yaml.safe_load((run / "config.yaml").read_text())
    change(stored)
    (run / "config.yaml").write_text(yaml.safe_dump(stored))


def test_the_same_question_gives_the_same_answer_in_a_folder_of_its_own_that_names_the_run(llm4rec, trained, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.name != ".lock"}
    answer = llm4rec("eval", NO_FLOORS)
    result, of_training = answer.metrics, read(trained / "metrics.json")
    assert result["model"] == "sasrec", "the newest trained run, and never a floor"
    assert result["metrics"] == pytest.approx(of_training["metrics"], abs=1e-6)
    assert result["n_examples"] == of_training["n_examples"]
    assert answer.folder.resolve() != trained.resolve()
    assert result["trained_run"] == trained.relative_to(tmp_path / "outputs").as_posix()
    assert result["training_seconds"] == of_training["seconds"]["train"] > 0
    assert not (answer.folder / "checkpoints").exists()
    config = yaml.safe_load((answer.folder / "config.yaml").read_text())
    carried = (config["model"]["hidden_size"], config["trainer"]["epochs"], config["task"]["max_examples"])
    assert carried == (16, 1, 100)
    written = (answer.folder / "metrics.json").stat().st_mtime_ns
    for typed in ((), ("model=sasrec",), (f"run={trained.name}",)):
        again = llm4rec("eval", NO_FLOORS, *typed)
        assert (again.folder, "finished run found" in again.err) == (answer.folder, True), typed
    assert (answer.folder / "metrics.json").stat().st_mtime_ns == written
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.name != ".lock"} == before
    assert llm4rec("eval", "split=valid", NO_FLOORS).metrics["split"] == "valid"


def test_an_evaluation_under_another_mask_than_its_training_says_so(llm4rec, trained):
    assert read(trained / "metrics.json")["selected_masked"] == {"epoch": False}
    masked = llm4rec("eval", "model=sasrec", "task.mask_history=true", "task.floors=[transition_text]")
    assert masked.metrics["selected_masked"] == {"epoch": False}
    assert "selected-unmasked" in masked.metrics["labels"]
    floors = [read(path) for path in masked.cwd.glob("outputs/transition_text/*/*/*/metrics.json")]
    (floor,) = (metrics for metrics in floors if metrics["mask_history"])
    assert floor["selected_masked"] == {"text_weight": True}
    assert floor["chosen"].keys() == {"text_weight"}
    assert "selected-unmasked" not in floor["labels"]


def test_a_model_is_evaluated_in_bf16_and_the_result_says_so(llm4rec, trained):
    usual = llm4rec("eval", "model=sasrec", NO_FLOORS)
    bf16 = llm4rec("eval", "model=sasrec", NO_FLOORS, "trainer.scoring=bf16")
    assert bf16.metrics["trained_run"] == usual.metrics["trained_run"]
    assert bf16.metrics["variant"] != usual.metrics["variant"]
    assert "trainer.scoring" not in usual.metrics["arithmetic"]
    assert bf16.metrics["arithmetic"]["trainer.scoring"] == "bf16"
    scores, expected = (
        np.stack(pd.read_parquet(answer.folder / "predictions.parquet")["top_scores"]) for answer in (bf16, usual)
    )
    assert scores.dtype == np.float32
    assert not np.array_equal(scores, expected)
    np.testing.assert_allclose(scores, expected, atol=0.05 * np.abs(expected).max())


def test_settings_of_groups_and_of_the_training_are_carried_over_and_those_of_a_command_are_not():
    kept = ["dataset=demo", "~dataset.domains.shop", "prompt/p5@model.prompts=[rating]", "llm.timeout=3", "seed=1"]
    dropped = ["split=valid", "device=cuda", "force=true", "run=x", "paths.cache=c", "hydra.verbose=true"]
    stored = [*kept, *dropped, "task.max_examples=5", "trainer.epochs=1"]
    typed = ["task=direct", "trainer.epochs=2"]
    assert source.carried_over(stored, typed) == [*kept, *typed]
    keys = source._training_keys(["+experiment=p5/beauty", "seed=1"])
    assert keys == ["experiment", "seed", "model", "dataset"], "on its own dataset unless another is typed"
    assert source._training_keys(["model=sasrec", "task=direct"]) == ["model"]


def test_settings_that_are_not_typed_are_those_of_data_model_and_training():
    counted = ["+experiment=p5/demo", "prompt/p5@model.prompts=[rating]", "dataset.cold_items=0.1", "trainer=small"]
    identifying = ["model=p5", "dataset=demo", "task=rating", "seed=1"]
    of_evaluation = ["task.cutoffs=[5]", "split=valid", "device=cpu", "dataset.raw_dir=x", "trainer.eval_batch_size=7"]
    overrides = [*counted, *identifying, *of_evaluation, "trainer.epochs=1"]
    not_typed = ["+experiment=p5/demo", "prompt=[p5/rating]", "dataset.cold_items=0.1", "trainer=small"]
    assert source.settings_not_typed(overrides, {"model", "trainer.epochs"}) == not_typed


def test_a_model_trained_for_one_task_is_asked_another_with_the_floors_under_the_same_question(
    llm4rec, trained, tmp_path
):
    for candidates in ("uniform", "popularity"):
        answer = llm4rec(*DIRECT[:-1], f"task.candidates={candidates}", "task.floors=[popularity]")
        metrics = answer.metrics
        assert answer.folder.parts[-4:-1] == ("sasrec", "demo", "direct")
        assert (metrics["task"], metrics["protocol"], metrics["n_examples"]) == ("direct", f"{candidates}-100", 50)
        ranks = pd.read_parquet(answer.folder / "predictions.parquet")
        assert (ranks["n_better"] + ranks["n_tied"]).max() <= 100
        floors = (tmp_path / "outputs/popularity/demo/direct").glob("*/metrics.json")
        assert metrics["protocol"] in {read(floor)["protocol"] for floor in floors}


def test_the_newest_matching_run_is_taken_unless_run_names_one(llm4rec, trained, tmp_path):
    newest = llm4rec("train", *TINY, "seed=1").metrics
    assert llm4rec("eval", NO_FLOORS).metrics["seed"] == newest["seed"] == 1
    assert llm4rec("eval", "seed=0", NO_FLOORS).metrics["seed"] == 0
    named = llm4rec("eval", f"run={trained.relative_to(tmp_path)}", NO_FLOORS).metrics
    assert named["trained_run"].endswith(trained.name)


def test_an_ablation_is_taken_only_if_its_settings_are_typed_or_no_other_run_matches(llm4rec, trained):
    ablation = llm4rec("train", *TINY, "model.dropout=0.4").folder
    answer = llm4rec(*AGAIN)
    assert answer.metrics["trained_run"].endswith(trained.name)
    [line] = [line for line in answer.err.splitlines() if "left out" in line]
    assert f"{ablation.name}, which is newer and was trained with model.dropout=0.4" in line
    answer = llm4rec(*AGAIN, "model.dropout=0.4")
    assert answer.metrics["trained_run"].endswith(ablation.name)
    assert "left out" not in answer.err
    shutil.rmtree(trained)
    assert llm4rec(*AGAIN).metrics["trained_run"].endswith(ablation.name)


def test_without_a_model_the_newest_runs_model_is_evaluated_with_however_many_settings(llm4rec, trained):
    settings = ("model.embedding_size=8", "trainer.epochs=1", "trainer.patience=2", "trainer.learning_rate=0.02")
    newest = llm4rec("train", "model=bpr_mf", *settings, "trainer.weight_decay=0.5", *TINY[-2:]).folder
    assert llm4rec("eval", NO_FLOORS).metrics["trained_run"].endswith(newest.name)


def test_a_run_of_other_outputs_is_named_with_the_setting_that_finds_it(llm4rec, trained):
    answer = llm4rec("eval", f"run={trained}", "paths.outputs=elsewhere")
    assert (answer.code, f"{trained} is not a run under" in answer.err) == (2, True)
    assert "popularity is not trained" in llm4rec("eval", "model=popularity", f"run={trained}").err


def test_a_model_without_weights_is_evaluated_as_by_train_and_missing_weights_and_metrics_are_errors(llm4rec, trained):
    metrics = llm4rec("eval", "model=popularity", "task.max_examples=100", NO_FLOORS).metrics
    (floor,) = (trained.parents[3] / "popularity/demo/sequential").iterdir()
    assert metrics == read(floor / "metrics.json")
    shutil.rmtree(trained / "checkpoints")
    answer = llm4rec("eval", NO_FLOORS)
    assert (answer.code, "has no finished training" in answer.err) == (1, True)
    (trained / "metrics.json").unlink()
    assert llm4rec("eval", "model=sasrec").code == 1


def test_a_run_under_a_control_is_asked_only_by_who_names_the_control(llm4rec, trained):
    control = llm4rec("train", *TINY, "dataset.control=shuffle_history").folder
    newest = llm4rec(*AGAIN)
    assert newest.metrics["trained_run"].endswith(trained.name)
    named = llm4rec(*AGAIN, "dataset.control=shuffle_history")
    assert named.metrics["trained_run"].endswith(control.name)


def test_settings_of_its_training_may_be_typed_and_those_without_effect_on_weights_may_differ(llm4rec, trained):
    same = ("seed=0", "trainer.epochs=1", "trainer=demo")
    other = ("trainer.eval_batch_size=7", "trainer.report_to=[]", "task.max_examples=50")
    assert llm4rec("eval", f"run={trained}", *same, *other, NO_FLOORS).metrics["n_examples"] == 50


def test_a_stored_config_of_another_version_counts_by_the_settings_in_effect(llm4rec, trained, monkeypatch):
    named = ("eval", f"run={trained}", NO_FLOORS, "force=true")
    rewrite_config(trained, lambda stored: stored["dataset"].pop("train_impressions"))
    assert llm4rec(*named).code == 0, "newer than the run, with the default that it had in effect"
    assert llm4rec("eval", "model=sasrec", NO_FLOORS).code == 0
    rewrite_config(trained, lambda stored: stored["model"].update(gone=3))
    refused = "was trained by another version, with other settings than model.gone\n  try: train again"
    assert refused in llm4rec(*named).err
    monkeypatch.setitem(source.REMOVED, "sasrec", {"model.gone": 3})
    assert llm4rec(*named).code == 0, "it had no effect with this value"
    rewrite_config(trained, lambda stored: stored["model"].update(gone=4))
    answer = llm4rec(*named)
    assert (answer.code != 0, "was trained with model.gone=4, which was removed" in answer.err) == (True, True)
    rewrite_config(trained, lambda stored: (stored["model"].pop("gone"), stored["model"].update(dropout=0.123)))
    assert "was trained with model.dropout=0.123, not " in llm4rec(*named).err


def test_another_draw_of_candidates_has_the_same_users_and_an_address_of_its_own(llm4rec):
    typed = ("model=popularity", "task=direct", "task.max_examples=50", NO_FLOORS)
    first, second = (llm4rec("train", *typed, f"task.draw={draw}") for draw in (0, 1))
    a, b = (pd.read_parquet(answer.folder / "predictions.parquet") for answer in (first, second))
    assert (a[["user_id", "target"]] == b[["user_id", "target"]]).all(axis=None)
    assert first.metrics["metrics"] != second.metrics["metrics"]
    assert first.folder == llm4rec("train", *typed).folder != second.folder
