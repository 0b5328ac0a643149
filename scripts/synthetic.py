"""Random interactions in any number, for measuring speed and memory."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd

from llm4rec_cli.data.recdataset import RecDataset

SHORTEST, MEAN = 3, 8.9  # interactions per user; the mean is Beauty's
WORDS, PHRASES, PHRASE = 5_000, 20_000, 12  # of reviews: the vocabulary, the phrases that texts consist of, their words
HISTORY, SHOWN, LISTS = 30, 40, 10_000  # of a click log: news in a history, news shown, different lists of each
AT_ONCE = 100_000  # rows


def interactions(n_users: int, n_items: int, seed: int = 0) -> pd.DataFrame:
    """Draw columns `user` and `item`, sorted by user; lengths are geometric, low item numbers are popular."""
    rng = np.random.default_rng(seed)
    length = SHORTEST - 1 + rng.geometric(1 / (MEAN - SHORTEST + 1), n_users)
    user = np.repeat(np.arange(n_users, dtype=np.int32), length)
    return pd.DataFrame({"user": user, "item": (n_items * rng.random(len(user)) ** 2).astype(np.int32)})


def dataset(n_users: int, n_items: int, seed: int = 0) -> RecDataset:
    """Return these interactions as a dataset whose items have no text."""
    log = interactions(n_users, n_items, seed)
    return RecDataset(
        items=pd.DataFrame({"item_id": np.arange(n_items).astype(str), "text": ""}),
        interactions=log,
        user_ids=np.arange(n_users).astype(str).astype(object),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(log["user"], minlength=n_users))]),
        manifest={
            "name": "synthetic",
            "fingerprint": f"{n_users}-{n_items}-{seed}",
            "synthetic": True,
            "split": {"rule": "leave_one_out"},
        },
    )


def write_reviews(folder: Path, n_reviews: int, n_items: int, seed: int = 0) -> None:
    """Write `reviews.json` and `metadata.json` in the format of Amazon 2014: JSON lines, 0.4 kB a review.

    The reviews are those of `interactions`, at random times and in the order of items, as in the official files. A
    text has three phrases of PHRASE words, and a title one half of a phrase.
    """
    rng = np.random.default_rng(seed)
    phrases = _phrases(rng)
    titles = [" ".join(phrase.split()[: PHRASE // 2]) for phrase in phrases]
    log = interactions(round(n_reviews / MEAN), n_items, seed)
    log = log.iloc[np.argsort(log["item"].to_numpy(), kind="stable")]
    with (folder / "reviews.json").open("w", encoding="utf-8") as file:
        for start in range(0, len(log), AT_ONCE):
            part = log.iloc[start : start + AT_ONCE]
            texts, times = rng.integers(PHRASES, size=(len(part), 4)).tolist(), rng.integers(10**8, size=len(part))
            stars = rng.integers(1, 6, size=len(part))
            columns = (part["user"].tolist(), part["item"].tolist(), times.tolist(), stars.tolist(), texts)
            file.writelines(
                f'{{"reviewerID": "A{user:013d}", "asin": "B{item:09d}", "reviewText": "{phrases[a]} {phrases[b]} '
                f'{phrases[c]}", "overall": {rating}.0, "summary": "{titles[d]}", "unixReviewTime": {10**9 + time}}}\n'
                for user, item, time, rating, (a, b, c, d) in zip(*columns, strict=True)
            )
    with (folder / "metadata.json").open("w", encoding="utf-8") as file:
        for item, phrase in zip(range(n_items), itertools.cycle(phrases)):
            record = {"asin": f"B{item:09d}", "title": f"{phrase} {item}", "categories": [["Made", f"word{item % 97}"]]}
            file.write(json.dumps(record) + "\n")


def write_click_log(folder: Path, n_impressions: int, n_items: int, seed: int = 0) -> None:
    """Write `behaviors.tsv` and `news.tsv` in MIND's format, to `train/` and a sixth as many to `dev/`.

    An impression shows SHOWN news with one click, after a history of up to HISTORY. A user has three on average.
    """
    rng = np.random.default_rng(seed)
    phrases = _phrases(rng)
    news = (n_items * rng.random((LISTS, HISTORY + SHOWN)) ** 2).astype(np.int64)
    histories = [" ".join(f"N{item}" for item in row[: i % (HISTORY + 1)]) for i, row in enumerate(news)]
    shown = [
        " ".join(f"N{item}-{int(i % SHOWN == j)}" for j, item in enumerate(row[-SHOWN:])) for i, row in enumerate(news)
    ]
    for part, n in (("train", n_impressions), ("dev", n_impressions // 6)):
        (folder / part).mkdir()
        with (folder / part / "news.tsv").open("w", encoding="utf-8") as file:
            for item, phrase in zip(range(n_items), itertools.cycle(phrases)):
                file.write(f"N{item}\tnews\tword{item % 97}\t{phrase} {item}\t{phrase}\t\t[]\t[]\n")
        with (folder / part / "behaviors.tsv").open("w", encoding="utf-8") as file:
            for start in range(0, n, AT_ONCE):
                numbers = range(start, min(n, start + AT_ONCE))
                drawn = rng.integers([n_impressions // 3, LISTS, LISTS, 28, 60], size=(len(numbers), 5)).tolist()
                file.writelines(
                    f"{i}\tU{user}\t11/{day + 1}/2019 8:{minute:02d}:00 AM\t{histories[a]}\t{shown[b]}\n"
                    for i, (user, a, b, day, minute) in zip(numbers, drawn, strict=True)
                )


def _phrases(rng: np.random.Generator) -> list[str]:
    words = np.array([f"word{i}" for i in range(WORDS)])
    return [" ".join(row) for row in words[(WORDS * rng.random((PHRASES, PHRASE)) ** 3).astype(np.int64)]]
