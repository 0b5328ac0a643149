"""What a question rules out as its answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out

EXAMPLES = leave_one_out(tiny_dataset([[0, 1, 0, 2], [3, 2, 1, 3]])).examples(SplitName.test)


def test_a_masked_history_rules_out_its_items_except_among_candidates():
    masked = replace(EXAMPLES, mask_history=True).masked_items()
    assert masked is not None
    row, item = masked
    assert list(zip(row.tolist(), item.tolist(), strict=True)) == [
        *((0, 0), (0, 1), (0, 0)),
        *((1, 3), (1, 2), (1, 1)),
    ]
    assert replace(EXAMPLES, mask_history=True).masked_targets().tolist() == [False, True]
    assert not EXAMPLES.masked_targets().any()
    assert EXAMPLES.masked_items() is None
    assert replace(EXAMPLES, mask_history=True, candidates=np.zeros((2, 3), dtype=int)).masked_items() is None
