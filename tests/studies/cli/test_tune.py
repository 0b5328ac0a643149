"""`tune`: a search on validation, and the experiment that it ends with."""

import json

import pytest
import yaml

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.run.config_check import problems_in
from llm4rec_cli.run.job import Job
from llm4rec_studies.tuning.experiment import Tuned
from llm4rec_studies.tuning.search import Budget, Trial
from tests.support.driver import call, read

pytest.importorskip("optuna")
SEARCH = ("tune", "model=bpr_mf", "model.embedding_size=8", "trainer.epochs=2", "task.max_examples=50")
SEARCH += ("task.floors=[]", "--trials", "3")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, cache):
    """A search of three trials, saved as an experiment."""
    return call(*SEARCH, "--save", "mine/bpr", cwd=tmp_path_factory.mktemp("tune"), cache=cache)


def test_it_prints_the_trials_and_writes_what_was_searched(tuned):
    assert tuned.code == 0, tuned.err
    record = read(tuned.cwd / "outputs/tune/bpr_mf-demo-sequential/tuning.json")
    assert [trial["number"] for trial in record["trials"]] == [0, 1, 2]
    assert record["trials"][0]["settings"] == {
        "trainer.learning_rate": 0.01,
        "trainer.weight_decay": 1.0,
        "model.embedding_size": 8,  # as typed, so part of the space
    }
    best = max(trial["ndcg@10"] for trial in record["trials"])
    assert (record["trials"][record["chosen"]]["ndcg@10"], record["tuning"]["score"]) == (best, best)
    assert record["tuning"]["expected_best"][-1] == pytest.approx(best)
    assert (record["tuning"]["dataset"], record["tuning"]["trials"], record["tuning"]["max_trials"]) == ("demo", 3, 3)
    assert f"{record['chosen']}*" in tuned.out


def test_settings_without_effect_are_not_searched(tmp_path, cache):
    search = ("tune", "model=evidence_mix", "model.parts=[following]", *SEARCH[3:6], "--trials", "1")
    answer = call(*search, cwd=tmp_path, cache=cache)
    assert answer.code == 0, answer.err
    record = read(tmp_path / "outputs/tune/evidence_mix-demo-sequential/tuning.json")
    assert list(record["trials"][0]["settings"]) == ["trainer.learning_rate"]


def test_it_reads_validation_only_and_another_draw_of_generated_data(tuned):
    runs = sorted((tuned.cwd / "outputs/tune/bpr_mf-demo-sequential/runs").glob("*/*/*/*/metrics.json"))
    assert runs
    assert {json.loads(run.read_text())["split"] for run in runs} == {"valid"}
    configs = [yaml.safe_load(run.with_name("config.yaml").read_text()) for run in runs]
    assert {config["dataset"]["seed"] for config in configs} == {1}


def test_the_experiment_trains_with_the_chosen_settings_and_says_what_the_search_cost(tuned, cache):
    chosen = read(tuned.cwd / "outputs/tune/bpr_mf-demo-sequential/tuning.json")
    experiment = ("train", "+experiment=mine/bpr")
    trained = call(*experiment, cwd=tuned.cwd, cache=cache)
    assert trained.metrics["tuning"] == chosen["tuning"]
    config = yaml.safe_load((trained.folder / "config.yaml").read_text())
    settings = chosen["trials"][chosen["chosen"]]["settings"]
    assert config["trainer"]["learning_rate"] == settings["trainer.learning_rate"]
    assert (config["trainer"]["epochs"], config["task"]["max_examples"], config["split"]) == (2, 50, "test")
    typed = call(*experiment, "tuning=null", cwd=tuned.cwd, cache=cache)
    assert typed.folder == trained.folder, "what a search cost is no part of a run's address"


def test_the_same_command_goes_on_and_an_experiment_is_not_overwritten(tuned, cache):
    again = call(*SEARCH, cwd=tuned.cwd, cache=cache)
    assert again.code == 0
    assert "trial 3" not in again.err
    file = tuned.cwd / "conf/experiment/mine/bpr.yaml"
    more = call(*SEARCH[:-1], "4", "--save", "mine/bpr", cwd=tuned.cwd, cache=cache)
    assert more.code == 0, more.err
    assert yaml.safe_load(file.read_text())["tuning"]["trials"] == 4  # the same search, which went on
    chosen_by = "# Chosen on validation by: llm4rec tune model=bpr_mf"
    wrapped = file.read_text().replace(f"{chosen_by} ", f"# Edited.\n{chosen_by}\n#   ")
    assert wrapped != file.read_text()
    file.write_text(wrapped)
    replaced = call(*SEARCH[:-1], "4", "--save", "mine/bpr", cwd=tuned.cwd, cache=cache)
    assert replaced.code == 0, replaced.err
    assert "Edited" not in file.read_text()


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        (["model=p5", "prompt=[p5/rating,p5/sequential]"], "prompt='[p5/rating,p5/sequential]'"),
        (["model=chatgptrec", "prompt=chatgptrec/short", "prompt.shots=3"], "prompt=chatgptrec/short prompt.shots=3"),
        (["+experiment=p5/demo", "prompt=p5/rating"], "prompt=p5/rating"),
    ],
)
def test_an_experiment_has_the_prompts_of_its_search(tmp_path, monkeypatch, typed, command):
    monkeypatch.chdir(tmp_path)
    searched = compose(list(map(hydra_override, typed)))
    job = Job.unchecked(searched, "train")
    trial = Trial(0, "complete", {"trainer.learning_rate": 0.5}, 0.1, 1.0)
    text = Tuned(job, searched.typed, "name", tmp_path, [], Budget(8), True, {}, [trial]).experiment()
    file = tmp_path / "conf/experiment/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert problems_in("experiment/mine") == []
    saved = compose(["+experiment=mine"]).config
    assert (saved.model.prompts, saved.trainer.learning_rate) == (searched.config.model.prompts, 0.5)
    assert f"{command} --trials 8\n" in text


def test_a_search_does_not_begin_before_its_data_are_read_and_goes_on_with_other_settings_of_the_machine(
    tmp_path, cache, tuned
):
    no_data = call(*SEARCH, "dataset=ml-100k", "dataset.raw_dir=nowhere", cwd=tmp_path, cache=cache)
    assert no_data.code == 1
    assert not (tmp_path / "outputs/tune").exists()
    again = call(*SEARCH, "trainer.eval_batch_size=64", cwd=tuned.cwd, cache=cache)
    assert again.code == 0, again.err


def test_the_settings_of_another_experiment_are_tried_after_trial_0(tuned, cache, tmp_path):
    start = ["--start", "mine/bpr"]
    answer = call(*SEARCH, *start, "--name", "started", "--save", "mine/started", cwd=tuned.cwd, cache=cache)
    assert answer.code == 0, answer.err
    record = read(tuned.cwd / "outputs/tune/started/tuning.json")
    earlier = read(tuned.cwd / "outputs/tune/bpr_mf-demo-sequential/tuning.json")
    assert record["trials"][1]["settings"] == earlier["trials"][earlier["chosen"]]["settings"]
    assert record["starts"] == ["mine/bpr"]
    assert "--trials 3 --start mine/bpr" in (tuned.cwd / "conf/experiment/mine/started.yaml").read_text()
    other = call("tune", "model=sasrec", *SEARCH[3:], *start, cwd=tuned.cwd, cache=cache)
    assert other.code == 2
    assert "'mine/bpr' belongs to model 'bpr_mf'" in other.err or "mine/bpr belongs to model 'bpr_mf'" in other.err
