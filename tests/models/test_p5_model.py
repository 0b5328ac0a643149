"""P5 as the tasks ask it: likelihoods against T5's own, candidates, stars, texts, and the held-out loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from llm4rec_cli.config.schema import Candidates, Index, SplitName, Written
from llm4rec_cli.data.candidates import with_candidates
from llm4rec_cli.models.base import Context, Kept
from llm4rec_cli.models.p5.config import WholeWord
from llm4rec_cli.models.p5.model import CLASSES, UNREACHED, build, stars
from tests.models.p5_data import N_ITEMS, config, shop
from tests.numeric import assert_close

pytestmark = pytest.mark.numeric

ASKED = shop().examples(SplitName.test)


@pytest.fixture
def model(tmp_path):
    """model(task, **settings): P5 over the shop, untrained, for a task."""

    def make(task: str, ask: str | None = None, seed: int = 0, **settings):
        torch.manual_seed(seed)
        found = replace(config(), **settings)
        if ask:
            found = replace(found, ask=replace(found.ask, **{task: ask}))
        return build(Context(found, shop(), seed, tmp_path, "cpu", task)).eval()

    return make


def likelihood(found, source, target) -> float:
    """The log-likelihood of a target's tokens by transformers' own forward, and no constraint."""
    tokens, words = source
    t5 = found.packed.t5
    embedded = t5.shared(torch.tensor(tokens)) + found.packed.words(torch.tensor(words))
    logits = t5(inputs_embeds=embedded[None], decoder_input_ids=torch.tensor([[0, *target[:-1]]])).logits[0]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(target)[:, None]).sum())


@torch.no_grad()
def constrained(found, source, codes) -> torch.Tensor:
    """The log-likelihood of each code, where each token is one of those that some code goes on with."""
    tokens, words = source
    t5 = found.packed.t5
    embedded = t5.shared(torch.tensor(tokens)) + found.packed.words(torch.tensor(words))
    totals = []
    for code in codes:
        logits = t5(inputs_embeds=embedded[None], decoder_input_ids=torch.tensor([[0, *code[:-1]]])).logits[0]
        total = 0.0
        for i, token in enumerate(code):
            allowed = sorted({other[i] for other in codes if other[:i] == code[:i] and len(other) > i})
            total += float(logits[i][allowed].log_softmax(0)[allowed.index(token)])
        totals.append(total)
    return torch.tensor(totals)


def test_an_item_scores_by_the_likelihood_of_its_name_among_names(model):
    found = model("sequential")
    asked = ASKED[:2]
    codes = [tuple(code.tolist()) for code in found.prompter.items]
    for place, question in enumerate(found._questions(asked)):
        expected = constrained(found, found.prompter.source("2-3", question), codes)
        assert_close(found.score(asked)[place], expected, rel=1e-3)


@pytest.mark.parametrize("index", [Index.collaborative, Index.random, Index.leaky_p5])
def test_likelihoods_of_all_items_sum_to_one_however_they_are_called(model, index):
    scores = model("sequential", index=index).score(ASKED[:5])
    assert_close(scores.logsumexp(1), torch.zeros(5), rel=1e-4)


def test_beams_score_what_they_end_with_exactly_and_the_rest_ties_below(model):
    exact = model("sequential", digits=1).score(ASKED)
    assert_close(model("sequential", digits=1, beams=N_ITEMS).score(ASKED), exact, rel=1e-4)
    few = model("sequential", digits=1, beams=5).score(ASKED)  # fewer than the names' last digits have parents
    assert ((few > UNREACHED).sum(1) == 5).all()
    assert (few.max(1).indices == exact.max(1).indices).float().mean() > 0.6


def test_beams_spend_no_place_on_what_the_history_rules_out(model):
    few = model("sequential", digits=1, beams=5).score(replace(ASKED, mask_history=True))
    row, item = replace(ASKED, mask_history=True).masked_items()
    assert (few[row, item] == UNREACHED).all()
    assert ((few > UNREACHED).sum(1) == 5).all()


def candidates(n: int = 6):
    asked = ASKED[:n]
    others = np.array([np.setdiff1d(np.arange(N_ITEMS), [t])[:99] for t in asked.target])
    return replace(asked, candidates=np.column_stack([asked.target, others]))


def test_yes_less_no_ranks_candidates_one_question_each(model):
    found, asked = model("direct", "5-1"), candidates(2)
    scores = found.score(asked)
    assert scores.shape == (2, 100)
    yes, no = ([*found.prompter.word(word)[0], 1] for word in ("yes", "no"))
    for place, column in ((0, 0), (1, 7)):
        question = replace(found._questions(asked)[place], item=int(asked.candidates[place, column]))
        source = found.prompter.source("5-1", question)
        first = len(yes) if yes[0] == no[0] else 1
        expected = likelihood(found, source, yes[:first]) - likelihood(found, source, no[:first])
        assert float(scores[place, column]) == pytest.approx(expected, abs=1e-3)


def test_candidates_told_in_the_prompt_stand_in_an_order_that_does_not_tell_the_target(model):
    found, asked = model("direct", "5-5"), candidates()
    told = [question.candidates for question in found._questions(asked, listed=True)]
    assert all(set(t.tolist()) == set(c.tolist()) for t, c in zip(told, asked.candidates, strict=True))
    assert len({t.tolist().index(target) for t, target in zip(told, asked.target, strict=True)}) > 1
    assert found.score(asked).shape == (6, 100)


def test_an_item_without_a_history_can_be_asked_for_in_the_whole_catalogue(model):
    assert model("direct", "straightforward").score(ASKED[:3]).shape == (3, N_ITEMS)


def test_stars_are_the_mean_of_their_classes_by_likelihood(model):
    found, asked = model("rating"), ASKED[:2]
    codes = [(*found.prompter.word(c)[0].tolist(), 1) for c in CLASSES]
    given = found.rate(asked)
    for place, question in enumerate(found._questions(asked)):
        chance = constrained(found, found.prompter.source("1-6", question), codes).double().softmax(0)
        expected = float((chance * torch.tensor([float(c) for c in CLASSES])).sum())
        assert given.value[place] == pytest.approx(expected, abs=1e-3)
    assert given.said is not None
    assert given.said.shape == (2,)


def test_like_and_dislike_are_read_as_stars_on_their_side(model):
    value = model("rating", "1-4").rate(ASKED).value
    assert ((value >= 2) & (value <= 5)).all()


@pytest.mark.parametrize(
    ("text", "number"),
    [("4.7", 4.7), ("5.0", 5.0), ("3", 3.0), ("4 . 2", 4.2), ("6", None), ("good", None), ("", None)],
)
def test_stars_are_read_in_words(text, number):
    assert stars(text) == pytest.approx(number) if number else np.isnan(stars(text))


@pytest.mark.parametrize(("task", "written"), [("explanation", "explanation"), ("review_summary", "review_title")])
def test_texts_are_written_alike_in_any_batch(model, task, written):
    found = model(task)
    texts = found.write(ASKED, Written(written))
    assert len(texts) == len(ASKED)
    assert [found.write(ASKED[[i]], Written(written))[0] for i in range(4)] == texts[:4]


def test_an_answer_does_not_look_at_what_it_is_compared_with(model):
    found = model("explanation")
    texts = found.write(ASKED, Written.explanation)
    interactions = shop().dataset.interactions
    kept = interactions.copy()
    try:
        interactions.loc[ASKED.row, ["explanation", "review_title", "review_text"]] = "something else"
        assert model("explanation").write(ASKED, Written.explanation) == texts
    finally:
        interactions[kept.columns] = kept


def test_what_stars_precede_is_taken_off_an_explanation(model, monkeypatch):
    found = model("explanation", "3-7")
    monkeypatch.setattr(found, "_greedy", lambda sources: ["4.5 , the lamp , is bright"] * len(sources))
    assert found.write(ASKED[:1], Written.explanation) == ["the lamp , is bright"]


def test_whole_words_are_given_at_evaluation_unless_the_published_omission_is_asked_for(model):
    always, training, never = (model("sequential", whole_word=w).score(ASKED) for w in WholeWord)
    assert not torch.allclose(always, training)
    torch.testing.assert_close(training, never)  # of the same weights


def test_the_held_out_loss_is_told_by_kind_and_repeats(model):
    found = model("all")
    first = found.held_out_losses(ASKED)
    assert first == found.held_out_losses(ASKED)
    assert {"loss/rating", "loss/sequential_item", "loss/explanation", "loss/direct_yes_no"} <= set(first)
    assert all(value > 0 for value in first.values())


def test_a_loss_is_the_mean_over_rows_of_the_mean_over_tokens(model):
    found = model("sequential").eval()
    rows = found.training_rows()
    indices = [0, 3, 90]
    told = float(found(**rows.batch(0, indices))["loss"])
    alone = [float(found(**rows.batch(0, [i]))["loss"]) for i in indices]
    assert told == pytest.approx(np.mean(alone), abs=1e-4)


def test_names_of_items_and_the_tokenizer_are_kept_with_a_run(model):
    found = model("sequential")
    assert isinstance(found, Kept)
    kept = found.artefacts()
    assert kept == model("sequential", seed=3).artefacts()
    assert kept != model("sequential", index=Index.random).artefacts()
    assert found.index.digest in kept["item_index.json"]


def test_weights_hold_each_table_once_and_come_back(model):
    first, second = model("sequential"), model("sequential", seed=1)
    state = first.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    second.load_state_dict(state)
    torch.testing.assert_close(second.score(ASKED), first.score(ASKED))


def test_sampled_candidates_of_the_house_are_taken_as_they_are(model, tmp_path):
    asked = with_candidates(ASKED, shop(), Candidates.uniform, 99, 0, tmp_path)[:3]
    assert model("direct").score(asked).shape == (3, 100)
