"""MIND click logs: `behaviors.tsv` (impressions) and `news.tsv` of the train and dev parts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from llm4rec_cli.data.rawfiles import line_of_row, malformed, read_table
from llm4rec_cli.data.readers import FileRoles
from llm4rec_cli.data.recdataset import RawData

VERSION = 1
ROLES: FileRoles = ((frozenset({"train_behaviors", "train_news", "dev_behaviors", "dev_news"}), frozenset()),)

_NEWS = ("item_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
_BEHAVIORS = ("impression_id", "user_id", "time", "history", "impressions")
_TIME, _TIME_IN_WORDS = "%m/%d/%Y %I:%M:%S %p", "month/day/year hour:minute:second AM/PM"


def read(files: dict[str, Path]) -> RawData:
    """Read news as items, and impressions with their `part` (train or dev). There are no interactions.

    `timestamp` is in seconds, with the file's local time taken as UTC.

    Raises:
        DataError: a malformed line, or news that is not in any news file.
    """
    news = pd.concat([_news(files["train_news"]), _news(files["dev_news"])]).drop_duplicates(
        "item_id", ignore_index=True
    )
    item_ids = set(news["item_id"])
    impressions = pd.concat(
        [_impressions(files[f"{part}_behaviors"], item_ids).assign(part=part) for part in ("train", "dev")],
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
    news = read_table(path, _NEWS, keep=_NEWS[:5], filled=("item_id",))
    news["categories"] = (news.pop("category") + " " + news.pop("subcategory")).str.strip()
    return news.rename(columns={"abstract": "description"})


def _impressions(path: Path, item_ids: set[str]) -> pd.DataFrame:
    rows = read_table(path, _BEHAVIORS, filled=("user_id",))
    times = pd.to_datetime(rows["time"], format=_TIME, errors="coerce")
    histories, candidates, clicks = [], [], []
    for row, (time, history, listed) in enumerate(zip(times, rows["history"], rows["impressions"], strict=True)):
        history, labelled = history.split(), [pair.rpartition("-") for pair in listed.split()]
        if not labelled:
            raise malformed(path, line_of_row(path, row), "the impression shows no news")
        if pd.isna(time):
            raise malformed(path, line_of_row(path, row), f"time is not {_TIME_IN_WORDS}: '{rows['time'][row]}'")
        for item, dash, label in labelled:
            if label not in ("0", "1"):
                raise malformed(path, line_of_row(path, row), f"expected NEWS-0 or NEWS-1, got '{item}{dash}{label}'")
        for item in (*history, *(item for item, _, _ in labelled)):
            if item not in item_ids:
                raise malformed(path, line_of_row(path, row), f"news '{item}' is not in any news file")
        histories.append(history)
        candidates.append([item for item, _, _ in labelled])
        clicks.append([item for item, _, label in labelled if label == "1"])
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
