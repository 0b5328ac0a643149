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
    RATING_CLASSES,
    FieldValues,
    PromptFiller,
    column_texts,
    jitter_stars,
    round_stars,
)
from llm4rec_cli.models.p5.settings import HistoryOrder, PromptConfig, PromptFamily
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
    filler, (tokens, words), _ = filled("after {history} ?", FieldValues(0, 0, history=np.array([4, 9])))
    assert words.tolist() == [1, 2, 2, 3, 4, 4, 5, 0]  # after, a number, a comma, a number, a mark, the end
    assert tokens[1:3].tolist() == filler.item_codes[4].tolist()


def test_a_long_title_in_a_source_is_truncated_a_target_up_to_max_target_and_a_missing_title_is_named(filled):
    items, interactions = shop().dataset.items, shop().dataset.interactions
    titles, explanations = items["title"].copy(), interactions["explanation"].copy()
    try:
        items.loc[0, "title"], interactions.loc[3, "explanation"], items.loc[1, "title"] = *["lamp " * 500] * 2, None
        _, (tokens, _), _ = filled("about {title} ?", FieldValues(0, 0))
        _, _, target = filled("{user} ?", FieldValues(0, 0, row=3), target="{explanation}", max_target=100)
        assert column_texts(shop(), "title", [])[1] == "unknown title"  # as in the paper
    finally:
        items["title"], interactions["explanation"] = titles, explanations
    assert len(tokens) <= MAX_FIELD_TOKENS + 5
    assert len(target) == 100


def test_jittered_stars_are_one_of_41_classes_around_their_mean():
    classes = ["1.0", *(f"{tenths / 10:.1f}" for tenths in range(11, 50)), "5.0"]
    assert (classes, len(classes)) == (RATING_CLASSES, 41)
    assert ["", "yes", "no", "like", "dislike", *"012345", *classes] == ANSWERS
    assert {star: mean for star, (mean, _) in JITTER.items()} == {1: 1.2, 2: 1.95, 3: 2.95, 4: 3.95, 5: 4.75}
    assert round_stars(np.array([np.nan, 0.2, 1.4, 1.5, 4.49, 4.5, 9.0])).tolist() == [1, 1, 1, 2, 4, 5, 5]
    for star, (mean, deviation) in JITTER.items():
        rng = np.random.default_rng(star)
        targets = [jitter_stars(star, rng) for _ in range(2000)]
        assert set(targets) <= set(classes)
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
