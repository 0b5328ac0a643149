"""Filled templates equal the published recipe on strings, for any titles; and packing."""

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import AutoTokenizer

from llm4rec_cli.data.examples import Examples
from llm4rec_cli.models.prompt4nr import templates
from llm4rec_cli.models.prompt4nr.sequences import TemplateFiller
from llm4rec_cli.models.prompt4nr.settings import Attention
from llm4rec_cli.models.shared.tokens import Ragged, pack_rows
from llm4rec_cli.text.backbone import backbone_folder, load_tokenizer
from tests.models.prompt4nr_data import TEMPLATES, config

MASK, NSEP = 103, 30_522  # in BERT's vocabulary, and the first id after it
NEW = ["[NSEP]", *(f"[{name}{i}]" for name in "PQM" for i in (1, 2, 3))]
# The reference's table of templates, joined as in its code. u = user, c = candidate.
PUBLISHED = {
    "discrete_relevance": "{c} is [MASK] to {u}",
    "discrete_emotion": "The user feels [MASK] about {c} according to his area of interest {u}",
    "discrete_action": "User: {u} [SEP] News: {c} [SEP] Does the user click the news? [MASK]",
    "discrete_utility": "Recommending {c} to the user is a [MASK] choice according to {u}",
    "continuous_relevance": "[Q1][Q2][Q3] {c} [M1][M2][M3] [MASK] [P1][P2][P3] {u}",
    "continuous_emotion": "[M1][M2][M3] [MASK] [Q1][Q2][Q3] {c} [P1][P2][P3] {u}",
    "continuous_action": "[P1][P2][P3] {u} [SEP] [Q1][Q2][Q3] {c} [SEP] [M1][M2][M3] [MASK]",
    "continuous_utility": "[Q1][Q2][Q3] {c} [M1][M2][M3] [MASK] [P1][P2][P3] {u}",
    "hybrid_relevance": "[P1][P2][P3] {u} [SEP] [Q1][Q2][Q3] {c} [SEP] "
    "This news is [MASK] to the user's area of interest",
    "hybrid_emotion": "[P1][P2][P3] {u} [SEP] [Q1][Q2][Q3] {c} [SEP] The user feels [MASK] about the news",
    "hybrid_action": "[P1][P2][P3] {u} [SEP] [Q1][Q2][Q3] {c} [SEP] Does the user click the news? [MASK]",
    "hybrid_utility": "[P1][P2][P3] {u} [SEP] [Q1][Q2][Q3] {c} [SEP] "
    "Recommending the news to the user is a [MASK] choice",
}
TITLES = (
    "Trump's wall: what 3 polls — and a café — say",
    "NFL",
    "Ten ways to cook an egg, said a cook who has cooked an egg in ten ways and then in many more than ten ways",
    "Don't  miss two spaces",
    "",
    "…",
    "Unbelievable! Antidisestablishmentarianism's 1,234,567 friends",
    "[MASK] [SEP] {mask} 新聞",
)
HISTORY = (2, 0, 6, 3, 4, 5, 0, 1)  # oldest first


@cache
def tokenizer():
    return load_tokenizer(backbone_folder("minilm"))


@cache
def published_tokenizer():
    """The tokenizer of transformers, with new tokens added as in the code."""
    tokenizer = AutoTokenizer.from_pretrained(str(backbone_folder("minilm")))
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in NEW])
    return tokenizer


def filler_for(template="discrete_utility", titles=TITLES, **changes):
    chosen = replace(config(template), **changes)
    return TemplateFiller(templates.tokenize_template(chosen.prompts, tokenizer()), tokenizer(), titles, chosen)


def examples_with(*histories):
    """Examples with these histories, oldest first."""
    ends = np.cumsum([len(history) for history in histories])
    flat = np.array([item for history in histories for item in history], dtype=np.int32)
    zeros = np.zeros(len(ends), dtype=np.int64)
    return Examples(zeros, zeros, flat, ends - [len(history) for history in histories], ends, zeros)


def filled(filler, candidates, *histories):
    """The template filled with each history and its candidate."""
    users = filler.tokenize_histories(examples_with(*histories))
    return filler.fill(users, np.arange(len(histories)), np.array(candidates))


def as_strings(tokens, template):
    """Tokens as strings: the new ones have other ids here than in transformers."""
    vocabulary = published_tokenizer().convert_ids_to_tokens(range(NSEP))
    return [vocabulary[token] if token < NSEP else template.new_tokens[token - NSEP] for token in tokens]


def published(template, titles, history, candidate, max_length=500):
    """The reference's text construction (1.2), string by string."""
    tokenizer = published_tokenizer()
    clean = [re.sub("[^A-Za-z0-9 ]", "", title) for title in titles]
    newest_first = [" ".join(clean[item].split(" ")[:10]) for item in reversed(history[-50:])]
    user = "[NSEP] " + " [NSEP] ".join(newest_first)
    user = tokenizer.decode(tokenizer.encode(user, add_special_tokens=False)[:450])
    candidate = " ".join(clean[candidate].split(" ")[:20])
    ids = tokenizer.encode(PUBLISHED[template].format(u=user, c=candidate), truncation=True, max_length=max_length)
    return tokenizer.convert_ids_to_tokens(ids)


@pytest.mark.parametrize("template", PUBLISHED)
def test_a_filled_template_equals_the_published_recipe_on_strings(template):
    assert sorted(PUBLISHED) == sorted(TEMPLATES)
    filler = filler_for(template)
    for history in (HISTORY, (1,), (), HISTORY * 9):
        for candidate in (0, 1, 6, 7):
            row = filled(filler, [candidate], history)
            assert as_strings(row.tokens.flat, filler.template) == published(template, TITLES, history, candidate)


def test_a_short_template_by_hand():
    filler = filler_for("discrete_relevance")
    row = filled(filler, [1], (1, 4, 1))
    nfl = 5088
    # [CLS] nfl is [MASK] to [NSEP] nfl [NSEP] [NSEP] nfl [SEP]: an empty title still has its [NSEP]
    assert row.tokens.flat.tolist() == [101, nfl, 2003, MASK, 2000, NSEP, nfl, NSEP, NSEP, nfl, 102]
    assert row.mask_position.tolist() == [3]
    assert filler.tokenize_histories(examples_with((), (1,), ())).offsets.tolist() == [0, 1, 3, 4]
    assert filler.tokenize_histories(examples_with(())).flat.tolist() == [NSEP], "an empty history is a single one"
    filler = filler_for(title_words=4, candidate_words=6)
    words = published_tokenizer()
    assert words.decode(filler.candidates.rows(np.array([0])).flat) == "trumps wall what 3 polls"
    assert words.decode(filler.candidates.rows(np.array([3])).flat) == "dont miss two spaces"
    assert words.decode(filler.history_titles.rows(np.array([2])).flat[1:]) == "ten ways to cook"
    assert filler.candidates.lengths[[4, 5]].tolist() == [0, 0]
    filler = filler_for(titles=("a", "b", "c", "d"))
    a, b, c, d = (int(filler.candidates.rows(np.array([i])).flat[0]) for i in range(4))
    tokens = filler.tokenize_histories(examples_with((0, 1, 2, 3))).flat.tolist()
    assert tokens == [token for title in (d, c, b, a) for token in (NSEP, title)]
    filler.config.titles = 2
    tokens = filler.tokenize_histories(examples_with((0, 1, 2, 3), (0,))).flat.tolist()
    assert tokens == [token for title in (d, c, a) for token in (NSEP, title)]
    filler = filler_for(titles=("a", "b", "c", "d"), history_tokens=3)
    assert filler.tokenize_histories(examples_with((0, 1, 2, 3))).flat.tolist() == [NSEP, d, NSEP]
    digits = " ".join(["1234567890" * 10] * 20)  # a word of a hundred digits has some fifty tokens
    row = filled(filler_for("discrete_action", (digits,)), [0], [0])
    assert row.tokens.lengths.tolist() == [500]
    assert row.mask_position.tolist() == [498]
    assert row.tokens.flat[-2:].tolist() == [MASK, 102]
    assert NSEP in row.tokens.flat


@settings(max_examples=50)
@given(rows=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=40), min_size=1, max_size=30))
def test_packing_keeps_every_row_whole_and_padding_below_a_tenth(rows):
    batch = pack_rows(Ragged.from_rows(rows))
    for row, begin in zip(rows, batch["starts"].tolist(), strict=True):
        assert batch["tokens"][begin : begin + len(row)].tolist() == row
        assert batch["position"][begin : begin + len(row)].tolist() == list(range(len(row)))
    assert int(batch["groups"].prod(1).sum()) == len(batch["tokens"])
    in_order = [rows[i] for i in np.argsort(batch["starts"].numpy())]
    assert batch["lengths"].tolist() == [len(row) for row in in_order]
    assert (batch["tokens"] == 0).sum() <= 0.1 * len(batch["tokens"])


@pytest.mark.parametrize("template", TEMPLATES)
def test_both_sides_of_a_template_are_the_whole_template(template):
    """The history's and the candidate's: in order, and at positions that do not overlap."""
    whole, apart = filler_for(template), filler_for(template, attention=Attention.shared)
    users = whole.tokenize_histories(examples_with(HISTORY, (3,), ()))
    history, items = np.array([0, 0, 1, 2, 0]), np.array([2, 1, 2, 0, 4])
    expected, sides = whole.fill(users, history, items), apart.fill(users, history, items)
    for i in range(len(items)):
        rows = [
            (first, tokens.rows(np.array([place])).flat.tolist())
            for first, tokens, place in (
                (sides.histories.row_position[i], sides.tokens, i),
                (sides.histories.first_position[history[i]], sides.histories.tokens, history[i]),
            )
        ]
        (first, before), (second, after) = sorted(rows)
        assert before + after == expected.tokens.rows(np.array([i])).flat.tolist()
        assert (first, first + len(before) <= second) == (0, True)
        assert sides.tokens.rows(np.array([i])).flat[sides.mask_position[i]] == MASK


def test_the_positions_of_a_shared_history_leave_room_for_the_longest_candidate():
    apart = filler_for("discrete_utility", attention=Attention.shared)
    sides = apart.fill(
        apart.tokenize_histories(examples_with(HISTORY)), np.zeros(3, dtype=np.int64), np.array([1, 2, 4])
    )
    longest = 2 * apart.config.candidate_words
    others = ["[CLS]", "recommend", "##ing", "to", "the", "user", "is", "a", "[MASK]", "choice", "according", "to"]
    assert sides.histories.first_position.tolist() == [longest + len(others)]
    apart = filler_for("discrete_utility", max_length=90, attention=Attention.shared)
    sides = apart.fill(apart.tokenize_histories(examples_with(HISTORY * 3)), np.array([0]), np.array([1]))
    assert sides.histories.first_position[0] + sides.histories.tokens.lengths[0] == 90
    settings = {"max_length": 120, "attention": Attention.shared}
    usual, freak = filler_for(**settings), filler_for(titles=(*TITLES, "1234567890" * 10), **settings)
    first, second = (
        filler.fill(filler.tokenize_histories(examples_with(HISTORY)), np.array([0]), np.array([1]))
        for filler in (usual, freak)
    )
    assert first.histories.tokens.flat.tolist() == second.histories.tokens.flat.tolist()
    assert freak.candidates.lengths[-1] == 2 * freak.config.candidate_words
    apart = filler_for("hybrid_utility", attention=Attention.shared)
    users = apart.tokenize_histories(examples_with(HISTORY, (3,), (1, 2)))
    part = apart.fill(users, np.array([0, 1, 2, 2]), np.array([0, 1, 2, 3]))[np.array([3, 1, 2])]
    assert part.histories.of_row.tolist() == [1, 0, 1]
    whole = apart.fill(users, np.array([2, 1, 2]), np.array([3, 1, 2]))
    assert [part.histories.tokens.rows(np.array([i])).flat.tolist() for i in (0, 1)] == [
        whole.histories.tokens.rows(np.array([i])).flat.tolist() for i in (1, 2)
    ]
    assert part.tokens.flat.tolist() == whole.tokens.flat.tolist()
