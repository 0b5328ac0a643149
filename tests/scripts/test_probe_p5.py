import numpy as np
import probe_p5
import pytest
import torch

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.data.split import TRAIN
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.p5.model import build
from tests.models.p5_data import config, shop


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    return build(Context(config(), shop(), 0, tmp_path, "cpu", "rating")).eval()


def test_a_linear_reading_finds_what_is_linear_and_nothing_else():
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(400, 5)), rng.normal(size=400)
    y = 3 + x @ np.arange(5.0)
    assert probe_p5.ridge_rmse(x[:300], y[:300], x[300:], y[300:]) < 0.1
    assert probe_p5.ridge_rmse(x[:300], noise[:300], x[300:], noise[300:]) == pytest.approx(noise[300:].std(), rel=0.1)


def test_states_are_those_of_the_row_whatever_is_read_with_it(model):
    split = shop()
    rows = np.flatnonzero(split.assignment == TRAIN)[:9]
    together = probe_p5.states(model, probe_p5.Rated.of(split, rows))
    alone = probe_p5.states(model, probe_p5.Rated.of(split, rows[4:5]))
    assert together.keys() == {"user", "item", "decoder"}
    for name, values in together.items():
        np.testing.assert_allclose(values[4], alone[name][0], atol=1e-5)
        assert len(np.unique(values.round(4), axis=0)) > 1


def test_a_probe_reads_each_state_and_both_tokens_together(model):
    split = shop()
    held_out = split.examples(SplitName.valid).row
    train = np.flatnonzero(split.assignment == TRAIN)
    errors = probe_p5.probe(model, probe_p5.Rated.of(split, train), probe_p5.Rated.of(split, held_out))
    assert errors.keys() == {"user", "item", "decoder", "user and item"}
    rating = split.dataset.interactions["rating"].to_numpy()
    constant = np.sqrt(np.mean((rating[held_out] - rating[train].mean()) ** 2))
    assert all(0 < error < 2 * constant for error in errors.values())
