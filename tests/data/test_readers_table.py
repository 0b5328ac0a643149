"""The reader of a user's own table, in all its formats, with a map of columns; and such a table through the CLI."""

import gzip
import json
from dataclasses import replace
from datetime import date, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm4rec_cli.config.schema import SplitName, SplitRule
from llm4rec_cli.data import readers
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.data.readers import table
from llm4rec_cli.data.split import TEST, TRAIN, VALID, split_dataset
from llm4rec_cli.errors import DataError, UsageError, raise_first

from .sources import TABLE, config

COLUMNS = {
    "user_id": "uid",
    "item_id": "track",
    "timestamp": "when",
    "rating": "stars",
    "review_text": "note",
    "title": "name",
    "categories": "tags",
}
PLAYS = {
    "user_id": ["007", "7", "007"],
    "item_id": ["T1", "T2", "T1"],
    "timestamp": [1577836800, 1577919601, 1578052800],  # midnight, 23:00:01 UTC of the next day, noon
    "rating": [4.5, 3, 1],
    "review_text": ["a note; in\ntwo lines", None, None],
}
TRACKS = {"item_id": ["T2", "T1"], "title": ["Café", 'Said "go"'], "categories": ["jazz night", None]}


def columns(frame):
    """Each column as a list, None where a value is missing."""
    return frame.astype(object).where(frame.notna(), None).to_dict("list")


def read(folder, name, content, mapped=None):
    """What the reader makes of one file of interactions: bytes, text, rows as dictionaries, or an arrow table."""
    path = folder / name
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    elif isinstance(content, list):
        path.write_text("".join(json.dumps(row) + "\n\n" for row in content))
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return table.read({"interactions": path}, mapped)


def problem(*arguments):
    with pytest.raises(DataError) as error:
        read(*arguments)
    assert error.value.remedy
    assert "\n" not in error.value.problem + error.value.remedy
    return error.value.problem


def test_all_formats_hold_the_same(tmp_path):
    raw = table.read(TABLE, COLUMNS)
    assert columns(raw.interactions) == PLAYS
    assert columns(raw.items) == TRACKS
    assert raw.counts == {"read": 3}
    plays = pd.DataFrame(PLAYS).rename(columns=COLUMNS)
    plays["when"] = pd.to_datetime(plays["when"], unit="s")
    tracks = [{"track": "T2", "name": "Café", "tags": ["jazz", "night"]}, {"track": "T1", "name": 'Said "go"'}]
    paths = {ending: tmp_path / f"plays.{ending}" for ending in ("csv", "tsv", "jsonl", "parquet")}
    plays.to_csv(paths["csv"], index=False)
    plays.to_csv(paths["tsv"], index=False, sep="\t")
    plays.assign(when=plays["when"].astype(str)).to_json(paths["jsonl"], orient="records", lines=True)
    plays.to_parquet(paths["parquet"])
    pq.write_table(pa.Table.from_pylist(tracks), tmp_path / "tracks.parquet")
    for path in paths.values():
        raw = table.read({"interactions": path, "items": tmp_path / "tracks.parquet"}, COLUMNS)
        assert columns(raw.interactions) == PLAYS
        assert columns(raw.items) == TRACKS


@pytest.mark.parametrize("role", TABLE)
def test_gzip_byte_order_mark_and_crlf_make_no_difference(role, tmp_path):
    data, plain = TABLE[role].read_bytes(), table.read(TABLE, COLUMNS)
    for ending, content in {".gz": gzip.compress(data), "": b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")}.items():
        path = tmp_path / f"{TABLE[role].name}{ending}"
        path.write_bytes(content)
        other = table.read(TABLE | {role: path}, COLUMNS)
        pd.testing.assert_frame_equal(plain.items, other.items)
        interactions = other.interactions.replace("\r\n", "\n", regex=True)  # a line break in a note is its own
        assert columns(interactions) == PLAYS


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_the_delimiter_is_the_one_that_gives_the_header_its_columns(delimiter, tmp_path):
    text = '"user_id"D"item_id"Dother\n1D"a,b;c|d\te"D2\n'
    raw = read(tmp_path, "log.csv", text.replace("D", delimiter))
    assert columns(raw.interactions) == {"user_id": ["1"], "item_id": ["a,b;c|d\te"]}


def test_ids_stay_as_written_whole_numbers_become_their_digits_and_fractions_are_refused(tmp_path):
    assert read(tmp_path, "a.csv", "user_id,item_id\n007,7.0\n").interactions.iloc[0].tolist() == ["007", "7.0"]
    row = {"user_id": "007", "item_id": 10**20}
    assert read(tmp_path, "a.jsonl", [row]).interactions.iloc[0].tolist() == ["007", "100000000000000000000"]
    arrow = pa.table({"user_id": pa.array([2**63], pa.uint64()), "item_id": pa.array(["x"]).dictionary_encode()})
    assert read(tmp_path, "a.parquet", arrow).interactions.iloc[0].tolist() == [str(2**63), "x"]
    # As a column of whole numbers with gaps becomes in pandas: 7.0 here and 7 in the item file would not meet.
    rows = [{"user_id": "a", "item_id": 7}, {"user_id": "b", "item_id": 7.0}]
    assert problem(tmp_path, "a.jsonl", rows) == "a.jsonl:3: item_id is neither text nor a whole number: 7.0"
    arrow = pa.table({"user_id": ["a"], "item_id": [7.0]})
    assert "item_id has type double, but ids must be text or whole numbers" in problem(tmp_path, "a.parquet", arrow)


@pytest.mark.parametrize(
    "times, seconds",
    [
        ([5, 1577836800.5], [5, 1577836800.5]),
        (["5", "-1e3"], [5, -1000]),
        (["2020-01-01", "2020-01-01T01:00:00.5+01:00"], [1577836800, 1577836800.5]),
        (["0001-01-01", "3000-01-01"], [-62135596800, 32503680000]),  # outside what fits into nanoseconds
        ([date(2020, 1, 1), date(2020, 1, 2)], [1577836800, 1577923200]),
        ([date(1, 1, 1), date(3000, 1, 1)], [-62135596800, 32503680000]),
        ([datetime(2020, 1, 1), datetime(2020, 1, 1, 0, 0, 0, 500000)], [1577836800, 1577836800.5]),
    ],
)
def test_times_are_numbers_or_dates(times, seconds, tmp_path):
    arrow = pa.table({"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": times})
    assert read(tmp_path, "log.parquet", arrow).interactions["timestamp"].tolist() == seconds
    csv = "user_id,item_id,timestamp\n" + "".join(f"u,a,{time}\n" for time in times)
    assert read(tmp_path, "log.csv", csv).interactions["timestamp"].tolist() == seconds


def test_a_time_in_another_zone_is_the_same_moment_and_one_in_milliseconds_is_refused(tmp_path):
    times = pa.array([datetime(2020, 1, 1)], pa.timestamp("us", "Asia/Tokyo"))
    arrow = pa.table({"user_id": ["u"], "item_id": ["a"], "timestamp": times})
    assert read(tmp_path, "log.parquet", arrow).interactions["timestamp"].tolist() == [1577836800]
    with pytest.raises(DataError, match=":2: timestamp is not a time in seconds since 1970: '1577836800000'") as error:
        read(tmp_path, "log.csv", "user_id,item_id,timestamp\nu,a,1577836800000\n")
    assert "1000" in error.value.remedy


def test_the_map_may_name_what_users_are_called_and_what_items_cost_and_a_column_it_names_must_be_there(tmp_path):
    rows = [{"user_id": 1, "item_id": 2, "nick": "Zoe", "euros": 12.5}]
    raw = read(tmp_path, "plays.jsonl", rows, {"user_name": "nick", "price": "euros"})
    assert columns(raw.interactions) == {"user_id": ["1"], "item_id": ["2"], "user_name": ["Zoe"]}
    assert columns(raw.items) == {"item_id": ["2"], "price": ["12.5"]}
    assert "no column 'stars' for rating" in problem(tmp_path, "a.csv", "user_id,item_id\n1,2\n", {"rating": "stars"})


def test_each_file_may_have_its_own_name_of_an_items_id_and_without_one_the_map_says_what_describes_items(tmp_path):
    plays, songs = tmp_path / "plays.csv", tmp_path / "songs.csv"
    plays.write_text("uid,track\nu,T1\n")
    songs.write_text("song,name\nT1,Blue\n")
    mapped = {"user_id": "uid", "item_id": "track", "title": "name"}
    with pytest.raises(DataError, match="no column 'track' for item_id") as error:
        table.read({"interactions": plays, "items": songs}, mapped)
    assert "columns: {items/item_id: COLUMN}" in error.value.remedy
    data = table.read({"interactions": plays, "items": songs}, mapped | {"items/item_id": "song"})
    assert columns(data.items) == {"item_id": ["T1"], "title": ["Blue"]}
    assert columns(data.interactions) == {"user_id": ["u"], "item_id": ["T1"]}
    log = "user_id,item_id,film,text\n1,b,Second,so so\n1,a,First,good\n2,b,A later row,bad\n"
    raw = read(tmp_path, "log.csv", log, {"title": "film"})
    assert columns(raw.items) == {"item_id": ["a", "b"], "title": ["First", "Second"]}
    assert list(raw.interactions) == ["user_id", "item_id"]
    assert list(read(tmp_path, "log.csv", log).items) == ["item_id"], (
        "`text` may be anything: only a map says what it is"
    )


@pytest.mark.parametrize(
    "row, message",
    [
        ("1,T1,5,1e999", "stars is not a number: '1e999'"),
        ("1,T1,5", "expected 4 fields, got 3 (columns: uid, track, when, stars)"),
        ('"1,\n\nT2,5,4\n2,"T3",5,4', "unbalanced quotes"),
    ],
)
def test_a_malformed_csv_row_is_reported_with_its_first_line(row, message, tmp_path):
    """In addition to the cases of test_bad_input.py."""
    text = f'uid,track,when,stars\n1,"T\n\n0",5,4\n\n{row}\n'
    mapped = {key: COLUMNS[key] for key in ("user_id", "item_id", "timestamp", "rating")}
    assert problem(tmp_path, "a.csv", text, mapped).startswith(f"a.csv:6: {message}")


def test_rows_that_a_stray_quote_would_swallow_are_refused_and_half_a_surrogate_pair_becomes_a_question_mark(tmp_path):
    text = 'user_id,item_id,title\n1,a,"Big one\n2,b,Other\n3,c,"Third"\n'
    assert ":2: unbalanced quotes" in problem(tmp_path, "a.csv", text)
    assert len(read(tmp_path, "a.csv", text.replace('"Big one', '12" single')).interactions) == 3
    raw = read(tmp_path, "a.jsonl", '{"user_id": "u", "item_id": "i", "review_text": "rain \\ud83d"}')
    assert raw.interactions["review_text"].tolist() == ["rain ?"]
    row = {"user_id": "u", "item_id": "i", "rating": {"stars": 5}}
    assert problem(tmp_path, "a.jsonl", [row]) == "a.jsonl:1: rating is neither text nor a number: {'stars': 5}"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"user_id": ["u", None]}, ", row 2: user_id is empty"),
        ({"rating": [5.0, float("nan")]}, ", row 2: rating is not a number: 'nan'"),
        ({"timestamp": ["2020-01-01", "soon"]}, ", row 2: timestamp is not an ISO 8601 date: 'soon'"),
        ({"title": [{"en": "x"}, None]}, ": title has type struct<en: string>, which cannot be read as text"),
        ({"title": [b"\xff", None]}, ": title has type binary, which cannot be read as text"),
    ],
)
def test_a_malformed_parquet_row_is_reported_with_its_number(change, message, tmp_path):
    arrow = pa.table({"user_id": ["u", "v"], "item_id": ["i", "j"], "timestamp": [1, 2]} | change)
    assert problem(tmp_path, "a.parquet", arrow, {key: key for key in {"title"} & {*change}}) == f"a.parquet{message}"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.json", '[{"user_id": 1, "item_id": 2}]', "a.json:1: expected a JSON object, got list"),
        ("a.parquet", b"PAR1 and no more", "a.parquet cannot be read as Parquet: "),
        ("a.parquet", pa.table({"user_id": [1], "item_id": [2]}).slice(1), "a.parquet: no rows"),
        ("a.xlsx", "", "a.xlsx: unknown file type"),
    ],
)
def test_a_file_that_is_no_table_is_refused(name, content, message, tmp_path):
    assert problem(tmp_path, name, content).startswith(message)


def test_a_column_map_is_part_of_the_fingerprint(tmp_path):
    assert [*readers.column_problems("table", COLUMNS)] == [*readers.column_problems("amazon", {})] == []
    (tmp_path / "log.csv").write_text("a,b,item_id\n1,2,x\n1,3,y\n")
    log = config("log", "table", tmp_path, {"interactions": "log.csv"})
    by_a, by_b = (prepare(replace(log, columns={"user_id": column}), tmp_path) for column in "ab")
    assert (by_a.n_users, by_b.n_users) == (1, 2)
    assert by_a.fingerprint != by_b.fingerprint
    assert by_a.manifest["columns"] == {"user_id": "a"}


def test_one_file_for_each_part_gives_the_split_and_others_have_none_to_give(tmp_path):
    columns = {"user_id": "user", "item_id": "item", "rating": "label", "title": "title"}
    files = {part: f"{part}.csv" for part in table.PARTS}
    settings = {"user_core": 0, "item_core": 0, "split": SplitRule.given, "columns": columns}
    dataset = prepare(config("given", "table", "given", files, **settings), tmp_path)
    assert dataset.interactions["part"].tolist() == ["train", "train", "valid", "test", "train", "test", "test"]
    assert dataset.items["title"].tolist() == ["Mill, The", "Rain", "Alpha", "Beta"]
    split = split_dataset(dataset)
    assert split.assignment.tolist() == [TRAIN, TRAIN, VALID, TEST, TRAIN, TEST, TEST]
    assert split.examples(SplitName.test).history_length.tolist() == [3, 1, 0]
    with pytest.raises(UsageError, match="cannot read these file roles: train, valid"):
        raise_first(readers.role_problems("table", ["train", "valid"]))
    settings = {"user_core": 0, "item_core": 0, "split": SplitRule.given, "columns": COLUMNS}
    with pytest.raises(
        DataError, match=r"dataset\.split=given needs raw files with a split, and those of 'own' have none"
    ):
        prepare(config("own", "table", "table", {r: p.name for r, p in TABLE.items()}, **settings), tmp_path)
