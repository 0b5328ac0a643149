"""The MovieLens reader: the three official layouts."""

from itertools import permutations
from pathlib import Path

import pandas as pd
import pytest

from llm4rec_cli.data.readers import movielens, recbole
from llm4rec_cli.errors import DataError

from .sources import MOVIELENS_1M, MOVIELENS_100K, MOVIELENS_LATEST, real


def replaced(files: dict[str, Path], role: str, old: bytes, new: bytes, folder: Path) -> dict[str, Path]:
    """The files with one of them changed, bytes by bytes."""
    data = files[role].read_bytes()
    assert old in data
    path = folder / files[role].name
    path.write_bytes(data.replace(old, new))
    return files | {role: path}


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


@pytest.mark.parametrize(
    "files, role, old, new, message",
    [
        (MOVIELENS_1M, "ratings", b"978298413", b"", "ratings.dat:3: timestamp is not a number: ''"),
        (MOVIELENS_LATEST, "ratings", b"7,1029", b"7,", "ratings.csv:3: item_id is empty"),
        (MOVIELENS_LATEST, "movies", b"movieId", b"id", "movies.csv:1: expected the header movieId,title,genres"),
    ],
)
def test_a_malformed_line_is_reported_with_file_and_line(files, role, old, new, message, tmp_path):
    """In addition to the cases of test_bad_input.py."""
    with pytest.raises(DataError, match=message) as error:
        movielens.read(replaced(files, role, old, new, tmp_path))
    assert error.value.remedy


@pytest.mark.parametrize("ratings, movies", permutations([MOVIELENS_100K, MOVIELENS_1M, MOVIELENS_LATEST], 2))
def test_files_of_two_layouts_do_not_go_together(ratings, movies):
    with pytest.raises(DataError, match=r":1: .*expected"):
        movielens.read({"ratings": ratings["ratings"], "movies": movies["movies"]})


@pytest.mark.real_data
def test_the_official_files_of_100k_hold_the_interactions_of_its_recbole_files(tmp_path):
    folder = real("ml-100k")
    atomic = recbole.read({"interactions": folder / "ml-100k.inter", "items": folder / "ml-100k.item"})
    files = {"ratings": tmp_path / "u.data", "movies": tmp_path / "u.item"}
    written = atomic.interactions.astype({"rating": int, "timestamp": int})
    written.to_csv(files["ratings"], sep="\t", header=False, index=False)
    with files["movies"].open("w", encoding="latin-1") as file:
        for film in atomic.items.itertuples():
            genres = set(film.categories.split(" "))
            flags = "|".join(str(int(genre in genres)) for genre in movielens.GENRES)
            file.write(f"{film.item_id}|{film.title}||||{flags}\n")
    raw = movielens.read(files)
    pd.testing.assert_frame_equal(raw.interactions, atomic.interactions)
    assert raw.items["item_id"].tolist() == atomic.items["item_id"].tolist()
    assert raw.items["title"].tolist() == atomic.items["title"].tolist()
    ours = raw.items["categories"].fillna("unknown").str.split(" ").map(set)
    assert ours.tolist() == atomic.items["categories"].str.split(" ").map(set).tolist()
