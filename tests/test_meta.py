"""Without values, work is what an accelerator would be asked."""

import pytest
import torch

from llm4rec_cli.meta import read_as_zeros


def test_what_is_read_from_a_tensor_without_values_is_zero():
    x = torch.empty(2, 3, device="meta")
    with pytest.raises((NotImplementedError, RuntimeError)):
        x.tolist()
    with read_as_zeros():
        assert x.tolist() == [[0.0] * 3] * 2
        assert torch.ones(2).tolist() == [1.0, 1.0]
