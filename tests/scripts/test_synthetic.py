import json

import numpy as np
import pytest
from synthetic import MEAN, SHORTEST, SHOWN, dataset, write_click_log, write_reviews

from llm4rec_cli.data.readers import mind


def test_users_have_enough_interactions_and_the_stated_mean():
    data = dataset(5_000, 300)
    lengths = np.diff(data.offsets)
    assert (data.n_users, data.n_items, len(lengths)) == (5_000, 300, 5_000)
    assert lengths.min() == SHORTEST
    assert lengths.mean() == pytest.approx(MEAN, abs=0.3)
    assert (data.interactions["user"].to_numpy() == np.repeat(np.arange(5_000), lengths)).all()


def test_items_are_all_in_the_catalogue_and_low_numbers_are_the_popular_ones():
    counts = np.bincount(dataset(5_000, 300).sequence, minlength=300)
    assert len(counts) == 300
    assert counts[:30].sum() > 2 * counts[-30:].sum()


def test_one_seed_draws_one_dataset():
    assert np.array_equal(dataset(50, 30, seed=1).sequence, dataset(50, 30, seed=1).sequence)
    assert not np.array_equal(dataset(50, 30, seed=1).sequence[:50], dataset(50, 30, seed=2).sequence[:50])


def test_reviews_are_made_in_the_format_of_the_official_files(tmp_path):
    write_reviews(tmp_path, 300, 40)
    reviews = [json.loads(line) for line in (tmp_path / "reviews.json").read_text().splitlines()]
    items = [json.loads(line) for line in (tmp_path / "metadata.json").read_text().splitlines()]
    assert len(reviews) == pytest.approx(300, rel=0.25)
    assert {review["asin"] for review in reviews} <= {item["asin"] for item in items}
    assert len(items) == 40
    assert [review["asin"] for review in reviews] == sorted(review["asin"] for review in reviews)
    assert all(len(review["reviewText"].split()) == 36 and 1 <= review["overall"] <= 5 for review in reviews)


def test_a_click_log_is_made_in_the_format_of_the_official_files(tmp_path):
    write_click_log(tmp_path, 60, 40)
    files = {
        f"{part}_{name}": tmp_path / part / f"{name}.tsv" for part in ("train", "dev") for name in ("behaviors", "news")
    }
    raw = mind.read(files)
    assert raw.impressions["part"].tolist() == ["train"] * 60 + ["dev"] * 10
    assert (raw.impressions["candidates"].list.len() == SHOWN).all()
    assert (raw.impressions["clicks"].list.len() == 1).all()
    assert raw.impressions["history"].list.len().nunique() > 10
    assert len(raw.items) == 40
