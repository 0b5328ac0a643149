import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import hold_out, leave_one_out
from llm4rec_zoo.models.bpr_mf.model import PairRows

pytestmark = pytest.mark.numeric

RNG = np.random.default_rng(0)
DATASET = tiny_dataset([RNG.choice(30, size=20, replace=False).tolist() for _ in range(10)] + [[3, 3, 4, 3, 5]])
SETTINGS = {"embedding_size": 8, "initial_std": 0.01}


def everything(rows: PairRows, epoch: int) -> dict[str, torch.Tensor]:
    return rows.batch(epoch, list(range(len(rows))))


def test_rows_are_training_interactions_with_negatives_that_are_never_the_users():
    split = leave_one_out(DATASET)
    rows = everything(PairRows(split, seed=0), 0)
    flat, offsets = split.train_sequences()
    assert rows["positive"].tolist() == flat.tolist()
    assert rows["user"].tolist() == np.repeat(np.arange(11), np.diff(offsets)).tolist()
    seen = {(u, i) for u in range(split.n_users) for i in flat[offsets[u] : offsets[u + 1]].tolist()}
    rows = PairRows(split, seed=0)
    for epoch in range(20):
        batch = everything(rows, epoch)
        assert not seen & set(zip(batch["user"].tolist(), batch["negative"].tolist(), strict=True))
        assert batch["negative"].min() >= 0 and batch["negative"].max() < split.n_items
    first = everything(PairRows(split, seed=0), 3)["negative"]
    rows = PairRows(split, seed=0)
    rows.batch(0, [5, 1])
    assert rows.batch(3, [7, 2])["negative"].tolist() == first[[7, 2]].tolist()
    assert not torch.equal(everything(rows, 4)["negative"], first)
    assert not torch.equal(everything(PairRows(split, seed=1), 3)["negative"], first)
    split = leave_one_out(tiny_dataset([[0, 1, 2, 0, 1], [1, 2, 0, 2]]))
    assert everything(PairRows(split, seed=0), 0)["user"].tolist() == [1, 1]


def test_negatives_are_uniform_over_unseen_items_that_are_not_cold():
    sequences = [[1, 4, 0, 5, 2, 3], [7, 9, 0, 1, 2]]  # training uses all but the last two items
    split = hold_out(leave_one_out(tiny_dataset(sequences, n_items=12)), 0.3, 1.0, seed=1)
    warm = set(split.softmax_items().tolist())
    assert set(range(12)) - warm == {3, 4, 9, 11}
    rows = PairRows(split, seed=0)
    assert rows.positive.tolist() == [1, 0, 5, 7, 0]
    drawn = np.array([rows.negatives(epoch) for epoch in range(500)])
    for user, sequence in enumerate(sequences):
        counts = np.bincount(drawn[:, rows.user == user].ravel(), minlength=12)
        unseen = sorted(warm - set(sequence[:-2]))
        assert counts.sum() == counts[unseen].sum()
        assert chisquare(counts[unseen]).pvalue > 0.001


def test_the_loss_is_the_log_likelihood_of_the_order(build):
    model = build("bpr_mf", DATASET, **SETTINGS)
    scores = model.score(leave_one_out(DATASET).examples(SplitName.test))
    user, positive, negative = torch.tensor([0, 4]), torch.tensor([2, 9]), torch.tensor([7, 1])
    difference = scores[user, positive] - scores[user, negative]
    expected = -torch.log(1 / (1 + torch.exp(-difference))).mean()
    assert model(user=user, positive=positive, negative=negative)["loss"].item() == pytest.approx(expected.item())
