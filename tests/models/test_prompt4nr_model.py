"""Prompt4NR: what it scores and learns, against transformers' own model and loss asked the long way round."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax
from transformers import BertForMaskedLM

from llm4rec_cli.config.schema import Precision, SplitName
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import TEST, leave_one_out
from llm4rec_cli.models.prompt4nr.config import Loss
from tests.builders import tiny_dataset
from tests.models.prompt4nr_data import TEMPLATES, TITLED, TITLES, config, log, model
from tests.models.tiny_bert import tiny_bert
from tests.numeric import assert_close

pytestmark = pytest.mark.numeric

SHOWN = log().impressions(TEST)
KINDS = ("discrete_utility", "continuous_emotion", "hybrid_action")
each_loss = pytest.mark.parametrize("loss", Loss)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return str(tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture
def built(backbone, tmp_path):
    """built(template, …): a model without a warm-up, on a BERT that has its head."""

    def build(template="hybrid_utility", seed=0, split=None, **changes):
        settings = replace(config(template), **{"backbone": backbone} | changes)
        settings.warm_up.epochs = 0
        return model(tmp_path, settings, split, seed)

    return build


def naive(of, backbone, user, items):
    """(n,) log-odds of the positive word against the negative one, row by row by transformers.

    Args:
        user: (n,) which impression's history each pair has.
    """
    bert = BertForMaskedLM.from_pretrained(backbone).eval()
    n_words = bert.config.vocab_size
    bert.resize_token_embeddings(n_words + len(of.bert.new), mean_resizing=False)
    with torch.no_grad():
        bert.bert.embeddings.word_embeddings.weight[n_words:] = of.bert.new
    filled = of.filler.fill(of.filler.histories(SHOWN), np.array(user), np.array(items))
    found = []
    for i, place in enumerate(filled.mask):
        tokens = torch.from_numpy(filled.tokens.rows(np.array([i])).flat.astype(np.int64))
        with torch.no_grad():
            negative, positive = bert(input_ids=tokens[None]).logits[0, place, list(of.filler.pieces.answers)]
        found.append(float(positive - negative))
    return torch.tensor(found)


def rows_and_items(shown):
    items, offsets = shown.shown()
    return np.repeat(np.arange(len(shown)), np.diff(offsets)), items


@pytest.mark.parametrize("template", KINDS)
def test_a_score_is_the_probability_of_the_positive_word(built, backbone, template):
    of = built(template, loss=Loss.pointwise)
    expected = naive(of, backbone, *rows_and_items(SHOWN)).sigmoid()
    assert_close(of.score_shown(SHOWN), expected, rel=1e-5)


def test_a_score_is_the_share_of_the_probability_where_the_shown_compete(built, backbone):
    of = built()
    parts = naive(of, backbone, *rows_and_items(SHOWN)).split(SHOWN.n_shown.tolist())
    expected = torch.cat([part.softmax(0) for part in parts])
    assert_close(of.score_shown(SHOWN), expected, rel=1e-5)


@each_loss
def test_candidates_are_scored_as_what_is_shown(built, loss):
    of = built(loss=loss)
    n = 5
    candidates = np.array([[0, 3, 9, 9], [28, 1, 2, 29]] * 3)[:n]
    nothing = np.zeros(n, dtype=np.int64)
    asked = Examples(
        SHOWN.user[:n], nothing, SHOWN.sequence, SHOWN.start[:n], SHOWN.end[:n], nothing, candidates=candidates
    )
    first = np.arange(n) * 4
    shown = replace(SHOWN[:n], listed=candidates.ravel(), first=first, last=first + 4)
    assert_close(of.score(asked), of.score_shown(shown).view(n, 4), rel=5e-6)


@each_loss
def test_items_of_one_title_tie_exactly(built, loss):
    """However the batches fall: 28 is named as 1 is."""
    assert TITLES[28] == TITLES[1]
    of = built(loss=loss)
    n = len(SHOWN)
    listed = np.tile([28, 7, 1, 0, 1, 13, 28], n)
    first = np.arange(n) * 7
    scores = of.score_shown(replace(SHOWN, listed=listed, first=first, last=first + 7)).view(n, 7)
    assert all(torch.equal(scores[:, 0], scores[:, place]) for place in (2, 4, 6))
    assert (scores[:, 0] != scores[:, 1]).all()


@each_loss
@pytest.mark.parametrize("at_once", [1, 64, 400])
def test_scores_do_not_depend_on_how_many_are_scored_at_once(built, loss, at_once, monkeypatch):
    of = built(loss=loss)
    whole = of.score_shown(SHOWN)
    monkeypatch.setattr("llm4rec_cli.models.prompt4nr.model.TOKENS_AT_ONCE", {"cpu": at_once})
    assert_close(of.score_shown(SHOWN), whole, rel=5e-6)


def test_scoring_in_bf16_comes_near_that_in_fp32(built):
    exact, fast = (built(scoring=precision).score_shown(SHOWN) for precision in (Precision.fp32, Precision.bf16))
    assert 0 < (exact - fast).abs().max() < 0.1
    assert fast.dtype == torch.float32


# --- what is learnt


@pytest.mark.parametrize("template", KINDS)
def test_listwise_a_click_competes_with_its_negatives(built, template):
    of = built(template)
    rows = of.training_rows()
    batch = rows.batch(0, list(range(6)))
    with torch.no_grad():
        found = of(**batch)
        logits = of.bert.logits(
            of.bert(*(batch[key] for key in ("places", "tokens", "position", "groups", "lengths", "begins"))),
            of.answers,
        )
    log_odds = (logits[:, 1] - logits[:, 0]).view(6, 5)
    assert found["n_terms"] == 6
    assert found["loss"].item() == pytest.approx(-log_softmax(log_odds, 1)[:, 0].mean().item(), rel=1e-5)


def test_pointwise_every_row_is_an_answer_of_its_own(built):
    of = built(loss=Loss.pointwise)
    batch = of.training_rows().batch(0, list(range(3, 14)))
    with torch.no_grad():
        found = of(**batch)
        inputs = {key: value for key, value in batch.items() if key != "is_click"}
        logits = of.bert.logits(of.bert(**inputs), of.answers)
    assert found["n_terms"] == 11
    assert found["loss"].item() == pytest.approx(cross_entropy(logits, batch["is_click"].long()).item(), rel=1e-5)


@each_loss
def test_the_log_tells_how_many_clicks_are_answered_positively_and_how_far_answers_spread(built, loss):
    of = built(loss=loss)
    batch = of.training_rows().batch(0, list(range(10)))
    with torch.no_grad():
        sums = of(**batch)["sums"]
        inputs = {key: value for key, value in batch.items() if key != "is_click"}
        log_odds = of.bert.logits(of.bert(**inputs), of.answers).diff(dim=1).squeeze(1)
    right = (log_odds[batch["is_click"]] > 0).sum().item()
    assert sums["positive_accuracy"].tolist() == [right, batch["is_click"].sum().item()]
    total, n = sums["spread"].tolist()
    assert total / n == pytest.approx(log_odds.std(correction=0).item(), rel=1e-5)


def test_pointwise_training_that_answers_every_click_negatively_is_told(built, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("llm4rec_cli"), "propagate", True)
    of = built(loss=Loss.pointwise)

    def told(bias):
        """What is warned of after a batch, the negative word's logit being so high."""
        caplog.clear()
        with torch.no_grad():
            of.bert.bias[of.answers[0]] = bias
            sums = of(**of.training_rows().batch(0, list(range(10))))["sums"]
        assert of.facts({name: (total / n).item() for name, (total, n) in sums.items()}) == {}
        return caplog.text

    assert "none of the epoch's clicks was answered 'good'" in told(1000.0)
    assert told(-1000.0) == ""
    of.facts({})  # of an epoch without clicks there is nothing to tell
    assert caplog.text == ""


def a_step(of):
    """The weights before and after one step of SGD."""
    before = {name: value.clone() for name, value in of.state_dict().items()}
    optimiser = torch.optim.SGD([weight for weight in of.parameters() if weight.requires_grad], lr=0.1)
    of.train()(**of.training_rows().batch(0, list(range(20))))["loss"].backward()
    optimiser.step()
    return before, of.state_dict()


def test_with_prompt_only_the_virtual_tokens_alone_are_trained(built):
    of = built("continuous_utility", prompt_only=True)
    before, after = a_step(of)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"bert.new"}
    assert (before["bert.new"] != after["bert.new"]).any(1).all()  # [NSEP] too is new
    assert sum(weight.numel() for weight in of.parameters() if weight.requires_grad) == 10 * 32


def test_otherwise_everything_is_trained(built):
    before, after = a_step(built("continuous_utility", loss=Loss.pointwise))
    assert {name for name in before if torch.equal(before[name], after[name])} == set()


def test_what_is_new_learns_at_a_rate_of_its_own(built, tmp_path):
    of = built()
    assert of.epsilon == 1e-6
    rates = {name: of.learning_rate_of(name, 2e-5) for name, _ in of.named_parameters()}
    assert {name for name, rate in rates.items() if rate != 2e-5} == {"bert.new"}
    assert rates["bert.new"] == 1e-3
    headless = built(backbone=str(tiny_bert(tmp_path / "headless", head=False)))
    new = {name for name, _ in headless.named_parameters() if headless.learning_rate_of(name, 2e-5) == 1e-3}
    assert new == {
        "bert.new",
        "bert.bias",
        *(f"bert.transform.{part}.{kind}" for part in ("dense", "LayerNorm") for kind in ("weight", "bias")),
    }


def test_seeds_draw_other_virtual_tokens_and_no_other_backbone(built):
    first, other = (built(seed=seed).state_dict() for seed in (0, 1))
    assert {name for name in first if not torch.equal(first[name], other[name])} == {"bert.new"}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_few_steps_make_clicks_likelier_whatever_the_template(built, template):
    of = built(template, titles=2)
    batch = of.training_rows().batch(0, list(range(0, 40, 4)))
    before = of(**batch)["loss"].item()
    optimiser = torch.optim.Adam(of.parameters(), lr=1e-3)
    for _ in range(10):
        optimiser.zero_grad()
        of(**batch)["loss"].backward()
        optimiser.step()
    assert of(**batch)["loss"].item() < 0.8 * before


def test_it_is_trained_and_asked_on_a_shop(built):
    found = tiny_dataset([[0, 1, 2, 3], [4, 1, 0, 6], [3, 9, 2]], n_items=TITLED)
    found.items["title"] = list(TITLES[:TITLED])
    split = leave_one_out(found)
    of = built(split=split)
    rows = of.training_rows()
    assert len(rows) == 2
    assert of(**rows.batch(0, [0, 1]))["loss"].isfinite()
    asked = split.examples(SplitName.test)
    scores = of.score(replace(asked, candidates=np.tile(np.arange(9), (len(asked), 1))))
    assert scores.shape == (3, 9)
    torch.testing.assert_close(scores.sum(1), torch.ones(3))


# --- how it is told


def test_the_name_tells_the_template_and_what_is_trained():
    assert config("hybrid_action").shown_as() == "prompt4nr hybrid_action"
    assert replace(config("hybrid_action"), prompt_only=True).shown_as().endswith("virtual tokens alone")


def test_deviations_of_the_papers_settings_are_few():
    ours, paper = config(), config("discrete_utility", "+experiment=prompt4nr/paper")
    said = ours.deviations()
    assert any("backbone minilm" in one for one in said)
    assert any("compete in one softmax" in one for one in said)
    assert any("drawn anew each epoch" in one for one in said)
    assert any("a masked-language-model warm-up" in one for one in said)
    assert any("histories of 6 titles" in one for one in replace(ours, titles=6).deviations())
    assert paper.backbone == "bert-base-uncased"
    assert paper.loss is Loss.pointwise
