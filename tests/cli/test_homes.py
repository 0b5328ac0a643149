"""Each model starts by its name, on its own dataset and task; what is typed comes first, and a default is not typed."""

import pytest

from tests.support.driver import compose, job_of, read
from tests.support.small import QUICK, sizes


def choices(*overrides):
    config = compose(*overrides)
    return config.dataset.name, config.task.question, config.task.candidates.name, config.task.max_examples


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("unisrec", ("demo", "rank", "full", None)),
        ("p5", ("demo", "all", "full", 2000)),
        ("prompt4nr", ("demo_news", "rank", "impression", None)),
        ("mf", ("demo", "rate", "full", None)),
        ("retrieval", ("demo", "write", "full", None)),
    ],
)
def test_a_model_brings_its_dataset_task_and_sample_size(model, expected):
    assert choices(f"model={model}") == expected


def test_what_is_typed_comes_first():
    assert choices("model=prompt4nr", "dataset=demo", "task=direct")[:3] == ("demo", "rank", "uniform")
    assert choices("model=prompt4nr", "dataset=mind-small")[:3] == ("mind-small", "rank", "impression")
    assert choices("model=chatgptrec", "task.max_examples=7")[3] == 7
    assert choices("model=chatgptrec", "dataset=ml-100k")[3] is None  # a sample of real data is nobody's default
    assert compose("model=p5", "dataset=demo", "trainer.epochs=3").trainer.epochs == 3


def test_small_settings_go_with_the_built_in_data_alone():
    at_home, elsewhere = compose("model=prompt4nr"), compose("model=prompt4nr", "dataset=mind-small")
    assert (at_home.model.titles, elsewhere.model.titles) == (5, 50)
    assert (at_home.trainer.epochs, elsewhere.trainer.epochs) == (1, 4)


def test_a_default_does_not_count_as_typed_when_a_run_is_looked_for(llm4rec):
    """Its default task is `all`, yet a run trained only for ratings matches."""
    trained = llm4rec("train", "model=p5", "task=rating", *sizes("p5"), *QUICK)
    assert ", its defaults" in trained.err
    answer = llm4rec("eval", "model=p5", "dataset.train_users=0.01", "task.floors=[]", "split=valid")
    assert read(answer.folder / "metrics.json")["trained_run"].endswith(trained.folder.name)
    assert answer.metrics["task"] == "rating"


@pytest.mark.parametrize("named", [(), ("dataset=demo", "task=direct")])
def test_a_sweep_over_models_on_data_of_their_own_says_so(llm4rec, named):
    answer = llm4rec("train", "-m", "model=popularity,mean", "task.floors=[]", "task.max_examples=5", *named)
    assert ("These jobs are not comparable" in " ".join(answer.out.split())) == (not named)


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (("task=direct",), "pmi"),
        (("task=rating",), "generate"),
        (("task=direct", "llm=openai"), "generate"),
        (("task=direct", "llm=openai", "llm.prompt_logprobs=chat"), "pmi"),
        (("task=direct", "model.answer=likelihood"), "likelihood"),
    ],
)
def test_a_local_chat_model_judges_rankings_unless_told_otherwise(typed, answer):
    assert job_of("model=chatgptrec", *typed).config.model.answer.name == answer
