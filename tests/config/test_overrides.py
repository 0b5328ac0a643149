"""Overrides as typed, translated into Hydra's grammar."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from llm4rec_cli.config.overrides import as_typed, hydra_override, quoted, sweep_jobs, sweep_model_settings
from llm4rec_cli.errors import UsageError
from tests.support.driver import compose


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_quoting_gives_any_text_back(text):
    parsed = OverridesParser.create().parse_override(f"key={quoted(text)}")
    assert parsed.value() == text


@pytest.mark.parametrize(
    "typed", ["prompt=[p5/rating,p5/direct]", "prompt=chatgptrec/short", "prompt.shots=3", "+experiment=p5/demo"]
)
def test_a_translated_override_is_shown_as_it_was_typed(typed):
    assert as_typed(hydra_override(typed)) == typed


def test_a_map_of_columns_adds_to_that_of_the_dataset():
    config = compose(hydra_override("dataset.columns={user_id:uid,item_id:track}"))
    assert dict(config.dataset.columns) == {"user_id": "uid", "item_id": "track"}


@pytest.mark.parametrize(
    "typed", ["dataset.paper={users:1}", "dataset.paper.users=1", "dataset.domains={}", "tuning.trials=9"]
)
def test_what_belongs_into_a_yaml_is_refused(typed):
    with pytest.raises(UsageError, match="YAML"):
        hydra_override(typed)


@pytest.mark.parametrize("typed", ["model=null", "dataset=null", "model=[popularity]", "~dataset"])
def test_an_option_is_one_name(typed):
    with pytest.raises(UsageError) as refused:
        hydra_override(typed)
    assert f"llm4rec list {typed.strip('~').partition('=')[0]}s" in refused.value.remedy


@pytest.mark.parametrize(
    "typed", ["model.dropout=[0.1", "model.dropout=0.1,,2", "trainer.epochs={a", "model.name=it's"]
)
def test_a_value_out_of_the_grammar_is_named_with_its_key(typed):
    with pytest.raises(UsageError, match="the value cannot be read") as refused:
        hydra_override(typed)
    assert typed in refused.value.problem
    assert f"{typed.partition('=')[0]}='a value'" in refused.value.remedy


@pytest.mark.parametrize("typed", ["sasrec", "--", "model.dropout"])
def test_what_sets_nothing_is_named(typed):
    with pytest.raises(UsageError, match=f"expected KEY=VALUE, got '{typed}'"):
        hydra_override(typed)


def test_a_paper_may_be_left_out():
    assert hydra_override("dataset.paper=null") == "dataset.paper=null"


@pytest.mark.parametrize("swept", ["model=mf,mlp", "+experiment=p5/beauty,p5/beauty_leaky", "model=choice(mf,mlp)"])
def test_settings_of_a_model_that_is_swept_are_swept_over_one_value(swept):
    typed = [
        swept,
        "model.digits=1",
        "model.ask={rating:1-6}",
        "model.text='a, b'",
        "model.seed=1,2",
        "seed=0",
        "model.x=",
    ]
    assert sweep_model_settings(typed)[1:4] == [
        "model.digits=choice(1)",
        "model.ask=choice({rating:1-6})",
        "model.text=choice('a, b')",
    ]
    assert [sweep_model_settings(typed)[i] for i in (0, 4, 5, 6)] == [typed[i] for i in (0, 4, 5, 6)]


def test_settings_of_one_model_are_left_as_they_are():
    typed = ["model=mf", "model.embedding_size=4", "seed=0,1"]
    assert sweep_model_settings(typed) == typed


def test_prompts_of_a_model_that_is_swept_are_swept_over_one_list():
    typed = ["+experiment=p5/demo,p5/beauty", hydra_override("prompt=[p5/rating,p5/sequential]")]
    assert sweep_model_settings(typed)[1] == "prompt/p5@model.prompts=choice([rating,sequential])"


def test_a_sweep_has_a_job_for_every_combination_of_values():
    typed = ["model=mf,mlp", "seed=range(2)", "model.damping=[1,2]", "dataset.raw_dir='a,b'"]
    same = ["model.damping=[1,2]", "dataset.raw_dir='a,b'"]
    assert sweep_jobs(typed) == [[f"model={name}", f"seed={n}", *same] for name in ("mf", "mlp") for n in (0, 1)]
    assert sweep_jobs(["+experiment=p5/demo,p5/beauty"]) == [["+experiment=p5/demo"], ["+experiment=p5/beauty"]]
    assert sweep_jobs([]) == [[]]
