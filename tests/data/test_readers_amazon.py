"""The Amazon reader on what 2018 changed: metadata in pieces, duplicates, ratings-only files of another order."""

import pytest

from llm4rec_cli.data.readers import amazon
from llm4rec_cli.errors import DataError

from .sources import AMAZON_2018, RATINGS_2014, RATINGS_2018


def test_reviews_of_2018_with_metadata_without_equal_rows(tmp_path):
    raw = amazon.read(AMAZON_2018)
    assert raw.interactions["user_id"].tolist() == ["A3FIRSTUSER00", "A3FIRSTUSER00", "A1SECONDUSER0"]
    assert raw.interactions["review_text"].fillna("").tolist() == ["Holds well.", "A second thought.", ""]
    assert raw.items.fillna("").to_dict("list") == {
        "item_id": ["B000000001", "B000000002"],
        "title": ["Clamp, 6&quot;", "Glue"],
        "brand": ["Nordhut", ""],
        "categories": ["Tools Clamps & Vises Clamps & Vises", ""],  # repeats stay, as UniSRec joins them
        "description": ["A clamp of steel.", ""],
        "price": ["9.50", ""],
    }
    assert raw.counts == {"read": 4, "exact duplicates": 1, "items without metadata": 0}
    metadata = tmp_path / "meta.json"
    metadata.write_text('{"asin": ["B000000001"]}\n' + AMAZON_2018["metadata"].read_text())
    assert amazon.read(AMAZON_2018 | {"metadata": metadata}).items["title"].tolist() == ["Clamp, 6&quot;", "Glue"]


def test_a_price_is_text_without_its_currency(tmp_path):
    path = tmp_path / "meta.json"
    for price, spellings in {
        "9.50": ["9.5", '"$9.50"', '"$9.50 - $12.00"'],  # 2014, and 2018
        "1299.00": ['"$1,299.00"'],
        "120.00": ["120"],
        None: ['""', "null", "NaN", "[9.5]", '".a-box-inner{background-color:#fff}"'],
    }.items():
        for written in spellings:
            path.write_text(f'{{"asin": "x", "price": {written}}}\n')
            assert amazon.read_metadata(path, {"x"})["price"].tolist() == [price], written


def test_a_review_carries_the_name_of_its_user_and_no_other_name_makes_it_another_review(tmp_path):
    review = '{"reviewerID": "u", "asin": "x", "overall": 1, "unixReviewTime": 1, "reviewerName": "NAME"}\n'
    path = tmp_path / "reviews.json"
    path.write_text(review.replace("NAME", "Ann 'A' B.") + review.replace("NAME", "Ann"))
    raw = amazon.read({"reviews": path})
    assert raw.interactions["user_name"].tolist() == ["Ann 'A' B."]
    assert raw.counts == {"read": 2, "exact duplicates": 1}


@pytest.mark.parametrize("files", [RATINGS_2014, RATINGS_2018])
def test_ratings_are_read_in_the_order_of_their_year(files):
    raw = amazon.read(files)
    assert raw.interactions.to_dict("list") == {
        "user_id": ["A3FIRSTUSER00", "A1SECONDUSER0"],
        "item_id": ["B000000001", "B000000002"],
        "rating": [5, 2],
        "timestamp": [1420416000, 1423094400],
    }
    assert raw.counts == {"read": 4, "exact duplicates": 1, "items without metadata": 1}
    assert raw.items["title"].tolist() == ["Clamp, 6&quot;", "Glue"]


def test_ratings_in_the_role_of_the_other_year_are_refused_where_ids_tell(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("i1,u1,5,1\n")
    assert amazon.read({"ratings_2018": path}).interactions["user_id"].tolist() == ["u1"]
    years = {"ratings_2014": RATINGS_2018["ratings_2018"], "ratings_2018": RATINGS_2014["ratings_2014"]}
    for role, right in zip(years, reversed(years), strict=True):
        with pytest.raises(DataError, match="'B000000001', read as a user id, is an item id") as error:
            amazon.read({role: years[role]})
        assert f"the role {right}" in error.value.remedy


def test_a_review_without_an_id_or_a_finite_rating_is_refused(tmp_path):
    path = tmp_path / "reviews.json"
    review = '{"reviewerID": "x", "asin": "x", "overall": 1, "unixReviewTime": 1}'
    for old, new, problem in (
        ('"reviewerID": "x"', '"reviewerID": [1]', "reviewerID is empty or not an id"),
        ('"asin": "x"', '"asin": NaN', "asin is empty or not an id"),
        ('"overall": 1', f'"overall": {10**400}', "overall is not a number"),
    ):
        path.write_text(review.replace(old, new))
        with pytest.raises(DataError, match=rf"reviews\.json:1: {problem}"):
            amazon.read({"reviews": path})


def test_half_a_surrogate_pair_in_an_id_of_the_explanations_becomes_a_question_mark(tmp_path):
    file = tmp_path / "explanations.json"
    file.write_text(r'{"user": "U\ud800", "item": "B1", "feature": "sail", "sentence": "Sails."}' + "\n")
    assert amazon._explanations(file).iloc[0].tolist() == ["U?", "B1", "sail", "Sails."]
