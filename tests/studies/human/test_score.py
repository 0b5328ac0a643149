"""Krippendorff's alpha of scores, against published and hand-made values."""

import numpy as np
import pandas as pd
import pytest

from llm4rec_studies.human.score import krippendorff_alpha

X = np.nan
# Of Krippendorff (2011), "Computing Krippendorff's alpha-reliability".
PUBLISHED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, X, X, X],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, X, 3],
    [X, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, X],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, X],
]


@pytest.mark.parametrize(
    ("ratings", "alpha"),
    [
        (PUBLISHED, 0.815),
        ([[1, 3, 5], [1, 3, 5]], 1),
        ([[1, 2, 3]], None),  # one rater
        ([[1, 2, X], [X, X, 3]], None),  # no text has two raters
        ([[2, 2, 5], [2, 2, X]], None),  # nothing varies in texts with two raters
    ],
)
def test_alpha_is_ordinal_and_none_where_it_is_undefined(ratings, alpha):
    scores = pd.DataFrame(ratings).rename_axis("rater").reset_index().melt("rater", var_name="code", value_name="score")
    assert krippendorff_alpha(scores.dropna()) == (alpha and pytest.approx(alpha, abs=5e-4))
