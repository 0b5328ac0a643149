"""Filled prompts: the order of their tokens, what is truncated, and how whole words are counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.config.schema import Index
from llm4rec_cli.models.p5.filler import (
    ANSWERS,
    JITTER,
    MAX_FIELD_TOKENS,
    FieldValues,
    PromptFiller,
    column_texts,
    jitter_stars,
)
from llm4rec_cli.models.p5.settings import HistoryOrder, PromptConfig, PromptFamily
from llm4rec_cli.models.p5.vocabulary import END
from tests.models import p5_naive
from tests.models.p5_data import N_ITEMS, config, prompt_filler, shop


@pytest.fixture
def filled(tmp_path):
    """filled(source, values, target="{star}", answer="", **settings): the filler, its source and its target."""

    def fill(source: str, values: FieldValues, target: str = "{star}", answer: str = "", **settings):
        prompts = {"p": PromptConfig(PromptFamily.rating, source, target)}
        filler = prompt_filler(replace(config(), prompts=prompts, **settings), shop(), tmp_path)
        return filler, filler.source("p", values), filler.targets(["p"], [values], [answer])[0]

    return fill


def as_strings(filler: PromptFiller, tokens) -> list[str]:
    vocabulary = filler.vocabulary
    n_known = len(vocabulary.starts_word)
    return [vocabulary.tokenizer.id_to_token(t) if t < n_known else vocabulary.extra[t - n_known] for t in tokens]


def test_users_and_items_are_a_word_and_pieces_of_their_number(filled):
    filler, (tokens, words), _ = filled("does {user} like {item} ?", FieldValues(user=3, item=7))
    number = filler.item_codes[7]
    strings = as_strings(filler, tokens)
    assert strings[-1] == "</s>"
    start = strings.index("▁user")
    assert strings[start : start + 3] == ["▁user", "_", "04"]  # the fourth user, of 25: two digits are one piece
    start = strings.index("▁item")
    assert tokens[start + 2 : start + 4].tolist() == number.tolist()
    assert len(set(words[start : start + 4])) == 1  # one whole word
    assert words[-1] == 0


def test_users_and_items_with_tokens_of_their_own_are_one_token_without_a_prefix(filled):
    settings = {"user_tokens": True, "index": Index.independent}
    filler, (tokens, words), _ = filled("does {user} like {item} ?", FieldValues(user=3, item=7), **settings)
    strings = as_strings(filler, tokens)
    assert [piece for piece in strings if piece.startswith("<")] == ["<user3>", "<item7>", "</s>"]
    assert "_" not in strings  # of `user_` and `item_`
    place = strings.index("<user3>")
    assert words[place - 1] + 1 == words[place] == words[place + 1] - 1  # a word by itself


def test_whole_words_are_counted_from_one_and_bare_numbers_begin_one(filled):
    history = np.array([4, 9])
    filler, (tokens, words), _ = filled("after {history} ?", FieldValues(0, 0, history=history))
    strings = as_strings(filler, tokens)
    assert strings[0] == "▁after"
    assert words.tolist() == [1, 2, 2, 3, 4, 4, 5, 0]  # after, a number, a comma, a number, a mark, the end
    assert tokens[1:3].tolist() == filler.item_codes[4].tolist()


def test_a_history_is_joined_by_commas_or_arrows(filled):
    history = np.array([1, 2, 3])
    filler, (commas, _), _ = filled("{history}", FieldValues(0, 0, history=history))
    _, (arrows, _), _ = filled("{history}", FieldValues(0, 0, history=history, arrow=True))
    assert as_strings(filler, commas).count("▁,") == 2
    assert "".join(as_strings(filler, arrows)).count("->") == 2


def test_a_history_may_be_shown_newest_first_and_still_loses_its_oldest_items(filled):
    values = FieldValues(0, 0, history=np.arange(20))
    newest = HistoryOrder.newest_first
    filler, (tokens, _), _ = filled("after {history} ?", values, history=newest, max_source=16)
    codes = [filler.item_codes[item].tolist() for item in (19, 18)]
    assert tokens[1:].tolist()[:2] == codes[0]
    assert tokens[1:].tolist()[3:5] == codes[1]  # after a comma
    forward = filled("after {history} ?", values, max_source=16)[1][0]
    assert sorted(tokens.tolist()) == sorted(forward.tolist())  # the same items


def test_the_oldest_history_is_truncated_and_the_rest_kept(filled):
    history = np.arange(100)
    filler, (tokens, _), _ = filled(
        "{user} had {history} . What is next ?", FieldValues(1, 0, history=history), max_source=60
    )
    assert len(tokens) <= 60
    for item in (99, 98):
        assert "".join(as_strings(filler, filler.item_codes[item])) in "".join(as_strings(filler, tokens))
    _, (short, _), _ = filled("{user} had {history} . What is next ?", FieldValues(1, 0, history=history[-3:]))
    assert tokens[-6:].tolist() == short[-6:].tolist()  # the text after the history
    user = slice(len(filler.short_text("user_")[0]) + 1)
    assert tokens[user].tolist() == short[user].tolist()


def test_a_review_loses_its_end_and_the_rest_is_kept(filled):
    _, (whole, _), _ = filled("about {review} : its title ?", FieldValues(0, 0, row=5))
    _, (cut, _), _ = filled("about {review} : its title ?", FieldValues(0, 0, row=5), max_source=16)
    assert len(cut) == 16 < len(whole)
    assert cut[-5:].tolist() == whole[-5:].tolist()
    assert cut[:8].tolist() == whole[:8].tolist()


def test_a_long_title_is_truncated(filled):
    shop().dataset.items.loc[0, "title"] = "lamp " * 500
    try:
        _, (tokens, _), _ = filled("about {title} ?", FieldValues(0, 0))
    finally:
        shop().dataset.items.loc[0, "title"] = "lamp of make 0"
    assert len(tokens) <= MAX_FIELD_TOKENS + 5


def test_a_target_is_truncated_before_its_end_token(filled):
    _, _, target = filled("{user} ?", FieldValues(0, 0, row=3), target="{explanation}", max_target=4)
    assert len(target) == 4
    assert target[-1] == END


def test_the_text_of_a_target_is_as_long_as_max_target_allows(filled):
    """Only a field of a source has at most MAX_FIELD_TOKENS."""
    interactions = shop().dataset.interactions
    kept = interactions.loc[3, "explanation"]
    interactions.loc[3, "explanation"] = "lamp " * 500
    try:
        _, _, target = filled("{user} ?", FieldValues(0, 0, row=3), target="{explanation}", max_target=100)
    finally:
        interactions.loc[3, "explanation"] = kept
    assert len(target) == 100


def test_a_target_holds_the_answer_or_the_bare_number_of_an_item(filled):
    filler, _, target = filled("{user} ?", FieldValues(0, 11), target="{target}")
    assert target.tolist() == [*filler.item_codes[11], END]
    filler, _, target = filled("{user} ?", FieldValues(0, 11, row=2), target="{star} , {explanation}", answer="4.2")
    assert filler.vocabulary.decode(target[:-1]) == f"4.2 , {shop().dataset.interactions['explanation'][2]}"


def test_missing_texts_are_named_as_the_paper_does():
    items = shop().dataset.items
    kept = items["title"].copy()
    items.loc[1, "title"] = None
    assert column_texts(shop(), "title", [])[1] == "unknown title"
    items["title"] = kept


@pytest.mark.parametrize("star", JITTER)
def test_jittered_stars_are_one_of_41_classes_around_their_mean(star):
    rng = np.random.default_rng(star)
    targets = [jitter_stars(star, rng) for _ in range(2000)]
    assert set(targets) <= {f"{i / 10:.1f}" for i in range(10, 51)}
    mean, deviation = JITTER[star]
    assert np.mean([float(t) for t in targets]) == pytest.approx(mean, abs=0.03)
    assert np.std([float(t) for t in targets]) == pytest.approx(deviation, abs=0.05)


def random_values(rng: np.random.Generator) -> FieldValues:
    dataset = shop().dataset
    history, candidates = (rng.choice(N_ITEMS, rng.integers(0, most), replace=False) for most in (60, 100))
    user, item, one = rng.integers(0, 25), rng.integers(0, N_ITEMS), rng.integers(0, N_ITEMS)
    row, feature_row = rng.integers(0, len(dataset.interactions)), rng.integers(-1, len(dataset.interactions))
    star, arrow = int(rng.integers(1, 6)), bool(rng.random() < 0.5)
    return FieldValues(user, item, row, star, history, candidates, one, arrow, feature_row)


OWN_TOKENS = {"user_tokens": True, "index": Index.independent, "history": HistoryOrder.newest_first, "max_target": 3}


@pytest.mark.parametrize("settings", [{}, {"max_source": 50}, {"max_source": 8}, OWN_TOKENS])
def test_many_prompts_are_filled_as_one_field_after_another(settings, tmp_path):
    filler, rng = prompt_filler(replace(config(), **settings), shop(), tmp_path), np.random.default_rng(0)
    names = [*rng.permutation(np.repeat([n for n, p in filler.prompts.items() if "price" not in p.columns], 4))]
    values = [random_values(rng) for _ in names]
    answers = rng.choice(ANSWERS, len(names)).tolist()
    sources = [p5_naive.source(filler, name, v) for name, v in zip(names, values, strict=True)]
    assert [(tokens.tolist(), words.tolist()) for tokens, words in filler.sources(names, values)] == sources
    expected = [p5_naive.target(filler, *each) for each in zip(names, values, answers, strict=True)]
    assert [target.tolist() for target in filler.targets(names, values, answers)] == expected


def test_texts_are_tokenized_before_workers_are_forked(tmp_path):
    filler = prompt_filler(config(), shop(), tmp_path)
    filler.read_texts(["3-9", "2-1"])
    read = set(filler.pieces)
    assert {"title", "feature", "explanation"} <= read
    assert "review_text" not in read
    filler.sources(["3-9", "2-1"], [random_values(np.random.default_rng(0))] * 2)
    assert set(filler.pieces) == read
