"""The reader of Amazon Reviews 2023, on small files of ours in the official formats."""

import gzip
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from llm4rec_cli.config.folders import options
from llm4rec_cli.config.schema import PaperStatistics, SplitRule
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.data.readers import amazon2023
from llm4rec_cli.data.split import split_dataset
from llm4rec_cli.data.statistics import as_printed, differences, remarks
from llm4rec_cli.run.config_options import content_of

from .sources import FIXTURES, config

FOLDER = FIXTURES / "amazon2023"
REVIEWS = {"reviews": FOLDER / "reviews.jsonl", "metadata": FOLDER / "meta.jsonl"}
PARTS = {part: FOLDER / f"Shop.{part}.csv" for part in amazon2023.PARTS}
ANNA, BERT = "AGKHLEW2SOWHNMFQIJGBECAF7INQ", "AFSKPY37N3C43SOI5IEXEK5JSIYA"
CLAMP, GLUE, LOST, VICE = "B0CLAMP001", "B0GLUE0002", "B0LOST0003", "B0VICE0005"
NAMES = [name for name in options("dataset") if name.startswith("amazon2023-")]


def test_reviews_in_seconds_and_of_a_user_and_item_the_earliest_with_the_items_reviewed(tmp_path):
    raw = amazon2023.read(REVIEWS)
    assert raw.interactions.to_dict("list") == {
        "user_id": [ANNA, ANNA, BERT],
        "item_id": [CLAMP, GLUE, LOST],
        "rating": [4, 2, 3],
        "timestamp": [1588615855.07, 1588615855.071, 1589665266.052],
        "review_text": ["Holds well.<br />Twice.", "", "Its page is gone."],
        "review_title": ["Firm", "", "No page"],
    }
    assert raw.counts == {"read": 4, "later reviews of the same user and item": 1}
    assert raw.items.fillna("").to_dict("list") == {
        "item_id": [CLAMP, GLUE, LOST],
        "title": ['Clamp, 6"', "Glue", ""],
        "brand": ["Nordhut", "", ""],
        "categories": ["Tools Clamps & Vises", "", ""],
        "description": ["Steel Red grip A clamp of steel.", "", ""],
        "price": ["9.50", "1299.00", ""],
    }
    apart = amazon2023.read(REVIEWS, scratch=tmp_path)  # texts in a file
    rows = apart.texts.take(apart.interactions.index.to_numpy()).to_pandas()
    pd.testing.assert_frame_equal(rows, raw.interactions[rows.columns])


@pytest.mark.parametrize("zipped", [False, True])
def test_a_published_split_is_kept(tmp_path, zipped):
    for part, path in PARTS.items():
        content = path.read_bytes()
        (tmp_path / f"Shop.{part}.csv.gz").write_bytes(gzip.compress(content) if zipped else content)
    files = {part: f"Shop.{part}.csv.gz" for part in PARTS}
    dataset = prepare(config("shop", "amazon2023", tmp_path, files, split=SplitRule.given), tmp_path)
    assert list(dataset.items["item_id"][dataset.sequence]) == [CLAMP, GLUE, LOST, VICE]
    assert dataset.interactions["timestamp"].tolist()[2:] == [1588687728.923, 1588687728.924]
    assert split_dataset(dataset).assignment.tolist() == [0, 0, 1, 2]


def test_leave_one_out_of_the_same_reviews_is_the_published_last_out(tmp_path):
    """The published rule: a user's latest review is test, the second latest validation."""
    files = {part: path.name for part, path in PARTS.items()}
    dataset = prepare(config("shop", "amazon2023", "amazon2023", files, split=SplitRule.given), tmp_path)
    given = split_dataset(dataset).assignment
    manifest = dataset.manifest | {"split": {"rule": "leave_one_out", "seed": 0}}
    np.testing.assert_array_equal(split_dataset(replace(dataset, manifest=manifest)).assignment, given)


def test_the_files_of_a_dataset_are_those_of_its_category():
    folders = {"": "raw/review_categories", "last-out": "5core/last_out", "timestamp": "5core/timestamp"}
    for name in NAMES:
        dataset = OmegaConf.create({"dataset": content_of("dataset", name)}).dataset
        files = dataset.domains.products
        category = files.metadata.removeprefix("meta_").removesuffix(".jsonl.gz")
        split = name.removeprefix(f"amazon2023-{category.lower().replace('_', '-')}").removeprefix("-")
        assert (dataset.name, dataset.get("split")) == (name, "given" if split else None)
        assert {entry.file for entry in dataset.download} == set(files.values()), name
        parts = {part: f"{category}.{part}.csv.gz" for part in amazon2023.PARTS}
        assert files == (parts if split else {"reviews": f"{category}.jsonl.gz"}) | {"metadata": files.metadata}, name
        for entry in dataset.download:
            folder = "raw/meta_categories" if entry.file == files.metadata else folders[split]
            assert all(url.endswith(f"/{folder}/{entry.file}") for url in entry.urls), name


def test_equal_rounded_counts_are_called_rounded(tmp_path):
    counts = [253, 94_762, 94_851, 2_549_999, 2_550_001]
    assert list(map(as_printed, counts)) == [253, 94_800, 94_900, 2_500_000, 2_600_000]
    files = {"reviews": "reviews.jsonl", "metadata": "meta.jsonl"}
    manifest = prepare(config("shop", "amazon2023", "amazon2023", files), tmp_path).manifest
    paper = PaperStatistics(users=2, items=3, interactions=3, source="its page", rounded=True)
    assert "the statistics equal the paper's, rounded (its page)" in remarks(manifest, paper)
    (other,) = differences(manifest, replace(paper, users=3))
    assert other == ("users", 2, 3)
