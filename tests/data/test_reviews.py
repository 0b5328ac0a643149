"""Reviews as columns: the same whether texts are in memory or in a file, and whatever is unusual about a line."""

import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm4rec_cli.data import rawfiles, reviews
from llm4rec_cli.data.rawfiles import json_blocks, json_lines
from llm4rec_cli.data.readers import amazon
from llm4rec_cli.data.reviews import ReviewKeys, gathered, read_reviews, repeated, text_frame, with_own_texts
from llm4rec_cli.errors import DataError

from .sources import AMAZON, AMAZON_2018

KEYS = ReviewKeys(ids={"u": "user_id"}, numbers={"r": "rating"}, texts={"t": "review_text", "n": "user_name"})


def read(rows, folder, scratch=None):
    path = folder / "reviews.json"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    table, texts = read_reviews(path, KEYS, scratch)
    return pd.concat([table, texts.to_pandas()], axis="columns")


@pytest.mark.parametrize("files", [AMAZON, AMAZON_2018])
@pytest.mark.parametrize(("rows", "block"), [(1, 1), (2, 300), (1000, 1 << 22)])
def test_texts_in_a_file_are_those_in_memory(files, rows, block, tmp_path, monkeypatch):
    whole = amazon.read(files)
    monkeypatch.setattr(reviews, "ROWS", rows)
    monkeypatch.setattr(rawfiles, "JSON_BLOCK", block)
    apart = amazon.read(files, scratch=tmp_path)
    assert apart.texts is not None
    assert "review_text" not in apart.interactions
    together = with_own_texts(apart)
    assert together.counts == whole.counts
    pd.testing.assert_frame_equal(together.interactions[whole.interactions.columns], whole.interactions)


@pytest.mark.parametrize("block", [1, 100, 1000])
def test_a_line_that_is_unusual_is_read_as_alone(block, tmp_path, monkeypatch):
    monkeypatch.setattr(rawfiles, "JSON_BLOCK", block)
    lines = [
        {"u": "a", "r": 1, "t": "plain", "n": "x"},
        {"u": 10**30, "r": "2.5", "t": 3},  # numbers as text, text as numbers, a key that is missing
        r'{"u": "b\ud83d", "r": 4.0, "t": "half \ud83d", "n": null, "more": NaN}',
    ]
    expected = {
        "user_id": ["a", "1" + "0" * 30, "b?"],
        "rating": [1.0, 2.5, 4.0],
        "review_text": ["plain", "3", "half ?"],
        "user_name": ["x", "", ""],
    }
    for scratch in (None, tmp_path):
        assert read(lines, tmp_path, scratch).fillna("").to_dict("list") == expected


LINES = [
    '{"u": "a", "r": 1, "t": "plain"}',
    '{"t": "w\u00e9", "r": 2.5, "u": "b", "n": null, "other": [{"u": 0}, {}]}',
    '{"u": 3, "r": "4", "n": "x", "other": "\u00e9"}',
    "",
    "  ",
]
DAMAGE = [b"\n", b"\r", b" ", b"}", b"{", b"\0", b"\xff", b'"', b"}\n{", b"}{", b"\xef\xbb\xbf", b"NaN"]


@settings(max_examples=300)
@given(
    lines=st.lists(st.sampled_from(LINES), max_size=8),
    end=st.sampled_from(["\n", "\r\n"]),
    damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), st.sampled_from(DAMAGE)), max_size=2),
    block=st.sampled_from([1, 60, 1 << 22]),
    cut=st.sampled_from([None, None, 30, 60]),
)
@example(lines=['{"u": "a",\n"r": 1}'], end="\n", damage=[], block=1 << 22, cut=None)  # an object over two lines
@example(lines=[LINES[0], '{"u": "a", "r": 1, "o": [1,\n2]}', LINES[0]], end="\n", damage=[], block=1 << 22, cut=None)
@example(lines=['{"u": "a", "r": 1\r}'], end="\n", damage=[], block=1 << 22, cut=None)
@example(lines=[f"{LINES[0]} {LINES[0]}", '{"u": "a",\n"r": 1}'], end="\n", damage=[], block=1 << 22, cut=None)
def test_blocks_hold_what_is_read_line_by_line(lines, end, damage, block, cut, tmp_path_factory):
    content = "".join(f"{line}{end}" for line in lines).encode()
    for place, n, by in damage:
        content = content[:place] + by + content[place + n :]
    path = tmp_path_factory.mktemp("raw") / "reviews.json"
    path.write_bytes(content if cut is None else gzip.compress(content)[:cut])

    def by_lines():
        return [[row.get(key) for key in "urtn"] for _, row in json_lines(path, "ur")]

    def by_blocks():
        blocks = list(json_blocks(path, "ur", "tn"))
        for each in blocks:
            assert list(zip(*each.columns.values(), strict=True)) == [
                tuple(map(row.get, "urtn")) for _, row in each.rows
            ]
        return [list(row) for each in blocks for row in zip(*each.columns.values(), strict=True)]

    def result_of(read):
        try:
            return read()
        except DataError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rawfiles, "JSON_BLOCK", block)
        patch.setattr(rawfiles, "_READ", 16)
        assert result_of(by_blocks) == result_of(by_lines)


@settings(max_examples=50)
@given(
    rows=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.sampled_from(["x", "y", None])), max_size=12),
    at_once=st.integers(1, 5),
)
def test_repeated_rows_are_those_that_pandas_drops(rows, at_once):
    frame = pd.DataFrame(rows, columns=["user_id", "rating", "review_text"]).astype({"review_text": "str"})
    frame["user_name"] = [f"name {i}" for i in range(len(rows))]
    table = pa.Table.from_pandas(frame[["review_text", "user_name"]], preserve_index=False)
    texts = pa.Table.from_batches(table.to_batches(at_once), table.schema)
    compared = ["user_id", "rating", "review_text"]
    found = repeated(frame[["user_id", "rating"]], texts, ignored=["user_name"])
    assert found.tolist() == frame.duplicated(compared).tolist()


@given(n=st.integers(1, 30), chunk=st.integers(1, 7), at_once=st.integers(1, 9), data=st.data())
def test_rows_are_gathered_in_any_order_and_repetition(n, chunk, at_once, data):
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=40)), dtype=np.int64)
    whole = pa.table({"text": pa.array([f"text {i}" for i in range(n)], pa.large_string())})
    table = pa.Table.from_batches(whole.to_batches(chunk), whole.schema)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reviews, "ROWS", at_once)
        batches = list(gathered(table, rows))
        assert text_frame(table, rows)["text"].tolist() == [f"text {i}" for i in rows]
    assert all(len(batch) <= at_once for batch in batches)
