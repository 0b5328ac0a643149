"""Lists in a column as offsets and one flat array, and the lists of MIND's log read without a Python object each."""

from itertools import chain

import pandas as pd
import pyarrow as pa
import pytest

from llm4rec_cli.data import rawfiles
from llm4rec_cli.data.lists import flat_list, list_column, numbered_lists
from llm4rec_cli.data.readers import mind
from llm4rec_cli.errors import DataError

from .sources import MIND

KNOWN = pd.Index(["a", "b", "c"])


@pytest.mark.parametrize("lists", [[["c", "a"], [], ["b", "b"]], [[], []]])
def test_ids_in_lists_become_numbers(lists):
    numbers = numbered_lists(pd.Series(lists, index=range(1, len(lists) + 1)), KNOWN)
    assert numbers.index.tolist() == list(range(1, len(lists) + 1))
    assert numbers.tolist() == [[KNOWN.get_loc(item) for item in items] for items in lists]
    flat, offsets = flat_list(numbers, pa.int32())
    assert (flat.to_pylist(), offsets[-1]) == ([*chain(*numbers)], sum(map(len, lists)))


def test_lists_of_several_pieces_are_one_flat_array():
    pieces = [
        list_column(pa.array([1, 2, 3], pa.int32()), [0, 2, 2, 3]),
        list_column(pa.array([4], pa.int32()), [0, 1]),
    ]
    flat, offsets = flat_list(pd.concat(pieces, ignore_index=True))
    assert (flat.to_pylist(), offsets.tolist()) == ([1, 2, 3, 4], [0, 2, 2, 3, 4])


@pytest.mark.parametrize("n_bytes", [250, 400])
def test_a_log_is_the_same_however_many_rows_are_text_at_a_time(n_bytes, monkeypatch):
    whole = mind.read(MIND).impressions
    monkeypatch.setattr(rawfiles, "_BLOCK", n_bytes)
    again = mind.read(MIND).impressions
    assert {name: again[name].tolist() for name in again} == {name: whole[name].tolist() for name in whole}


@pytest.mark.parametrize("shown", ["  N1-0   N2-1 ", "\u00a0N1-0\u2003N2-1"])
def test_white_space_separates_news_as_in_python(shown, tmp_path):
    path = tmp_path / "behaviors.tsv"
    path.write_text(f"1\tU1\t11/12/2019 2:14:46 PM\t N2  N2\t{shown}\n")
    impressions = mind.read(MIND | {"train_behaviors": path}).impressions
    columns = [impressions[name][0] for name in ("history", "candidates", "clicks")]
    assert columns == [["N2", "N2"], ["N1", "N2"], ["N2"]]


def test_the_first_malformed_row_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(rawfiles, "_BLOCK", 250)
    path = tmp_path / "behaviors.tsv"
    row = "1\tU1\t11/12/2019 2:14:46 PM\tN2\t"
    for shown in ("N1", "1", "N1-2", "N9-0", "", "N1-0 -1"):
        path.write_text(f"{row}N1-0\n" * 3 + f"{row}{shown}\n{row}N1-7\n")
        with pytest.raises(DataError, match=r"behaviors\.tsv:4: "):
            mind.read(MIND | {"train_behaviors": path})
