from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec_cli.config.schema import Candidates, SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.candidates import SMOOTHING, with_candidates
from llm4rec_cli.data.split import hold_out, leave_one_out
from llm4rec_cli.errors import DataError

SAMPLED = [Candidates.uniform, Candidates.popularity]


@settings(max_examples=25)
@given(
    sequences=st.lists(st.lists(st.integers(0, 19), min_size=3, max_size=12), min_size=1, max_size=20),
    kind=st.sampled_from(SAMPLED),
    negatives=st.integers(1, 8),
    part=st.sampled_from(SplitName),
)
def test_the_target_comes_first_and_negatives_are_new_and_distinct(sequences, kind, negatives, part, tmp_path_factory):
    split = leave_one_out(tiny_dataset(sequences, n_items=20))
    examples = with_candidates(split.examples(part), split, kind, negatives, 0, tmp_path_factory.mktemp("cache"))
    assert examples.candidates is not None
    assert examples.candidates.shape == (len(sequences), negatives + 1)
    assert (examples.candidates[:, 0] == examples.target).all()
    for user, row in zip(examples.user, examples.candidates, strict=True):
        assert len(set(row)) == negatives + 1
        assert not set(row[1:]) & set(sequences[user])
        assert row.min() >= 0
        assert row.max() < 20


@pytest.mark.parametrize("kind", SAMPLED)
def test_all_that_a_user_lacks_can_be_drawn(kind, tmp_path):
    split = leave_one_out(tiny_dataset([[0, 1, 2], [3, 4, 5]], n_items=100))
    drawn = with_candidates(split.examples(SplitName.test), split, kind, 97, 0, tmp_path).candidates
    assert drawn is not None
    assert sorted(drawn[0, 1:]) == list(range(3, 100))


@pytest.mark.parametrize("kind", SAMPLED)
def test_candidates_do_not_depend_on_the_examples_passed(kind, tmp_path):
    split = leave_one_out(tiny_dataset([[i, i + 1, i + 2, i + 3] for i in range(50)], n_items=60))
    examples = split.examples(SplitName.test)
    some = with_candidates(examples[np.array([31, 7])], split, kind, 9, 0, tmp_path / "some")
    whole = with_candidates(examples, split, kind, 9, 0, tmp_path / "whole")
    again = with_candidates(examples, split, kind, 9, 0, tmp_path / "whole")
    assert whole.candidates is not None
    assert again.candidates is not None
    assert some.candidates is not None
    assert (some.candidates == whole.candidates[[31, 7]]).all()
    assert (again.candidates == whole.candidates).all()
    other = with_candidates(examples, split, kind, 9, 1, tmp_path / "whole")
    assert (other.candidates != whole.candidates).any()
    second = with_candidates(examples, split, kind, 9, 0, tmp_path / "whole", number=1)
    assert (second.candidates[:, 0] == whole.candidates[:, 0]).all()
    assert (second.candidates[:, 1:] != whole.candidates[:, 1:]).any()


@pytest.mark.parametrize("spread", [1, 400])  # items that the 4000 users share; 1 = so popular that all go to the race
def test_popularity_follows_training_counts(spread, tmp_path):
    """The first negative is item j with probability in proportion to its training count + SMOOTHING."""
    n_users, counts = 4000, 40 * np.array([0, 0, 1, 2, 5, 10, 20, 50, 100])
    askers = [[9 + u % spread] * 3 for u in range(n_users)]
    others = [[item] * 3 for item in np.repeat(np.arange(9), counts)]
    split = leave_one_out(tiny_dataset(askers + others, n_items=9 + spread))
    drawn = with_candidates(split.examples(SplitName.test), split, Candidates.popularity, 6, 0, tmp_path).candidates
    assert drawn is not None
    first = drawn[:n_users, 1]
    share = np.bincount(first[first < 9], minlength=9) / (first < 9).sum()
    weight = counts + SMOOTHING
    assert share == pytest.approx(weight / weight.sum(), abs=0.03)
    if spread == 1:  # all six are of the nine other items, as drawn one by one without replacement
        rng, p = np.random.default_rng(0), weight / weight.sum()
        expected = np.concatenate([rng.choice(9, 6, replace=False, p=p) for _ in range(n_users)])
        assert np.bincount(drawn[:n_users, 1:].ravel(), minlength=9) / n_users == pytest.approx(
            np.bincount(expected, minlength=9) / n_users, abs=0.05
        )


def test_uniform_draws_all_items_equally_often(tmp_path):
    split = leave_one_out(tiny_dataset([[0, 0, 0]] * 3000, n_items=13))
    drawn = with_candidates(split.examples(SplitName.test), split, Candidates.uniform, 4, 0, tmp_path).candidates
    assert drawn is not None
    for place in range(1, 5):
        share = np.bincount(drawn[:, place], minlength=13)[1:] / 3000
        assert share == pytest.approx(np.full(12, 1 / 12), abs=0.03)


@pytest.mark.parametrize("kind", SAMPLED)
def test_items_outside_are_never_drawn(kind, tmp_path):
    split = leave_one_out(tiny_dataset([[0, 1, 2], [3, 4, 5]], n_items=30))
    examples = replace(split.examples(SplitName.test), outside=np.arange(5, 20))
    drawn = with_candidates(examples, split, kind, 12, 0, tmp_path / "few").candidates
    assert drawn is not None
    assert sorted(drawn[0, 1:]) == [3, 4, *range(20, 30)]
    with pytest.raises(DataError, match="all but 12 of the 15 items"):
        with_candidates(examples, split, kind, 13, 0, tmp_path / "many")


def test_a_catalogue_that_is_too_small_is_refused_and_a_whole_one_needs_no_candidates(tmp_path):
    split = leave_one_out(tiny_dataset([[0, 1, 2], [0, 0, 0]], n_items=10))
    with pytest.raises(DataError, match="all but 7 of the 10 items") as error:
        with_candidates(split.examples(SplitName.test), split, Candidates.uniform, 8, 0, tmp_path)
    assert "lower task.negatives to 7" in error.value.remedy
    split = leave_one_out(tiny_dataset([[0, 1, 2]], n_items=3))
    assert with_candidates(split.examples(SplitName.test), split, Candidates.full, 99, 0, tmp_path).candidates is None


@pytest.mark.parametrize("kind", SAMPLED)
@pytest.mark.parametrize("part", SplitName)
@pytest.mark.parametrize("first", ["whole", "held out"])
def test_candidates_do_not_depend_on_what_is_held_out_of_training(kind, part, first, tmp_path):
    """Whoever comes first fills the cache for both."""
    rng = np.random.default_rng(0)
    whole = leave_one_out(tiny_dataset([rng.zipf(1.3, 12).clip(max=59).tolist() for _ in range(80)], n_items=60))
    held = hold_out(whole, 0.3, 0.5, seed=0)

    def drawn(split, cache):
        examples = with_candidates(split.examples(part), split, kind, 9, 0, cache)
        return dict(zip(examples.row.tolist(), examples.candidates.tolist(), strict=True))

    if first == "held out":
        drawn(held, tmp_path / "shared")
    expected = drawn(whole, tmp_path / "whole")
    shared = drawn(held, tmp_path / "shared")
    assert shared == {row: expected[row] for row in shared}
    assert drawn(whole, tmp_path / "shared") == expected
    assert len(shared) == len(expected) if part is SplitName.test else len(shared) < len(expected)
