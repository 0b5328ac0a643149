"""Frozen text as an offset of the log-odds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from llm4rec_cli.config.schema import Precision, SplitName
from llm4rec_cli.data.split import SPLIT_CODES
from llm4rec_cli.errors import UsageError
from llm4rec_cli.models import base
from llm4rec_cli.models.prompt4nr.config import Loss, OffsetRule, WarmUpConfig
from llm4rec_cli.models.prompt4nr.similarity import fitted_scale, frozen_text, with_candidates
from tests.models.prompt4nr_data import config, log, model

pytestmark = pytest.mark.numeric


def settings(backbone, offset=OffsetRule.frozen_text):
    warm_up = WarmUpConfig(0, 8, 1e-3, Precision.fp32)
    return replace(config("hybrid_utility"), backbone=backbone, warm_up=warm_up, offset=offset, scoring=Precision.fp32)


def similarity_of(prompted, tmp_path):
    context = base.Context(prompted.config, log(), 0, tmp_path, "cpu", "direct")
    return frozen_text(prompted.config, context, prompted.bert.positions.num_embeddings)


def test_scores_are_those_of_the_prompt_times_those_of_the_offset(headless, tmp_path):
    with_offset, without = (
        model(tmp_path, settings(headless, rule)) for rule in (OffsetRule.frozen_text, OffsetRule.none)
    )
    impressions = log().impressions(SPLIT_CODES[SplitName.test])
    offsets = impressions.shown()[1]
    similarity = similarity_of(with_offset, tmp_path).score_shown(impressions)
    scale = with_offset.offset.scale
    assert 0 < scale < 1000
    log_odds = without.score_shown(impressions).log() + scale * similarity
    expected = torch.cat([part.softmax(0) for part in log_odds.split(np.diff(offsets).tolist())])
    torch.testing.assert_close(with_offset.score_shown(impressions), expected, atol=1e-5, rtol=0)


def test_the_loss_has_the_offset_of_each_clicks_list(headless, tmp_path):
    prompted = model(tmp_path, settings(headless))
    rows = prompted.training_rows()
    batch = rows.batch(2, [5, 0, 9])
    groups = rows.groups(2)[[5, 0, 9]]
    similarity = similarity_of(prompted, tmp_path).score(with_candidates(rows.clicks[np.array([5, 0, 9])], groups))
    torch.testing.assert_close(batch["offset"], (prompted.offset.scale * similarity).flatten())
    with torch.no_grad():
        moved = {**batch, "offset": batch["offset"] + torch.tensor([50.0, 0, 0, 0, 0]).repeat(3)}
        assert prompted(**moved)["loss"] < 1e-6 < prompted(**batch)["loss"]


def test_the_scale_is_that_of_the_clicks(headless, tmp_path):
    scales = np.linspace(0, 8, 801)
    similarity = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    similarity[:, 0] += 0.7
    losses = [np.mean(np.log(np.exp(s * similarity).sum(1)) - s * similarity[:, 0]) for s in scales]
    assert fitted_scale(similarity) == pytest.approx(scales[int(np.argmin(losses))], abs=0.01)
    assert fitted_scale(-similarity) == pytest.approx(0, abs=1e-3)  # similarity that misleads is left out


def test_loaded_weights_bring_the_scale(headless, tmp_path):
    trained = model(tmp_path, settings(headless))
    loaded = base.build(base.Context(trained.config, log(), 0, tmp_path, "cpu", "direct", is_loaded=True))
    assert loaded.offset.scale == 1
    loaded.load_state_dict(trained.state_dict())
    assert loaded.offset.scale == trained.offset.scale != 1


def test_pointwise_training_has_no_offset(headless):
    wrong = replace(settings(headless), loss=Loss.pointwise)
    assert any(isinstance(problem, UsageError) and "offset" in str(problem) for problem in wrong.problems(None))
