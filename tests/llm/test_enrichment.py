"""Texts of items, the requests about them, and tokens parsed from completions."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from llm4rec_cli.config.schema import EnrichmentConfig
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.errors import DataError
from llm4rec_cli.llm.enrichment import item_requests, parse_tokens, problems, stored_completions
from llm4rec_cli.llm.requests import Completion, Status
from llm4rec_cli.llm.store import Store, cache_key
from tests.llm.echo_backend import llm_config
from tests.llm.fake_backend import FakeBackend

CONFIG = EnrichmentConfig(
    noun="product", prompt="{tokens} tags of the {noun} {item}, please", characters=20, tokens=2, max_tokens=32
)


def dataset(**columns):
    """Items with these columns."""
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(len(next(iter(columns.values()))))], **columns})
    return replace(tiny_dataset([[0]]), items=items)


def texts(**columns):
    items = item_requests(dataset(**columns), CONFIG, llm_config(), 0)
    return [json.loads(text) if text else None for text in items.texts]


def completion(text, finish="stop"):
    return Completion(text, finish, 1, 1, 0.0, "fake", "2026-01-01T00:00:00")


def test_an_item_is_described_by_its_text_fields_as_json_each_on_one_line_without_entities_and_cut():
    tent = {"title": "Tent", "brand": "Nordhut", "categories": "Camping", "description": "For two."}
    assert texts(**{name: [text] for name, text in tent.items()}, price=["9.99"]) == [tent]
    (cut,) = texts(title=["A &amp; B\n  tent"], description=["x" * 99])
    assert cut == {"title": "A & B tent", "description": "x" * 20}
    assert texts(title=["Tent", None], brand=[None, "Nordhut"]) == [{"title": "Tent"}, {"brand": "Nordhut"}]
    with pytest.raises(DataError, match="has no text of its items"):
        item_requests(dataset(title=["", None]), CONFIG, llm_config(), 0)


def test_a_request_has_the_system_message_and_a_title_that_cannot_break_out_and_equal_texts_share_one():
    (request,) = item_requests(dataset(title=['5" {noun} tent"']), CONFIG, llm_config(), 0).requests.values()
    assert request.messages == (
        {"role": "user", "content": '2 tags of the product {"title": "5\\" {noun} tent\\""}, please'},
    )
    items = item_requests(dataset(title=["Tent"]), replace(CONFIG, system="You sort a shop."), llm_config(), 0)
    (request,) = items.requests.values()
    assert request.messages[0] == {"role": "system", "content": "You sort a shop."}
    items = item_requests(dataset(title=["Tent", "Kite", "Tent", "", None]), CONFIG, llm_config(), 0)
    assert [bool(text) for text in items.texts] == [True, True, True, False, False]
    assert list(items.requests) == items.texts[:2]


def test_a_part_of_the_texts_is_drawn_by_the_seed_and_the_others_have_no_request():
    titles = [f"Tent {i}" for i in range(20)] + ["Tent 3"]
    part, other = (item_requests(dataset(title=titles), replace(CONFIG, texts=5), llm_config(), s) for s in (0, 1))
    assert len(part.requests) == 5 and part.requests.keys() != other.requests.keys()
    assert {text for text in part.texts if text} == part.requests.keys()
    assert part.texts[3] == part.texts[20], "items with equal text are drawn together"
    parsed = parse_tokens(part, {text: completion('{"use": ["camping"]}') for text in part.requests}, CONFIG)
    assert [status is None for status in parsed.status] == [not text for text in part.texts]
    whole = item_requests(dataset(title=titles), replace(CONFIG, texts=100), llm_config(), 0)
    assert whole == item_requests(dataset(title=titles), CONFIG, llm_config(), 0)


def test_interactions_are_not_used():
    one = dataset(title=["Tent", "Kite"])
    other = replace(one, interactions=one.interactions.assign(review_text=["Great for my dog"]))
    assert item_requests(other, CONFIG, llm_config(), 0) == item_requests(one, CONFIG, llm_config(), 0)


@pytest.mark.parametrize(("llm_limit", "expected"), [(256, 32), (8, 8)])
def test_the_token_limit_is_the_lower_of_two_settings(llm_limit, expected):
    items = item_requests(dataset(title=["Tent"]), CONFIG, llm_config(max_tokens=llm_limit), 0)
    assert [request.max_tokens for request in items.requests.values()] == [expected]


def test_each_item_gets_the_tokens_of_its_text_without_the_last_word_of_one_that_was_cut_off():
    items = item_requests(dataset(title=["Tent", "Kite", "Tent", ""]), CONFIG, llm_config(), 0)
    tent, kite = items.requests
    parsed = parse_tokens(items, {tent: completion("Use: hiking. Audience: two"), kite: completion("???")}, CONFIG)
    assert parsed.tokens == [["hiking", "two"], [], ["hiking", "two"], []]
    assert parsed.status == [Status.repaired, Status.invalid, Status.repaired, None]
    items = item_requests(dataset(title=["Tent"]), CONFIG, llm_config(), 0)
    (tent,) = items.requests
    assert parse_tokens(items, {tent: completion("hiking, camp", finish="length")}, CONFIG).tokens == [["hiking"]]


def test_stored_completions_are_those_of_the_same_backend(tmp_path):
    items = item_requests(dataset(title=["Tent", "Kite"]), CONFIG, llm_config(), 0)
    tent, _ = items.requests
    backend = FakeBackend(str)
    identity = backend.identity()
    with Store(tmp_path / "answers.sqlite") as store:
        request = items.requests[tent]
        store.add(cache_key(identity, request), identity, request, completion("hiking"), 0.0)
        assert stored_completions(items, backend, store) == {tent: completion("hiking")}
        assert stored_completions(items, FakeBackend(str, "another"), store) == {}


def test_a_prompt_that_cannot_be_filled_is_refused_and_doubled_braces_are_none():
    for prompt, problem in (
        ("Tags, please", "lacks the field {item}"),
        ("{item} {title}", "no field {title}"),
        ('{item} as {"use": []}', 'no field {"use"}'),
        ("{item} and {", "an unmatched brace"),
    ):
        assert problem in " ".join(error.problem for error in problems(replace(CONFIG, prompt=prompt)))
    assert list(problems(replace(CONFIG, prompt='{item} as {{"use": []}}'))) == []
