import numpy as np

from llm4rec_cli.evaluation.beyond_accuracy import by_frequency, by_group_of_sums, coverage


def test_coverage_counts_each_item_once():
    assert coverage(np.array([[0, 1], [1, 2]]), n_items=12) == 0.25


def test_values_are_averaged_by_how_often_the_target_was_seen():
    values = {"hr@10": np.array([0.0, 1.0, 0.0, 1.0, 1.0])}
    assert by_frequency(values, np.array([0, 1, 4, 19, 2000])) == {
        "0": {"n": 1, "hr@10": 0.0},
        "1-4": {"n": 2, "hr@10": 0.5},
        "10-19": {"n": 1, "hr@10": 1.0},
        "20+": {"n": 1, "hr@10": 1.0},
    }


def test_what_is_computed_of_sums_is_computed_in_each_group():
    columns = {"square": np.array([1.0, 9.0, 16.0]), "n": np.ones(3)}
    groups = {"odd": np.array([True, True, False]), "none": np.zeros(3, bool), "even": np.array([False, False, True])}
    found = by_group_of_sums(columns, lambda sums: {"rms": np.sqrt(sums["square"] / sums["n"])}, groups)
    assert found == {"odd": {"n": 2, "rms": 5**0.5}, "even": {"n": 1, "rms": 4.0}}
