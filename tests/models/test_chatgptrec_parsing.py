"""Parsing of completions: ratings, title lists and texts in every format seen or expected, each with its status."""

import json
import math
import time

import pytest
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


@pytest.mark.parametrize(
    "completion",
    ["4", " 4\n", "4.", "4 stars", "4 star", "4 Stars.", "4/5", "4 / 5", "4/5 stars", "4.0", "<think>3? no</think>\n4"],
)
def test_a_bare_number_of_stars_is_ok(completion):
    assert parse_rating(completion) == (4.0, OK)


@pytest.mark.parametrize(
    ("completion", "stars"),
    [
        # words and halves
        ("Four", 4),
        ("four stars", 4),
        ("one star", 1),
        ("one", 1),
        ("Four and a half stars", 4.5),
        ("4 and a half", 4.5),
        ("4½", 4.5),
        ("4 1/2 stars", 4.5),
        ("4,5", 4.5),
        # in prose
        ("I would give it 4 stars", 4),
        ("I think the user would rate this movie a 4.0 out of 5.0.", 4),
        ("Four out of five", 4),
        ("A solid 4!", 4),
        ("It's one of the best films, so 5 stars.", 5),
        ("Based on the user's 3 earlier reviews, I would rate it 4.", 4),
        ("The 1995 film deserves a 3", 3),
        ("This 16 oz bottle is a 5", 5),
        ("A 2-in-1 shampoo at $4.99: 5", 5),
        ("The 3D release is a 2", 2),
        # ranges
        ("3-4", 3.5),
        ("3–4 stars", 3.5),
        ("3 to 4 out of 5", 3.5),
        ("3 or 4", 3.5),
        ("Between 3 and 4", 3.5),
        ("somewhere between 3 stars and 4 stars", 3.5),
        # formats of other prompts
        ("(4 stars, 80%)", 4),
        ("4 (80% sure)", 4),
        ('{"rating": 4}', 4),
        ('{"rating": "4 stars"}', 4),
        ('{"title": "Toy Story 2", "predicted_rating": 4.5, "confidence": 0.8, "scale": 5}', 4.5),
        ("{'rating': 4}", 4),
        ('```json\n{"rating": 4}\n```', 4),
        ("```\n4\n```", 4),
        ("Rating: 4", 4),
        ("**Rating:** 4/5", 4),
        ("Answer: **4 stars** (out of 5 stars)", 4),
        ("Rating = 4", 4),
        ('"4"', 4),
        ("'4'", 4),
        ("**4**", 4),
        ("4-star", 4),
        ("★★★★☆", 4),
        ("Rating: ⭐️⭐️⭐️", 3),
        ("4 ⭐", 4),
        # with reasons before or after
        ("4\n\nThe user liked 3 similar films and gave them 5 stars.", 4),
        ("**4 stars**\n\nReasoning: the user has seen 2 of them.", 4),
        ("The user gave 5 stars to one and 3 stars to another.\n\nFinal rating: 4", 4),
        ("Confidence: 3\nRating: 4", 4),
        # the title repeated
        ("Toy Story 2: 4", 4),
        ('4. "Toy Story 2": 5', 5),
        ("I'd give 'Toy Story 2' a 4", 4),
        ('For "2001: A Space Odyssey" I would say 4', 4),
        ("Se7en: 5", 5),
        ("Toy Story 2 → 4 stars", 4),
        # the scale repeated
        ("On a scale of 1 to 5, I'd say 4.", 4),
        ("On a 5-star scale: 3", 3),
        ("1 (lowest) to 5 (highest): 4", 4),
        ("With 1 being the lowest and 5 being the highest, I would predict 2", 2),
        ("4 (1 = lowest, 5 = highest)", 4),
        ("5 stars is the highest, and this is a 3", 3),
        ("4 is the best guess", 4),
    ],
)
def test_a_rating_in_another_format_is_repaired(completion, stars):
    assert parse_rating(completion) == (stars, REPAIRED)


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "NaN",
        "As an AI language model I cannot rate films.",
        "7",
        "0 stars",
        "-1",
        "Rating: 7",
        "8/10",
        "4/10",
        "4 out of 10",
        "80%",
        "1995",
        "$4.99",
        "1-5",
        "between 1 and 5",
        "1 lowest to 5 highest",
        "5 stars is the highest",
        "The user gave 5 stars to one and 3 stars to another.",
        "4 or maybe 5",
        "Rating: 4\nRating: 2",
        "1. 4 stars\n2. 3 stars",
        "<think>Perhaps a 4",
        '{"rating": null}',
    ],
)
def test_no_rating_on_the_scale_or_several_different_ones_are_invalid(completion):
    stars, status = parse_rating(completion)
    assert math.isnan(stars)
    assert status is INVALID


@pytest.mark.parametrize(
    ("completion", "title", "stars"),
    [
        ("Toy Story 2 - 4", "Toy Story 2", 4),  # otherwise 2 to 4
        ("I would give Four Rooms a 3.", "Four Rooms", 3),
        ("Ocean's 5 &amp; 3 deserves 2", "Ocean's 5 & 3", 2),
        ("SHAMPOO 3 OZ is worth 5", "Shampoo  3 oz", 5),
        ("I say 3", "3", 3),  # a title that is a number looks like a rating
        ("M: 4", "M", 4),
    ],
)
def test_numbers_in_the_title_are_ignored(completion, title, stars):
    assert parse_rating(completion, title=title) == (stars, REPAIRED)


@pytest.mark.parametrize(
    ("completion", "listed"),
    [
        ('["Toy Story", "Heat"]', ["Toy Story", "Heat"]),
        ('\n["Toy Story",\n "Heat"]\n', ["Toy Story", "Heat"]),
        ("['Toy Story', \"L'Oreal Mascara, Black\"]", ["Toy Story", "L'Oreal Mascara, Black"]),
        ("[\n  'Toy Story',\n  'Heat',\n]", ["Toy Story", "Heat"]),
        ('["23\\" Straight Hair", "A/B \\/ C", "Am\\u00e9lie"]', ['23" Straight Hair', "A/B / C", "Amélie"]),
        ("['The \\'Best\\' Cream']", ["The 'Best' Cream"]),
        ('["12 Angry Men", "101 Dalmatians", "300"]', ["12 Angry Men", "101 Dalmatians", "300"]),
        ('["#1 BEST Serum", "*ON SALE* Cream", "- Lotion"]', ["#1 BEST Serum", "*ON SALE* Cream", "- Lotion"]),
        ('<think>["Alien"]?</think>["Heat"]', ["Heat"]),
    ],
)
def test_a_json_or_python_list_of_strings_is_ok(completion, listed):
    assert parse_titles(completion, 10) == (listed, OK)


@pytest.mark.parametrize(
    ("completion", "listed"),
    [
        # around the list
        ('```json\n["Toy Story", "Heat"]\n```', ["Toy Story", "Heat"]),
        ('Sure! Here they are: ["Toy Story", "Heat"]. Enjoy!', ["Toy Story", "Heat"]),
        ('recommended = [\n  "Toy Story",  # a classic\n  "Heat", # crime\n]', ["Toy Story", "Heat"]),
        ('{"recommendations": ["Toy Story", "Heat"]}', ["Toy Story", "Heat"]),
        ('("Toy Story", "Heat")', ["Toy Story", "Heat"]),
        ('Since the user liked ["Alien", "Aliens"]:\n["Toy Story", "Heat"]', ["Toy Story", "Heat"]),
        ('["Toy Story", "Heat"]\n\nBoth [of them] are films.', ["Toy Story", "Heat"]),
        # quotes inside
        ("['L'Oreal Mascara, Black', 'Mimi's Dryer']", ["L'Oreal Mascara, Black", "Mimi's Dryer"]),
        ('["23"" Straight Hair, Brown", "Heat"]', ['23" Straight Hair, Brown', "Heat"]),
        ('["23" Straight Hair", "Hair 24"", "Heat"]', ['23" Straight Hair', 'Hair 24"', "Heat"]),
        ("[“Toy Story”, “Heat”]", ["Toy Story", "Heat"]),
        ("[Toy Story, Heat, 12 Angry Men]", ["Toy Story", "Heat", "12 Angry Men"]),
        # missing or extra commas, and elements that are no titles
        ('["Toy Story" "Heat"]', ["Toy Story", "Heat"]),
        ("['Toy Story'\n'Heat']", ["Toy Story", "Heat"]),
        ('["Toy Story", null, "Heat", ...]', ["Toy Story", "Heat"]),
        ('["Toy Story", "", "Heat"]', ["Toy Story", "Heat"]),
        ('[["Toy Story", 0.9], ["Heat", 0.8]]', ["Toy Story", "Heat"]),
        # cut off
        ('["Toy Story", "Heat", "Golden', ["Toy Story", "Heat"]),
        ('["Toy Story", "Heat"', ["Toy Story", "Heat"]),
        ('["Toy Story", "Heat", ', ["Toy Story", "Heat"]),
        ('["Toy Story", "Heat", "', ["Toy Story", "Heat"]),
        ("['Mimi's Dryer', 'Heat', 'L'Or", ["Mimi's Dryer", "Heat"]),
        ('```json\n["23\\" Hair", "Am\\u00e9lie", "Golden', ['23" Hair', "Amélie"]),
        ("[Toy Story, Heat, Golden", ["Toy Story", "Heat"]),
        # objects
        ('[{"title": "Toy Story", "year": 1995}, {"title": "Heat"}]', ["Toy Story", "Heat"]),
        ("[{'title': 'Toy Story', 'year': 1995}, {'title': 'Heat'}]", ["Toy Story", "Heat"]),
        ('[{"rank": 1, "product_name": "Toy Story", "reason": "fun"}]', ["Toy Story"]),
        ('[{"title": "Toy Story"}, {"title": "Heat"}, {"title": "Gol', ["Toy Story", "Heat"]),
        ('{"items": [{"title": "Toy Story"}, {"title": "Heat"}]}', ["Toy Story", "Heat"]),
        ('{"1": "Toy Story", "2": "Heat"}', ["Toy Story", "Heat"]),
        ('{"title": "Toy Story"}\n{"title": "Heat"}', ["Toy Story", "Heat"]),
        # numbered
        (
            "1. Toy Story\n2. 12 Angry Men\n3. 2001: A Space Odyssey",
            ["Toy Story", "12 Angry Men", "2001: A Space Odyssey"],
        ),
        ("1) Toy Story\n2) 101 Dalmatians", ["Toy Story", "101 Dalmatians"]),
        ("(1) Toy Story\n(2) Heat", ["Toy Story", "Heat"]),
        ("1: Toy Story\n2: Heat", ["Toy Story", "Heat"]),
        ("1 - Toy Story\n2 - Heat", ["Toy Story", "Heat"]),
        ("1.Toy Story\n2.Heat", ["Toy Story", "Heat"]),
        ("1. Toy Story\n1. Heat", ["Toy Story", "Heat"]),
        ("1️⃣ Toy Story\n2️⃣ Heat", ["Toy Story", "Heat"]),
        ("### 1. Toy Story\n### 2. Heat", ["Toy Story", "Heat"]),
        ("**1. Toy Story** - fun\n**2. Heat** - crime", ["Toy Story", "Heat"]),
        ("1. Title: Toy Story\n2. Title: Heat", ["Toy Story", "Heat"]),
        ('["1. Toy Story", "2. Heat"]', ["Toy Story", "Heat"]),
        ('1. "Olay Cream, 1.7 oz"\n2. "23" Straight Hair, Black"', ["Olay Cream, 1.7 oz", '23" Straight Hair, Black']),
        (
            "Sure! Here are my picks:\n\n1. **Toy Story (1995)** - a classic\n   - Reason: toys\n"
            '2. "Heat" (1995): crime\n3. Alien (1979) - space\n\nI hope this helps!',
            ["Toy Story (1995)", "Heat (1995)", "Alien (1979)"],
        ),
        # bulleted
        ("- Toy Story\n- Heat", ["Toy Story", "Heat"]),
        ("* Toy Story\n* Heat", ["Toy Story", "Heat"]),
        ("• Toy Story\n  • with toys\n• Heat", ["Toy Story", "Heat"]),
        ("Try these:\n- [Toy Story](http://example.org)\n- [Heat](http://example.org)", ["Toy Story", "Heat"]),
        # lines
        (
            "Toy Story\n12 Angry Men\n300\n300: Rise of an Empire",
            ["Toy Story", "12 Angry Men", "300", "300: Rise of an Empire"],
        ),
        ("Here are two films:\n\nToy Story\n\nHeat\n\nI hope you enjoy them!", ["Toy Story", "Heat"]),
        ("#1 BEST Serum\n7-Pack Caps, Black", ["#1 BEST Serum", "7-Pack Caps, Black"]),
        # in quotes, between commas
        ('"Toy Story", "Cream, 1.7 oz"', ["Toy Story", "Cream, 1.7 oz"]),
        ("'Toy Story', 'Cream, 1.7 oz'", ["Toy Story", "Cream, 1.7 oz"]),
        ('"Toy Story"\n"Heat"', ["Toy Story", "Heat"]),
        ('I would recommend "Toy Story", "Heat" and "Alien".', ["Toy Story", "Heat", "Alien"]),
        ("Toy Story, Heat, and Alien.", ["Toy Story", "Heat", "Alien"]),
        ("Recommendations: Toy Story, Heat, Alien", ["Toy Story", "Heat", "Alien"]),
        ("Toy Story; Cream, 1.7 oz", ["Toy Story", "Cream, 1.7 oz"]),
    ],
)
def test_a_list_in_another_format_is_repaired(completion, listed):
    assert parse_titles(completion, 10) == (listed, REPAIRED)


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "[]",
        "{}",
        '[""]',
        "```json\n```",
        "I'm sorry, but I cannot recommend anything, as I know no user.",
        "The user likes action, so maybe more of that.",
        'The next one would be "Heat".',
        "Toy Story",
        "[3, 17, 22]",
        "3, 17, 22",
        "<think>1. Toy Story\n2. Heat",
        '["Toy St',
        '["Cream, 1.7',
    ],
)
def test_a_completion_without_a_list_is_invalid(completion):
    assert parse_titles(completion, 10) == ([], INVALID)


def test_titles_beyond_the_limit_are_dropped_as_a_repair():
    assert parse_titles('["Toy Story", "Heat", "Alien"]', 2) == (["Toy Story", "Heat"], REPAIRED)


def test_repeated_titles_are_kept_for_the_count_of_duplicates():
    assert parse_titles('["Heat", "Heat"]', 10) == (["Heat", "Heat"], OK)


def test_the_last_line_of_a_cut_completion_is_dropped():
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


@pytest.mark.parametrize(
    "completion", ["Great mascara", "The user likes it.", '"Great" and "good"', 'Great for 23" hair', "5 stars!"]
)
def test_a_bare_text_is_ok(completion):
    assert parse_text(completion) == (completion, OK)
    assert parse_text(f"<think>hm</think>\n\n{completion}\n") == (completion, OK)


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ('"Great mascara"', "Great mascara"),
        ("“Great mascara”", "Great mascara"),
        ("'I don't like it'", "I don't like it"),
        ('"Nice \\"hair\\""', 'Nice "hair"'),
        ('"Great mascara, but it', "Great mascara, but it"),
        ("Summary: Great mascara", "Great mascara"),
        ("Explanation: It smells nice.", "It smells nice."),
        ('**Headline:** "Great mascara"', "Great mascara"),
        ('Title (4 words): "Great mascara, love it"', "Great mascara, love it"),
        ("Here is a headline:\n\nGreat mascara", "Great mascara"),
        ("Here's a short summary: Great mascara", "Great mascara"),
        ('Sure! Here\'s a 4-word headline: "Great Mascara"', "Great Mascara"),
        ("Certainly! Here is one:\n\n> Great mascara\n\nLet me know if you need more.", "Great mascara"),
        ("It smells nice.\n\nNote: I made this up.", "It smells nice."),
        ("It smells\nnice.", "It smells nice."),
        ("```\nGreat mascara\n```", "Great mascara"),
        ("```text\nGreat mascara\n```", "Great mascara"),
        ('{"explanation": "It smells nice."}', "It smells nice."),
        ("- Great mascara", "Great mascara"),
        ("1. Great mascara", "Great mascara"),
        ("# Great mascara", "Great mascara"),
        ("*Great mascara*", "Great mascara"),
        ("It is **really** `nice`", "It is really nice"),
        ("Great mascara (2 words)", "Great mascara"),
    ],
)
def test_wrapping_around_a_text_is_removed(completion, expected):
    assert parse_text(completion) == (expected, REPAIRED)


@pytest.mark.parametrize(
    "completion", ["", "  \n", '""', "...", "```\n```", "👍", "Headline:", "<think>It smells nice."]
)
def test_a_text_without_a_letter_or_digit_is_invalid(completion):
    assert parse_text(completion) == ("", INVALID)


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


@pytest.mark.parametrize(
    "unit", [*PIECES, '["a", ', "['a' ", '{"a": [', '[{"a": 1 }, ', '{"a":[{},', "“a ", '" ', "a: ", "[a]("]
)
def test_long_completions_take_linear_time(unit):
    started = time.process_time()
    for completion in (long := unit * (10_000 // len(unit)), f'["{long}', f"a {long}]"):
        parse_rating(completion, title="a b"), parse_titles(completion, 10), parse_text(completion)
    assert time.process_time() - started < 10  # most take milliseconds; quadratic time would be minutes
