"""P5's scores, ratings, texts and held-out losses, with likelihoods checked against transformers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from llm4rec_cli.config.schema import Candidates, Index, SplitName, Written
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.candidates import with_candidates
from llm4rec_cli.models.base import Context, HasArtifacts
from llm4rec_cli.models.p5.model import RATING_CLASSES, build, parse_as_published, parse_stars
from llm4rec_cli.models.p5.settings import AnswerLoss, Feature, PromptFamily, Start, WholeWord
from tests.models.p5_data import N_ITEMS, config, shop
from tests.support.driver import job_of

pytestmark = pytest.mark.numeric

EXAMPLES = shop().examples(SplitName.test)


@pytest.fixture
def model(tmp_path):
    """model(task, **settings): an untrained P5 over the shop."""

    def make(task: str, ask: str | None = None, seed: int = 0, **settings):
        torch.manual_seed(seed)
        chosen = replace(config(), **settings)
        if ask:
            chosen = replace(chosen, ask=replace(chosen.ask, **{task: ask}))
        return build(Context(chosen, shop(), seed, tmp_path, "cpu", task)).eval()

    return make


def likelihood(p5, source, target) -> float:
    """The unconstrained log-likelihood of a target's tokens, by the forward pass of transformers."""
    tokens, words = source
    t5 = p5.packed.t5
    embedded = t5.shared(torch.tensor(tokens)) + p5.packed.words(torch.tensor(words))
    logits = t5(inputs_embeds=embedded[None], decoder_input_ids=torch.tensor([[0, *target[:-1]]])).logits[0]
    return float(logits.detach().log_softmax(-1).gather(1, torch.tensor(target)[:, None]).sum())


@torch.no_grad()
def constrained(p5, source, codes) -> torch.Tensor:
    """The log-likelihood of each code, renormalised over the tokens that continue some code."""
    tokens, words = source
    t5 = p5.packed.t5
    embedded = t5.shared(torch.tensor(tokens)) + p5.packed.words(torch.tensor(words))
    totals = []
    for code in codes:
        logits = t5(inputs_embeds=embedded[None], decoder_input_ids=torch.tensor([[0, *code[:-1]]])).logits[0]
        total = 0.0
        for i, token in enumerate(code):
            allowed = sorted({other[i] for other in codes if other[:i] == code[:i] and len(other) > i})
            total += float(logits[i][allowed].log_softmax(0)[allowed.index(token)])
        totals.append(total)
    return torch.tensor(totals)


def test_an_items_score_is_the_likelihood_of_its_code_among_all_codes(model):
    p5 = model("sequential")
    examples = EXAMPLES[:2]
    codes = [tuple(code.tolist()) for code in p5.filler.item_codes]
    for row, values in enumerate(p5._field_values(examples)):
        expected = constrained(p5, p5.filler.source("2-3", values), codes)
        assert_close(p5.score(examples)[row], expected, rel=1e-3)


def test_beams_score_the_items_that_they_return_exactly_and_the_rest_ties_below(model):
    exact = model("sequential", digits=1).score(EXAMPLES)
    assert_close(model("sequential", digits=1, beams=N_ITEMS).score(EXAMPLES), exact, rel=1e-4)
    p5 = model("sequential", digits=1, beams=5)  # fewer than the inner nodes above the last digits
    few = p5.score(EXAMPLES)
    assert ((few > few.amin(1, keepdim=True)).sum(1) == 5).all()
    assert_close(few.topk(6).values.diff(dim=1)[:, -1], -torch.ones(len(few)), rel=1e-4)
    assert (few.max(1).indices == exact.max(1).indices).float().mean() > 0.6
    masked = replace(EXAMPLES, mask_history=True)
    few, (row, item) = p5.score(masked), masked.masked_items()
    least = few.amin(1, keepdim=True)
    assert (few[row, item] == least[row, 0]).all(), "the history rules these out"
    assert ((few > least).sum(1) == 5).all()


def examples_with_candidates(n: int = 6):
    examples = EXAMPLES[:n]
    others = np.array([np.setdiff1d(np.arange(N_ITEMS), [t])[:99] for t in examples.target])
    return replace(examples, candidates=np.column_stack([examples.target, others]))


def test_candidates_are_ranked_by_log_yes_minus_log_no_in_an_order_that_does_not_reveal_the_target(model):
    p5, examples = model("direct", "5-1"), examples_with_candidates(2)
    scores = p5.score(examples)
    assert scores.shape == (2, 100)
    yes, no = ([*p5.filler.short_text(word)[0], 1] for word in ("yes", "no"))
    for row, column in ((0, 0), (1, 7)):
        values = replace(p5._field_values(examples)[row], item=int(examples.candidates[row, column]))
        source = p5.filler.source("5-1", values)
        first = len(yes) if yes[0] == no[0] else 1
        expected = likelihood(p5, source, yes[:first]) - likelihood(p5, source, no[:first])
        assert float(scores[row, column]) == pytest.approx(expected, abs=1e-3)
    p5, examples = model("direct", "5-5"), examples_with_candidates()
    shown = [values.candidates for values in p5._field_values(examples, with_candidates=True)]
    assert all(set(s.tolist()) == set(c.tolist()) for s, c in zip(shown, examples.candidates, strict=True))
    assert len({s.tolist().index(target) for s, target in zip(shown, examples.target, strict=True)}) > 1
    assert p5.score(examples).shape == (6, 100)


def test_direct_ranks_the_catalogue_without_a_history_or_candidates_with_it(model, tmp_path):
    assert model("direct", "straightforward").score(EXAMPLES[:3]).shape == (3, N_ITEMS)
    examples = replace(EXAMPLES[:3], candidates=np.array([[0, 3, 5, 7]] * 3))
    among_candidates = model("direct", "2-5").score(examples)
    catalogue = model("sequential", "2-5").score(EXAMPLES[:3]).gather(1, torch.tensor([[0, 3, 5, 7]] * 3))
    torch.testing.assert_close(among_candidates.log_softmax(1), catalogue.log_softmax(1))
    shared = with_candidates(EXAMPLES, shop(), Candidates.uniform, 99, 0, tmp_path)[:3]
    assert model("direct").score(shared).shape == (3, 100)


@pytest.mark.parametrize(("feature", "owner"), [(Feature.of_user, "user"), (Feature.of_item, "item")])
def test_an_explanation_may_be_about_a_usual_feature(model, feature, owner):
    p5 = model("explanation", "3-9", feature=feature)
    features = p5.split.dataset.interactions["feature"]
    for values in p5._field_values(EXAMPLES):
        shown = p5.vocabulary.decode(p5.filler.source("3-9", values)[0].tolist())
        assert f" {features[p5.usual_features[getattr(values, owner)]]} :" in shown  # Speaking of {feature} : what …
    assert model("explanation", "3-1", feature=feature).usual_features is None


def test_scores_of_prompts_are_averaged_and_evaluation_adds_whole_words_only_with_always(model):
    alone = [model("sequential", name).score(EXAMPLES[:3]) for name in ("2-4", "2-5")]
    torch.testing.assert_close(model("sequential", "2-4+2-5").score(EXAMPLES[:3]), (alone[0] + alone[1]) / 2)
    always, training, never = (model("sequential", whole_word=w).score(EXAMPLES) for w in WholeWord)
    assert not torch.allclose(always, training)
    torch.testing.assert_close(training, never)  # with the same weights
    p5 = model("all")
    first = p5.held_out_losses(EXAMPLES)
    assert first == p5.held_out_losses(EXAMPLES)
    assert {"loss/rating", "loss/sequential_item", "loss/explanation", "loss/direct_yes_no"} <= set(first)
    assert all(value > 0 for value in first.values())


def test_stars_are_the_mean_of_their_classes_by_likelihood(model):
    p5, examples = model("rating"), EXAMPLES[:2]
    codes = [(*p5.filler.short_text(c)[0].tolist(), 1) for c in RATING_CLASSES]
    ratings = p5.rate(examples)
    for row, values in enumerate(p5._field_values(examples)):
        chance = constrained(p5, p5.filler.source("1-6", values), codes).double().softmax(0)
        expected = float((chance * torch.tensor([float(c) for c in RATING_CLASSES])).sum())
        assert ratings.value[row] == pytest.approx(expected, abs=1e-3)
    assert ratings.parsed is not None
    assert ratings.parsed.shape == ratings.parsed_as_published.shape == (2,)


def test_stars_are_parsed_as_written_and_as_by_the_published_notebooks():
    def same(parsed, number):
        return np.isnan(parsed) if number is None else parsed == pytest.approx(number)

    for text, number in (
        ("4.7", 4.7),
        ("5.0", 5.0),
        ("3", 3.0),
        ("4 . 2", 4.2),
        ("6", None),
        ("good", None),
        ("", None),
    ):
        assert same(parse_stars(text), number), text
    for text, of_rating, of_review in (
        *(("4.7", 4.7, 5), ("4 . 2", 4.2, 4), ("4.9", 4.9, 5), ("5.0", None, 5), ("4", None, 4), ("3.95", None, 4)),
        *(("7", None, 5), ("good", None, None)),
    ):
        assert same(parse_as_published(text, PromptFamily.rating), of_rating), text
        assert same(parse_as_published(text, PromptFamily.review_summary), of_review), text


def test_explanations_lose_their_stars_and_likes_become_stars(model, monkeypatch):
    p5 = model("explanation", "3-7")
    monkeypatch.setattr(p5.vocabulary, "decode", lambda tokens: "4.5 , the lamp , is bright")
    assert p5.write(EXAMPLES[:1], Written.explanation) == ["the lamp , is bright"]
    value = model("rating", "1-4").rate(EXAMPLES).value
    assert ((value >= 2) & (value <= 5)).all()


@torch.no_grad()
def test_the_loss_is_the_mean_over_examples_of_the_mean_over_tokens_and_the_codes_divides_by_length_twice(model):
    """Sums by kind, and so the logged losses, stay means over tokens."""
    once, twice = model("all"), model("all", loss=AnswerLoss.by_length_twice)
    rows, indices = once.training_rows(), [*range(0, 400, 40)]
    alone = [rows.batch(0, [i]) for i in indices]
    lengths = [int(batch["lengths"][0, 1]) for batch in alone]
    assert len(set(lengths)) > 2
    means = [once(**batch)["loss"].item() for batch in alone]
    assert once(**rows.batch(0, indices))["loss"].item() == pytest.approx(np.mean(means), rel=1e-5)
    result = twice(**rows.batch(0, indices))
    assert result["loss"].item() == pytest.approx(np.mean(np.array(means) / lengths), rel=1e-5)
    assert sum(total.item() for total, _ in result["sums"].values()) == pytest.approx(sum(means), rel=1e-5)


def test_the_item_index_and_tied_weights_are_saved_once(model):
    p5 = model("sequential")
    assert isinstance(p5, HasArtifacts)
    kept = p5.artifacts()
    assert kept == model("sequential", seed=3).artifacts()
    assert kept != model("sequential", index=Index.random).artifacts()
    assert p5.index.digest in kept["item_index.json"]
    state = p5.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)


def test_statistics_start_items_users_attention_and_a_token_of_each_star(model):
    settings = {"index": Index.independent, "user_tokens": True}
    random, started = (model("sequential", start=start, **settings) for start in (Start.random, Start.statistics))
    items = torch.tensor([code[0] for code in started.filler.item_codes])
    users = torch.tensor([code[0] for code in started.filler.user_codes])
    before, after = random.packed.t5.shared.weight, started.packed.t5.shared.weight
    half = after.shape[1] // 2
    changed = before != after
    assert changed[items].all()
    assert changed[users, :half].any(1).all()
    assert not changed[users, half:].any()
    changed[torch.cat([items, users])] = False
    assert not changed.any()
    for block in started.packed.t5.decoder.block:
        assert not block.layer[1].EncDecAttention.o.weight[:half].any()
    started = model("rating", index=Index.independent, user_tokens=True, start=Start.statistics_and_stars)
    first = [started.filler.short_text(text)[0].tolist()[0] for text in RATING_CLASSES]
    by_star = {text[0]: token for text, token in zip(RATING_CLASSES, first, strict=True)}
    assert len(set(first)) == len(by_star) == 5
    table = started.packed.t5.shared.weight.detach()
    weights = table[[by_star[star] for star in "12345"], -1]
    assert weights.tolist() == [-5, -2.5, 0, 2.5, 5]
    items = torch.tensor([code[0] for code in started.filler.item_codes])
    stars_of_items = table[items, table.shape[1] // 2 - 1]
    assert stars_of_items.square().mean().sqrt() == pytest.approx(5, rel=1e-3), "attention carries them to that place"


def test_statistics_start_random_weights_of_items_with_a_token_each_and_no_others():
    task = job_of("model=p5", "task=sequential").config.task
    for index, backbone, start in (
        (Index.independent, "tiny", Start.statistics),
        (Index.independent, "wide", Start.statistics),
        (Index.collaborative, "tiny", Start.random),
        (Index.independent, "t5-small", Start.random),
    ):
        settings = replace(config(), start=Start.statistics, index=index, backbone=backbone)
        assert settings.derived_settings(task, None).get("start", settings.start) is start
