"""Another system's split against ours: which targets differ, why, and which known split that is."""

import pandas as pd
import pytest

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.errors import DataError
from llm4rec_studies.models.external.config import ExternalConfig
from llm4rec_studies.referee.split import check_targets, check_training

# Users u0 to u3; the last two interactions of u2 and u3 share a time. Targets: i3, i0, i4, i1.
TIMES = [1e9 + 1000 * time for time in (1, 2, 3.008, 3.03, 1, 2, 3, 1, 2, 3, 3, 1, 2, 2)]  # u0's last two: 22 s apart
SPLIT = leave_one_out(tiny_dataset([[0, 1, 2, 3], [2, 1, 0], [0, 1, 3, 4], [4, 0, 1]], n_items=6, timestamp=TIMES))
EXAMPLES = SPLIT.examples(SplitName.test)
CONFIG = ExternalConfig(name="external", file=None, alias="theirs", max_missing=0)
OURS = {"u0": "i3", "u1": "i0", "u2": "i4", "u3": "i1"}


@pytest.fixture
def file(tmp_path):
    """file({user: item}) or file(pairs): a CSV file of these rows."""

    def write(rows):
        pairs, path = list(rows.items()) if isinstance(rows, dict) else rows, tmp_path / "theirs.csv"
        pd.DataFrame(pairs, columns=["user_id", "item_id"]).assign(rating=1).to_csv(path, index=False)
        return path

    return write


def test_the_same_targets_in_any_order_pass(file):
    check = check_targets(file(dict(reversed(OURS.items()))), CONFIG, SPLIT, EXAMPLES)
    assert check.passed
    assert "the targets of all 4 users are ours" in check.reason


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"u2": "i3", "u3": "i0"}, "2: their target has the same time as ours: it is leave-one-out by another order"),
        ({"u0": "i2", "u2": "i3"}, "2: their target has the same time as ours in single precision"),
        ({"u2": "i3"}, "1 of 4 users have another target, first 'u2' (ours: i4; theirs: i3)"),
        ({"u0": "i2", "u1": "i1", "u2": "i3", "u3": "i0"}, "4: their target is our validation item, one earlier"),
        (
            {"u0": None, "u1": None},
            "first 'u0' (ours: i3; theirs: none). 2: they do not test this user: it is ours for",
        ),
        ({"u0": "i5", "u1": "i4"}, "2: their target is no interaction of this user here: their data are others"),
        ({"u0": "i0", "u2": "i0"}, "2: their target is elsewhere in the user's history: it is no leave-one-out"),
        ({"u0": "i5", "u1": "i5", "u3": "i0"}, "1: their target has the same time as ours: for the first of these"),
    ],
)
def test_another_split_is_refused_and_named(file, changed, said):
    targets = {user: item for user, item in (OURS | changed).items() if item}
    with pytest.raises(DataError) as error:
        check_targets(file(targets), CONFIG, SPLIT, EXAMPLES)
    assert said in error.value.problem
    assert "llm4rec export data" in error.value.remedy


def test_several_targets_of_a_user_are_another_split(file):
    with pytest.raises(DataError, match="'u0' \\(ours: i3; theirs: i2, i3\\)"):
        check_targets(file([*OURS.items(), ("u0", "i2")]), CONFIG, SPLIT, EXAMPLES)


def test_training_rows_without_our_targets_pass(file):
    check = check_training(file([("u0", "i0"), ("u0", "i2"), ("u9", "i3"), ("u1", "i9")]), CONFIG, SPLIT, EXAMPLES)
    assert check.passed
    assert check.reason.startswith("0 of 4 test targets are among the 4 rows")


def test_our_targets_among_training_rows_are_a_leak(file):
    check = check_training(file([("u0", "i0"), ("u2", "i4"), ("u3", "i1")]), CONFIG, SPLIT, EXAMPLES)
    assert check.passed is False
    assert check.reason == "2 of 4 test targets are among the 3 rows of theirs.csv, first of user 'u2'"


def test_a_repeated_item_that_our_training_has_too_is_none(file):
    split = leave_one_out(tiny_dataset([[0, 1, 2, 0], [1, 2, 0]], n_items=3))
    check = check_training(file([("u0", "i0"), ("u1", "i0")]), CONFIG, split, split.examples(SplitName.test))
    assert check.reason.startswith("1 of 2 test targets")
    assert "'u1'" in check.reason
