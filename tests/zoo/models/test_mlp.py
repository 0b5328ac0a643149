import numpy as np
import pytest
import torch

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out

pytestmark = pytest.mark.numeric

# Training holds no rating of items 4 and 5, nor of user 2.
DATASET = tiny_dataset([[0, 1, 2, 4], [2, 1, 3, 5, 4], [5, 4]], rating=[5, 4, 1, 3, 2, 2, 4, 5, 5, np.nan, np.nan])
SETTINGS = {"embedding_size": 4, "hidden_sizes": [8, 3], "dropout": 0.0, "initial_std": 0.1}
EXAMPLES = leave_one_out(DATASET).examples(SplitName.test)


def test_layers_loss_mean_and_scale_by_hand(build):
    model = build("mlp", DATASET, **SETTINGS)
    assert [layer.weight.shape for layer in model.layers if hasattr(layer, "weight")] == [(8, 8), (3, 8), (1, 3)]
    user, item, rating = torch.tensor([0, 1]), torch.tensor([0, 2]), torch.tensor([5.0, 2.0])
    predicted = model.predict(user, item)
    assert model(user=user, item=item, rating=rating)["loss"].item() == pytest.approx(
        ((predicted - rating) ** 2).mean().item()
    )
    with torch.no_grad():
        model.layers[-1].weight.zero_()
        model.layers[-1].bias.zero_()
    assert model.rate(EXAMPLES).value == pytest.approx([17 / 5] * 2)
    with torch.no_grad():
        model.layers[-1].bias.fill_(9)
    assert model.rate(EXAMPLES).value.tolist() == [5, 5]


def test_an_unseen_user_or_item_has_an_embedding_of_zeros_that_training_leaves_alone(build):
    model = build("mlp", DATASET, **SETTINGS).train()
    rows = model.training_rows()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        model(**rows.batch(0, list(range(len(rows)))))["loss"].backward()
        optimiser.step()
    assert not model.items.weight[[4, 5]].any()
    assert not model.users.weight[2].any()
    assert model.items.weight[:4].any(1).all()
