"""Prompt4NR's scores and losses, compared with the model and loss of transformers computed row by row."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax
from transformers import BertForMaskedLM

from llm4rec_cli.config.schema import Precision
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import TEST
from llm4rec_cli.models.prompt4nr.settings import Attention, ClickLoss
from tests.models.prompt4nr_data import TITLES, config, log, model
from tests.models.tiny_bert import tiny_bert

pytestmark = pytest.mark.numeric

SHOWN = log().impressions(TEST)
KINDS = ("discrete_utility", "continuous_emotion", "hybrid_action")
each_loss = pytest.mark.parametrize("loss", ClickLoss)
each_attention = pytest.mark.parametrize("attention", Attention)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return str(tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture
def built(backbone, tmp_path):
    """built(template, …): a model without a warm-up, on a BERT with a head."""

    def build(template="hybrid_utility", seed=0, split=None, **changes):
        settings = replace(config(template), **{"backbone": backbone} | changes)
        settings.warm_up.epochs = 0
        return model(tmp_path, settings, split, seed)

    return build


def with_new_tokens(prompt4nr, backbone):
    """The model of transformers in float64, with the embeddings of the new tokens."""
    bert = BertForMaskedLM.from_pretrained(backbone).eval()
    n_words = bert.config.vocab_size
    bert.resize_token_embeddings(n_words + len(prompt4nr.bert.new), mean_resizing=False)
    with torch.no_grad():
        bert.bert.embeddings.word_embeddings.weight[n_words:] = prompt4nr.bert.new
    return bert.double()


def naive(prompt4nr, backbone, history, items):
    """(n, n_words) logits at the mask, row by row by transformers; `history` (n,) numbers impressions."""
    bert, filler = with_new_tokens(prompt4nr, backbone), prompt4nr.filler
    filled = filler.fill(filler.tokenize_histories(SHOWN), np.array(history), np.array(items))
    at_mask = []
    for i, position in enumerate(filled.mask_position):
        tokens = torch.from_numpy(filled.tokens.rows(np.array([i])).flat.astype(np.int64))
        with torch.no_grad():
            at_mask.append(bert(input_ids=tokens[None]).logits[0, position])
    return torch.stack(at_mask)


def naive_shared(prompt4nr, backbone, history, items):
    """The same with `model.attention=shared`; positions are those with a candidate of 40 tokens."""
    bert, filler = with_new_tokens(prompt4nr, backbone), prompt4nr.filler
    user_first, history_side, candidate_side = filler.template.sides
    users, at_mask = filler.tokenize_histories(SHOWN), []
    for i, item in zip(history, items, strict=True):
        fields = {"user": users.rows(np.array([i])).flat, "candidate": filler.candidates.rows(np.array([item])).flat}
        fields["mask"] = [filler.template.mask_token]
        shared, own = (
            [token for part in side for token in (fields[part] if isinstance(part, str) else part)]
            for side in (history_side, candidate_side)
        )
        reserved = 40 + len(own) - len(fields["candidate"])
        first, second = (0, len(shared)) if user_first else (reserved, 0)
        position = [*range(first, first + len(shared)), *range(second, second + len(own))]
        sees = torch.zeros(1, 1, len(position), len(position), dtype=torch.float64)
        sees[..., : len(shared), len(shared) :] = -torch.inf
        inputs = torch.tensor([[*shared, *own]]), torch.tensor([position])
        with torch.no_grad():
            logits = bert(input_ids=inputs[0], position_ids=inputs[1], attention_mask=sees).logits[0]
        at_mask.append(logits[len(shared) + own.index(filler.template.mask_token)])
    return torch.stack(at_mask)


def log_odds(prompt4nr, logits):
    """(n,) log-odds of the positive word against the negative one."""
    return logits[:, prompt4nr.answers].diff(dim=1).squeeze(1)


def assert_rounded(scores, expected, logits):
    """Assert that scores are those computed from logits in float64, up to fp32 rounding of the logits.

    Log-odds are a difference of two logits, so that their rounding scales with the logits, however close these are. The
    slope of a score in its log-odds is at most 1/4, in a sigmoid and in a softmax.
    """
    torch.testing.assert_close(scores.double(), expected, atol=1e-5 * logits.abs().max().item() / 4, rtol=0)


def pairs(impressions):
    items, offsets = impressions.shown()
    return np.repeat(np.arange(len(impressions)), np.diff(offsets)), items


@each_attention
@pytest.mark.parametrize("template", KINDS)
def test_pointwise_a_score_is_the_probability_of_the_positive_word(built, backbone, template, attention):
    """With shared histories: transformers reads the template in one row, with the positions of its sides and a mask."""
    prompt4nr = built(template, loss=ClickLoss.pointwise, attention=attention)
    logits = (naive if attention is Attention.full else naive_shared)(prompt4nr, backbone, *pairs(SHOWN))
    assert_rounded(prompt4nr.score_shown(SHOWN), log_odds(prompt4nr, logits).sigmoid(), logits)


def test_listwise_a_score_is_the_softmax_over_the_shown_items(built, backbone):
    prompt4nr = built()
    logits = naive(prompt4nr, backbone, *pairs(SHOWN))
    lists = log_odds(prompt4nr, logits).split(SHOWN.n_shown.tolist())
    assert_rounded(prompt4nr.score_shown(SHOWN), torch.cat([part.softmax(0) for part in lists]), logits)


@each_loss
def test_candidates_are_scored_like_shown_items(built, loss):
    prompt4nr = built(loss=loss)
    n = 5
    candidates = np.array([[0, 3, 9, 9], [28, 1, 2, 29]] * 3)[:n]
    zeros = np.zeros(n, dtype=np.int64)
    examples = Examples(
        SHOWN.user[:n], zeros, SHOWN.sequence, SHOWN.start[:n], SHOWN.end[:n], zeros, candidates=candidates
    )
    first = np.arange(n) * 4
    shown = replace(SHOWN[:n], listed=candidates.ravel(), first=first, last=first + 4)
    assert_close(prompt4nr.score(examples), prompt4nr.score_shown(shown).view(n, 4), rel=5e-6)


@each_loss
@each_attention
def test_items_with_the_same_title_tie_exactly_and_scores_do_not_depend_on_the_batch_size(
    built, loss, attention, monkeypatch
):
    """However they are batched: items 28 and 1 share a title."""
    assert TITLES[28] == TITLES[1]
    prompt4nr = built(loss=loss, attention=attention)
    n = len(SHOWN)
    listed = np.tile([28, 7, 1, 0, 1, 13, 28], n)
    first = np.arange(n) * 7
    scores = prompt4nr.score_shown(replace(SHOWN, listed=listed, first=first, last=first + 7)).view(n, 7)
    assert all(torch.equal(scores[:, 0], scores[:, place]) for place in (2, 4, 6))
    assert (scores[:, 0] != scores[:, 1]).all()
    whole = prompt4nr.score_shown(SHOWN)
    for batch_tokens in (1, 64, 400):
        monkeypatch.setattr("llm4rec_cli.models.shared.tokens.TOKENS_PER_BATCH", {"cpu": batch_tokens})
        assert_close(prompt4nr.score_shown(SHOWN), whole, rel=5e-6)


def test_under_autocast_and_in_bf16_log_odds_are_not_rounded(built):
    bert = built().bert
    states, words = torch.randn(9, 32, dtype=torch.bfloat16), torch.tensor([7, 9])
    expected = states.float() @ bert.words.weight[words].T + bert.bias[words]
    with torch.autocast("cpu", torch.bfloat16):
        logits = bert.logits(states, words)
    assert logits.dtype == torch.float32
    assert_close(logits, expected, rel=1e-6)
    exact, fast = (built(scoring=scoring).score_shown(SHOWN) for scoring in (Precision.fp32, Precision.bf16))
    assert 0 < (exact - fast).abs().max() < 0.1
    assert fast.dtype == torch.float32


@each_loss
@pytest.mark.parametrize("template", KINDS)
def test_the_loss_and_the_log_are_those_of_the_answer_words(built, template, loss):
    """Listwise a softmax over a click and its negatives, pointwise one over the two words of each row."""
    prompt4nr = built(template, loss=loss)
    batch = prompt4nr.training_rows().batch(0, list(range(3, 14)))
    with torch.no_grad():
        outputs = prompt4nr(**batch)
        inputs = {key: value for key, value in batch.items() if key != "is_click"}
        logits = prompt4nr.bert.logits(prompt4nr.bert(**inputs), prompt4nr.answers)
    log_odds = logits[:, 1] - logits[:, 0]
    if loss is ClickLoss.listwise:
        expected, lists = -log_softmax(log_odds.view(11, 5), 1)[:, 0].mean(), log_odds.view(11, 5)
    else:
        expected, lists = cross_entropy(logits, batch["is_click"].long()), log_odds[None]
    assert outputs["n_terms"] == 11
    assert outputs["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    right = (log_odds[batch["is_click"]] > 0).sum().item()
    assert outputs["sums"]["positive_accuracy"].tolist() == [right, batch["is_click"].sum().item()]
    total, n = outputs["sums"]["spread"].tolist()
    assert n == 11
    assert total / n == pytest.approx(np.mean([part.std(correction=0).item() for part in lists]), rel=1e-5)


def weights_around_a_step(prompt4nr):
    """The weights before and after one step of SGD."""
    before = {name: value.clone() for name, value in prompt4nr.state_dict().items()}
    optimiser = torch.optim.SGD([weight for weight in prompt4nr.parameters() if weight.requires_grad], lr=0.1)
    prompt4nr.train()(**prompt4nr.training_rows().batch(0, list(range(20))))["loss"].backward()
    optimiser.step()
    return before, prompt4nr.state_dict()


def test_all_weights_or_only_virtual_tokens_are_trained_with_rates_of_their_own(built, tmp_path):
    prompt4nr = built("continuous_utility", prompt_only=True)
    before, after = weights_around_a_step(prompt4nr)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"bert.new"}
    assert (before["bert.new"] != after["bert.new"]).any(1).all()  # [NSEP] too is new
    assert sum(weight.numel() for weight in prompt4nr.parameters() if weight.requires_grad) == 10 * 32
    before, after = weights_around_a_step(built("continuous_utility", loss=ClickLoss.pointwise))
    assert {name for name in before if torch.equal(before[name], after[name])} == set()
    first, other = (built(seed=seed).state_dict() for seed in (0, 1))
    assert {name for name in first if not torch.equal(first[name], other[name])} == {"bert.new"}
    prompt4nr = built()
    assert prompt4nr.epsilon == 1e-6
    rates = {name: prompt4nr.learning_rate_of(name, 2e-5) for name, _ in prompt4nr.named_parameters()}
    assert {name for name, rate in rates.items() if rate != 2e-5} == {"bert.new"}
    assert rates["bert.new"] == 1e-3
    headless = built(backbone=str(tiny_bert(tmp_path / "headless", head=False)))
    new = {name for name, _ in headless.named_parameters() if headless.learning_rate_of(name, 2e-5) == 1e-3}
    assert new == {
        "bert.new",
        "bert.bias",
        *(f"bert.transform.{part}.{kind}" for part in ("dense", "LayerNorm") for kind in ("weight", "bias")),
    }
