"""Export: which examples are sampled, and how their texts are normalised."""

import pytest

from llm4rec_cli.errors import DataError
from llm4rec_studies.human.export import NO_TEXT, normalised, sample
from llm4rec_studies.human.sheets import Example


def example(i, *texts):
    return Example(f"item {i}", "4", "", dict(enumerate(texts or (f"one on {i}", f"two on {i}"))))


@pytest.mark.parametrize(
    ("text", "expected"), [("  a\n b\t", "a b"), ("&quot;a&quot; &amp; b", '"a" & b'), ("", NO_TEXT), (" \n", NO_TEXT)]
)
def test_entities_and_white_space_are_normalised(text, expected):
    assert normalised(text) == expected


def test_the_sample_has_the_requested_size_without_repeats():
    examples = [example(i) for i in range(20)]
    chosen, n_identical = sample(examples, 12, seed=0)
    assert n_identical == 0
    assert len({shown.item for shown in chosen}) == 12
    assert sample(examples, 12, seed=0)[0] == chosen != sample(examples, 12, seed=1)[0]


def test_examples_with_identical_texts_are_not_sampled():
    examples = [example(1, "a", "a", "a"), example(2, "a", "a", "b"), example(3, "c", "c", "c")]
    chosen, n_identical = sample(examples, 50, seed=0)
    assert ([shown.item for shown in chosen], n_identical) == (["item 2"], 2)
    with pytest.raises(DataError, match="all 1 examples"):
        sample(examples[:1], 50, seed=0)
