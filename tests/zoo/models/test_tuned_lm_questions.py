"""Questions as tokens: parts are tokenised apart, and what is scored has the form that was trained."""

from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.text.backbone import load_tokenizer
from llm4rec_zoo.models.tuned_lm.questions import Questions
from tests.zoo.models.tuned_lm_data import TITLES, config_of, likes, shop


@pytest.fixture
def questions(causal):
    def of(*typed, **prompts):
        config = config_of(causal, *typed)
        config = replace(config, prompts=replace(config.prompts, **prompts))
        return Questions(config, shop(), load_tokenizer(causal))

    return of


def text(questions, tokens):
    return questions.tokenizer.decode(list(tokens), skip_special_tokens=False)


def test_a_history_is_one_title_a_line_of_its_own_number_cut_without_special_tokens(questions):
    asked = questions()
    history = np.array([0, 3])
    assert text(asked, asked.next(history).tokens) == (
        "items that one person chose, in this order:\nRed Soap\nBlue Hair Dryer\n"
    )
    assert asked.next(history[:0]).tokens == [*asked.before]
    assert asked.same_title.tolist() == [0, 0, 2, 3, 4, 5, 6, 7]
    assert asked.title_of(asked.tokens(" Red  Soap\nBlue Hair")) == "Red Soap"
    assert asked.title_of(asked.tokens("\n")) == "unknown item"


def test_an_answer_has_the_same_tokens_in_training_and_in_scoring(questions):
    asked = questions("model.titles=3")
    items = np.array([4, 0, 3, 5])
    row, answers, named = asked.next_answered(items, 3)
    assert named == [0, 3, 5]
    for (begin, end), item in zip(answers, named, strict=True):
        assert row.tokens[begin:end] == asked.codes[item]
    begin, _ = answers[-1]
    assert row.tokens[:begin] == asked.next(items[:-1]).tokens
    asked = questions(next="Chosen {noun}s:\n{history}So what is next?\n")
    row, [(begin, end)], _ = asked.next_answered(np.array([4, 0, 3]), 1)
    assert row.tokens[:begin] == asked.next(np.array([4, 0])).tokens
    assert text(asked, row.tokens[:begin]).endswith("Red Soap\nSo what is next?\n")
    assert row.tokens[begin:end] == asked.codes[3]
    row, answers, _ = questions("model.answer=item_head").next_answered(np.array([4, 0, 3]), 2)
    assert len(row.tokens) == answers[-1][0], "without its tokens the last answer is left out"


def test_yes_and_no_are_tokenised_apart_from_the_question_and_questions_share_a_history(questions):
    asked = questions()
    row, other = asked.click(np.array([0, 3]), np.array([4, 5]))
    yes, no = asked.decided(row, True), asked.decided(row, False)
    for answered, tokens in ((yes, asked.tokens(" Yes")), (no, asked.tokens(" No"))):
        (begin, end) = answered.answers[0]
        assert answered.row.tokens[:begin] == row.tokens
        assert answered.row.tokens[begin:end] == tokens
    assert text(asked, row.tokens).endswith('choose the item "Hair Brush"? Answer:')
    assert row.shared == other.shared
    assert text(asked, row.shared).endswith("Would they choose the item")
    assert text(asked, other.own) == ' "Brush"? Answer:'


def test_likes_and_dislikes_are_listed_apart_and_all_questions_begin_alike(questions):
    asked, rows = questions("task=like"), likes()
    row = next(i for i in range(len(rows)) if rows.examples.history_length[i] == 2)
    example = rows.examples[[row]]
    (asked_row,) = asked.likes(example)
    shown = {True: [], False: []}
    for item, liked in zip(example.histories()[0], example.liked_in_history(), strict=True):
        shown[bool(liked)].append(f'"{TITLES[item]}"')
    assert text(asked, asked_row.tokens) == (
        f"What one person thinks of some items.\nLiked: {', '.join(shown[True])}\nDisliked: {', '.join(shown[False])}\n"
        f'Would they like the item "{TITLES[example.target[0]]}"? Answer:'
    )
    assert len({row.shared for row in asked.likes(rows.examples)}) == 1


def test_titles_are_on_one_line_cut_and_hold_no_special_token(questions):
    asked = questions("model.title_tokens=4")
    assert asked.titles[6] == "unknown item"[: len(asked.titles[6])]
    special = {asked.tokenizer.token_to_id(token) for token in ("<|im_end|>", "<|im_start|>", "<|endoftext|>")}
    assert not special & {token for code in questions().codes for token in code}
    separator = asked.tokens("\n")
    for title, code in zip(asked.titles, asked.codes, strict=True):
        assert len(code) <= 4 + len(separator)
        assert text(asked, code) == f"{title}\n"
