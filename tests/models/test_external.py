"""A file of scores: how its forms are read, what is refused, and how its lists rank."""

import gzip
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from llm4rec_cli.config.schema import Part
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.models.external.lists import read
from llm4rec_cli.models.external.model import External
from llm4rec_cli.tasks.ranking import rank
from tests.builders import tiny_dataset

DATASET = tiny_dataset([[0, 1, 2], [1, 2, 3], [2, 3, 4]], n_items=6)  # users u0, u1, u2; items i0 to i5
ASKED = leave_one_out(DATASET).examples(Part.test)  # targets i2, i3, i4


@pytest.fixture
def lists(tmp_path):
    """lists(text, name="lists.csv"): what a file of that text and name is read as, (3, 6)."""

    def read_text(text, name="lists.csv"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return read(path, DATASET).toarray()

    return read_text


@pytest.fixture
def parquet(tmp_path):
    """parquet(**columns): what such a Parquet file is read as, (3, 6)."""

    def read_columns(**columns):
        pd.DataFrame(columns).to_parquet(tmp_path / "lists.parquet")
        return read(tmp_path / "lists.parquet", DATASET).toarray()

    return read_columns


def ranked(listed, mask_history=False, candidates=None):
    """The ranks of the three targets under lists given as (3, 6) numbers."""
    model = External(csr_array(np.asarray(listed, dtype=np.float32)), DATASET.user_ids, max_missing=0.4)
    asked = ASKED if candidates is None else replace(ASKED, candidates=np.array(candidates))
    found = rank(model, asked, mask_history, 3, 2)
    ranks = pd.DataFrame({name: getattr(found, name) for name in ("n_better", "n_tied", "n_candidates")})
    return model, asked, ranks


# ---- the forms of a file

U0 = [[0, 1, 3, 2, 0, 0], [0] * 6, [0] * 6]  # u0: i2, then i3, then i1


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("user,item,score\nu0,i1,-5\nu0,i2,0.5\nu0,i3,0.25\n", "lists.csv"),
        ("user,item,rank\nu0,i1,3\nu0,i2,1\nu0,i3,2\n", "lists.csv"),
        ("user,item\nu0,i2\nu0,i3\nu0,i1\n", "lists.csv"),
        ("user_id\titem_id\trank\nu0\ti1\t3\nu0\ti2\t1\nu0\ti3\t2\n", "lists.tsv"),
        ("user,item\nu0,i2\nu0,i3\nu0,i1\n", "lists.csv.gz"),
        ("user\titem\nu0\ti2\nu0\ti3\nu0\ti1\n", "lists.tsv.gz"),
        ("\ufeffuser,item\r\nu0,i2\r\nu0,i3\r\nu0,i1\r\n\r\n", "lists.csv"),
        ('"","user","item","score"\n"1","u0","i1",-5\n"2","u0","i2",0.5\n"3","u0","i3",0.25\n', "lists.csv"),
        (",user,item\n8,u0,i2\n2,u0,i3\n5,u0,i1\n", "lists.csv"),
        ("score,item,fold,user\n-5,i1,a,u0\n0.5,i2,a,u0\n0.25,i3,a,u0\n", "lists.csv"),
    ],
    ids=[
        "score",
        "rank",
        "order",
        "tsv and _id",
        "csv.gz",
        "tsv.gz",
        "bom and crlf",
        "quoted",
        "row numbers",
        "other columns",
    ],
)
def test_every_form_of_one_list_is_read_alike(lists, text, name):
    assert lists(text, name).tolist() == U0


def test_parquet_is_read_by_score_rank_and_order(parquet):
    user, item = ["u0"] * 3, ["i1", "i2", "i3"]
    assert parquet(user=user, item=item, score=[-5, 0.5, 0.25]).tolist() == U0
    assert parquet(user=user, item=item, rank=[3, 1, 2]).tolist() == U0
    assert parquet(user=user, item=["i2", "i3", "i1"]).tolist() == U0


def test_the_index_that_pandas_adds_to_parquet_is_no_column(tmp_path):
    frame = pd.DataFrame({"user": ["u0"] * 3, "item": ["i2", "i3", "i1"]}, index=[8, 2, 5])
    frame.to_parquet(tmp_path / "lists.parquet")
    assert read(tmp_path / "lists.parquet", DATASET).toarray().tolist() == U0


def test_ids_in_parquet_may_be_numbers(tmp_path):
    dataset = tiny_dataset([[0, 1, 2]])
    dataset.items["item_id"] = ["10", "11", "12"]
    pd.DataFrame({"user": ["u0"], "item": [11]}).to_parquet(tmp_path / "lists.parquet")
    assert read(tmp_path / "lists.parquet", dataset).toarray().tolist() == [[0, 1, 0]]


def test_rows_of_users_may_be_mixed(lists):
    found = lists("user,item\nu1,i0\nu0,i5\nu1,i3\nu0,i4\n")
    assert found.tolist() == [[0, 0, 0, 0, 1, 2], [2, 0, 0, 1, 0, 0], [0] * 6]


def test_equal_scores_tie(lists):
    assert lists("user,item,score\nu0,i0,1\nu0,i1,2\nu0,i2,1\n")[0].tolist() == [1, 2, 1, 0, 0, 0]


def test_scores_that_float32_cannot_tell_apart_keep_their_order(lists):
    found = lists("user,item,score\nu0,i0,1.0000000001\nu0,i1,1.0000000002\nu0,i2,1.0\n")
    assert found.dtype == np.float32
    assert found[0].tolist() == [2, 3, 1, 0, 0, 0]


# ---- what is refused

WRONG = {
    "an unknown user": ("user,item\nu0,i0\nnobody,i0\n", "line 3: no user 'nobody' in dataset 'tiny'"),
    "an unknown item": (
        "user,item\nu0,i0\nu0,i9\nu0,i8\n",
        "line 3: no item 'i9' in dataset 'tiny' after its filters, and 1 more",
    ),
    "an empty id": ("user,item\n,i0\n", "line 2: no user ''"),
    "an item twice": (
        "user,item,score\nu0,i0,1\n\nu0,i1,1\nu0,i0,2\n",
        "line 5: item 'i0' stands here once more for user 'u0'",
    ),
    "no number": ("user,item,score\nu0,i0,1\nu0,i1,high\n", ":3: score is not a number: 'high'"),
    "nan": ("user,item,score\nu0,i0,nan\n", ":2: score is not a number: 'nan'"),
    "infinity": ("user,item,score\nu0,i0,-inf\n", ":2: score is not a number: '-inf'"),
    "an empty score": ("user,item,score\nu0,i0,\n", ":2: score is not a number: ''"),
    "too few fields": ("user,item,score\nu0,i0,1\nu0,i1\n", ":3: expected 3 fields, got 2"),
    "no header": ("u0,i0,1\n", "no column 'user' (found u0, i0, 1)"),
    "no item": ("user,score\nu0,1\n", "no column 'item'"),
    "two columns of users": ("user,user_id,item\nu0,u0,i0\n", "several columns hold the user"),
    "score and rank": ("user,item,score,rank\nu0,i0,1,1\n", "several columns to rank by"),
    "a score of another name": ("user,item,prediction\nu0,i0,1\n", "no column 'score' or 'rank'"),
    "nothing": ("", "is empty"),
    "only a header": ("user,item,score\n", "no rows after the header"),
}


@pytest.mark.parametrize(("text", "problem"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_with_the_line_and_a_remedy(lists, text, problem):
    with pytest.raises(DataError) as refused:
        lists(text)
    assert refused.value.problem.startswith("lists.csv")
    assert problem in refused.value.problem
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"user": ["u0", "x"], "item": ["i0", "i0"]}, "row 2: no user 'x'"),
        ({"user": ["u0", None], "item": ["i0", "i0"]}, "row 2: no user"),
        ({"user": ["u0", "u0"], "item": ["i0", "i0"]}, "row 2: item 'i0' stands here once more"),
        ({"user": ["u0", "u0"], "item": ["i0", "i1"], "score": [1.0, np.nan]}, "row 2: score is not a finite number"),
        ({"user": ["u0"], "item": ["i0"], "rank": ["first"]}, "row 1: rank is not a finite number"),
        ({"user": [], "item": []}, "has no row"),
        ({"user": ["u0"], "movie": ["i0"]}, "no column 'item'"),
    ],
)
def test_a_wrong_parquet_file_is_refused_with_the_row(parquet, columns, problem):
    with pytest.raises(DataError, match=f"lists.parquet.*{problem}"):
        parquet(**columns)


def test_what_is_no_parquet_is_refused(lists):
    with pytest.raises(DataError, match=r"lists.parquet is no Parquet file"):
        lists("user,item\n", "lists.parquet")


def test_cut_off_gzip_is_refused(tmp_path):
    (tmp_path / "lists.csv.gz").write_bytes(gzip.compress(b"user,item\n" + b"u0,i0\n" * 1000)[:-20])
    with pytest.raises(DataError, match="gzip data is truncated"):
        read(tmp_path / "lists.csv.gz", DATASET)


@pytest.mark.parametrize("name", ["lists.txt", "lists", "lists.xlsx"])
def test_a_name_that_does_not_tell_the_format_is_refused(lists, name):
    with pytest.raises(UsageError, match="its name does not say what it holds"):
        lists("user,item\nu0,i0\n", name)


# ---- how lists rank


def test_a_target_on_top_of_its_list_has_rank_one_however_short_the_list():
    listed = np.zeros((3, 6))
    listed[[0, 1, 2], [2, 3, 4]] = 1
    *_, ranks = ranked(listed)
    assert ranks["n_better"].tolist() == [0, 0, 0]
    assert ranks["n_tied"].tolist() == [1, 1, 1]


def test_a_target_at_the_end_of_a_whole_list_comes_last():
    listed = np.tile(np.arange(2, 8), (3, 1))
    listed[[0, 1, 2], [2, 3, 4]] = 1
    model, asked, ranks = ranked(listed)
    assert ranks["n_better"].tolist() == [5, 5, 5]
    assert model.gaps(asked, ranks, [5]) == {}


def test_items_left_out_tie_below_all_that_are_listed():
    *_, ranks = ranked([[2, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0]])
    assert ranks["n_better"].tolist() == [2, 1, 0]
    assert ranks["n_tied"].tolist() == [4, 5, 1]


def test_masked_items_do_not_stand_before_the_target():
    listed = [[3, 2, 1, 0, 0, 0], [0, 3, 2, 1, 0, 0], [0, 0, 3, 2, 1, 0]]  # the history, then the target
    *_, ranks = ranked(listed, mask_history=True)
    assert ranks["n_better"].tolist() == [0, 0, 0]
    assert ranks["n_tied"].tolist() == [1, 1, 1]


def test_candidates_rank_as_their_lists_say():
    listed = [[3, 2, 1, 0, 0, 0], [0, 3, 2, 1, 0, 0], [1, 0, 0, 0, 0, 0]]
    *_, ranks = ranked(listed, candidates=[[2, 0, 5], [3, 4, 5], [4, 3, 5]])
    assert ranks["n_better"].tolist() == [1, 0, 0]
    assert ranks["n_tied"].tolist() == [1, 1, 3]


# ---- what is said of gaps


def test_chance_among_items_left_out_is_told_metric_by_metric():
    model, asked, ranks = ranked([[2, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]])
    said = model.gaps(asked, ranks, [1, 2, 4])
    assert list(said) == ["truncated-lists"]
    # u0's target is one of four behind two items: HR@4 is (4 - 2) / 4 for it, a sixth of the mean over three users
    assert "0.1667 of hr@4" in said["truncated-lists"]
    assert "hr@1" not in said["truncated-lists"]
    assert "hr@2" not in said["truncated-lists"]
    assert "mrr" in said["truncated-lists"]


def test_what_is_told_of_chance_is_what_a_list_without_chance_lacks():
    listed = [[2, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]]
    model, asked, ranks = ranked(listed)
    columns = [ranks[name].to_numpy() for name in ("n_better", "n_tied", "n_candidates")]
    values = ranking_metrics(*columns, [4])
    said = model.gaps(asked, ranks, [4])["truncated-lists"]
    assert f"{values['mrr'].mean() - 2 / 3:.4f} of mrr" in said  # two users with rank 1


def test_a_single_item_left_out_is_no_chance():
    model, asked, ranks = ranked([[5, 4, 0, 3, 2, 1], [5, 4, 3, 0, 2, 1], [5, 4, 3, 2, 0, 1]])
    assert ranks["n_better"].tolist() == [5, 5, 5]
    assert model.gaps(asked, ranks, [1, 5, 6]) == {}


def test_a_few_missing_users_count_as_chance_and_are_told():
    model, asked, ranks = ranked([[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0] * 6])
    assert (ranks["n_better"][2], ranks["n_tied"][2]) == (0, 6)
    assert model.gaps(asked, ranks, [1]) == {"missing-users": "1 of 3 users have no row: each counts as chance"}


def test_many_missing_users_are_refused_with_the_first_of_them():
    model, asked, ranks = ranked([[0, 0, 1, 0, 0, 0], [0] * 6, [0] * 6])
    with pytest.raises(DataError, match=r"2 of the 3 users asked about have no row in the file, such as user 'u1'"):
        model.gaps(asked, ranks, [1])
