"""Files of scores: formats, errors, and the ranks they give."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.sparse import csr_array

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.models.shared.ranked_lists import RankedLists
from llm4rec_cli.tasks.ranking import rank
from llm4rec_studies.models.external.lists import read_lists

TABLES = yaml.safe_load((Path(__file__).parent / "tables/external.yaml").read_text(encoding="utf-8"))
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


def test_every_format_of_a_list_gives_the_same_scores(lists):
    scores = {(text, name): lists(text, name).tolist() for text, name in TABLES["formats"]}
    assert {file for file, read_in in scores.items() if read_in != U0} == set()


def test_parquet_is_read_by_score_rank_and_order_and_a_list_per_row_is_flattened(parquet, tmp_path):
    """A list per row: as lenskit writes collections of lists, and as our predictions hold top items."""
    user, item, scores = ["u0"] * 3, ["i1", "i2", "i3"], [-5.0, 0.5, 0.25]
    pairs = [{"item_id": i, "score": score} for i, score in zip(item, scores, strict=True)]
    for columns in (
        {"user": user, "item": item, "score": scores},
        {"user": user, "item": item, "rank": [3, 1, 2]},
        {"user": user, "item": ["i2", "i3", "i1"]},
        {"user_id": ["u0"], "items": [pairs]},
        {"user_id": ["u0"], "top_items": [["i2", "i3", "i1"]]},
        {"user_id": ["u0"], "top_items": [item], "top_scores": [scores]},
    ):
        assert parquet(**columns).tolist() == U0
    frame = pd.DataFrame({"user": user, "item": ["i2", "i3", "i1"]}, index=[8, 2, 5])
    frame.to_parquet(tmp_path / "lists.parquet")  # the index is no column
    assert read(tmp_path / "lists.parquet").matrix.toarray().tolist() == U0
    dataset = tiny_dataset([[0, 1, 2]])
    dataset.items["item_id"] = ["10", "11", "12"]
    pd.DataFrame({"user": ["u0"], "item": [11]}).to_parquet(tmp_path / "lists.parquet")  # ids may be numbers
    assert read(tmp_path / "lists.parquet", dataset).matrix.toarray().tolist() == [[0, 1, 0]]


def test_numbers_of_another_system_are_mapped_to_raw_ids(lists, tmp_path):
    pairs = [(item, item + 100) for item in range(6)]
    for name, line in (("ids.tsv", "i{0}\t{1}\n"), ("ids.txt", "i{0} {1}\n"), ("ids.csv", "i{0},{1}\n")):
        (tmp_path / name).write_text("".join(line.format(*pair) for pair in pairs))
    (tmp_path / "ids.json").write_text(json.dumps({f"i{a}": b for a, b in pairs}))
    for name in ("ids.tsv", "ids.txt", "ids.csv", "ids.json"):
        assert lists("user,item\nu0,102\nu0,103\nu0,101\n", item_ids=str(tmp_path / name)).tolist() == U0
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


def test_items_of_one_code_tie_and_codes_of_no_item_are_counted(lists, codes, tmp_path):
    for predicted in (
        '["<a_1><b_2>", "<a_2><b_1>", "<a_1><b_1>"]',
        '[["<a_1>", "<b_2>"], ["<a_2>", "<b_1>"], ["<a_1>", "<b_1>"]]',
    ):
        matrix = lists(f'{{"user": "u0", "predict": {predicted}}}', "lists.jsonl", **codes)
        assert matrix[0].tolist() == [1, 3, 2, 3, 0, 0]
    # A group of two at the first rank: HR@1 is a half for either, as both orders are equally likely.
    *_, ranks = ranked(matrix, candidates=[[1, 2, 3], [0, 1, 2], [0, 1, 2]])
    values = ranking_metrics(*(ranks[name].to_numpy()[:1] for name in ("n_better", "n_tied", "n_candidates")), [1, 2])
    assert (values["hr@1"].tolist(), values["hr@2"].tolist()) == ([0.5], [1.0])
    with pytest.raises(DataError, match=r"no item has the codes '<x_1>' in index.json \(2 of 2 rows\)"):
        lists('{"user": "u0", "predict": ["<x_1>", "<x_2>"]}', "lists.jsonl", **codes)
    beams = ["<a_1><b_2>", "<a_9><b_9>", "<a_1><b_2>", "<a_2><b_1>"]
    (tmp_path / "lists.json").write_text(json.dumps([{"user": "u0", "predict": beams}]))
    read_in = read(tmp_path / "lists.json", **codes)
    assert read_in.matrix.toarray()[0].tolist() == [0, 2, 1, 2, 0, 0]
    assert read_in.left_out == "1 codes of no item and 1 repeated codes were left out of 4"
    model = RankedLists(read_in.matrix, DATASET.user_ids, 1, read_in.left_out)
    ranks = pd.DataFrame({"n_better": [0, 0, 0], "n_tied": [1, 1, 1], "n_candidates": [6, 6, 6]})
    assert model.gaps(EXAMPLES, ranks, [1])["left-out-codes"] == read_in.left_out


def test_rows_of_users_may_alternate_equal_scores_tie_and_scores_equal_in_float32_do_not(lists):
    scores = lists("user,item\nu1,i0\nu0,i5\nu1,i3\nu0,i4\n")
    assert scores.tolist() == [[0, 0, 0, 0, 1, 2], [2, 0, 0, 1, 0, 0], [0] * 6]
    assert lists("user,item,score\nu0,i0,1\nu0,i1,2\nu0,i2,1\n")[0].tolist() == [1, 2, 1, 0, 0, 0]
    scores = lists("user,item,score\nu0,i0,1.0000000001\nu0,i1,1.0000000002\nu0,i2,1.0\n")
    assert scores.dtype == np.float32
    assert scores[0].tolist() == [2, 3, 1, 0, 0, 0]


# ---- errors


def test_a_wrong_file_is_refused_with_the_line_or_row_and_a_remedy(lists, parquet, tmp_path):
    unlike = []
    for text, name, problem in TABLES["wrong"]:
        with pytest.raises(DataError) as error:
            lists(text, name)
        if not (error.value.problem.startswith(name) and problem in error.value.problem and error.value.remedy):
            unlike.append((problem, error.value.problem))
    assert unlike == []
    for columns, problem in (
        ({"user": ["u0", "x"], "item": ["i0", "i0"]}, "row 2: no user 'x'"),
        ({"user": ["u0", None], "item": ["i0", "i0"]}, "row 2: no user"),
        ({"user": ["u0", "u0"], "item": ["i0", "i0"]}, "row 2: item 'i0' is listed more than once"),
        ({"user": ["u0", "u0"], "item": ["i0", "i1"], "score": [1.0, np.nan]}, "row 2: score is not a finite number"),
        ({"user": ["u0"], "item": ["i0"], "rank": ["first"]}, "row 1: rank is not a finite number"),
        ({"user": [], "item": []}, "has no rows"),
        ({"user": ["u0"], "movie": ["i0"]}, "no column 'item'"),
    ):
        with pytest.raises(DataError, match=f"lists.parquet.*{problem}"):
            parquet(**columns)
    with pytest.raises(DataError, match=r"lists.parquet is not a Parquet file"):
        lists("user,item\n", "lists.parquet")
    (tmp_path / "lists.csv.gz").write_bytes(gzip.compress(b"user,item\n" + b"u0,i0\n" * 1000)[:-20])
    with pytest.raises(DataError, match="gzip data is truncated"):
        read(tmp_path / "lists.csv.gz")
    for name in ("lists.txt", "lists", "lists.xlsx"):
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


def test_a_target_that_comes_last_leaves_nothing_to_chance_and_chance_is_reported_per_metric():
    for rows in (
        [[2, 3, 1, 5, 6, 7], [2, 3, 4, 1, 6, 7], [2, 3, 4, 5, 1, 7]],  # the last of a whole list
        [[5, 4, 0, 3, 2, 1], [5, 4, 3, 0, 2, 1], [5, 4, 3, 2, 0, 1]],  # the only omitted item
    ):
        model, examples, ranks = ranked(rows)
        assert ranks["n_better"].tolist() == [5, 5, 5]
        assert model.gaps(examples, ranks, [1, 5, 6]) == {}
    model, examples, ranks = ranked([[2, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]])
    warnings = model.gaps(examples, ranks, [1, 2, 4])
    assert list(warnings) == ["truncated-lists"]
    # u0's target is one of four behind two items: HR@4 is (4 - 2) / 4 for it, a sixth of the mean over three users
    assert "0.1667 of hr@4" in warnings["truncated-lists"]
    assert "hr@1" not in warnings["truncated-lists"] and "hr@2" not in warnings["truncated-lists"]
    columns = [ranks[name].to_numpy() for name in ("n_better", "n_tied", "n_candidates")]
    values = ranking_metrics(*columns, [4])
    without = 2 / 3  # two users with rank 1
    assert f"{values['mrr'].mean() - without:.4f} of mrr" in model.gaps(examples, ranks, [4])["truncated-lists"]
    model, examples, ranks = ranked([[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0] * 6])
    assert (ranks["n_better"][2], ranks["n_tied"][2]) == (0, 6)
    assert model.gaps(examples, ranks, [1]) == {"missing-users": "1 of 3 users have no row and count as chance"}
    model, examples, ranks = ranked([[0, 0, 1, 0, 0, 0], [0] * 6, [0] * 6])
    with pytest.raises(DataError, match=r"2 of the 3 users evaluated have no row in the file, for example user 'u1'"):
        model.gaps(examples, ranks, [1])
