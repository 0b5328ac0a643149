import gzip
import json
import math
import shutil

import pandas as pd
import pytest

from llm4rec_cli.data import readers
from llm4rec_cli.data.readers import amazon, mind, recbole, s3rec
from llm4rec_cli.errors import DataError, UsageError, raise_first

from .sources import (
    AMAZON,
    AMAZON_2018,
    MIND,
    MOVIELENS_1M,
    MOVIELENS_100K,
    MOVIELENS_LATEST,
    ONLINE_RETAIL,
    RATINGS_2018,
    RECBOLE,
    S3REC,
    UNISREC,
)

FORMATS = {  # format -> reader, files
    "amazon": ("amazon", AMAZON),
    "amazon 2018": ("amazon", AMAZON_2018),
    "amazon ratings": ("amazon", RATINGS_2018),
    "recbole": ("recbole", RECBOLE),
    "s3rec": ("s3rec", S3REC),
    "mind": ("mind", MIND),
    "movielens 100K": ("movielens", MOVIELENS_100K),
    "movielens 1M": ("movielens", MOVIELENS_1M),
    "movielens latest": ("movielens", MOVIELENS_LATEST),
    "online retail": ("online_retail", ONLINE_RETAIL),
}


def test_a_reader_is_loaded_by_its_name_and_refuses_roles_that_it_does_not_take():
    ours = {"amazon", "amazon2023", "mind", "movielens", "online_retail", "recbole", "s3rec", "table"}
    assert ours <= {*readers.names()}
    raise_first(readers.role_problems("recbole", UNISREC))
    with pytest.raises(UsageError, match="sequences") as error:
        raise_first(readers.role_problems("amazon", ["reviews", "sequences"]))
    assert error.value.remedy == (
        "it reads reviews, [explanations], [metadata] | ratings_2014, [metadata] | ratings_2018, [metadata]"
    )
    assert [*readers.role_problems("s3rec", ["sequences", "metadata"])] != []
    assert [*readers.role_problems("s3rec", ["sequences"])] == []


def test_recbole_interactions_with_items_of_several_categories_and_names_of_other_datasets(tmp_path):
    raw = recbole.read(RECBOLE)
    assert raw.interactions.to_dict("list") == {
        "user_id": ["anna", "bert", "anna", "anna"],
        "item_id": ["11", "12", "12", "13"],
        "rating": [5, 3.5, 4, 1],
        "timestamp": [20, 10, 10, 10],
    }
    assert raw.items.to_dict("list") == {
        "item_id": ["13", "12", "11"],
        "title": ['The "Quoted" Film', "Second", "Été"],
        "categories": ["Drama War", "", "Comedy"],
    }
    assert recbole.read({"interactions": RECBOLE["interactions"]}).items["item_id"].tolist() == ["11", "12", "13"]
    inter = ["user_id|item_id|rating", "u1|a|4", "u1|b|"]
    items = ["item_id:token|name:token_seq|genres:token_seq|class:token", "a|Red hat|music|loud", "b||film|", "c|Cap||"]
    raw = recbole.read(recbole_files(tmp_path, inter, items))
    assert raw.items.to_dict("list") == {
        "item_id": ["a", "b", "c"],
        "title": ["Red hat", "", "Cap"],
        "categories": ["loud music", "film", ""],
    }
    rating = raw.interactions["rating"].tolist()
    assert rating[0] == 4 and math.isnan(rating[1]), "a blank number is missing"
    items[0] = "item_id|title|name|category"
    assert recbole.read(recbole_files(tmp_path, inter, items)).items["title"].tolist() == ["Red hat", "", "Cap"]


def recbole_files(tmp_path, interactions, items):
    """Two RecBole files with these lines, fields separated by |."""
    files = {"interactions": tmp_path / "shop.inter", "items": tmp_path / "shop.item"}
    for path, rows in zip(files.values(), (interactions, items), strict=True):
        path.write_text("".join(row.replace("|", "\t") + "\n" for row in rows))
    return files


def test_recbole_columns_may_be_mapped_and_files_begin_with_empty_lines(tmp_path):
    files = recbole_files(
        tmp_path,
        ["user_id|artist_id|weight", "u1|a|4", "u1|b|2"],
        ["item_id|name|tag", "a|Abba|pop", "b|Blur|rock"],
    )
    raw = recbole.read(files, {"item_id": "artist_id", "rating": "weight", "categories": "tag"})
    assert raw.interactions.to_dict("list") == {"user_id": ["u1"] * 2, "item_id": ["a", "b"], "rating": [4, 2]}
    assert raw.items.to_dict("list") == {
        "item_id": ["a", "b"],
        "title": ["Abba", "Blur"],
        "categories": ["pop", "rock"],
    }
    with pytest.raises(DataError, match=r"shop\.inter:1: no column 'item_id'") as error:
        recbole.read(files)
    assert "+dataset.columns.item_id=COLUMN" in error.value.remedy
    with pytest.raises(DataError, match=r"shop\.inter: no column 'weights' for rating") as error:
        recbole.read(files, {"item_id": "artist_id", "rating": "weights"})
    assert error.value.remedy == "did you mean 'weight'?"
    files = recbole_files(tmp_path, ["", "", "user_id|item_id|rating", "u1|a|4"], ["", "item_id", "a"])
    raw = recbole.read(files)
    assert raw.interactions.to_dict("list") == {"user_id": ["u1"], "item_id": ["a"], "rating": [4]}
    assert raw.items["item_id"].tolist() == ["a"]
    files["interactions"].write_text("\nuser_id\titem_id\trating\nu1\ta\tfour\n")
    with pytest.raises(DataError, match=r"shop\.inter:3: rating is not a number: 'four'"):
        recbole.read(files)


def test_recbole_reads_a_mapped_column_from_the_file_that_has_the_field(tmp_path, caplog):
    header = "user_id:token\titem_id:token\trating:float\tweight:float"
    (tmp_path / "shop.inter").write_text(f"{header}\nu\ta\t1\t9\n")
    (tmp_path / "shop.item").write_text("item_id:token\tmass:float\na\t7\n")
    files = {"interactions": tmp_path / "shop.inter", "items": tmp_path / "shop.item"}
    assert recbole.read(files, {"rating": "weight"}).interactions["rating"].tolist() == [9]
    assert not caplog.records
    assert recbole.read(files, {"rating": "mass"}).interactions["rating"].tolist() == [1]
    assert "shop.inter: no column 'mass' for rating, so 'rating' is read" in caplog.text
    with pytest.raises(DataError, match=r"shop\.item: no column 'weight' for brand"):
        recbole.read(files, {"brand": "weight"})


@pytest.mark.parametrize("ascending", [False, True])
def test_recbole_prefixes_become_whole_sequences_again(ascending, tmp_path):
    files = UNISREC
    if ascending:
        header, *rows = UNISREC["train"].read_text(encoding="utf-8").splitlines()
        files = UNISREC | {"train": tmp_path / "ascending.inter"}
        files["train"].write_text("\n".join([header, *reversed(rows)]), encoding="utf-8")
    raw = recbole.read(files)
    assert raw.interactions.groupby("user_id", sort=False)["item_id"].agg("".join).to_dict() == {
        "anna": "ABCDAE",  # longer than the histories, which are cut to three
        "bert": "EDC",
    }
    assert raw.items["item_id"].tolist() == list("ABCDE")
    assert raw.items["text"][0] == "Anvil. Tools. "
    assert pd.isna(raw.items["text"][4])
    assert "carry order" in raw.item_order


def test_s3rec_sequences_with_and_without_an_id_map_and_with_yelp_s_businesses(tmp_path):
    raw = s3rec.read(S3REC)
    assert raw.interactions["user_id"].tolist() == ["anna"] * 3 + ["bert"] * 3
    assert raw.interactions["item_id"].tolist() == ["A", "B", "C", "C", "A", "J"]
    assert raw.items["item_id"].tolist() == ["A", "B", "C", "J"]  # by number: 10 comes after 3
    assert raw.items["categories"].fillna("").tolist() == ["Tools", "", "", "Home Jars"]
    bare = s3rec.read({role: S3REC[role] for role in ("sequences", "id_map")})
    assert bare.items.to_dict("list") == {"item_id": ["A", "B", "C", "J"]}
    assert bare.interactions.equals(raw.interactions)
    raw = s3rec.read({"sequences": S3REC["sequences"]})
    assert raw.interactions["user_id"].tolist() == ["1"] * 3 + ["2"] * 3
    assert raw.interactions["item_id"].tolist() == ["1", "2", "3", "3", "1", "10"]
    assert raw.items.to_dict("list") == {"item_id": ["1", "2", "3", "10"]}
    (tmp_path / "seq.txt").write_text("1 2\n2 x\n")
    with pytest.raises(DataError, match="2: item x is not a number"):
        s3rec.read({"sequences": tmp_path / "seq.txt"})
    businesses = tmp_path / "businesses.json"
    rows = (("B", "Bo's Bakery", "Bakeries, Food"), ("elsewhere", "Not wanted", None), ("J", "Jazz & Jars", None))
    lines = [dict(zip(("business_id", "name", "categories"), row, strict=True)) for row in rows]
    businesses.write_text("\n".join(map(json.dumps, lines)))
    raw = s3rec.read({role: S3REC[role] for role in ("sequences", "id_map")} | {"businesses": businesses})
    assert raw.items["item_id"].tolist() == ["A", "B", "C", "J"]
    assert raw.items["title"].fillna("").tolist() == ["", "Bo's Bakery", "", "Jazz & Jars"]
    assert raw.items["categories"].fillna("").tolist() == ["", "Bakeries, Food", "", ""]


def id_map(tmp_path, **maps):
    """The S3-Rec files with an id map that has only these maps."""
    path = tmp_path / "datamaps.json"
    path.write_text(json.dumps(maps))
    return S3REC | {"id_map": path}


def test_an_s3rec_id_map_may_map_only_from_numbers(tmp_path):
    """As public copies of P5's Toys do."""
    inverse = id_map(tmp_path, id2user={"1": "anna", "2": "bert"}, id2item={"3": "C", "2": "B", "1": "A", "10": "J"})
    ours, usual = s3rec.read(inverse), s3rec.read(S3REC)
    assert ours.interactions.equals(usual.interactions)
    assert ours.items.equals(usual.items)
    for more, problem in (
        ({"10": "A"}, "several numbers to 'A'"),
        ({"10": 4}, "'10' to 4"),
        ({"ten": "J"}, "'ten' to 'J'"),
    ):
        id2item = {"1": "A", "2": "B", "3": "C"} | more
        with pytest.raises(DataError, match=f"id2item maps {problem}"):
            s3rec.read(id_map(tmp_path, id2user={"1": "anna", "2": "bert"}, id2item=id2item))


def test_mind_impressions():
    raw = mind.read(MIND)
    assert raw.items["item_id"].tolist() == ["N1", "N2", "N3"]
    assert raw.items["title"][0] == 'He said "go"'
    assert raw.items["categories"].tolist() == ["sports racing", "news", "food bread"]
    assert raw.impressions is not None
    assert {name: raw.impressions[name].tolist() for name in raw.impressions.columns.drop("impression_id")} == {
        "user_id": ["U1", "U2", "U2"],
        "timestamp": [1573568086, 1573516800, 1573718197],
        "history": [["N2", "N2"], [], ["N1"]],
        "candidates": [["N1", "N2"], ["N2", "N1"], ["N3", "N2"]],
        "clicks": [["N1"], ["N2", "N1"], ["N3"]],
        "part": ["train", "train", "dev"],
    }
    assert raw.interactions.empty


@pytest.mark.parametrize(
    "name, files, role",
    [
        *(("movielens", files, "movies") for files in (MOVIELENS_100K, MOVIELENS_1M)),
        ("online_retail", ONLINE_RETAIL, "invoices"),
    ],
)
def test_a_copy_in_utf8_reads_like_the_latin1_original(name, files, role, tmp_path):
    copy = tmp_path / "copy"
    copy.write_text(files[role].read_text(encoding="latin-1"), encoding="utf-8")
    original, again = (readers.load(name).read(own) for own in (files, files | {role: copy}))
    pd.testing.assert_frame_equal(original.items, again.items)
    pd.testing.assert_frame_equal(original.interactions, again.interactions)


@pytest.mark.parametrize("fmt", FORMATS)
def test_gzip_byte_order_mark_and_crlf_make_no_difference(fmt, tmp_path):
    name, files = FORMATS[fmt]
    plain = readers.load(name).read(files)
    for change in (gzip.compress, lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")):
        changed = {role: tmp_path / role for role in files}
        for role, path in changed.items():
            path.write_bytes(change(files[role].read_bytes()))
        other = readers.load(name).read(changed)
        pd.testing.assert_frame_equal(plain.items, other.items)
        pd.testing.assert_frame_equal(plain.interactions, other.interactions)


def test_amazon_reviews_with_metadata_and_explanations_whatever_the_file_is_called(tmp_path):
    shutil.copy(AMAZON["reviews"], tmp_path / "reviews.json.gz")  # plain, whatever its name says
    assert len(amazon.read({"reviews": tmp_path / "reviews.json.gz"}).interactions) == 6
    raw = amazon.read(AMAZON)
    assert raw.counts == {"read": 7, "exact duplicates": 1, "items without metadata": 1}
    assert raw.interactions["user_id"].tolist() == ["U1", "U2", "U1", "U2", "U3"]
    assert raw.interactions["rating"].tolist() == [5, 3, 4, 5, 2]
    assert raw.interactions["timestamp"].tolist() == [300, 100, 100, 100, 50]
    assert raw.interactions["explanation"].dropna().tolist() == ["Sails well."]
    assert raw.interactions["feature"].dropna().tolist() == ["sail"]
    assert raw.interactions["review_text"][3] == "Kept the rain out ?"  # half a surrogate pair
    assert raw.items["item_id"].tolist() == ["B1", "B2"]
    assert raw.items["title"].tolist() == ["Tent &amp; Poles", 'Kite "Swift"']
    assert raw.items["categories"].tolist() == ["Outdoors Camping Tents", "Toys"]
    assert raw.items["brand"].isna().tolist() == [False, True]
    bare = amazon.read({"reviews": AMAZON["reviews"]})
    assert bare.items.to_dict("list") == {"item_id": ["B1", "B2", "B3"]}
    assert bare.item_order == "sorted ids"
