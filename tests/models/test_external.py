"""Files of scores: formats, errors, and the ranks they give."""

import gzip
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.models.external.lists import read_lists
from llm4rec_cli.models.shared.ranked_lists import RankedLists
from llm4rec_cli.tasks.ranking import rank

DATASET = tiny_dataset([[0, 1, 2], [1, 2, 3], [2, 3, 4]], n_items=6)  # users u0, u1, u2; items i0 to i5
EXAMPLES = leave_one_out(DATASET).examples(SplitName.test)  # targets i2, i3, i4


def read(path, dataset=DATASET, **settings):
    return read_lists(str(path), dataset, **settings)


@pytest.fixture
def lists(tmp_path):
    """lists(text, name="lists.csv"): write a file and return its lists, (3, 6)."""

    def write_and_read(text, name="lists.csv", **settings):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return read(path, **settings).matrix.toarray()

    return write_and_read


@pytest.fixture
def parquet(tmp_path):
    """parquet(**columns): write a Parquet file and return its lists, (3, 6)."""

    def write_and_read(**columns):
        pd.DataFrame(columns).to_parquet(tmp_path / "lists.parquet")
        return read(tmp_path / "lists.parquet").matrix.toarray()

    return write_and_read


def ranked(lists, mask_history=False, candidates=None):
    """Return the model of (3, 6) lists, the examples, and the ranks of their three targets."""
    model = RankedLists(csr_array(np.asarray(lists, dtype=np.float32)), DATASET.user_ids, max_missing=0.4)
    examples = EXAMPLES if candidates is None else replace(EXAMPLES, candidates=np.array(candidates))
    ranking = rank(model, examples, mask_history, 3, 2)
    ranks = pd.DataFrame({name: getattr(ranking, name) for name in ("n_better", "n_tied", "n_candidates")})
    return model, examples, ranks


# ---- formats

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
        ("user_id,item_id,score,rank\nu0,i2,0.5,1\nu0,i3,0.25,2\nu0,i1,-5,3\n", "lists.csv"),
        ("user_id:token\titem_id:token\tscore:float\nu0\ti1\t-5\nu0\ti2\t0.5\nu0\ti3\t0.25\n", "lists.inter"),
        ("u0 Q0 i2 1 0.5 mine\nu0 Q0 i3 2 0.25 mine\nu0 Q0 i1 3 -5 mine\n", "lists.run"),
        ("u0\tQ0\ti1\t7\t-5\tmine\nu0\tQ0\ti3\t7\t.25\tmine\nu0\tQ0\ti2\t7\t.5\tmine\n", "lists.trec.gz"),
        ('{"user": "u0", "items": ["i2", "i3", "i1"]}\n', "lists.jsonl"),
        ('[{"user_id": "u0", "predict": ["i1", "i2", "i3"], "scores": [-5, 0.5, 0.25]}]', "lists.json"),
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
        "others",
        "score and rank",
        "RecBole",
        "TREC",
        "TREC by score",
        "JSON lines",
        "JSON with scores",
    ],
)
def test_every_format_of_a_list_gives_the_same_scores(lists, text, name):
    assert lists(text, name).tolist() == U0


def test_parquet_is_read_by_score_rank_and_order(parquet):
    user, item = ["u0"] * 3, ["i1", "i2", "i3"]
    assert parquet(user=user, item=item, score=[-5, 0.5, 0.25]).tolist() == U0
    assert parquet(user=user, item=item, rank=[3, 1, 2]).tolist() == U0
    assert parquet(user=user, item=["i2", "i3", "i1"]).tolist() == U0


def test_a_list_per_row_of_parquet_is_flattened(parquet):
    """As lenskit writes collections of lists, and as our predictions hold top items."""
    assert (
        parquet(
            user_id=["u0"],
            items=[
                [{"item_id": "i1", "score": -5.0}, {"item_id": "i2", "score": 0.5}, {"item_id": "i3", "score": 0.25}]
            ],
        ).tolist()
        == U0
    )
    assert parquet(user_id=["u0"], top_items=[["i2", "i3", "i1"]]).tolist() == U0
    assert parquet(user_id=["u0"], top_items=[["i1", "i2", "i3"]], top_scores=[[-5, 0.5, 0.25]]).tolist() == U0


@pytest.mark.parametrize(
    ("name", "content"),
    [("ids.tsv", "i{0}\t{1}\n"), ("ids.txt", "i{0} {1}\n"), ("ids.csv", "i{0},{1}\n"), ("ids.json", None)],
)
def test_numbers_of_another_system_are_mapped_to_raw_ids(lists, tmp_path, name, content):
    pairs = [(item, item + 100) for item in range(6)]
    text = "".join(content.format(*pair) for pair in pairs) if content else json.dumps({f"i{a}": b for a, b in pairs})
    (tmp_path / name).write_text(text)
    assert lists("user,item\nu0,102\nu0,103\nu0,101\n", item_ids=str(tmp_path / name)).tolist() == U0


def test_a_number_without_a_raw_id_is_refused(lists, tmp_path):
    (tmp_path / "ids").write_text("i0\t0\n")
    with pytest.raises(DataError, match=r"lists.csv:3: no item '7' in ids"):
        lists("user,item\nu0,0\nu0,7\n", item_ids=str(tmp_path / "ids"))
    (tmp_path / "ids").write_text("i0\t0\ni1\t0\n")
    with pytest.raises(DataError, match="'0' stands for 'i0' and 'i1'"):
        lists("user,item\nu0,0\n", item_ids=str(tmp_path / "ids"))


# ---- semantic ids

CODES = {"i0": ["<a_1>", "<b_1>"], "i1": ["<a_1>", "<b_2>"], "i2": ["<a_2>", "<b_1>"], "i3": ["<a_1>", "<b_2>"]}


@pytest.fixture
def codes(tmp_path):
    (tmp_path / "index.json").write_text(json.dumps(CODES))
    return {"codes": str(tmp_path / "index.json")}


def test_items_with_the_same_codes_tie(lists, codes):
    beams = '{"user": "u0", "predict": ["<a_1><b_2>", "<a_2><b_1>", "<a_1><b_1>"]}'
    assert lists(beams, "lists.jsonl", **codes)[0].tolist() == [1, 3, 2, 3, 0, 0]
    listed = '{"user": "u0", "predict": [["<a_1>", "<b_2>"], ["<a_2>", "<b_1>"], ["<a_1>", "<b_1>"]]}'
    assert lists(listed, "lists.jsonl", **codes)[0].tolist() == [1, 3, 2, 3, 0, 0]


def test_a_collided_target_counts_by_expectation(lists, codes):
    """A group of two at the first rank: HR@1 is a half for either, as both orders are equally likely."""
    matrix = lists('{"user": "u0", "predict": ["<a_1><b_2>", "<a_2><b_1>"]}', "lists.jsonl", **codes)
    *_, ranks = ranked(matrix, candidates=[[1, 2, 3], [0, 1, 2], [0, 1, 2]])
    values = ranking_metrics(*(ranks[name].to_numpy()[:1] for name in ("n_better", "n_tied", "n_candidates")), [1, 2])
    assert values["hr@1"].tolist() == [0.5]
    assert values["hr@2"].tolist() == [1.0]


def test_codes_of_no_item_and_repeated_codes_are_left_out_and_counted(tmp_path, codes):
    beams = ["<a_1><b_2>", "<a_9><b_9>", "<a_1><b_2>", "<a_2><b_1>"]
    (tmp_path / "lists.json").write_text(json.dumps([{"user": "u0", "predict": beams}]))
    read_in = read(tmp_path / "lists.json", **codes)
    assert read_in.matrix.toarray()[0].tolist() == [0, 2, 1, 2, 0, 0]
    assert read_in.left_out == "1 codes of no item and 1 repeated codes were left out of 4"
    model = RankedLists(read_in.matrix, DATASET.user_ids, 1, read_in.left_out)
    ranks = pd.DataFrame({"n_better": [0, 0, 0], "n_tied": [1, 1, 1], "n_candidates": [6, 6, 6]})
    assert model.gaps(EXAMPLES, ranks, [1])["left-out-codes"] == read_in.left_out


def test_codes_of_another_model_are_refused(lists, codes):
    with pytest.raises(DataError, match=r"no item has the codes '<x_1>' in index.json \(2 of 2 rows\)"):
        lists('{"user": "u0", "predict": ["<x_1>", "<x_2>"]}', "lists.jsonl", **codes)


def test_the_index_that_pandas_adds_to_parquet_is_not_a_column(tmp_path):
    frame = pd.DataFrame({"user": ["u0"] * 3, "item": ["i2", "i3", "i1"]}, index=[8, 2, 5])
    frame.to_parquet(tmp_path / "lists.parquet")
    assert read(tmp_path / "lists.parquet").matrix.toarray().tolist() == U0


def test_ids_in_parquet_may_be_numbers(tmp_path):
    dataset = tiny_dataset([[0, 1, 2]])
    dataset.items["item_id"] = ["10", "11", "12"]
    pd.DataFrame({"user": ["u0"], "item": [11]}).to_parquet(tmp_path / "lists.parquet")
    assert read(tmp_path / "lists.parquet", dataset).matrix.toarray().tolist() == [[0, 1, 0]]


def test_rows_of_different_users_may_alternate(lists):
    scores = lists("user,item\nu1,i0\nu0,i5\nu1,i3\nu0,i4\n")
    assert scores.tolist() == [[0, 0, 0, 0, 1, 2], [2, 0, 0, 1, 0, 0], [0] * 6]


def test_equal_scores_tie(lists):
    assert lists("user,item,score\nu0,i0,1\nu0,i1,2\nu0,i2,1\n")[0].tolist() == [1, 2, 1, 0, 0, 0]


def test_scores_that_are_equal_in_float32_keep_their_order(lists):
    scores = lists("user,item,score\nu0,i0,1.0000000001\nu0,i1,1.0000000002\nu0,i2,1.0\n")
    assert scores.dtype == np.float32
    assert scores[0].tolist() == [2, 3, 1, 0, 0, 0]


# ---- errors

WRONG = {
    "an unknown user": ("user,item\nu0,i0\nnobody,i0\n", ":3: no user 'nobody' in dataset 'tiny'"),
    "an unknown item": (
        "user,item\nu0,i0\nu0,i9\nu0,i8\n",
        ":3: no item 'i9' in dataset 'tiny' after its filters (2 unknown items in total)",
    ),
    "an empty id": ("user,item\n,i0\n", ":2: no user ''"),
    "an item twice": (
        "user,item,score\nu0,i0,1\n\nu0,i1,1\nu0,i0,2\n",
        ":5: item 'i0' is listed more than once for user 'u0'",
    ),
    "no number": ("user,item,score\nu0,i0,1\nu0,i1,high\n", ":3: score is not a number: 'high'"),
    "nan": ("user,item,score\nu0,i0,nan\n", ":2: score is not a number: 'nan'"),
    "infinity": ("user,item,score\nu0,i0,-inf\n", ":2: score is not a number: '-inf'"),
    "an empty score": ("user,item,score\nu0,i0,\n", ":2: score is not a number: ''"),
    "too few fields": ("user,item,score\nu0,i0,1\nu0,i1\n", ":3: expected 3 fields, got 2"),
    "no header": ("u0,i0,1\n", "no column 'user' (columns: u0, i0, 1)"),
    "no item": ("user,score\nu0,1\n", "no column 'item'"),
    "two columns of users": ("user,user_id,item\nu0,u0,i0\n", "more than one user column"),
    "a rank against the score": (
        "user,item,score,rank\nu0,i0,1,1\nu0,i1,2,2\n",
        ":3: for user 'u0', score and rank order the items differently",
    ),
    "a score of another name": ("user,item,prediction\nu0,i0,1\n", "no column 'score' or 'rank'"),
    "nothing": ("", "is empty"),
    "only a header": ("user,item,score\n", "no rows after the header"),
}


@pytest.mark.parametrize(("text", "problem"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_with_the_line_and_a_remedy(lists, text, problem):
    with pytest.raises(DataError) as error:
        lists(text)
    assert error.value.problem.startswith("lists.csv")
    assert problem in error.value.problem
    assert error.value.remedy


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"user": ["u0", "x"], "item": ["i0", "i0"]}, "row 2: no user 'x'"),
        ({"user": ["u0", None], "item": ["i0", "i0"]}, "row 2: no user"),
        ({"user": ["u0", "u0"], "item": ["i0", "i0"]}, "row 2: item 'i0' is listed more than once"),
        ({"user": ["u0", "u0"], "item": ["i0", "i1"], "score": [1.0, np.nan]}, "row 2: score is not a finite number"),
        ({"user": ["u0"], "item": ["i0"], "rank": ["first"]}, "row 1: rank is not a finite number"),
        ({"user": [], "item": []}, "has no rows"),
        ({"user": ["u0"], "movie": ["i0"]}, "no column 'item'"),
    ],
)
def test_a_wrong_parquet_file_is_refused_with_the_row(parquet, columns, problem):
    with pytest.raises(DataError, match=f"lists.parquet.*{problem}"):
        parquet(**columns)


def test_a_file_that_is_not_parquet_is_refused(lists):
    with pytest.raises(DataError, match=r"lists.parquet is not a Parquet file"):
        lists("user,item\n", "lists.parquet")


def test_cut_off_gzip_is_refused(tmp_path):
    (tmp_path / "lists.csv.gz").write_bytes(gzip.compress(b"user,item\n" + b"u0,i0\n" * 1000)[:-20])
    with pytest.raises(DataError, match="gzip data is truncated"):
        read(tmp_path / "lists.csv.gz")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("lists.run", "u0 Q0 i0 1 2.5\n", "lists.run:1: expected six fields, got 5"),
        ("lists.run", "u0 Q0 i0 1 high mine\n", "lists.run:1: score is not a number: 'high'"),
        ("lists.jsonl", '{"user": "u0", "items": "i0"}\n', "lists.jsonl:1: items is not a list"),
        ("lists.jsonl", '{"items": ["i0"]}\n', "lists.jsonl:1: no column 'user'"),
        ("lists.json", '[{"user": "u0", "items": ["i0"], "scores": []}]', "entry 1: items and scores differ in number"),
        ("lists.json", "[1]", "entry 1: not an object"),
        ("lists.json", "[", "lists.json is not JSON"),
        ("lists.json", "[]", "lists.json has no rows"),
    ],
)
def test_a_wrong_file_of_another_format_is_refused(lists, name, text, problem):
    with pytest.raises(DataError, match=re.escape(problem)):
        lists(text, name)


@pytest.mark.parametrize("name", ["lists.txt", "lists", "lists.xlsx"])
def test_an_unknown_file_format_is_refused(lists, name):
    with pytest.raises(UsageError, match="unknown file format"):
        lists("user,item\nu0,i0\n", name)


# ---- ranks


WINDOWS = [[3, 2, 1, 0, 0, 0], [0, 3, 2, 1, 0, 0], [0, 0, 3, 2, 1, 0]]  # the history, then the target
RANKS = {
    "a target on top of a short list": (
        [[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]],
        {},
        [0, 0, 0],
        [1, 1, 1],
    ),
    "omitted items tie below": ([[2, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0]], {}, [2, 1, 0], [4, 5, 1]),
    "masked items are not above": (WINDOWS, {"mask_history": True}, [0, 0, 0], [1, 1, 1]),
    "candidates in the order of the list": (
        [*WINDOWS[:2], [1, 0, 0, 0, 0, 0]],
        {"candidates": [[2, 0, 5], [3, 4, 5], [4, 3, 5]]},
        [1, 0, 0],
        [1, 1, 3],
    ),
}


@pytest.mark.parametrize(("rows", "options", "n_better", "n_tied"), RANKS.values(), ids=RANKS)
def test_targets_are_ranked_by_their_lists(rows, options, n_better, n_tied):
    *_, ranks = ranked(rows, **options)
    assert ranks["n_better"].tolist() == n_better
    assert ranks["n_tied"].tolist() == n_tied


@pytest.mark.parametrize(
    "rows",
    [
        [[2, 3, 1, 5, 6, 7], [2, 3, 4, 1, 6, 7], [2, 3, 4, 5, 1, 7]],
        [[5, 4, 0, 3, 2, 1], [5, 4, 3, 0, 2, 1], [5, 4, 3, 2, 0, 1]],
    ],
    ids=["the last of a whole list", "the only omitted item"],
)
def test_a_target_that_comes_last_leaves_nothing_to_chance(rows):
    model, examples, ranks = ranked(rows)
    assert ranks["n_better"].tolist() == [5, 5, 5]
    assert model.gaps(examples, ranks, [1, 5, 6]) == {}


# ---- labels and warnings


def test_chance_among_omitted_items_is_reported_per_metric():
    model, examples, ranks = ranked([[2, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]])
    warnings = model.gaps(examples, ranks, [1, 2, 4])
    assert list(warnings) == ["truncated-lists"]
    # u0's target is one of four behind two items: HR@4 is (4 - 2) / 4 for it, a sixth of the mean over three users
    assert "0.1667 of hr@4" in warnings["truncated-lists"]
    assert "hr@1" not in warnings["truncated-lists"]
    assert "hr@2" not in warnings["truncated-lists"]
    assert "mrr" in warnings["truncated-lists"]


def test_the_contribution_of_chance_is_the_difference_to_a_list_without_chance():
    rows = [[2, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]]
    model, examples, ranks = ranked(rows)
    columns = [ranks[name].to_numpy() for name in ("n_better", "n_tied", "n_candidates")]
    values = ranking_metrics(*columns, [4])
    warning = model.gaps(examples, ranks, [4])["truncated-lists"]
    assert f"{values['mrr'].mean() - 2 / 3:.4f} of mrr" in warning  # two users with rank 1


def test_a_few_missing_users_count_as_chance_and_are_reported():
    model, examples, ranks = ranked([[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0] * 6])
    assert (ranks["n_better"][2], ranks["n_tied"][2]) == (0, 6)
    assert model.gaps(examples, ranks, [1]) == {"missing-users": "1 of 3 users have no row and count as chance"}


def test_too_many_missing_users_are_refused_with_an_example():
    model, examples, ranks = ranked([[0, 0, 1, 0, 0, 0], [0] * 6, [0] * 6])
    with pytest.raises(DataError, match=r"2 of the 3 users evaluated have no row in the file, for example user 'u1'"):
        model.gaps(examples, ranks, [1])
