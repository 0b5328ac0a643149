"""Small datasets built by hand, and configs as runs have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from llm4rec_cli.config import walk
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import Precision
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.split import SECONDS_A_DAY
from llm4rec_cli.run.job import Job


def resolved(*overrides: str) -> Any:
    """Return the resolved config of a run, with `precision: auto` fixed to fp32 on every machine."""
    config = Job.unchecked(compose(overrides), "train").config
    for setting in walk.settings(config):
        if setting.value is Precision.auto:
            setattr(setting.holder, setting.field.name, Precision.fp32)
    return config


def tiny_dataset(
    sequences: Sequence[Sequence[int]],
    texts: Sequence[str | None] | None = None,
    n_items: int | None = None,
    has_times: bool = True,
    **columns: Sequence[Any],
) -> RecDataset:
    """Return a dataset with these interactions.

    Args:
        sequences: each user's item numbers, oldest first.
        texts: one per item; None = no item has text.
        n_items: size of the catalogue; default: the number of texts, otherwise the largest item number + 1.
        has_times: whether interactions have times. A user's are one day apart, and no two users share a time.
        columns: further columns of the interactions, user by user: `rating`, `explanation`, …; also `timestamp`.
    """
    item = np.array([i for sequence in sequences for i in sequence], dtype=np.int32)
    lengths = [len(sequence) for sequence in sequences]
    if n_items is None:
        n_items = len(texts) if texts is not None else int(item.max()) + 1
    user = np.repeat(np.arange(len(sequences), dtype=np.int32), lengths)
    day = np.array([place for length in lengths for place in range(length)], dtype=np.float64)
    times = {"timestamp": day * SECONDS_A_DAY + user} if has_times else {}
    return RecDataset(
        items=pd.DataFrame(
            {"item_id": [f"i{i}" for i in range(n_items)], "text": list(texts) if texts is not None else [""] * n_items}
        ),
        interactions=pd.DataFrame({"user": user, "item": item, **times, **columns}),
        user_ids=np.array([f"u{u}" for u in range(len(sequences))], dtype=object),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        manifest={"name": "tiny", "fingerprint": "tiny", "split": {"rule": "leave_one_out", "seed": 0}},
    )


def tiny_log(impressions: Sequence[tuple[str, int, float, Sequence[int], str]], texts: Sequence[str]) -> RecDataset:
    """Return a click log.

    Args:
        impressions: (`train` or `dev`, user number, time, history, items shown in MIND's notation: "3-0 1-1").
        texts: one per item; also its title.
    """
    part, user, time, history, shown = zip(*impressions, strict=True)
    pairs = [[pair.split("-") for pair in listed.split()] for listed in shown]

    def numbers(lists: Any) -> list[Any]:
        return [np.array(items, dtype=np.int32) for items in lists]

    rows = pd.DataFrame(
        {
            "impression_id": [str(i) for i in range(len(impressions))],
            "user": np.array(user, dtype=np.int32),
            "timestamp": np.array(time, dtype=float),
            "history": numbers(history),
            "candidates": numbers([int(item) for item, _ in listed] for listed in pairs),
            "clicks": numbers([int(item) for item, label in listed if label == "1"] for listed in pairs),
            "part": part,
        }
    )
    empty = tiny_dataset([[]] * (max(user) + 1), texts)
    return replace(
        empty,
        items=empty.items.assign(title=list(texts)),
        impressions=rows,
        manifest={"name": "tiny", "fingerprint": "tiny", "split": {"rule": "mind", "seed": 0}},
    )
