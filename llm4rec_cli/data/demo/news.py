"""A week of news: what was published, who had read what, what they were shown and what they clicked, in MIND's format.

Histories end before the week. The last day is `dev`: half of the stories shown there are new, so that only their text
tells. Readers click by taste (subcategory, angle, region), a story's popularity and chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import llm4rec_cli.data.demo.words as words
from llm4rec_cli.data.demo.words import pick
from llm4rec_cli.data.streams import stream

Array = NDArray[Any]

READERS = 1200
OLD_STORIES, STORIES_A_DAY = 600, 60
DAYS = 7  # six of training, one of dev
FIRST_DAY = datetime(2019, 11, 9)
VISITS_A_DAY = 0.8  # impressions a reader and day, on average
SHOWN = (8, 25)  # stories an impression
CLICKS_SHARES = (0.85, 0.12, 0.03)  # of impressions with one, two, three clicks
NO_HISTORY, MEAN_HISTORY, LONGEST_HISTORY = 0.05, 14, 50
TASTES = {"subcategory": 1.2, "category": 0.8, "angle": 0.5, "region": 0.5}  # standard deviations, in logits
POPULARITY = 0.6  # standard deviation, in logits
LED = 0.7  # how often a title names its angle


class Part(NamedTuple):
    """The rows of one folder's files."""

    news: Sequence[tuple[str, ...]]
    behaviors: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Stories:
    """All stories.

    Attributes:
        rows: as in news.tsv.
        day: (n,) when each appeared; -1 = before the week.
        lure: (readers, n) logits of clicking it.
    """

    rows: Sequence[tuple[str, ...]]
    day: Array
    lure: Array


class Impression(NamedTuple):
    """Stories shown to a reader at one time, and which were clicked."""

    reader: int
    time: datetime
    shown: Array
    is_clicked: Array


def publish(seed: int) -> dict[str, Part]:
    """The folders `train` and `dev`."""
    stories = _stories(seed)
    rng = stream(seed, "news readers")
    reader_ids = _codes("U", READERS, rng)
    histories = _histories(stories, rng)
    clicked = np.zeros(stories.lure.shape, dtype=bool)

    impressions: dict[str, list[Impression]] = {"train": [], "dev": []}
    for day in range(DAYS):
        fresh = np.flatnonzero((stories.day == day) | (stories.day == day - 1) & (day > 0))
        for reader in np.repeat(np.arange(READERS), rng.poisson(VISITS_A_DAY, size=READERS)).tolist():
            time = FIRST_DAY + timedelta(days=day, seconds=int(rng.integers(24 * 60 * 60)))
            unclicked = fresh[~clicked[reader, fresh]]
            shown = rng.choice(unclicked, size=rng.integers(*SHOWN, endpoint=True), replace=False)
            n_clicks = 1 + np.searchsorted(np.cumsum(CLICKS_SHARES), rng.random())
            clicks = np.argsort(-stories.lure[reader, shown] - rng.gumbel(size=len(shown)))[:n_clicks]
            clicked[reader, shown[clicks]] = True
            part = "dev" if day == DAYS - 1 else "train"
            impressions[part].append(Impression(reader, time, shown, np.isin(np.arange(len(shown)), clicks)))
    return {
        part: _part([log[i] for i in rng.permutation(len(log))], reader_ids, histories, stories, rng)
        for part, log in impressions.items()
    }


def _part(
    log: list[Impression], reader_ids: list[str], histories: list[Array], stories: Stories, rng: np.random.Generator
) -> Part:
    """The rows of a folder; only stories that occur in it are listed there."""
    ids = [row[0] for row in stories.rows]
    behaviors = [
        (
            str(number),
            reader_ids[reader],
            _clock(time),
            " ".join(ids[i] for i in histories[reader]),
            " ".join(f"{ids[i]}-{int(click)}" for i, click in zip(shown, is_clicked, strict=True)),
        )
        for number, (reader, time, shown, is_clicked) in enumerate(log, start=1)
    ]
    occurring = np.unique(np.concatenate([array for row in log for array in (histories[row.reader], row.shown)]))
    return Part([stories.rows[i] for i in rng.permutation(occurring)], behaviors)


def _clock(time: datetime) -> str:
    """As MIND writes it: `11/9/2019 2:05:46 PM`."""
    half = "AM" if time.hour < 12 else "PM"
    return f"{time.month}/{time.day}/{time.year} {time.hour % 12 or 12}:{time:%M:%S} {half}"


def _histories(stories: Stories, rng: np.random.Generator) -> list[Array]:
    """What each reader clicked before the week."""
    old = np.flatnonzero(stories.day < 0)
    lengths = np.minimum(rng.geometric(1 / MEAN_HISTORY, size=READERS), LONGEST_HISTORY)
    lengths[rng.random(READERS) < NO_HISTORY] = 0
    order = np.argsort(-stories.lure[:, old] - rng.gumbel(size=(READERS, len(old))), axis=1)
    return [rng.permutation(old[best[:length]]) for best, length in zip(order, lengths, strict=True)]


def _stories(seed: int) -> Stories:
    rng = stream(seed, "news stories")
    sections = [(c, name) for c, parts in enumerate(words.NEWS.values()) for name in parts]
    day = np.repeat(np.arange(-1, DAYS), [OLD_STORIES, *[STORIES_A_DAY] * DAYS])
    n = len(day)
    subcategory = rng.integers(len(sections), size=n)
    value = {
        "subcategory": subcategory,
        "category": np.array([c for c, _ in sections])[subcategory],
        "angle": rng.integers(len(words.LEADS), size=n),
        "region": rng.integers(len(words.TOWNS), size=n),
    }
    lure = rng.normal(0.0, POPULARITY, size=n) + sum(
        rng.normal(0.0, strength, size=(READERS, value[taste].max() + 1))[:, value[taste]]
        for taste, strength in TASTES.items()
    )

    rows, titles = [], set[str]()
    for i, story_id in enumerate(_codes("N", n, rng)):
        category, name = list(words.NEWS)[value["category"][i]], sections[subcategory[i]][1]
        section, leads, towns = (
            words.NEWS[category][name],
            words.LEADS[value["angle"][i]],
            words.TOWNS[value["region"][i]],
        )
        while True:
            subject, action, town = pick(section.subjects, rng), pick(section.actions, rng), pick(towns, rng)
            title = f"{subject} {action} in {town}"
            if rng.random() < LED:
                title = f"{pick(leads, rng)}: {title}"
            if title not in titles:
                break
        titles.add(title)
        abstract = pick(words.ABSTRACTS, rng).format(subject=subject, action=action, town=town)
        rows.append((story_id, category, name, title, abstract, f"https://news.example/{story_id}.html", "[]", "[]"))
    return Stories(rows, day, lure)


def _codes(prefix: str, n: int, rng: np.random.Generator) -> list[str]:
    """n different ids, in an order that tells nothing."""
    return [f"{prefix}{number}" for number in rng.choice(90_000, size=n, replace=False) + 10_000]
