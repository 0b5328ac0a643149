import numpy as np
import pandas as pd
from texts_that_fit import estimate, row


def test_a_row_has_both_measures_and_the_numbers_of_examples(tmp_path):
    answers = pd.DataFrame(
        {
            "user_id": ["u0", "u1"],
            "prediction": ["the guitar is loud", "a red strap"],
            "reference": ["the guitar is loud", "a soft case"],
            "rougeL": [1.0, 1 / 3],
        }
    )
    others = {"fits_user": [["a soft case"], []], "fits_item": [["a soft case"], ["a red strap"]]}
    cells = [cell.strip() for cell in row("p5", answers, others, tmp_path).strip("|").split("|")]
    assert cells[0] == "p5"
    assert [cell.partition(" ")[0] for cell in cells[1:]] == ["0.667", "1.000", "1.000", "1", "0.500", "0.500", "2"]


def test_examples_without_a_value_do_not_count():
    answers = pd.DataFrame({"user_id": ["u0", "u1", "u2"]})
    assert estimate(np.array([1, 1, np.nan]), answers) == "1.000 (1.000–1.000)"
    assert estimate(np.full(3, np.nan), answers) == "–"
