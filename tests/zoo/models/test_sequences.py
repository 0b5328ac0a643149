"""What only the sequence models of the zoo do: their states are compared in tests/models/test_baseline_sequences.py."""

import pytest
import torch

from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.models.shared import next_item
from llm4rec_zoo.models.bsarec.model import low_pass_filter
from tests.models.test_baseline_sequences import fourier_filter, model

__all__ = ["model"]


@pytest.mark.parametrize(("length", "components"), [(6, 1), (6, 3), (7, 5), (50, 5)])
def test_the_low_pass_matrix_is_the_fourier_transform(length, components):
    x = torch.randn(length // 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    part = low_pass_filter(length, components).double()[: len(x), : len(x)]
    torch.testing.assert_close(part @ x, fourier_filter(x, components, length), atol=1e-6, rtol=0)


def test_esasrec_drops_items_out_alike_in_histories_and_in_the_loss(model, monkeypatch):
    made = model("esasrec")
    assert torch.equal(made.table(), made.items.weight)
    tables = []
    states, loss = made.states, next_item.catalogue_cross_entropy
    made.states = lambda table, *rest: tables.append(table) or states(table, *rest)
    monkeypatch.setattr(
        next_item, "catalogue_cross_entropy", lambda h, table, *rest: tables.append(table) or loss(h, table, *rest)
    )
    made.train()(**made.training_rows().batch(0, [0, 1]))
    table, in_the_loss = tables
    assert table is in_the_loss
    kept = table != 0
    assert 0.3 < kept.double().mean() < 0.7
    assert_close(table[kept], 2 * made.items.weight[kept], rel=1e-12)
