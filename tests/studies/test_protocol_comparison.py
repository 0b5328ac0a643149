"""Models under several protocols: means over draws and seeds, ranks, Kendall's τ and slices, by hand-made runs."""

import pytest

from llm4rec_studies.protocol_comparison import ProtocolComparison, ProtocolRun, kendall_tau, metric_table, slice_table
from tests.results import finished_runs


def run(model, protocol, value, draw=0, seed=0, n=100, **slices):
    """Return a run with hr@10=value, and slices of (value, n)."""
    by_slice = {name: {"n": n_inside, "hr@10": inside} for name, (inside, n_inside) in slices.items()}
    facts = {"metrics": {"hr@10": value}, "n_examples": n, "breakdown": {"slice": by_slice}, "seed": seed}
    facts |= {"dataset_fingerprint": f"f{draw}", "config_hash": f"{model}{protocol}{draw}{seed}"}
    return ProtocolRun(model, protocol, draw, finished_runs.run(**facts))


COMPARISON = ProtocolComparison(
    [
        run("low", "leave_one_out", 0.1, same_day=(0.3, 20)),
        run("model", "leave_one_out", 0.3, seed=0, same_day=(0.9, 20)),
        run("model", "leave_one_out", 0.5, seed=1, same_day=(0.7, 20)),
        run("high", "leave_one_out", 0.6, same_day=(0.1, 20)),
        run("low", "shuffle_ties", 0.1, draw=3, same_day=(0.2, 20)),
        run("model", "shuffle_ties", 0.25, draw=3, same_day=(0.2, 20)),
        run("high", "shuffle_ties", 0.375, draw=3, same_day=(0.2, 20)),
        run("low", "shuffle_ties", 0.2, draw=4),
        run("model", "shuffle_ties", 0.5, draw=4),
        run("high", "shuffle_ties", 0.375, draw=4),
        run("low", "temporal", 0.5, n=9),
        run("model", "temporal", 0.6, n=9),
        run("high", "temporal", 0.2, n=9),
    ],
    {},
)


def test_a_value_a_draw_is_the_mean_over_seeds_and_a_cell_has_their_spread():
    table = metric_table(COMPARISON, "hr@10")
    assert table.columns == ["model", "leave_one_out", "shuffle_ties", "temporal", "ranks"]
    assert table.rows == [
        ["low", "0.1000", "0.1500 ± 0.0707", "0.5000", "3 3 2"],
        ["model", "0.4000", "0.3750 ± 0.1768", "0.6000", "2 1 1"],  # equal means share the better rank
        ["high", "0.6000", "0.3750 ± 0.0000", "0.2000", "1 1 3"],
    ]
    assert table.notes[0] == "examples: 100 leave_one_out, 100 shuffle_ties, 9 temporal"
    assert "2 draws, dataset.seed=3…4" in table.notes[1]


def test_the_orders_of_models_are_compared_between_protocols_and_draws():
    """leave_one_out: low < model < high. temporal: high < low < model. Draws: the first as in leave_one_out, in the
    second model and high swap, and low stays last."""
    assert COMPARISON.kendall("leave_one_out", "temporal", "hr@10") == pytest.approx(-1 / 3)
    assert COMPARISON.kendall_of_draws("shuffle_ties", "hr@10") == [pytest.approx(1 / 3)]
    notes = "\n".join(metric_table(COMPARISON, "hr@10").notes)
    assert "leave_one_out and temporal -0.33" in notes
    assert "under temporal than under leave_one_out (not tested): high and model; high and low" in notes
    assert "under shuffle_ties than under leave_one_out" not in notes, "equal ranks are no other order"


def test_kendall_s_tau_counts_pairs_and_leaves_ties_out():
    # 4 pairs in order; 5 of 6 differ on each side
    assert kendall_tau([(1, 1), (1, 2), (2, 2), (3, 3)]) == pytest.approx(4 / 5)
    assert kendall_tau([(1, 3), (2, 2), (3, 1)]) == pytest.approx(-1)
    assert [kendall_tau(pairs) for pairs in ([], [(1, 2)], [(1, 2), (1, 3)])] == [None, None, None]


def test_an_error_is_better_when_lower():
    runs = [
        ProtocolRun(model, "leave_one_out", 0, finished_runs.run(metrics={"rmse": value}))
        for model, value in (("a", 2.0), ("b", 1.0))
    ]
    assert ProtocolComparison(runs, {}).ranks("leave_one_out", "rmse") == {"a": 2, "b": 1}


def test_slices_have_the_number_of_examples_and_what_a_model_lacks_is_a_dash():
    table = slice_table(COMPARISON, "leave_one_out", "hr@10")
    assert table is not None
    assert table.columns == ["model", "all", "same day"]
    assert table.rows[0] == ["examples", "100", "20"]
    assert table.rows[2] == ["model", "0.4000", "0.8000"]
    assert "completes a basket" in table.notes[0]
    assert slice_table(COMPARISON, "temporal", "hr@10") is None
    other = ProtocolComparison([*COMPARISON.runs, run("new", "leave_one_out", 0.2)], {})
    assert slice_table(other, "leave_one_out", "hr@10").rows[-1] == ["new", "0.2000", "–"]  # type: ignore[union-attr]
