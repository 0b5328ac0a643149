"""The feature that the training reviews of a user, or of an item, mention most."""

from __future__ import annotations

from typing import Literal

import numpy as np

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.errors import DataError

FeatureOwner = Literal["user", "item"]  # whose training reviews are counted


def usual_feature_rows(split: Split, owner: FeatureOwner = "user") -> IntArray:
    """Return (n_users,) or (n_items,) a training interaction with the most frequent feature of each user or item; of
    one without, an interaction with the most frequent of all.

    Raises:
        DataError: no training interaction has a feature.
    """
    features = split.dataset.interactions[[owner, "feature"]].reset_index(drop=True)
    features = features[(split.assignment == TRAIN) & (features["feature"].fillna("") != "")]
    if features.empty:
        raise DataError(
            "no training interaction has a feature", "data with features, or a prompt or floors that read none"
        )
    features = features.assign(row=features.index)
    commonest = features.loc[features["feature"] == features["feature"].value_counts().index[0], "row"].iloc[0]
    counted = features.groupby([owner, "feature"])["row"].agg(["size", "min"]).sort_values("size", kind="stable")
    usual = counted.groupby(owner)["min"].last()
    n = split.n_users if owner == "user" else split.n_items
    return usual.reindex(range(n), fill_value=commonest).to_numpy(dtype=np.int64)
