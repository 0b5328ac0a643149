"""Paths of the raw files that tests read: small invented ones, and the real data next to the checkout."""

from pathlib import Path
from typing import Any

import pytest

from llm4rec_cli.config.schema import DatasetConfig

FIXTURES = Path(__file__).parent / "fixtures"
REAL = Path(__file__).parents[2].parent / "shared" / "data"

AMAZON = {
    "reviews": FIXTURES / "amazon/reviews.json",
    "metadata": FIXTURES / "amazon/meta.json",
    "explanations": FIXTURES / "amazon/explanations.json",
}
AMAZON_2018 = {"reviews": FIXTURES / "amazon2018/reviews.json", "metadata": FIXTURES / "amazon2018/meta.json"}
RATINGS_2014 = {"ratings_2014": FIXTURES / "amazon2018/ratings_2014.csv", "metadata": FIXTURES / "amazon2018/meta.json"}
RATINGS_2018 = {"ratings_2018": FIXTURES / "amazon2018/ratings_2018.csv", "metadata": FIXTURES / "amazon2018/meta.json"}
RECBOLE = {"interactions": FIXTURES / "recbole/tiny.inter", "items": FIXTURES / "recbole/tiny.item"}
UNISREC = {
    **{part: FIXTURES / f"unisrec/tiny.{part}.inter" for part in ("train", "valid", "test")},
    "text": FIXTURES / "unisrec/tiny.text",
    "user_index": FIXTURES / "unisrec/tiny.user2index",
    "item_index": FIXTURES / "unisrec/tiny.item2index",
}
S3REC = {
    "sequences": FIXTURES / "s3rec/sequential_data.txt",
    "id_map": FIXTURES / "s3rec/datamaps.json",
    "metadata": FIXTURES / "s3rec/meta.json",
}
MIND = {
    f"{part}_{kind}": FIXTURES / f"mind/{part}/{kind}.tsv"
    for part in ("train", "dev")
    for kind in ("behaviors", "news")
}

MOVIELENS_100K = {"ratings": FIXTURES / "movielens/u.data", "movies": FIXTURES / "movielens/u.item"}
MOVIELENS_1M = {"ratings": FIXTURES / "movielens/ratings.dat", "movies": FIXTURES / "movielens/movies.dat"}
MOVIELENS_LATEST = {"ratings": FIXTURES / "movielens/ratings.csv", "movies": FIXTURES / "movielens/movies.csv"}
ONLINE_RETAIL = {"invoices": FIXTURES / "online_retail/data.csv"}
TABLE = {"interactions": FIXTURES / "table/plays.csv", "items": FIXTURES / "table/tracks.jsonl"}


def real(folder: str) -> Path:
    """A folder of the real data; the test skips where it is absent."""
    if not (REAL / folder).is_dir():
        pytest.skip(f"needs the real data of {folder}, in ../shared/data next to the checkout")
    return REAL / folder


def config(name: str, reader: str, raw: str | Path, files: dict[str, str], **settings: Any) -> DatasetConfig:
    """A dataset of one domain, of these files by role in a folder (of the fixtures, where relative), without a core."""
    cores = {"user_core": 1, "item_core": 1}
    return DatasetConfig(
        name=name, reader=reader, domains={name: files}, raw_dir=str(FIXTURES / raw), **cores | settings
    )
