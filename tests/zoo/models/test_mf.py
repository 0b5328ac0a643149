from dataclasses import replace

import numpy as np
import pytest
import torch

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out

pytestmark = pytest.mark.numeric

# Training holds no rating of items 4 and 5, nor of user 2.
DATASET = tiny_dataset([[0, 1, 2, 4], [2, 1, 3, 5, 4], [5, 4]], rating=[5, 4, 1, 3, 2, 2, 4, 5, 5, np.nan, np.nan])
SPLIT = leave_one_out(DATASET)
EXAMPLES = SPLIT.examples(SplitName.test)
SETTINGS = {"embedding_size": 4, "initial_std": 0.5, "penalty": 0.1}


def test_rows_a_rating_and_the_loss_by_hand(build):
    rows = build("mf", DATASET, **SETTINGS).training_rows()
    batch = rows.batch(3, list(range(len(rows))))
    assert batch["user"].tolist() == [0, 0, 1, 1, 1]
    assert batch["item"].tolist() == [0, 1, 2, 1, 3]
    assert batch["rating"].tolist() == [5, 4, 2, 2, 4]
    model = build("mf", DATASET, **SETTINGS)
    with torch.no_grad():
        model.users.weight[0] = torch.tensor([1.0, 0, 0, 0])
        model.items.weight[1] = torch.tensor([0.5, 2, 0, 0])
        model.user_bias[0], model.item_bias[1] = -0.1, 0.3
    user, item = torch.tensor([0]), torch.tensor([1])
    predicted = 17 / 5 - 0.1 + 0.3 + 0.5
    assert model.predict(user, item).tolist() == [pytest.approx(predicted)]
    loss = model(user=user, item=item, rating=torch.tensor([4.0]))["loss"]
    assert loss.item() == pytest.approx((predicted - 4) ** 2 + 0.1 * (0.01 + 0.09 + 1 + 4.25))


def test_unseen_users_and_items_fall_back_to_the_biases_and_ratings_are_clipped_to_the_scale(build):
    model = build("mf", DATASET, **SETTINGS)
    with torch.no_grad():
        model.user_bias[:] = torch.tensor([0.1, 0.2, 0.0])
    predicted = model.rate(replace(EXAMPLES, target=np.array([4, 5]))).value
    assert predicted == pytest.approx([17 / 5 + 0.1, 17 / 5 + 0.2])
    with torch.no_grad():
        model.user_bias[:] = torch.tensor([9.0, -9.0, 0.0])
    assert model.rate(EXAMPLES).value.tolist() == [5, 2]
