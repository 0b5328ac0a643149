import numpy as np

from llm4rec_cli.evaluation.beyond_accuracy import by_frequency, coverage


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
