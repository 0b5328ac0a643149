"""Parsing of completions: ratings, title lists and texts in every format seen or expected, each with its status."""

import json
import math
import time
from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from llm4rec_cli.llm.requests import Status
from llm4rec_cli.models.chatgptrec.parse_rating import parse_rating
from llm4rec_cli.models.chatgptrec.parse_text import parse_text
from llm4rec_cli.models.chatgptrec.parse_titles import parse_titles

OK, REPAIRED, INVALID = Status.ok, Status.repaired, Status.invalid
# What the patterns look for, so that random completions reach their corners.
PIECES = [
    *"[]{}()\"'“”‘’\\,;:.-–*#`_|/%$½★⭐ \n\t0123456789aeZé七\ud83d\u2028\ufe0f\u20e3\x00\x1c",
    *("```json\n", "<think>", "</think>", "1. ", "2) ", "- ", " stars", " out of 5", "one", "four", " to ", "between "),
    *("title", '"rating": ', "Here is ", "Summary: ", "(1995)", "**", "\\u00e9", "\\ud83d", "lowest"),
    *("None", "null", "..."),
]
completions = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))


TABLES = yaml.safe_load((Path(__file__).parent / "tables/completions.yaml").read_text(encoding="utf-8"))


def wrong(parse, name, status, invalid=None):
    """Return the completions of a table that are not parsed as it says; a table without answers has `invalid`."""
    cases = [case if isinstance(case, list) else [case, invalid] for case in TABLES[name]]
    return [(completion, parse(completion)) for completion, parsed in cases if parse(completion) != (parsed, status)]


def test_tables_of_ratings_titles_and_texts_are_parsed():
    assert wrong(parse_rating, "rating_ok", OK, 4.0) == []
    assert wrong(parse_rating, "rating_repaired", REPAIRED) == []
    invalid = {completion: parse_rating(completion) for completion in TABLES["rating_invalid"]}
    assert {text for text, (stars, status) in invalid.items() if not math.isnan(stars) or status != INVALID} == set()
    of_titles = [
        (parse_rating(text, title=title), (stars, REPAIRED)) for text, title, stars in TABLES["rating_of_a_title"]
    ]
    assert [pair for pair in of_titles if pair[0] != pair[1]] == []

    def parse(completion):
        return parse_titles(completion, 10)

    assert wrong(parse, "titles_ok", OK) == []
    assert wrong(parse, "titles_repaired", REPAIRED) == []
    assert wrong(parse, "titles_invalid", INVALID, []) == []
    for completion in TABLES["text_ok"]:
        assert parse_text(completion) == (completion, OK)
        assert parse_text(f"<think>hm</think>\n\n{completion}\n") == (completion, OK)
    assert wrong(parse_text, "text_repaired", REPAIRED) == []
    assert wrong(parse_text, "text_invalid", INVALID, "") == []


def test_titles_beyond_the_limit_and_a_cut_last_one_are_dropped_and_repeated_ones_kept():
    assert parse_titles('["Toy Story", "Heat", "Alien"]', 2) == (["Toy Story", "Heat"], REPAIRED)
    assert parse_titles('["Heat", "Heat"]', 10) == (["Heat", "Heat"], OK)
    assert parse_titles("1. Toy Story\n2. Heat\n3. Gol", 10, cut=True) == (["Toy Story", "Heat"], REPAIRED)
    assert parse_titles("Toy Story, Heat, Gol", 10, cut=True) == (["Toy Story", "Heat"], REPAIRED)
    assert parse_titles('["Toy Story", "Heat"]\nBoth are', 10, cut=True) == (["Toy Story", "Heat"], REPAIRED)
    assert parse_titles("1. Gol", 10, cut=True) == ([], INVALID)


def test_nothing_in_a_completion_is_executed(tmp_path):
    file = tmp_path / "executed"
    completion = f"[__import__('pathlib').Path('{file}').touch(), 'Toy Story']"
    parse_titles(completion, 10), parse_rating(completion), parse_text(completion)
    assert not file.exists()


@given(st.lists(st.text().filter(lambda title: title.strip() and "think>" not in title), min_size=1, max_size=10))
def test_a_list_written_as_json_is_parsed_back(listed):
    parsed, status = parse_titles(json.dumps(listed), 10)
    if status is OK:
        assert parsed == [" ".join(title.split()) for title in listed]
    else:  # they are enumerated: "1. a", "2. b"
        assert len(parsed) == len(listed) > 1


@given(st.lists(st.text(st.sampled_from("abc ,'\".é1"), min_size=1).filter(str.strip), min_size=1), st.data())
def test_of_a_json_list_cut_off_anywhere_whole_titles_are_kept(listed, data):
    completion = json.dumps(listed)
    parsed, _ = parse_titles(completion[: data.draw(st.integers(0, len(completion) - 1))], 1000)
    assert set(parsed) <= {" ".join(title.split()) for title in listed}


@given(completions, st.text())
def test_every_completion_is_a_rating_on_the_scale_or_invalid(completion, title):
    stars, status = parse_rating(completion, title=title)
    assert math.isnan(stars) if status is INVALID else 1 <= stars <= 5


@given(completions, st.integers(1, 5), st.booleans())
def test_every_completion_is_a_list_of_titles_or_invalid(completion, limit, cut):
    listed, status = parse_titles(completion, limit, cut)
    assert len(listed) <= limit
    assert bool(listed) == (status is not INVALID)
    for title in listed:
        assert title
        assert title == " ".join(title.split())
        title.encode()  # no lone surrogates, which no file can store


@given(completions)
def test_every_completion_is_a_text_on_one_line_or_invalid(completion):
    parsed, status = parse_text(completion)
    assert bool(parsed) == (status is not INVALID)
    assert len(parsed.splitlines()) <= 1
    parsed.encode()


def test_long_completions_take_linear_time():
    hostile = ['["a", ', "['a' ", '{"a": [', '[{"a": 1 }, ', '{"a":[{},', "“a ", '" ', "a: ", "[a]("]
    for unit in [*PIECES, *hostile]:
        started = time.process_time()
        for completion in (long := unit * (10_000 // len(unit)), f'["{long}', f"a {long}]"):
            parse_rating(completion, title="a b"), parse_titles(completion, 10), parse_text(completion)
        assert time.process_time() - started < 10, unit  # most take milliseconds; quadratic time would be minutes
