import numpy as np
import pytest
from near_duplicates import most_similar

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out


def test_a_target_is_compared_with_the_other_items_of_its_history():
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1], [0.8, 0.6]], dtype=np.float32)
    sequences = [[0, 2, 0, 1], [3, 3, 3, 3]]  # the targets are 1 and 3; the second user has no other item
    examples = leave_one_out(tiny_dataset(sequences, n_items=4)).examples(SplitName.test)
    assert most_similar(examples, vectors) == pytest.approx([0.8, -1])
