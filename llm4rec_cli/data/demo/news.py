"""A week of news in MIND's format: stories, reading histories, impressions and clicks.

Histories end before the week. The last day is `dev`: half of the stories shown there are new, so only their text is
informative. Readers click by taste (subcategory, category, angle, region), a story's popularity and chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.data.demo.words import news_words, pick
from llm4rec_cli.data.streams import stream

Array = NDArray[Any]

READERS = 1200
OLD_STORIES, STORIES_A_DAY = 600, 60
DAYS = 7  # six of training, one of dev
FIRST_DAY = datetime(2019, 11, 9)
IMPRESSIONS_A_DAY = 0.8  # mean per reader
SHOWN = (8, 25)  # fewest and most stories of an impression
CLICKS_SHARES = (0.85, 0.12, 0.03)  # of impressions with one, two, three clicks
NO_HISTORY, MEAN_HISTORY, LONGEST_HISTORY = 0.05, 14, 50
TASTES = {"subcategory": 1.2, "category": 0.8, "angle": 0.5, "region": 0.5}  # standard deviations, in logits
POPULARITY = 0.6  # standard deviation, in logits
ANGLE_IN_TITLE = 0.7  # how often a title names its angle


class Tables(NamedTuple):
    """The rows of the two files of one split."""

    news: Sequence[tuple[str, ...]]
    behaviors: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Stories:
    rows: Sequence[tuple[str, ...]]  # as in news.tsv
    day: Array  # (n,) day of publication; -1 = before the week
    appeal: Array  # (readers, n) logits of a click


class Impression(NamedTuple):
    """The stories shown to a reader at one time, and which of them were clicked."""

    reader: int
    time: datetime
    shown: Array
    is_clicked: Array


def generate_news(seed: int) -> dict[str, Tables]:
    """Return the tables of the splits `train` and `dev`."""
    stories = _stories(seed)
    rng = stream(seed, "news readers")
    reader_ids = _codes("U", READERS, rng)
    histories = _histories(stories, rng)
    clicked = np.zeros(stories.appeal.shape, dtype=bool)

    impressions: dict[str, list[Impression]] = {"train": [], "dev": []}
    for day in range(DAYS):
        recent = np.flatnonzero((stories.day == day) | (stories.day == day - 1) & (day > 0))
        for reader in np.repeat(np.arange(READERS), rng.poisson(IMPRESSIONS_A_DAY, size=READERS)).tolist():
            time = FIRST_DAY + timedelta(days=day, seconds=int(rng.integers(24 * 60 * 60)))
            unclicked = recent[~clicked[reader, recent]]
            shown = rng.choice(unclicked, size=rng.integers(*SHOWN, endpoint=True), replace=False)
            n_clicks = 1 + np.searchsorted(np.cumsum(CLICKS_SHARES), rng.random())
            clicks = np.argsort(-stories.appeal[reader, shown] - rng.gumbel(size=len(shown)))[:n_clicks]
            clicked[reader, shown[clicks]] = True
            split = "dev" if day == DAYS - 1 else "train"
            impressions[split].append(Impression(reader, time, shown, np.isin(np.arange(len(shown)), clicks)))
    return {
        split: _tables([log[i] for i in rng.permutation(len(log))], reader_ids, histories, stories, rng)
        for split, log in impressions.items()
    }


def _tables(
    log: list[Impression], reader_ids: list[str], histories: list[Array], stories: Stories, rng: np.random.Generator
) -> Tables:
    """Return the tables of a split; news.tsv lists only the stories that occur in it."""
    ids = [row[0] for row in stories.rows]
    behaviors = [
        (
            str(number),
            reader_ids[reader],
            _format_time(time),
            " ".join(ids[i] for i in histories[reader]),
            " ".join(f"{ids[i]}-{int(click)}" for i, click in zip(shown, is_clicked, strict=True)),
        )
        for number, (reader, time, shown, is_clicked) in enumerate(log, start=1)
    ]
    occurring = np.unique(np.concatenate([array for row in log for array in (histories[row.reader], row.shown)]))
    return Tables([stories.rows[i] for i in rng.permutation(occurring)], behaviors)


def _format_time(time: datetime) -> str:
    """Return the time in MIND's format: `11/9/2019 2:05:46 PM`."""
    half = "AM" if time.hour < 12 else "PM"
    return f"{time.month}/{time.day}/{time.year} {time.hour % 12 or 12}:{time:%M:%S} {half}"


def _histories(stories: Stories, rng: np.random.Generator) -> list[Array]:
    """Return the stories that each reader clicked before the week."""
    old = np.flatnonzero(stories.day < 0)
    lengths = np.minimum(rng.geometric(1 / MEAN_HISTORY, size=READERS), LONGEST_HISTORY)
    lengths[rng.random(READERS) < NO_HISTORY] = 0
    order = np.argsort(-stories.appeal[:, old] - rng.gumbel(size=(READERS, len(old))), axis=1)
    return [rng.permutation(old[best[:length]]) for best, length in zip(order, lengths, strict=True)]


def _stories(seed: int) -> Stories:
    words = news_words()
    rng = stream(seed, "news stories")
    subcategories = [(c, name) for c, names in enumerate(words.categories.values()) for name in names]
    day = np.repeat(np.arange(-1, DAYS), [OLD_STORIES, *[STORIES_A_DAY] * DAYS])
    n = len(day)
    subcategory = rng.integers(len(subcategories), size=n)
    values = {
        "subcategory": subcategory,
        "category": np.array([c for c, _ in subcategories])[subcategory],
        "angle": rng.integers(len(words.angles), size=n),
        "region": rng.integers(len(words.regions), size=n),
    }
    appeal = rng.normal(0.0, POPULARITY, size=n) + sum(
        rng.normal(0.0, strength, size=(READERS, values[taste].max() + 1))[:, values[taste]]
        for taste, strength in TASTES.items()
    )

    rows, titles = [], set[str]()
    for i, story_id in enumerate(_codes("N", n, rng)):
        category, name = list(words.categories)[values["category"][i]], subcategories[subcategory[i]][1]
        topic, angles, towns = (
            words.categories[category][name],
            words.angles[values["angle"][i]],
            words.regions[values["region"][i]],
        )
        while True:
            subject, action, town = pick(topic.subjects, rng), pick(topic.actions, rng), pick(towns, rng)
            title = f"{subject} {action} in {town}"
            if rng.random() < ANGLE_IN_TITLE:
                title = f"{pick(angles, rng)}: {title}"
            if title not in titles:
                break
        titles.add(title)
        abstract = pick(words.abstracts, rng).format(subject=subject, action=action, town=town)
        rows.append((story_id, category, name, title, abstract, f"https://news.example/{story_id}.html", "[]", "[]"))
    return Stories(rows, day, appeal)


def _codes(prefix: str, n: int, rng: np.random.Generator) -> list[str]:
    """Return n different ids in random order."""
    return [f"{prefix}{number}" for number in rng.choice(90_000, size=n, replace=False) + 10_000]
