"""The demo data: the same bytes every time, the official formats, tastes where they belong and none in demo_null."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from llm4rec_cli.data.demo import VARIANTS, generate
from llm4rec_cli.data.demo.words import shop_words
from tests.support.driver import python
from tests.support.small_demo import REAL, SMALL, sized

ROOT = Path(__file__).parents[2]
SHOP_OF = {"demo": "demo", "demo_null": "demo_null", "garden": "demo_pretrain", "kitchen": "demo_pretrain"}


@pytest.fixture(scope="module", autouse=True)
def _of_real_size() -> Iterator[None]:
    with sized(REAL):
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one folder a variant, all of seed 0."""
    folder = tmp_path_factory.mktemp("demo")
    for variant in VARIANTS:
        generate(variant, 0, folder / variant)
    return folder


def read(root: Path, role: str, shop: str) -> pd.DataFrame:
    with gzip.open(root / SHOP_OF[shop] / f"{role}_{shop}.json.gz", "rt") as file:
        return pd.DataFrame([json.loads(line) for line in file])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def transitions(root: Path, shop: str) -> pd.DataFrame:
    """Consecutive purchases of a customer: the categories of both."""
    reviews = read(root, "reviews", shop).sort_values(["reviewerID", "unixReviewTime"], kind="stable")
    category = read(root, "meta", shop).set_index("asin").categories.map(lambda paths: paths[0][-1])
    bought = reviews.asin.map(category)
    same_customer = reviews.reviewerID == reviews.reviewerID.shift(-1)
    return pd.DataFrame({"one": bought, "next": bought.shift(-1)})[same_customer]


def generate_small(seed: int, folder: Path) -> None:
    with sized(SMALL):
        for variant in VARIANTS:
            generate(variant, seed, folder / variant)


def test_a_variant_and_a_seed_fix_every_byte_and_another_seed_changes_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever order Python's hashes have, which is another in a new process."""
    monkeypatch.setenv("PYTHONHASHSEED", "7" if os.environ.get("PYTHONHASHSEED") != "7" else "8")
    made = f"pathlib.Path({str(tmp_path / 'new')!r})"
    done = python(f"import pathlib; from tests.data import test_demo; test_demo.generate_small(0, {made})", ROOT)
    assert done.returncode == 0, done.stderr
    for seed in (0, 1):
        generate_small(seed, tmp_path / str(seed))
    new, ours, theirs = (files(tmp_path / name) for name in ("new", "0", "1"))
    assert new == ours
    assert ours.keys() == theirs.keys() and len(ours) >= 2 * len(VARIANTS)
    assert not any(ours[name] == theirs[name] for name in ours)


@pytest.mark.parametrize("shop", SHOP_OF)
def test_shops_are_in_amazons_format_with_ids_and_order_that_carry_no_information_and_skewed_popularity(
    root: Path, shop: str
) -> None:
    reviews, meta = read(root, "reviews", shop), read(root, "meta", shop)
    assert meta.asin.is_unique
    assert meta.title.is_unique
    assert set(reviews.asin) <= set(meta.asin)
    assert not reviews.duplicated(["reviewerID", "asin"]).any()
    assert set(reviews.overall) == {1.0, 2.0, 3.0, 4.0, 5.0}
    days = pd.to_datetime(reviews.unixReviewTime, unit="s")
    assert (days.dt.strftime("%m ") + days.dt.day.astype(str) + days.dt.strftime(", %Y") == reviews.reviewTime).all()
    kept, before = reviews, 0
    while len(kept) != before:
        before = len(kept)
        for column in ("reviewerID", "asin"):
            kept = kept[kept.groupby(column)[column].transform("size") >= 5]
    assert len(kept) > 0.98 * len(reviews)
    assert kept.asin.nunique() > 0.95 * reviews.asin.nunique()
    # Neither asins, nor reviewer ids, nor lines follow the order in which things happen.
    happened = reviews.sort_values(["reviewerID", "unixReviewTime"], kind="stable")
    for column in ("asin", "reviewerID"):
        appearance = pd.Series(reviews[column].unique())
        assert abs(np.corrcoef(appearance.rank(), np.arange(len(appearance)))[0, 1]) < 0.15
    assert abs(np.corrcoef(happened.asin.drop_duplicates().rank(), np.arange(happened.asin.nunique()))[0, 1]) < 0.15
    assert abs(np.corrcoef(reviews.unixReviewTime, np.arange(len(reviews)))[0, 1]) < 0.05
    number = happened.asin.rank(method="dense").groupby(happened.reviewerID)
    next_id = (number.last() == number.apply(lambda numbers: numbers.iloc[:-1].max()) + 1).mean()
    assert next_id < 4 / reviews.asin.nunique()
    counts = reviews.asin.value_counts()
    assert counts.head(len(counts) // 5).sum() > 0.4 * len(reviews)
    assert 0.02 < reviews.duplicated(["reviewerID", "unixReviewTime"]).mean() < 0.15


@pytest.mark.parametrize("shop", ["demo", "demo_null"])
def test_every_explanation_occurs_in_its_review_and_agrees_with_its_stars(root: Path, shop: str) -> None:
    reviews, explanations = read(root, "reviews", shop), read(root, "explanations", shop)
    pairs = explanations.merge(reviews, left_on=["user", "item"], right_on=["reviewerID", "asin"])
    assert len(pairs) == len(explanations)
    for row in pairs.itertuples():
        assert row.sentence in row.reviewText
        assert row.feature in row.sentence
        assert row.opinion in row.sentence
    assert np.corrcoef(pairs.overall, pairs.polarity)[0, 1] > 0.6
    assert not set(reviews[reviews.overall == 5].summary) & set(reviews[reviews.overall == 1].summary)


def test_reviewers_have_favourite_aspects_except_in_demo_null(root: Path) -> None:
    def repeats(shop: str) -> float:
        """How often two reviews of one customer judge the same aspect."""
        explanations = read(root, "explanations", shop).drop_duplicates(["user", "item"])
        aspect = explanations.feature.where(explanations.feature.isin(list(shop_words().aspects)), "part")
        return float((aspect == aspect.groupby(explanations.user).shift()).mean())

    assert repeats("demo") > 1.5 * repeats("demo_null")


def test_what_follows_shares_the_category_except_in_demo_null(root: Path) -> None:
    demo, null = transitions(root, "demo"), transitions(root, "demo_null")
    chance = (null.one.value_counts(normalize=True) * null.next.value_counts(normalize=True)).sum()
    assert (demo.one == demo.next).mean() > 0.4
    assert (null.one == null.next).mean() == pytest.approx(chance, abs=0.015)


def test_reviews_match_their_items_text_except_in_demo_null(root: Path) -> None:
    def purpose_of_a_category(shop: str) -> float:
        """How much of a category's reviews name its most frequent purpose."""
        category = read(root, "meta", shop).set_index("asin").categories.map(lambda paths: paths[0][-1])
        reviews = read(root, "reviews", shop)
        words = r"for ((?:our|my|early|weekends|days)[\w ]*?)(?: for two months now)?\."
        purpose = reviews.reviewText.str.extract(words)[0].groupby(reviews.asin.map(category))
        return float(purpose.value_counts(normalize=True).groupby(level=0).max().mean())

    assert purpose_of_a_category("demo") > 0.95
    assert purpose_of_a_category("demo_null") < 0.4


def test_shops_of_one_seed_share_customers(root: Path) -> None:
    customers = {shop: read(root, "reviews", shop).drop_duplicates("reviewerID") for shop in SHOP_OF}
    for source in ("garden", "kitchen"):
        both = customers["demo"].merge(customers[source], on="reviewerID")
        assert 100 < len(both) < len(customers["demo"]) / 2
        assert (both.reviewerName_x == both.reviewerName_y).all()
    assert not set(read(root, "meta", "demo").asin) & set(read(root, "meta", "garden").asin)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_news_is_in_minds_format_and_its_last_day_is_dev(root: Path, split: str) -> None:
    def rows(name: str) -> list[list[str]]:
        return [line.split("\t") for line in (root / "demo_news" / split / name).read_text().splitlines()]

    news, behaviors = rows("news.tsv"), rows("behaviors.tsv")
    assert all(len(row) == 8 and row[6:] == ["[]", "[]"] for row in news)
    ids = {row[0] for row in news}
    assert len(ids) == len({row[3] for row in news}) == len(news)
    assert [row[0] for row in behaviors] == [str(i + 1) for i in range(len(behaviors))]
    for _, _, time, history, impressions in behaviors:
        datetime.strptime(time, "%m/%d/%Y %I:%M:%S %p")
        shown = [candidate.rsplit("-", 1) for candidate in impressions.split(" ")]
        assert {story for story, _ in shown} | set(history.split()) <= ids
        assert 1 <= sum(int(click) for _, click in shown) < len(shown)
    assert 0 < sum(not row[3] for row in behaviors) < 0.1 * len(behaviors)
    days = {
        split: pd.read_csv(root / "demo_news" / split / "behaviors.tsv", sep="\t", header=None)[2].str.split(" ").str[0]
        for split in ("train", "dev")
    }
    assert set(days["dev"]) == {"11/15/2019"}
    assert set(days["train"]) == {f"11/{day}/2019" for day in range(9, 15)}


def test_clicks_follow_the_subcategories_of_the_history(root: Path) -> None:
    folder = root / "demo_news" / "dev"
    subcategory = pd.read_csv(folder / "news.tsv", sep="\t", header=None, index_col=0)[2]
    behaviors = pd.read_csv(folder / "behaviors.tsv", sep="\t", header=None).dropna()
    share: dict[str, list[float]] = {"0": [], "1": []}
    for history, impressions in zip(behaviors[3], behaviors[4], strict=True):
        read_before = subcategory[history.split()].to_numpy()
        for candidate in impressions.split():
            story, click = candidate.split("-")
            share[click].append(float((read_before == subcategory[story]).mean()))
    assert np.mean(share["1"]) > 1.5 * np.mean(share["0"])
