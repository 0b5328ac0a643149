"""RunSpec: settings without effect, floors, and independence of specs."""

import pytest

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.errors import UsageError
from llm4rec_cli.runs import rules
from tests.support.driver import spec_of


def test_references_to_a_setting_without_effect_get_its_neutral_value():
    """transition_text masks as the task does; sampled candidates are never masked."""
    overrides = ("model=transition_text", "task=direct", "task.candidates=uniform")
    plain, masked = spec_of(*overrides), spec_of(*overrides, "task.mask_history=true")
    assert masked.config == plain.config


@pytest.mark.parametrize("model", ["p5", "chatgptrec", "transition_graph"])
def test_seen_items_are_not_zeroed_where_zero_is_the_highest_score(model):
    zeroed = ["task=sequential", "task.mask_history=true", "task.seen_items=zeroed"]
    (problem,) = rules.problems(spec_of(f"model={model}", *zeroed).config)
    assert f"as model '{model}' scores the others below 0" in str(problem)
    assert [*rules.problems(spec_of(f"model={model}", *zeroed[:2]).config)] == []
    assert [*rules.problems(spec_of("model=sasrec", *zeroed).config)] == []


def test_a_floor_of_an_experiment_is_the_floor_run_by_itself():
    floor = spec_of("model=sasrec", "task=sequential", "task.mask_history=true").for_floor("transition_text")
    alone = spec_of("model=transition_text", "task=sequential", "task.mask_history=true", "trainer=default")
    assert floor.config.model == alone.config.model
    assert floor.command == "train"


def test_overrides_of_prompts_and_chat_models_are_not_those_of_a_floor():
    spec = spec_of(
        "model=p5", hydra_override("prompt=[p5/sequential]"), "task=sequential", "llm.temperature=0.5", "seed=1"
    )
    floor = spec.for_floor("popularity")
    assert floor.overrides == ["task=sequential", "seed=1", "model=popularity"]
    enriched = spec_of("model=sasrec", "dataset.text=enriched", "llm.temperature=0.5").for_floor("transition_text")
    assert "llm.temperature=0.5" in enriched.overrides


@pytest.mark.parametrize(
    ("typed", "reader"),
    [
        ("task.draw=3", "task.candidates=uniform or popularity"),
        ("task.negatives=5", "task.candidates=uniform or popularity"),
        ("dataset.cuts=[0.5,0.6]", "dataset.split=temporal"),
        ("llm.dry_run=true", "a model that asks a chat model"),
    ],
)
def test_a_typed_setting_without_effect_is_refused(typed, reader):
    with pytest.raises(UsageError, match=f"is only read with {reader}"):
        rules.check(spec_of("model=popularity", "task=sequential", typed))
    used = ["task.candidates=uniform"] if typed.startswith("task") else ["dataset.split=temporal"]
    others = ["model=chatgptrec"] if typed.startswith("llm") else ["model=popularity", *used]
    rules.check(spec_of(*others, "task=direct", typed))


def test_a_training_takes_no_trained_run():
    with pytest.raises(UsageError, match="run=PATH names a trained run, and train makes one"):
        rules.check(spec_of("model=sasrec", "run=outputs/x"))
    rules.check(spec_of("model=sasrec", "run=outputs/x", command="eval"))


def test_two_specs_in_one_process_are_independent():
    first = spec_of("model=unisrec", "seed=1")
    second = spec_of("model=p5", "task=rating", "seed=2")
    assert (first.for_floor("random").config.seed, second.for_floor("mean").config.seed) == (1, 2)
    assert first.config == spec_of("model=unisrec", "seed=1").config
    assert compose(["model=unisrec", "seed=1"]).typed == ("model=unisrec", "seed=1")


def test_a_changed_spec_leaves_the_first_as_it_was():
    spec = spec_of()
    other = spec.with_config(task={"max_examples": 3}, seed=7)
    assert (other.task.max_examples, other.config.seed) == (3, 7)
    assert (spec.task.max_examples, spec.config.seed) == (None, 0)
