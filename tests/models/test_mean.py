import numpy as np
import pytest

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.models.baselines.mean import fit_means
from llm4rec_cli.models.shared.ratings import TrainRatings, train_ratings

# Trained on (0, 0) 5, (0, 1) 3, (1, 0) 4; the last two of each are held out.
DATASET = tiny_dataset([[0, 1, 2, 1], [0, 2, 3], [3, 0]], rating=[5, 3, 1, 1, 4, 2, 5, np.nan, np.nan])
EXAMPLES = leave_one_out(DATASET).examples(SplitName.test)


def test_means_damping_and_scale_by_hand(build):
    model = fit_means(train_ratings(leave_one_out(DATASET)), 3, 4, damping=0)
    assert model.mean == 4
    assert model.item_offset.tolist() == [0.5, -1, 0, 0]  # (1 + 0) / 2, -1, none
    assert model.user_offset.tolist() == [pytest.approx(0.25), -0.5, 0]  # (5 - 4.5 + 3 - 3) / 2, 4 - 4.5, none
    model = fit_means(train_ratings(leave_one_out(DATASET)), 3, 4, damping=2)
    assert model.item_offset[:2].tolist() == [1 / 4, -1 / 3]
    assert model.user_offset[1] == pytest.approx((4 - 4.25) / 3)
    ratings = TrainRatings(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([5.0, 5.0, 1.0]))
    model = fit_means(ratings, 2, 2, damping=0)
    assert model.mean + model.item_offset[1] + model.user_offset[0] > 5
    assert model.rate(EXAMPLES[np.array([0])]).value.tolist() == [5]  # user 0, item 1
    model = build("mean", DATASET, damping=[0])
    assert model.rate(EXAMPLES).value.tolist() == [pytest.approx(4 - 1 + 0.25), pytest.approx(4 + 0 - 0.5)]


def test_the_damping_is_chosen_on_validation(build):
    rng = np.random.default_rng(0)
    sequences = [rng.permutation(20)[:8].tolist() for _ in range(50)]
    noise = tiny_dataset(sequences, rating=rng.integers(1, 6, 400))
    by_user = tiny_dataset(sequences, rating=np.repeat(rng.integers(1, 6, 50), 8))
    candidates = {damping: build("mean", noise, damping=[damping]).user_offset for damping in (0, 1000)}
    assert np.array_equal(build("mean", noise, damping=[0, 1000]).user_offset, candidates[1000])
    assert np.abs(build("mean", by_user, damping=[0, 1000]).user_offset).max() > 1
