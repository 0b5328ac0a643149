"""The MovieLens reader: the three official layouts."""

from itertools import permutations

import pytest

from llm4rec_cli.data.readers import movielens
from llm4rec_cli.errors import DataError

from .sources import MOVIELENS_1M, MOVIELENS_100K, MOVIELENS_LATEST


def test_the_three_layouts():
    raw = movielens.read(MOVIELENS_100K)
    assert raw.interactions.to_dict("list") == {
        "user_id": ["196", "186", "196", "22"],
        "item_id": ["242", "9", "7", "242"],
        "rating": [3, 4, 5, 1],
        "timestamp": [881250949, 891717742, 881250950, 878887116],
    }
    assert raw.items["item_id"].tolist() == ["7", "9", "242"]
    assert raw.items["title"].tolist() == ["Orchard, The (1991)", "unknown", "Café Noir (1991)"]
    assert raw.items["categories"].fillna("").tolist() == ["Animation Children's Western", "", "Film-Noir"]
    assert raw.counts == {"read": 4}
    raw = movielens.read({"ratings": MOVIELENS_100K["ratings"]})
    assert raw.items.to_dict("list") == {"item_id": ["242", "7", "9"]}
    assert raw.item_order == "sorted ids"
    raw = movielens.read(MOVIELENS_1M)
    assert raw.interactions.to_dict("list") == {
        "user_id": ["1", "1", "2"],
        "item_id": ["1193", "661", "1193"],
        "rating": [5, 3, 4],
        "timestamp": [978300760, 978302109, 978298413],
    }
    assert raw.items.to_dict("list") == {
        "item_id": ["661", "1193"],
        "title": ["Robots 2: The Café (1996)", "Orchard, The (1975)"],
        "categories": ["Animation Children's Sci-Fi", "Drama"],
    }
    raw = movielens.read(MOVIELENS_LATEST)
    assert raw.interactions.to_dict("list") == {
        "user_id": ["1", "7", "7"],
        "item_id": ["31", "1029", "31"],
        "rating": [2.5, 3, 5],
        "timestamp": [1260759144, 851868750, 851868750],
    }
    assert raw.items["title"].tolist() == ["Orchard, The (1995)", 'Café "Noir" (1941)']
    assert raw.items["categories"].fillna("").tolist() == ["Drama Romance", ""]


@pytest.mark.parametrize("ratings, movies", permutations([MOVIELENS_100K, MOVIELENS_1M, MOVIELENS_LATEST], 2))
def test_files_of_two_layouts_do_not_go_together(ratings, movies):
    with pytest.raises(DataError, match=r":1: .*expected"):
        movielens.read({"ratings": ratings["ratings"], "movies": movies["movies"]})
