"""The feature that a user's training reviews mention most."""

from __future__ import annotations

import numpy as np

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.errors import DataError


def usual_feature_rows(split: Split) -> IntArray:
    """Return (n_users,) a training interaction with each user's most frequent feature; of a user without, one with the
    most frequent of all.

    Raises:
        DataError: no training interaction has a feature.
    """
    features = split.dataset.interactions[["user", "feature"]].reset_index(drop=True)
    features = features[(split.assignment == TRAIN) & (features["feature"].fillna("") != "")]
    if features.empty:
        raise DataError(
            "no training interaction has a feature", "data with features, or a prompt or floors that read none"
        )
    features = features.assign(row=features.index)
    of_all = features.loc[features["feature"] == features["feature"].value_counts().index[0], "row"].iloc[0]
    counted = features.groupby(["user", "feature"])["row"].agg(["size", "min"]).sort_values("size", kind="stable")
    usual = counted.groupby("user")["min"].last()
    rows: IntArray = usual.reindex(range(split.n_users), fill_value=of_all).to_numpy(dtype=np.int64)
    return rows
