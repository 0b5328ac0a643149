"""Jobs: settings without effect, floors, and independence of jobs."""

import pytest

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.errors import UsageError, raise_first
from llm4rec_cli.run import rules
from tests.support.driver import job_of


def check(job):
    raise_first(rules.problems_of_job(job.config, job.typed, job.command))


def test_a_floor_of_an_experiment_is_the_floor_run_by_itself_without_the_overrides_of_prompts_and_chat_models():
    """transition_text masks as the task does; sampled candidates are never masked."""
    overrides = ("model=transition_text", "task=direct", "task.candidates=uniform")
    plain, masked = job_of(*overrides), job_of(*overrides, "task.mask_history=true")
    assert masked.config == plain.config
    floor = job_of("model=sasrec", "task=sequential", "task.mask_history=true").floor("transition_text")
    alone = job_of("model=transition_text", "task=sequential", "task.mask_history=true", "trainer=default")
    assert floor.config.model == alone.config.model
    assert floor.command == "train"
    job = job_of(
        "model=p5", hydra_override("prompt=[p5/sequential]"), "task=sequential", "llm.temperature=0.5", "seed=1"
    )
    floor = job.floor("random")
    assert floor.overrides == ["dataset=demo", "task=sequential", "seed=1", "model=random"]
    enriched = job_of("model=sasrec", "dataset.text=enriched", "llm.temperature=0.5").floor("transition_text")
    assert "llm.temperature=0.5" in enriched.overrides


@pytest.mark.parametrize("model", ["p5", "chatgptrec"])
def test_seen_items_are_not_zeroed_where_zero_is_the_highest_score(model):
    zeroed = ["task=sequential", "task.mask_history=true", "task.seen_items=zeroed"]
    (problem,) = rules.problems(job_of(f"model={model}", *zeroed).config)
    assert f"as model '{model}' scores the others below 0" in str(problem)
    assert [*rules.problems(job_of(f"model={model}", *zeroed[:2]).config)] == []
    assert [*rules.problems(job_of("model=sasrec", *zeroed).config)] == []


@pytest.mark.parametrize("typed", ["task.draw=3", "task.negatives=5"])
def test_a_setting_without_effect_gets_its_neutral_value(typed):
    assert job_of("model=popularity", "task=sequential", typed).config == job_of("model=popularity").config
    assert job_of("model=popularity", "task=direct", typed).config != job_of("model=popularity", "task=direct").config
    assert job_of("model=mean", "task=rating", typed).config == job_of("model=mean", "task=rating").config


def test_weights_in_a_folder_are_named_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my/bert").mkdir(parents=True)
    (tmp_path / "my/linked.gguf").symlink_to(tmp_path / "my/bert")
    (tmp_path / "tiny").mkdir()

    def backbone(value):
        return job_of("model=prompt4nr", f"model.backbone={value}")

    assert f"model.backbone='{tmp_path}/my/bert'" in backbone("my/bert").overrides
    named = {"my/bert": f"{tmp_path}/my/bert", "bert-base/uncased": "bert-base/uncased", "tiny": "tiny"}
    assert {typed: backbone(typed).config.model.backbone for typed in named} == named  # tiny: of the package
    local = job_of("llm=local", "llm.model=my/linked.gguf").llm.model
    assert local == f"{tmp_path}/my/linked.gguf", "a link keeps its name, which says what it is"
    assert job_of("llm=openai", "llm.model=my/bert").llm.model == "my/bert", "the server's name"


def test_a_training_for_all_tasks_takes_typed_settings_of_tasks_only_if_each_task_does():
    overrides = ["model=p5", "task=all", "task.max_examples=20", "task.floors=[]", "task.mask_history=true"]
    check(job_of(*overrides))
    for command in ("train", "eval"):
        with pytest.raises(UsageError, match="applies to one task, but task=all has several") as refused:
            check(job_of(*overrides, "task.cutoffs=[1,5]", command=command))
        assert refused.value.remedy.endswith("llm4rec eval task=sequential task.cutoffs=[1,5]")
    check(job_of("model=p5", "task=sequential", "task.cutoffs=[1,10]"))


def test_two_jobs_in_one_process_are_independent_and_a_changed_one_leaves_the_first_as_it_was():
    first = job_of("model=unisrec", "seed=1")
    second = job_of("model=p5", "task=rating", "seed=2")
    assert (first.floor("random").config.seed, second.floor("random").config.seed) == (1, 2)
    assert second.floor("mean").config.seed == 0  # it draws nothing, so that all seeds share its run
    assert first.config == job_of("model=unisrec", "seed=1").config
    assert compose(["model=unisrec", "seed=1"]).typed == ("model=unisrec", "seed=1")
    job = job_of()
    other = job.with_config(task={"max_examples": 3}, seed=7)
    assert (other.task.max_examples, other.config.seed) == (3, 7)
    assert (job.task.max_examples, job.config.seed) == (None, 0)
