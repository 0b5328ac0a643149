"""Prompts filled in: what stands where, what is cut, and how whole words are counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.models.p5.families import Family, PromptConfig
from llm4rec_cli.models.p5.questions import FIELD_TOKENS, JITTER, Prompter, Question, column, jittered
from llm4rec_cli.models.p5.vocabulary import END
from tests.models.p5_data import config, prompter, shop


@pytest.fixture
def filled(tmp_path):
    """filled(source, question, target="{star}", told="", **settings): the prompter and what it makes of a prompt."""

    def fill(source: str, question: Question, target: str = "{star}", told: str = "", **settings):
        prompts = {"p": PromptConfig(Family.rating, source, target)}
        found = prompter(replace(config(), prompts=prompts, **settings), shop(), tmp_path)
        return found, found.source("p", question), found.target("p", question, told)

    return fill


def names(found: Prompter, tokens) -> list[str]:
    vocabulary = found.vocabulary
    known = vocabulary.tokenizer
    return [
        known.id_to_token(t) if t < len(vocabulary.starting) else vocabulary.own[t - len(vocabulary.starting)]
        for t in tokens
    ]


def test_users_and_items_are_a_word_and_pieces_of_their_number(filled):
    found, (tokens, words), _ = filled("does {user} like {item} ?", Question(user=3, item=7))
    number = found.items[7]
    shown = names(found, tokens)
    assert shown[-1] == "</s>"
    start = shown.index("▁user")
    assert shown[start : start + 3] == ["▁user", "_", "04"]  # the fourth user, of 25: two digits are one piece
    start = shown.index("▁item")
    assert tokens[start + 2 : start + 4].tolist() == number.tolist()
    assert len(set(words[start : start + 4])) == 1  # one whole word
    assert words[-1] == 0


def test_whole_words_are_counted_from_one_and_bare_numbers_begin_one(filled):
    history = np.array([4, 9])
    found, (tokens, words), _ = filled("after {history} ?", Question(0, 0, history=history))
    shown = names(found, tokens)
    assert shown[0] == "▁after"
    assert words.tolist() == [1, 2, 2, 3, 4, 4, 5, 0]  # after, a number, a comma, a number, a mark, the end
    assert tokens[1:3].tolist() == found.items[4].tolist()


def test_a_history_is_joined_by_commas_or_arrows(filled):
    history = np.array([1, 2, 3])
    found, (commas, _), _ = filled("{history}", Question(0, 0, history=history))
    _, (arrows, _), _ = filled("{history}", Question(0, 0, history=history, arrow=True))
    assert names(found, commas).count("▁,") == 2
    assert "".join(names(found, arrows)).count("->") == 2


def test_the_oldest_history_gives_way_and_question_and_latest_items_stay(filled):
    history = np.arange(100)
    found, (tokens, _), _ = filled(
        "{user} had {history} . What is next ?", Question(1, 0, history=history), max_source=60
    )
    assert len(tokens) <= 60
    for item in (99, 98):
        assert "".join(names(found, found.items[item])) in "".join(names(found, tokens))
    _, (short, _), _ = filled("{user} had {history} . What is next ?", Question(1, 0, history=history[-3:]))
    assert tokens[-6:].tolist() == short[-6:].tolist()  # the question
    assert tokens[: len(found.prefix["user"][0]) + 1].tolist() == short[: len(found.prefix["user"][0]) + 1].tolist()


def test_a_review_loses_its_end_and_the_question_stays(filled):
    _, (whole, _), _ = filled("about {review} : its title ?", Question(0, 0, row=5))
    _, (cut, _), _ = filled("about {review} : its title ?", Question(0, 0, row=5), max_source=16)
    assert len(cut) == 16 < len(whole)
    assert cut[-5:].tolist() == whole[-5:].tolist()
    assert cut[:8].tolist() == whole[:8].tolist()


def test_a_long_title_is_cut_so_that_the_question_has_room(filled):
    shop().dataset.items.loc[0, "title"] = "lamp " * 500
    try:
        _, (tokens, _), _ = filled("about {title} ?", Question(0, 0))
    finally:
        shop().dataset.items.loc[0, "title"] = "lamp of make 0"
    assert len(tokens) <= FIELD_TOKENS + 5


def test_a_target_ends_and_is_cut_to_its_length(filled):
    _, _, target = filled("?", Question(0, 0, row=3), target="{explanation}", max_target=4)
    assert len(target) == 4
    assert target[-1] == END


def test_an_answer_is_written_as_told_and_an_item_by_its_bare_number(filled):
    found, _, target = filled("?", Question(0, 11), target="{target}")
    assert target.tolist() == [*found.items[11], END]
    found, _, target = filled("?", Question(0, 11, row=2), target="{star} , {explanation}", told="4.2")
    assert found.vocabulary.text(target[:-1]) == f"4.2 , {shop().dataset.interactions['explanation'][2]}"


def test_missing_texts_are_named_as_the_paper_does():
    items = shop().dataset.items
    kept = items["title"].copy()
    items.loc[1, "title"] = None
    assert column(shop(), "title", [])[1] == "unknown title"
    items["title"] = kept


@pytest.mark.parametrize("star", JITTER)
def test_jittered_stars_are_one_of_41_classes_around_their_mean(star):
    rng = np.random.default_rng(star)
    told = [jittered(star, rng) for _ in range(2000)]
    assert set(told) <= {f"{i / 10:.1f}" for i in range(10, 51)}
    mean, deviation = JITTER[star]
    assert np.mean([float(t) for t in told]) == pytest.approx(mean, abs=0.03)
    assert np.std([float(t) for t in told]) == pytest.approx(deviation, abs=0.05)
