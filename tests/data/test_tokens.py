"""What a chat model says of an item, read as tokens; and an item's attributes."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.tokens import SLOTS, attribute_tokens, parse_answer, vocabulary, with_tokens
from llm4rec_cli.llm.requests import Status


def slots(use=(), audience=(), key_words=()):
    return {"use": list(use), "audience": list(audience), "key_words": list(key_words)}


OF_A_TENT = slots(["hiking", "camping"], ["families"], ["tent"])
OF_TRIPS = slots(["hiking", "camping trips"], ["beginners"], ["light", "waterproof"])


@pytest.mark.parametrize(
    ("answer", "tokens", "status"),
    [
        # the requested object, with words around it, or in another spelling
        (json.dumps(OF_TRIPS), OF_TRIPS, Status.ok),
        (f"Sure!\n```json\n{json.dumps(OF_A_TENT)}\n```\n?", OF_A_TENT, Status.ok),
        ('{"Use": "Hiking, camping", "Audience": "families", "Key words": ["TENT"], "price": 3}', OF_A_TENT, Status.ok),
        # labels
        ("Use: hiking, camping\nAudience: families\nKey words: tent", OF_A_TENT, Status.repaired),
        ("**Use:** hiking and camping\n- **Audience**: families\n- Key-words: tent.", OF_A_TENT, Status.repaired),
        ("Uses:\n- Hiking\n- Camping\n\nUsers:\n- families\n\nKeywords:\n1. tent", OF_A_TENT, Status.repaired),
        (str(OF_A_TENT), OF_A_TENT, Status.repaired),
        (json.dumps(OF_A_TENT)[:-2], OF_A_TENT, Status.repaired),
        # no label: key words
        *(
            (text, slots(key_words=["hiking", "tent"]), Status.repaired)
            for text in ("hiking, tent", "- hiking\n- tent", '["hiking", "tent"]', "1. Hiking\n2. Tent")
        ),
        # no token
        *(
            (text, slots(), Status.invalid)
            for text in ("  \n", "???", "product", "12 34", '{"use": [], "audience": [], "key_words": []}', "{" * 5000)
        ),
    ],
)
def test_an_answer_is_read_as_tokens_of_slots(answer, tokens, status):
    assert parse_answer(answer, 4, "product") == (tokens, status)


def test_reasoning_is_no_answer():
    draft = '{"use": ["fishing"], "audience": ["a draft"], "key_words": ["net"]}'
    answer = '{"use": ["hiking"], "audience": ["beginners"], "key_words": ["light"]}'
    expected = (slots(["hiking"], ["beginners"], ["light"]), Status.ok)
    assert parse_answer(f"<think>{draft}</think>\n{answer}", 4, "product") == expected
    assert parse_answer(f"<think>{draft}, or", 4, "product")[1] is Status.invalid


@pytest.mark.parametrize(
    ("answer", "limit", "torn", "tokens"),
    [
        (
            "This product is a hair dryer that is used for drying wet hair.",
            *(9, False, slots(key_words=["hair", "dryer", "drying", "wet"])),
        ),
        (  # each slot keeps its first tokens, and a token its first slot
            '{"use": ["a1", "b1", "a1", "c1"], "audience": ["b1", "d1"], "key_words": ["c1", "d1", "e1"]}',
            *(2, False, slots(["a1", "b1"], ["d1"], ["c1", "e1"])),
        ),
        ('{"use": ["hiking", "camping tr', 4, False, slots(["hiking", "camping tr"])),
        ('{"use": ["hiking", "camping tr', 4, True, slots(["hiking", "camping"])),  # half a word
        ("use: hiking, mountain camping ", 4, True, slots(["hiking", "mountain camping"])),
        ("product, products, drama, war product", 4, False, slots(key_words=["drama", "war"])),  # what items are called
        (f"tent, {'-'.join(['tent'] * 6)}", 4, False, slots(key_words=["tent"])),  # words joined without end
    ],
)
def test_which_words_of_an_answer_are_tokens(answer, limit, torn, tokens):
    assert parse_answer(answer, limit, "product", torn)[0] == tokens


def test_a_phrase_becomes_a_token():
    tokens = {"Key Ring": "key ring", "T-Shirt": "t-shirt", "men’s": "men's", "4K": "4k", "ﬁre pit": "fire pit"}
    tokens |= {"für Kinder": "für kinder", "care of the hair": "care hair", "  thin   air  ": "thin air"}
    for phrase, token in tokens.items():
        assert parse_answer(f'["{phrase}"]', 4, "product")[0]["key_words"] == [token]


def test_key_words_have_the_room_of_all_slots_where_no_slot_is_named():
    answer = ", ".join(f"word{i}" for i in range(20))
    assert len(parse_answer(answer, 3, "product")[0]["key_words"]) == 9
    assert len(parse_answer(f"Key words: {answer}", 3, "product")[0]["key_words"]) == 3


@given(st.text(max_size=200), st.integers(1, 5), st.booleans())
def test_tokens_of_any_answer_are_few_short_lower_case_and_distinct(answer, limit, torn):
    slots_of_answer, status = parse_answer(answer, limit, "product", torn)
    assert tuple(slots_of_answer) == SLOTS
    tokens = [token for slot_tokens in slots_of_answer.values() for token in slot_tokens]
    assert len(tokens) <= 3 * limit
    assert all(token == token.lower() and 1 <= len(token.split(" ")) <= 3 for token in tokens)
    assert len(set(tokens)) == len(tokens)
    assert (status is Status.invalid) == (not tokens)


def test_a_dataset_holds_its_tokens_and_the_vocabulary_is_of_those_that_two_items_share():
    assert vocabulary([["tent", "light"], ["light", "light"], ["tent", "red"], []]) == ["light", "tent"]
    assert vocabulary([["red", "red"], []]) == []
    dataset = tiny_dataset([[0, 1, 2]])
    enriched = with_tokens(dataset, [["tent", "light"], [], ["tent"]])
    assert enriched.items["tokens"].tolist() == [["tent", "light"], [], ["tent"]]
    summary = enriched.manifest["tokens"]
    assert (summary["items"], summary["shared"]) == (2, 1)
    assert with_tokens(dataset, [["tent"], ["light"], ["tent"]]).manifest["tokens"]["sha256"] != summary["sha256"]
    assert enriched.fingerprint == dataset.fingerprint
    assert "tokens" not in dataset.items


def test_attributes_are_the_brand_and_each_word_of_the_categories():
    items = pd.DataFrame(
        {"brand": [" Nordhut", None, ""], "categories": ["Camping &amp; Tents for Camping", "Nordhut", None]}
    )
    assert attribute_tokens(items) == [["brand: nordhut", "camping", "tents"], ["nordhut"], []]
    assert attribute_tokens(pd.DataFrame({"title": ["Tent"]})) == [[]]
