"""How near a target is to a history by the codes of their items, and slices of targets by it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.ids.item_ids import END, ItemIds

NEAR = 0.5  # share of codes in common


def common_codes(ids: ItemIds, a: IntArray, b: IntArray) -> NDArray[np.float64]:
    """Return (n,) the share of the codes of items `a` that items `b` have at the same places.

    Of codes that refine one another, those of the prefix in common count. A last code that only numbers items counts
    neither as a code nor as common; without another code the share is 0.
    """
    codes, others = ids.codes[a], ids.codes[b]
    n_codes = (codes != END).sum(1) - ids.numbers_last
    common = (codes == others) & (np.arange(codes.shape[1]) < n_codes[:, None])
    if not ids.parallel:
        common = common.cumprod(1).astype(bool)
    return common.sum(1) / np.maximum(n_codes, 1)


def code_slices(ids: ItemIds, examples: Examples) -> dict[str, NDArray[np.bool_]]:
    """Return (n,) which targets are in each slice, by the item of the history that is nearest to the target.

    `near_codes`: another item of the history has at least NEAR of the target's codes.
    `far_codes`: the history has other items, and none has any.
    """
    flat, offsets = examples.histories()
    row = np.repeat(np.arange(len(examples)), np.diff(offsets))
    other = flat != examples.target[row]
    row, share = row[other], common_codes(ids, examples.target[row[other]], flat[other])
    nearest = np.full(len(examples), -1.0)  # of no other item
    np.maximum.at(nearest, row, share)
    return {"near_codes": nearest >= NEAR, "far_codes": nearest == 0}
