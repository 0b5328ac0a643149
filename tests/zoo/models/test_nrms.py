"""NRMS and the mean of titles against their formulas, one title and one impression at a time, by transformers."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertModel

from llm4rec_cli.conformance.builders import resolved
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.split import TEST
from llm4rec_zoo.models.nrms.config import Aggregation
from tests.models.prompt4nr_data import TITLES, log, model
from tests.models.tiny_bert import tiny_bert

pytestmark = pytest.mark.numeric

SHOWN = log().impressions(TEST)
SETTINGS = resolved(
    *("model=nrms", "dataset=mind-small", "model.hidden_size=8", "model.heads=2", "model.query_size=3"),
    *("model.titles=5", "model.max_length=6", "model.negatives=2"),
).model
aggregations = pytest.mark.parametrize("aggregation", Aggregation)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return str(tiny_bert(tmp_path_factory.mktemp("bert"), head=False))


@pytest.fixture
def built(backbone, tmp_path):
    """built(aggregation): a model in evaluation mode."""

    def build(aggregation):
        settings = copy.deepcopy(SETTINGS)
        settings.backbone, settings.aggregation, settings.temperature = backbone, aggregation, 0.5
        return model(tmp_path, settings)

    return build


def additive(attention, x):
    """Σ_i a_i x_i of (length, size) states."""
    logits = torch.tanh(x @ attention.key.weight.t() + attention.key.bias) @ attention.query.weight[0]
    return logits.softmax(0) @ x


def title_vectors(nrms, backbone):
    """Return the vector of each title of the catalogue."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    bert = BertModel.from_pretrained(backbone).eval()
    vectors = []
    for title in TITLES:
        states = bert(**tokenizer(title, truncation=True, max_length=6, return_tensors="pt")).last_hidden_state[0]
        if nrms.config.aggregation is Aggregation.mean:
            vectors.append(states.mean(0) / states.mean(0).norm())
        else:
            encoder = nrms.title_encoder
            vectors.append(encoder.project(additive(encoder.pool, states)))
    return torch.stack(vectors)


def user_vector(nrms, titles):
    """Return the vector of a user with these (n, size) title vectors."""
    if nrms.config.aggregation is Aggregation.mean:
        return titles.mean(0) / titles.mean(0).norm()
    encoder = nrms.user_encoder
    q, k, v = encoder.qkv(titles).split(8, dim=1)
    heads = [
        ((q[:, part] @ k[:, part].t()) / 2).softmax(1) @ v[:, part]  # 2 = the root of the size of a head
        for part in (slice(0, 4), slice(4, 8))
    ]
    return additive(encoder.pool, torch.cat(heads, 1))


@aggregations
def test_scores_are_those_of_one_title_and_one_impression_at_a_time(built, backbone, aggregation):
    nrms = built(aggregation)
    scores = nrms.score_shown(SHOWN)
    with torch.no_grad():
        titles = title_vectors(nrms, backbone)
        expected, sizes = [], []
        for i in range(len(SHOWN)):
            history = SHOWN[np.array([i])].histories(5)[0].tolist()
            user = user_vector(nrms, titles[history] if history else nrms.no_history)
            shown = titles[SHOWN[np.array([i])].shown()[0]]
            expected.append(shown @ user)
            sizes.append(shown.abs() @ user.abs())  # rounding scales with the terms, which nearly cancel
    assert not SHOWN.history_length.all()
    tolerance = 1e-5 * torch.cat(sizes).max().item()
    torch.testing.assert_close(scores, torch.cat(expected), atol=tolerance, rtol=0)


@aggregations
def test_the_loss_is_a_softmax_over_a_click_and_its_negatives(built, backbone, aggregation):
    nrms = built(aggregation)
    rows = nrms.training_rows()
    indices = [5, 0, 9, 3]
    out = nrms(**rows.batch(1, indices))
    scale = 2.0 if aggregation is Aggregation.mean else 1.0
    with torch.no_grad():
        titles = title_vectors(nrms, backbone)
        losses = []
        for i in indices:
            history = rows.clicks[np.array([i])].histories(5)[0].tolist()
            user = user_vector(nrms, titles[history] if history else nrms.no_history)
            listed = rows.clicks.with_negatives(i, rows.config.negatives, rows.seed, 1)
            losses.append(-(titles[listed] @ user * scale).log_softmax(0)[0])
    assert_close(out["loss"], torch.stack(losses).mean(), rel=1e-5)
    assert out["n_terms"] == 4


def test_equal_titles_tie_and_each_is_encoded_once_in_an_evaluation(built, monkeypatch):
    nrms = built(Aggregation.attention)
    assert len(nrms.titles) < len(set(TITLES)), "the tiny vocabulary does not know all words"
    items, offsets = SHOWN.shown()
    impression, title = np.repeat(np.arange(len(SHOWN)), np.diff(offsets)), nrms.titles.of_item[items]
    scores = nrms.score_shown(SHOWN).numpy()
    pairs = {*zip(impression.tolist(), title.tolist(), strict=True)}
    assert len(pairs) < len(items)
    for i, same in pairs:
        assert len(np.unique(scores[(impression == i) & (title == same)])) == 1
    nrms = built(Aggregation.attention)
    encoded = []
    states = nrms.bert.states

    def counted(**packed):
        encoded.append(len(packed["lengths"]))
        return states(**packed)

    monkeypatch.setattr(nrms.bert, "states", counted)
    nrms.score_shown(SHOWN)
    nrms.score_shown(SHOWN)
    assert sum(encoded) <= len(nrms.titles) < len(TITLES)
    encoded.clear()
    nrms.train()
    nrms.eval()
    nrms.score_shown(SHOWN)
    assert encoded, "after training the titles are encoded again"
