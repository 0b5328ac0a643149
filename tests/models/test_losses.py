import pytest
import torch
import torch.nn.functional as F

from llm4rec_cli.models import losses
from llm4rec_cli.models.losses import ROWS_AT_ONCE, catalogue_cross_entropy


@pytest.mark.parametrize("n", [1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 2 * ROWS_AT_ONCE + 3])
def test_the_loss_and_its_gradients_are_those_of_cross_entropy(n):
    torch.manual_seed(0)
    hidden, table = torch.randn(n, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    targets = torch.randint(30, (n,))
    loss, expected = catalogue_cross_entropy(hidden, table, targets), F.cross_entropy(hidden @ table.t(), targets)
    torch.testing.assert_close(loss, expected)
    found, wanted = (torch.autograd.grad(3 * of, [hidden, table]) for of in (loss, expected))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_a_table_that_is_also_the_input_gets_both_gradients():
    torch.manual_seed(0)
    table, items, targets = torch.randn(30, 8, requires_grad=True), torch.randint(30, (9,)), torch.randint(30, (9,))
    loss = catalogue_cross_entropy(F.embedding(items, table), table, targets)
    expected = F.cross_entropy(F.embedding(items, table) @ table.t(), targets)
    found, wanted = (torch.autograd.grad(of, table) for of in (loss, expected))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_the_largest_logits_do_not_overflow():
    loss = catalogue_cross_entropy(torch.tensor([[1e4]]), torch.tensor([[1.0], [-1.0]]), torch.tensor([1]))
    assert loss.item() == pytest.approx(2e4)


def test_targets_of_next_to_no_probability_have_the_loss_of_cross_entropy():
    torch.manual_seed(0)
    hidden, table, targets = 30 * torch.randn(50, 8), torch.randn(30, 8), torch.randint(30, (50,))
    logits = hidden @ table.t()
    assert logits.softmax(1).gather(1, targets[:, None]).min() == 0  # in fp32
    torch.testing.assert_close(catalogue_cross_entropy(hidden, table, targets), F.cross_entropy(logits, targets))


def test_under_autocast_products_are_in_bf16_and_gradients_in_fp32():
    torch.manual_seed(0)
    hidden, table = torch.randn(50, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    targets = torch.randint(30, (50,))
    with torch.autocast("cpu", torch.bfloat16):
        loss = catalogue_cross_entropy(hidden, table, targets)
    expected = F.cross_entropy(hidden @ table.t(), targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=0.02, rtol=0)
    found, wanted = (torch.autograd.grad(of, [hidden, table]) for of in (loss, expected))
    for gradient, exact in zip(found, wanted, strict=True):
        assert gradient.dtype == torch.float32
        assert F.cosine_similarity(gradient.flatten(), exact.flatten(), dim=0) > 0.999


def test_a_large_catalogue_shrinks_the_blocks_and_changes_nothing(monkeypatch):
    torch.manual_seed(0)
    hidden, table, targets = torch.randn(11, 8), torch.randn(30, 8), torch.randint(30, (11,))
    whole = catalogue_cross_entropy(hidden, table, targets)
    for logits_at_once in (1, 90):  # one row a block, though a row has 30; three rows
        monkeypatch.setattr(losses, "LOGITS_AT_ONCE", logits_at_once)
        torch.testing.assert_close(catalogue_cross_entropy(hidden, table, targets), whole)


@pytest.mark.parametrize("sure", [0.5, 0.9, 1.0])
def test_targets_the_model_is_sure_of_keep_their_gradient_under_autocast(sure):
    """Near 1 the steps of bf16 are 0.004 wide: a probability of 0.998 less 1 would be nothing, or twice itself."""
    torch.manual_seed(0)
    table, targets = F.normalize(torch.randn(1000, 64), dim=1).requires_grad_(), torch.arange(400)
    scale = torch.where(torch.arange(400) < sure * 400, 15.0, 1.0)[:, None]
    hidden = (scale * table[:400]).detach().requires_grad_()
    assert (hidden @ table.t()).softmax(1)[:1, 0] > 0.98
    with torch.autocast("cpu", torch.bfloat16):
        loss = catalogue_cross_entropy(hidden, table, targets)
    expected = F.cross_entropy(hidden @ table.t(), targets)
    found, wanted = (torch.autograd.grad(of, [hidden, table]) for of in (loss, expected))
    rows = slice(0, int(sure * 400))
    for gradient, exact in ((found[0][rows], wanted[0][rows]), (found[1], wanted[1])):
        assert (gradient - exact).norm() < 0.05 * exact.norm()
