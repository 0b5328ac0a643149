"""What is told of items, which requests come of it, and what is made of the answers."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from llm4rec_cli.config.schema import EnrichmentConfig
from llm4rec_cli.errors import DataError
from llm4rec_cli.llm.enrichment import enriched, problems, questions, stored
from llm4rec_cli.llm.requests import Answer, Status
from llm4rec_cli.llm.store import Store, key_of
from tests.builders import tiny_dataset
from tests.llm.scripted import llm_config
from tests.llm.speaking import Speaking

CONFIG = EnrichmentConfig(
    noun="product", prompt="{tokens} tags of the {noun} {item}, please", characters=20, tokens=2, max_tokens=32
)


def dataset(**columns):
    """Items with these columns."""
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(len(next(iter(columns.values()))))], **columns})
    return replace(tiny_dataset([[0]]), items=items)


def told(**columns):
    return [json.loads(text) if text else None for text in questions(dataset(**columns), CONFIG, llm_config()).told]


def answer(text, finish="stop"):
    return Answer(text, finish, 1, 1, 0.0, "scripted", "2026-01-01T00:00:00")


def test_an_item_is_told_by_its_text_fields_as_json():
    assert told(
        title=["Tent"], brand=["Nordhut"], categories=["Camping"], description=["For two."], price=["9.99"]
    ) == [{"title": "Tent", "brand": "Nordhut", "categories": "Camping", "description": "For two."}]


def test_a_field_is_told_on_one_line_without_entities_and_cut():
    assert told(title=["A &amp; B\n  tent"], description=["x" * 99]) == [
        {"title": "A & B tent", "description": "x" * 20}
    ]


def test_a_missing_field_is_not_told():
    assert told(title=["Tent", None], brand=[None, "Nordhut"]) == [{"title": "Tent"}, {"brand": "Nordhut"}]


def test_what_a_title_says_stays_data():
    (request,) = questions(dataset(title=['5" {noun} tent"']), CONFIG, llm_config()).requests.values()
    assert request.messages == (
        {"role": "user", "content": '2 tags of the product {"title": "5\\" {noun} tent\\""}, please'},
    )


def test_a_system_message_comes_first():
    asked = questions(dataset(title=["Tent"]), replace(CONFIG, system="You sort a shop."), llm_config())
    (request,) = asked.requests.values()
    assert request.messages[0] == {"role": "system", "content": "You sort a shop."}


def test_items_of_the_same_words_are_asked_about_once_and_those_without_not_at_all():
    asked = questions(dataset(title=["Tent", "Kite", "Tent", "", None]), CONFIG, llm_config())
    assert [bool(text) for text in asked.told] == [True, True, True, False, False]
    assert list(asked.requests) == asked.told[:2]


def test_interactions_are_not_looked_at():
    one = dataset(title=["Tent", "Kite"])
    other = replace(one, interactions=one.interactions.assign(review_text=["Great for my dog"]))
    assert questions(other, CONFIG, llm_config()) == questions(one, CONFIG, llm_config())
    assert questions(replace(one, interactions=one.interactions[:0]), CONFIG, llm_config()) == questions(
        one, CONFIG, llm_config()
    )


@pytest.mark.parametrize(("of_model", "expected"), [(256, 32), (8, 8)])
def test_an_answer_is_as_long_as_both_settings_allow(of_model, expected):
    asked = questions(dataset(title=["Tent"]), CONFIG, llm_config(max_tokens=of_model))
    assert [request.max_tokens for request in asked.requests.values()] == [expected]


def test_items_that_tell_nothing_are_refused():
    with pytest.raises(DataError, match="tells nothing of its items"):
        questions(dataset(title=["", None]), CONFIG, llm_config())


def test_each_item_gets_the_tokens_of_its_text():
    asked = questions(dataset(title=["Tent", "Kite", "Tent", ""]), CONFIG, llm_config())
    tent, kite = asked.requests
    found = enriched(asked, {tent: answer("Use: hiking. Audience: two"), kite: answer("???")}, CONFIG)
    assert found.tokens == [["hiking", "two"], [], ["hiking", "two"], []]
    assert found.status == [Status.repaired, Status.invalid, Status.repaired, None]


def test_an_answer_that_was_cut_off_loses_its_half_word():
    asked = questions(dataset(title=["Tent"]), CONFIG, llm_config())
    (tent,) = asked.requests
    assert enriched(asked, {tent: answer("hiking, camp", finish="length")}, CONFIG).tokens == [["hiking"]]


def test_answers_are_found_in_the_store_of_those_who_gave_them(tmp_path):
    asked = questions(dataset(title=["Tent", "Kite"]), CONFIG, llm_config())
    tent, _ = asked.requests
    chat = Speaking(str)
    identity = chat.identity()
    with Store(tmp_path / "answers.sqlite") as store:
        store.keep(key_of(identity, asked.requests[tent]), identity, asked.requests[tent], answer("hiking"), 0.0)
        assert stored(asked, chat, store) == {tent: answer("hiking")}
        assert stored(asked, Speaking(str, "another"), store) == {}


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("Tags, please", "does not tell the item"),
        ("{item} {title}", "tells {title}"),
        ('{item} as {"use": []}', 'tells {"use"}'),
        ("{item} and {", "a brace without its other"),
    ],
)
def test_a_prompt_that_cannot_be_filled_is_refused(prompt, said):
    assert said in " ".join(problem.problem for problem in problems(replace(CONFIG, prompt=prompt)))


def test_a_prompt_may_hold_braces_that_are_doubled():
    assert list(problems(replace(CONFIG, prompt='{item} as {{"use": []}}'))) == []
