"""MIND click logs: `behaviors.tsv` (impressions) and `news.tsv` of the train and the dev part."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from llm4rec_cli.data.rawfiles import line_of_row, malformed, table
from llm4rec_cli.data.readers import Forms
from llm4rec_cli.data.recdataset import RawData

VERSION = 1
FORMS: Forms = ((frozenset({"train_behaviors", "train_news", "dev_behaviors", "dev_news"}), frozenset()),)

_NEWS = ("item_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
_BEHAVIORS = ("impression_id", "user_id", "time", "history", "impressions")


def read(files: dict[str, Path]) -> RawData:
    """News as items and impressions with their `part` (train or dev); no interactions besides.

    `timestamp` is in seconds, the file's wall clock taken as UTC.

    Raises:
        DataError: a malformed line, or news that no news file describes.
    """
    news = pd.concat([_news(files["train_news"]), _news(files["dev_news"])]).drop_duplicates(
        "item_id", ignore_index=True
    )
    known = set(news["item_id"])
    impressions = pd.concat(
        [_impressions(files[f"{part}_behaviors"], known).assign(part=part) for part in ("train", "dev")],
        ignore_index=True,
    )
    return RawData(
        news,
        interactions=pd.DataFrame({"user_id": [], "item_id": []}, dtype="str"),
        counts={"read": len(impressions)},
        item_order="as listed in the news files, train first",
        impressions=impressions,
    )


def _news(path: Path) -> pd.DataFrame:
    news = table(path, _NEWS, keep=_NEWS[:5], filled=("item_id",))
    news["categories"] = (news.pop("category") + " " + news.pop("subcategory")).str.strip()
    return news.rename(columns={"abstract": "description"})


def _impressions(path: Path, known: set[str]) -> pd.DataFrame:
    rows = table(path, _BEHAVIORS, filled=("user_id",))
    times = pd.to_datetime(rows["time"], format="%m/%d/%Y %I:%M:%S %p", errors="coerce")
    histories, candidates, clicks = [], [], []
    for row, (time, history, shown) in enumerate(zip(times, rows["history"], rows["impressions"], strict=True)):
        history, pairs = history.split(), [pair.rpartition("-") for pair in shown.split()]
        if not pairs:
            raise malformed(path, line_of_row(path, row), "no news is shown")
        if pd.isna(time):
            raise malformed(path, line_of_row(path, row), f"time is not month/day/year: '{rows['time'][row]}'")
        for pair, (_, _, label) in zip(shown.split(), pairs, strict=True):
            if label not in ("0", "1"):
                raise malformed(path, line_of_row(path, row), f"expected NEWS-0 or NEWS-1, found '{pair}'")
        for item in (*history, *(item for item, _, _ in pairs)):
            if item not in known:
                raise malformed(path, line_of_row(path, row), f"'{item}' is in no news file")
        histories.append(history)
        candidates.append([item for item, _, _ in pairs])
        clicks.append([item for item, _, label in pairs if label == "1"])
    return pd.DataFrame(
        {
            "impression_id": rows["impression_id"],
            "user_id": rows["user_id"],
            "timestamp": (times - pd.Timestamp(0)) / pd.Timedelta(seconds=1),
            "history": histories,
            "candidates": candidates,
            "clicks": clicks,
        }
    )
