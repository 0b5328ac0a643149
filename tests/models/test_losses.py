import pytest
import torch
import torch.nn.functional as F

from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.models.shared import losses
from llm4rec_cli.models.shared.config import Distribution, NextItemConfig, NextItemLoss
from llm4rec_cli.models.shared.losses import (
    ROWS_AT_ONCE,
    catalogue_cross_entropy,
    gather_rows,
    gbce_beta,
    loss_over_samples,
    sampled_loss,
)

pytestmark = pytest.mark.numeric
ROWS = ROWS_AT_ONCE["cpu"]


def drawn(n):
    """(n, 8) states, (30, 8) item vectors, and (n,) targets."""
    torch.manual_seed(0)
    return torch.randn(n, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True), torch.randint(30, (n,))


@pytest.mark.parametrize("n", [1, ROWS, ROWS + 1, 2 * ROWS + 3])
def test_the_loss_and_its_gradients_are_those_of_cross_entropy(n):
    hidden, table, targets = drawn(n)
    loss, expected = catalogue_cross_entropy(hidden, table, targets), F.cross_entropy(hidden @ table.t(), targets)
    torch.testing.assert_close(loss, expected)
    actual, reference = (torch.autograd.grad(3 * value, [hidden, table]) for value in (loss, expected))
    assert_close(actual, reference, rel=1e-5)


def test_a_frozen_table_has_no_gradient_and_states_the_same():
    hidden, table, targets = drawn(50)
    expected = torch.autograd.grad(catalogue_cross_entropy(hidden, table, targets), hidden)
    table.requires_grad_(False)
    assert torch.equal(*torch.autograd.grad(catalogue_cross_entropy(hidden, table, targets), hidden), *expected)


def test_large_logits_improbable_targets_and_large_catalogues_have_the_loss_of_cross_entropy(monkeypatch):
    torch.manual_seed(0)
    hidden, table, targets = 30 * torch.randn(50, 8), torch.randn(30, 8), torch.randint(30, (50,))
    logits = hidden @ table.t()
    assert logits.softmax(1).gather(1, targets[:, None]).min() == 0  # in fp32
    torch.testing.assert_close(catalogue_cross_entropy(hidden, table, targets), F.cross_entropy(logits, targets))
    loss = catalogue_cross_entropy(torch.tensor([[1e4]]), torch.tensor([[1.0], [-1.0]]), torch.tensor([1]))
    assert loss.item() == pytest.approx(2e4)
    hidden, table, targets = drawn(11)
    whole = catalogue_cross_entropy(hidden, table, targets)
    for logits_at_once in (1, 90):  # one row a block, though a row has 30; three rows
        monkeypatch.setattr(losses, "LOGITS_AT_ONCE", {"cpu": logits_at_once})
        torch.testing.assert_close(catalogue_cross_entropy(hidden, table, targets), whole)


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_targets_the_model_is_sure_of_keep_their_gradient_under_autocast(share):
    """Near 1 the steps of bf16 are 0.004 wide: a probability of 0.998 less 1 would be nothing, or twice itself."""
    torch.manual_seed(0)
    table, targets = F.normalize(torch.randn(1000, 64), dim=1).requires_grad_(), torch.arange(400)
    scale = torch.where(torch.arange(400) < share * 400, 15.0, 1.0)[:, None]
    hidden = (scale * table[:400]).detach().requires_grad_()
    assert (hidden @ table.t()).softmax(1)[:1, 0] > 0.98
    with torch.autocast("cpu", torch.bfloat16):
        loss = catalogue_cross_entropy(hidden, table, targets)
    expected = F.cross_entropy(hidden @ table.t(), targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=0.02, rtol=0)
    actual, reference = (torch.autograd.grad(value, [hidden, table]) for value in (loss, expected))
    rows = slice(0, int(share * 400))
    for gradient, exact in ((actual[0][rows], reference[0][rows]), (actual[1], reference[1])):
        assert (gradient - exact).norm() < 0.05 * exact.norm()


def test_the_loss_over_a_subset_is_dense_cross_entropy_over_it():
    hidden, table, _ = drawn(40)
    items = torch.tensor([0, 3, 4, 11, 17, 29])
    place = torch.randint(len(items), (40,))
    loss = catalogue_cross_entropy(hidden, table, items[place], items)
    expected = F.cross_entropy(hidden @ table[items].t(), place)
    torch.testing.assert_close(loss, expected)
    actual, reference = (torch.autograd.grad(value, [hidden, table]) for value in (loss, expected))
    assert_close(actual, reference, rel=1e-6)
    others = [item for item in range(30) if item not in items]
    assert (actual[1][others] == 0).all()
    hidden, table, targets = drawn(40)
    assert torch.equal(
        catalogue_cross_entropy(hidden, table, targets, torch.arange(30)),
        catalogue_cross_entropy(hidden, table, targets),
    )


POPULARITY = torch.tensor([4.0, 2, 1, 1, 0]) / 8
N_DRAWN = 4
SAMPLED = {
    "binary": NextItemConfig(loss=NextItemLoss.binary, negatives=2),
    "gbce": NextItemConfig(loss=NextItemLoss.gbce, negatives=2, calibration=0.75),
    "softmax": NextItemConfig(
        loss=NextItemLoss.sampled_softmax, negatives=2, distribution=Distribution.uniform, logq=False
    ),
    "logq": NextItemConfig(
        loss=NextItemLoss.sampled_softmax, negatives=2, distribution=Distribution.popularity, logq=True
    ),
}


def naive_loss(name, scores, items):
    """Return the loss of one row, from the scores of its target and two negatives."""
    target, *others = scores
    if name in ("binary", "gbce"):
        # Of four items that can be drawn, two negatives are a share of 2/3: β = 2/3 (0.75 (1 - 3/2) + 3/2) = 0.75.
        beta, scale = (0.75, 3) if name == "gbce" else (1, 1)
        return -(beta * target.sigmoid().log() + sum((1 - s.sigmoid()).log() for s in others)) / scale
    expected = [2 * POPULARITY[i] if name == "logq" else torch.tensor(1.0) for i in items[1:].tolist()]
    total = sum(s.exp() / e for s, e, i in zip(others, expected, items[1:], strict=True) if i != items[0])
    return -(target.exp() / (target.exp() + total)).log()


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize("at_once", [1 << 22, 1])  # one block; a row a block
def test_a_loss_over_samples_and_its_gradients_are_those_of_its_formula(monkeypatch, name, at_once):
    monkeypatch.setattr(losses, "VECTORS_AT_ONCE", {"cpu": at_once})
    torch.manual_seed(0)
    hidden, table = torch.randn(4, 6, requires_grad=True), torch.randn(5, 6, requires_grad=True)
    items = torch.tensor([[0, 1, 2], [3, 3, 0], [4, 0, 0], [1, 2, 3]])  # a negative is the target, and one is twice
    loss = sampled_loss(hidden, table, items, loss_over_samples(SAMPLED[name], POPULARITY.log(), N_DRAWN))
    rows = [naive_loss(name, table[row] @ state, row) for row, state in zip(items, hidden, strict=True)]
    expected = torch.stack(rows).mean()
    assert_close(loss, expected, rel=1e-5)
    actual, reference = (torch.autograd.grad(3 * value, [hidden, table]) for value in (loss, expected))
    assert_close(actual, reference, rel=1e-5)


def test_with_logq_correction_the_sum_over_samples_estimates_the_sum_over_the_catalogue():
    torch.manual_seed(0)
    scores, target, draws = torch.randn(4), 1, 200_000
    negatives = torch.multinomial(POPULARITY, draws * 2, replacement=True).view(draws, 2)
    items = torch.cat([torch.full((draws, 1), target), negatives], 1)
    loss = loss_over_samples(SAMPLED["logq"], POPULARITY.log(), N_DRAWN)
    ratios = torch.stack([loss(scores[row][None], row[None]).exp() for row in items[:2000]])
    whole = scores.exp().sum() / scores[target].exp()
    assert ratios.mean().item() == pytest.approx(whole.item(), rel=0.05)


def test_gbce_is_binary_cross_entropy_of_a_converted_score():
    # As its authors compute it: γ(s) = log(1 / (σ(s)^-β - 1)) in place of the target's score s.
    logits, items = torch.tensor([[0.3, -1.2, 2.0]], dtype=torch.float64), torch.tensor([[0, 1, 2]])
    converted = (1 / (logits[0, 0].sigmoid() ** -0.75 - 1)).log()
    expected = F.binary_cross_entropy_with_logits(
        torch.stack([converted, *logits[0, 1:]]), torch.tensor([1.0, 0, 0], dtype=torch.float64)
    )
    torch.testing.assert_close(loss_over_samples(SAMPLED["gbce"], POPULARITY.log(), N_DRAWN)(logits, items), expected)
    alpha = 256 / 3416
    assert gbce_beta(0.75, 256, 3417) == pytest.approx(alpha * (0.75 * (1 - 1 / alpha) + 1 / alpha))
    assert gbce_beta(0.0, 256, 3417) == 1
    assert gbce_beta(1.0, 256, 3417) == pytest.approx(alpha)
    assert gbce_beta(0.75, 256, 100) == 1  # as many draws as items


@pytest.fixture
def as_second_of_two(monkeypatch):
    """as_second_of_two(rows of the first process, its gradient of all rows): make this process the second of two."""

    def become(others, their_gradient=None):
        def all_gather(parts, padded):
            parts[0][: len(others)] = others
            parts[1].copy_(padded)

        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda gradient: gradient.add_(their_gradient))

    return become


def test_rows_are_gathered_in_order_of_rank_however_many_each_process_has(as_second_of_two):
    rows = torch.zeros(3, 2)
    assert gather_rows(rows, [3]) is rows, "a single process"
    for n_others in (0, 1, 2, 5):
        theirs, mine = 10.0 + torch.arange(2.0 * n_others).view(n_others, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        as_second_of_two(theirs)
        assert torch.equal(gather_rows(mine, [n_others, 2]), torch.cat([theirs, mine]))


def test_the_gradient_of_a_gathered_row_is_the_sum_over_all_processes(as_second_of_two):
    mine = torch.tensor([[1.0], [2.0]], requires_grad=True)
    as_second_of_two(torch.zeros(3, 1), their_gradient=torch.tensor([[9.0], [9.0], [9.0], [100.0], [200.0]]))
    gathered = gather_rows(mine, [3, 2])
    (gathered * torch.tensor([[5.0], [5.0], [5.0], [1.0], [2.0]])).sum().backward()
    assert mine.grad.tolist() == [[101.0], [202.0]]
    mine = torch.tensor([[1.0], [2.0]], requires_grad=True)
    as_second_of_two(torch.zeros(0, 1), their_gradient=torch.ones(2, 1))
    gathered = gather_rows(mine, [0, 2])
    outer = torch.tensor([[3.0], [4.0]])
    gathered.backward(outer)
    assert outer.tolist() == [[3.0], [4.0]]
