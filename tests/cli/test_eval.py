"""`eval`: asks a trained model another question, and says of which run."""

import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from llm4rec_cli.run import choose
from llm4rec_cli.run import choose as trained_runs
from tests.support.driver import TINY, read

NO_FLOORS = "task.floors=[]"


def test_the_same_question_gives_the_same_answer(llm4rec, trained):
    metrics = llm4rec("eval", "model=sasrec", NO_FLOORS).metrics
    before = read(trained / "metrics.json")
    assert metrics["metrics"] == pytest.approx(before["metrics"], abs=1e-6)
    assert metrics["n_examples"] == before["n_examples"]


def test_an_evaluation_stands_in_a_folder_of_its_own_and_names_the_run(llm4rec, trained, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.name != ".lock"}
    answer = llm4rec("eval", "model=sasrec", NO_FLOORS)
    assert answer.folder.resolve() != trained.resolve()
    assert answer.metrics["trained_run"] == trained.relative_to(tmp_path / "outputs").as_posix()
    assert answer.metrics["training_seconds"] == read(trained / "metrics.json")["seconds"]["train"] > 0
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.name != ".lock"} == before


def test_an_evaluation_under_another_mask_than_its_training_says_so(llm4rec, trained):
    assert read(trained / "metrics.json")["selected_masked"] == {"epoch": False}
    masked = llm4rec("eval", "model=sasrec", "task.mask_history=true", "task.floors=[transition_text]")
    assert masked.metrics["selected_masked"] == {"epoch": False}
    assert "selected-unmasked" in masked.metrics["labels"]
    assert "selected-unmasked" in masked.out
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
    marked = "histories are encoded in bf16 in validation and test"
    assert (marked in usual.metrics["deviations"], marked in bf16.metrics["deviations"]) == (False, True)
    assert "trainer.scoring=bf16" in llm4rec("report").out
    scores, expected = (
        np.stack(pd.read_parquet(answer.folder / "predictions.parquet")["top_scores"]) for answer in (bf16, usual)
    )
    assert scores.dtype == np.float32
    assert not np.array_equal(scores, expected)
    np.testing.assert_allclose(scores, expected, atol=0.05 * np.abs(expected).max())


def test_an_evaluation_has_no_weights(llm4rec, trained):
    folder = llm4rec("eval", "model=sasrec", NO_FLOORS).folder
    names = {path.name for path in folder.iterdir()}
    assert {"metrics.json", "metrics.csv", "predictions.parquet", "config.yaml", "run.log"} <= names
    assert not {"checkpoints", "train_log.jsonl"} & names


def test_settings_of_groups_and_of_the_training_are_carried_over_and_those_of_a_command_are_not():
    kept = ["dataset=demo", "~dataset.domains.shop", "prompt/p5@model.prompts=[rating]", "llm.timeout=3", "seed=1"]
    dropped = ["split=valid", "device=cuda", "force=true", "run=x", "paths.cache=c", "hydra.verbose=true"]
    stored = [*kept, *dropped, "task.max_examples=5", "trainer.epochs=1"]
    assert trained_runs._overrides(stored, ["task=direct", "trainer.epochs=2"]) == [
        *(*kept, "task=direct", "trainer.epochs=2")
    ]


def test_an_experiment_is_evaluated_on_its_own_dataset_unless_another_is_typed():
    assert trained_runs._training_keys(["+experiment=p5/beauty", "seed=1"]) == [
        "experiment",
        "seed",
        "model",
        "dataset",
    ]
    assert trained_runs._training_keys(["model=sasrec", "task=direct"]) == ["model"]


@pytest.mark.parametrize("candidates", ["uniform", "popularity"])
def test_a_model_trained_for_one_task_is_asked_another(llm4rec, trained, candidates):
    answer = llm4rec("eval", "task=direct", f"task.candidates={candidates}", "task.max_examples=50", NO_FLOORS)
    metrics = answer.metrics
    assert answer.folder.parts[-4:-1] == ("sasrec", "demo", "direct")
    assert (metrics["task"], metrics["protocol"], metrics["n_examples"]) == ("direct", f"{candidates}-100", 50)
    ranks = pd.read_parquet(answer.folder / "predictions.parquet")
    assert (ranks["n_better"] + ranks["n_tied"]).max() <= 100


def test_the_table_has_the_floors_under_the_same_question(llm4rec, trained, tmp_path):
    answer = llm4rec("eval", "task=direct", "task.max_examples=50", "task.floors=[popularity]")
    assert "popularity" in answer.out
    (floor,) = (tmp_path / "outputs/popularity/demo/direct").glob("*/metrics.json")
    assert read(floor)["protocol"] == answer.metrics["protocol"]


def test_the_validation_part_can_be_asked(llm4rec, trained):
    assert llm4rec("eval", "split=valid", NO_FLOORS).metrics["split"] == "valid"


def test_stored_settings_are_carried_over(llm4rec, trained):
    config = yaml.safe_load((llm4rec("eval", NO_FLOORS).folder / "config.yaml").read_text())
    settings = (config["model"]["hidden_size"], config["trainer"]["epochs"], config["task"]["max_examples"])
    assert settings == (16, 1, 100)


def test_nothing_typed_means_the_newest_trained_run_and_never_a_floor(llm4rec, trained):
    assert llm4rec("eval", NO_FLOORS).metrics["model"] == "sasrec"


def test_the_newest_matching_run_is_taken_unless_run_names_one(llm4rec, trained, tmp_path):
    newest = llm4rec("train", *TINY, "seed=1").metrics
    assert llm4rec("eval", NO_FLOORS).metrics["seed"] == newest["seed"] == 1
    assert llm4rec("eval", "seed=0", NO_FLOORS).metrics["seed"] == 0
    named = llm4rec("eval", f"run={trained.relative_to(tmp_path)}", NO_FLOORS).metrics
    assert named["trained_run"].endswith(trained.name)


def test_an_ablation_is_taken_only_if_its_settings_are_typed_or_no_other_run_matches(llm4rec, trained):
    ablation = llm4rec("train", *TINY, "model.dropout=0.4").folder
    command = ("eval", "model=sasrec", "split=valid", "force=true", NO_FLOORS)
    answer = llm4rec(*command)
    assert answer.metrics["trained_run"].endswith(trained.name)
    [line] = [line for line in answer.err.splitlines() if "left out" in line]
    assert f"{ablation.name}, which is newer and was trained with model.dropout=0.4; to evaluate it, type that" in line
    assert line.endswith(f"or run=outputs/sasrec/demo/sequential/{ablation.name}")
    answer = llm4rec(*command, "model.dropout=0.4")
    assert answer.metrics["trained_run"].endswith(ablation.name)
    assert "left out" not in answer.err
    shutil.rmtree(trained)
    assert llm4rec(*command).metrics["trained_run"].endswith(ablation.name)


def test_without_a_model_the_newest_runs_model_is_evaluated_with_however_many_settings(llm4rec, trained):
    settings = ("model.embedding_size=8", "trainer.epochs=1", "trainer.patience=2", "trainer.learning_rate=0.02")
    newest = llm4rec("train", "model=bpr_mf", *settings, "trainer.weight_decay=0.5", *TINY[-2:]).folder
    assert llm4rec("eval", NO_FLOORS).metrics["trained_run"].endswith(newest.name)


def test_settings_that_are_not_typed_are_those_of_data_model_and_training():
    counted = ["+experiment=p5/demo", "prompt/p5@model.prompts=[rating]", "dataset.cold_items=0.1", "trainer=small"]
    identifying = ["model=p5", "dataset=demo", "task=rating", "seed=1"]
    of_evaluation = ["task.cutoffs=[5]", "split=valid", "device=cpu", "dataset.raw_dir=x", "trainer.eval_batch_size=7"]
    overrides = [*counted, *identifying, *of_evaluation, "trainer.epochs=1"]
    assert trained_runs.settings_not_typed(overrides, {"model", "trainer.epochs"}) == [
        *("+experiment=p5/demo", "prompt=[p5/rating]", "dataset.cold_items=0.1", "trainer=small")
    ]


def test_a_second_time_the_answer_is_found(llm4rec, trained):
    first = llm4rec("eval", NO_FLOORS)
    written = (first.folder / "metrics.json").stat().st_mtime_ns
    second = llm4rec("eval", NO_FLOORS)
    assert second.folder == first.folder
    assert "finished run found" in second.err
    assert (first.folder / "metrics.json").stat().st_mtime_ns == written


@pytest.mark.parametrize("override", ["model=unisrec", "seed=7", "model.hidden_size=32", "dataset=demo_null"])
def test_no_matching_run_is_an_error_with_the_command_that_makes_one(llm4rec, trained, override):
    answer = llm4rec("eval", override, "model=sasrec" if "model=" not in override else "device=cpu")
    assert answer.code == 1
    first, second = answer.err.splitlines()
    assert "no finished training run" in first
    assert "llm4rec train" in second
    assert override in second


def test_another_draw_of_candidates_has_the_same_users_and_an_address_of_its_own(llm4rec):
    typed = ("model=popularity", "task=direct", "task.max_examples=50", "task.floors=[]")
    first, second = (llm4rec("train", *typed, f"task.draw={draw}") for draw in (0, 1))
    a, b = (pd.read_parquet(answer.folder / "predictions.parquet") for answer in (first, second))
    assert (a[["user_id", "target"]] == b[["user_id", "target"]]).all(axis=None)
    assert first.metrics["metrics"] != second.metrics["metrics"]
    assert first.folder == llm4rec("train", *typed).folder != second.folder


def test_a_run_that_is_none_is_an_error(llm4rec, trained, tmp_path):
    answer = llm4rec("eval", "run=nowhere")
    assert answer.code == 1
    assert "no finished run under outputs matches 'nowhere'\n  try: known: " in answer.err
    alone = llm4rec("eval", "run=nowhere", "paths.outputs=empty")
    assert "no finished run under empty, so 'nowhere' matches none\n  try: train one first" in alone.err


def test_a_run_may_be_named_by_the_end_of_its_path(llm4rec, trained):
    answer = llm4rec("eval", f"run={trained.name}", NO_FLOORS)
    assert answer.code == 0
    assert answer.metrics["trained_run"].endswith(trained.name)


def test_a_run_without_weights_is_named_with_its_command(llm4rec):
    floor = llm4rec("train", "model=popularity", "task.floors=[]").folder
    answer = llm4rec("eval", f"run={floor}")
    assert (answer.code, "is a run of popularity, which has no weights" in answer.err) == (2, True)
    assert "llm4rec train model=popularity" in answer.err


def test_a_run_of_other_outputs_is_named_with_the_setting_that_finds_it(llm4rec, trained):
    answer = llm4rec("eval", f"run={trained}", "paths.outputs=elsewhere")
    assert (answer.code, f"{trained} is not a run under" in answer.err) == (2, True)
    assert "paths.outputs=FOLDER above the run" in answer.err
    assert "popularity is not trained" in llm4rec("eval", "model=popularity", f"run={trained}").err


def test_an_unfinished_run_is_not_taken(llm4rec, trained):
    (trained / "metrics.json").unlink()
    assert llm4rec("eval", "model=sasrec").code == 1


def test_weights_that_are_gone_are_an_error(llm4rec, trained):
    shutil.rmtree(trained / "checkpoints")
    answer = llm4rec("eval", NO_FLOORS)
    assert answer.code == 1
    assert "has no finished training" in answer.err


def test_a_model_without_weights_is_evaluated_as_by_train(llm4rec, trained):
    metrics = llm4rec("eval", "model=popularity", "task.max_examples=100", NO_FLOORS).metrics
    (floor,) = (trained.parents[3] / "popularity/demo/sequential").iterdir()
    assert metrics == read(floor / "metrics.json")


def test_trainings_that_differ_share_no_variant_when_asked_the_same(llm4rec, trained):
    command = ("eval", "task=direct", "task.max_examples=50", NO_FLOORS)
    first = llm4rec(*command, f"run={trained}").metrics
    masked = llm4rec("train", *TINY, "task.mask_history=true").folder
    second = llm4rec(*command, f"run={masked}").metrics
    assert first["trained_run"] != second["trained_run"]
    assert first["variant"] != second["variant"]


def test_a_run_under_a_control_is_asked_only_by_who_names_the_control(llm4rec, trained):
    control = llm4rec("train", *TINY, "dataset.control=shuffle_history").folder
    newest = llm4rec("eval", "model=sasrec", "split=valid", NO_FLOORS)
    assert newest.metrics["trained_run"].endswith(trained.name)
    assert f"evaluating sasrec, trained in outputs/sasrec/demo/sequential/{trained.name}" in newest.err
    named = llm4rec("eval", "model=sasrec", "split=valid", "dataset.control=shuffle_history", NO_FLOORS)
    assert named.metrics["trained_run"].endswith(control.name)


def test_the_log_names_settings_of_the_training_that_were_not_typed(llm4rec, trained):
    command = ("eval", "model=sasrec", "split=valid", "force=true", NO_FLOORS)
    epochs = next(setting for setting in TINY if setting.startswith("trainer.epochs"))
    [line] = [line for line in llm4rec(*command).err.splitlines() if "evaluating" in line]
    assert trained.name in line and epochs in line.partition(" with ")[2].split()
    [line] = [line for line in llm4rec(*command, epochs).err.splitlines() if "evaluating" in line]
    assert epochs not in line


@pytest.mark.parametrize("named", [True, False])
def test_settings_that_are_newer_than_a_run_have_the_default_that_it_had_in_effect(llm4rec, trained, named):
    stored = yaml.safe_load((trained / "config.yaml").read_text())
    assert stored["dataset"].pop("train_impressions") == 1
    (trained / "config.yaml").write_text(yaml.safe_dump(stored))
    assert llm4rec("eval", *([f"run={trained}"] if named else ["model=sasrec"]), NO_FLOORS).code == 0


def test_an_error_names_the_setting_that_differs_from_the_training_and_no_other(llm4rec, trained):
    stored = yaml.safe_load((trained / "config.yaml").read_text())
    stored["model"]["dropout"] = 0.123
    (trained / "config.yaml").write_text(yaml.safe_dump(stored))
    answer = llm4rec("eval", f"run={trained}", NO_FLOORS)
    assert answer.err.startswith("error: outputs/sasrec/")
    assert "was trained with model.dropout=0.123, not " in answer.err


@pytest.mark.parametrize(
    ("typed", "trained_with"), [("seed=5", "0"), ("trainer.epochs=2", "1"), ("trainer=default", "small")]
)
def test_a_run_cannot_be_evaluated_as_one_of_another_seed_or_training(llm4rec, trained, typed, trained_with):
    answer = llm4rec("eval", f"run={trained}", typed, NO_FLOORS)
    assert answer.code == 2
    problem, remedy = answer.err.splitlines()
    assert problem.startswith(f"error: {typed} differs from the training of ")
    assert problem.endswith(f"{trained.name}, which used {trained_with}")
    assert "leave it out" in remedy


def test_settings_of_its_training_may_be_typed_and_those_without_effect_on_weights_may_differ(llm4rec, trained):
    same = ("seed=0", "trainer.epochs=1", "trainer=small")
    other = ("trainer.eval_batch_size=7", "trainer.report_to=[]", "task.max_examples=50")
    assert llm4rec("eval", f"run={trained}", *same, *other, NO_FLOORS).metrics["n_examples"] == 50


def test_a_run_of_a_version_with_another_setting_cannot_be_evaluated(llm4rec, trained):
    stored = yaml.safe_load((trained / "config.yaml").read_text())
    stored["model"]["gone"] = 3
    (trained / "config.yaml").write_text(yaml.safe_dump(stored))
    answer = llm4rec("eval", f"run={trained}", NO_FLOORS)
    assert "was trained by another version, with other settings than model.gone\n  try: train again" in answer.err


@pytest.mark.parametrize(("value", "is_refused"), [(3, False), (4, True)])
def test_a_removed_setting_matters_where_its_effect_was_another(llm4rec, trained, monkeypatch, value, is_refused):
    monkeypatch.setitem(choose.REMOVED, "sasrec", {"model.gone": 3})
    stored = yaml.safe_load((trained / "config.yaml").read_text())
    stored["model"]["gone"] = value
    (trained / "config.yaml").write_text(yaml.safe_dump(stored))
    answer = llm4rec("eval", f"run={trained}", NO_FLOORS)
    assert (answer.code != 0) is is_refused
    assert ("was trained with model.gone=4, which was removed" in answer.err) is is_refused
