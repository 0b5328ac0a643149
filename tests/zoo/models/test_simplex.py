"""SimpleX against its formulas, one interaction at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.split import leave_one_out

pytestmark = pytest.mark.numeric

SEQUENCES = [[0, 1, 2, 3, 4, 5, 6], [4, 5, 6, 9], [7, 1, 8, 2, 0, 3], [6, 5, 4, 3], [2, 9, 8, 1, 7, 6]]
DATASET = tiny_dataset(SEQUENCES, n_items=12)
SPLIT = leave_one_out(DATASET)
SETTINGS = {
    "embedding_size": 5,
    "max_length": 3,
    "user_weight": 0.3,
    "negatives": 4,
    "margin": 0.1,
    "negative_weight": 7.0,
    "dropout": 0.0,
}


def cosines(model, user, history):
    """Return (n_items,) by the paper's formulas."""
    table = model.items.weight.detach()
    mean = sum(table[item] for item in history) / len(history) if history else torch.zeros(5)
    state = 0.3 * model.users.weight.detach()[user] + 0.7 * model.map.weight.detach() @ mean
    return (table @ state) / (table.norm(dim=1) * state.norm())


def test_rows_loss_and_scores_are_those_of_the_formulas(build):
    rows = build("simplex", DATASET, **SETTINGS).training_rows()
    batch = rows.batch(0, list(range(len(rows))))
    pairs = [(user, item) for user, sequence in enumerate(SEQUENCES) for item in sequence[:-2]]
    assert list(zip(batch["user"].tolist(), batch["items"][:, 0].tolist(), strict=True)) == pairs
    for user, items in zip(batch["user"].tolist(), batch["items"][:, 1:].tolist(), strict=True):
        assert not set(items) & set(SEQUENCES[user][:-2])
    model = build("simplex", DATASET, **SETTINGS)
    rows = model.training_rows()
    batch = rows.batch(1, list(range(len(rows))))
    expected = []
    for user, items in zip(batch["user"].tolist(), batch["items"].tolist(), strict=True):
        cosine = cosines(model, user, SEQUENCES[user][:-2][-3:])[items]
        expected.append(1 - cosine[0] + 7 / 4 * sum(max(0, value - 0.1) for value in cosine[1:].tolist()))
    assert any(value > 1.5 for value in expected)  # some negatives are above the margin
    assert_close(model(**batch)["loss"], torch.stack(expected).mean(), rel=1e-5)
    model = build("simplex", DATASET, **SETTINGS)
    examples = SPLIT.examples(SplitName.test)
    start = np.where(np.arange(len(examples)) == 2, examples.end, examples.start)
    scores = model.score(replace(examples, start=start))
    for i, user in enumerate(examples.user):
        history = [] if i == 2 else SEQUENCES[user][:-1][-3:]
        assert_close(scores[i], cosines(model, user, history), rel=1e-5)
