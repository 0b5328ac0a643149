"""The drawing of charts: round ticks, positions in proportion to values, and escaped words."""

import pytest

from llm4rec_cli.results import svg


@pytest.mark.parametrize(("least", "step"), [(0.3, 0.5), (0.2, 0.2), (1, 1), (2.1, 5), (6, 10), (0.0051, 0.01)])
def test_a_step_is_1_2_or_5_times_a_power_of_ten(least, step):
    assert svg.round_step(least) == pytest.approx(step)


def test_ticks_are_round_and_within_the_scale():
    assert svg.Scale(0.03, 0.31, 0, 100).ticks() == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 0.3])
    assert svg.Scale(1, 4, 0, 100, least_step=1).ticks() == [1, 2, 3, 4]
    assert svg.Scale(0.1, 1000, 0, 100, log=True).ticks() == pytest.approx([0.1, 1, 10, 100, 1000])


def test_positions_are_in_proportion_to_values_or_to_their_logarithms():
    assert [svg.Scale(0, 4, 10, 50)(value) for value in (0, 1, 4)] == [10, 20, 50]
    assert [svg.Scale(1, 100, 0, 50, log=True)(value) for value in (1, 10, 100)] == [0, 25, 50]


@pytest.mark.parametrize("values", [[0.2], [0.0, 0.0], [-1.0, 3.0], [1e-7, 2e-7]])
def test_a_scale_spans_its_values_even_if_all_are_equal(values):
    scale = svg.linear(values, 0, 100)
    assert all(0 <= scale(value) <= 100 for value in values)
    assert scale.ticks()


def test_words_are_escaped():
    assert "&lt;b&gt;" in svg.label(0, 0, "<b>")
    assert 'aria-label="&quot;&gt;"' in svg.drawing(10, [], '">')
