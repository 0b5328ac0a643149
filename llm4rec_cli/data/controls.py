"""Controls: one thing destroyed on purpose, all else as it was. A gain that survives is not what it claims to be.

`controlled_dataset` comes before the split, `controlled_examples` after it. Candidates belong to interactions
and stay the same under every control.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import pandas as pd

from llm4rec_cli.config.schema import Control
from llm4rec_cli.data.examples import Examples, Impressions, IntArray
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.split import TRAIN, split_dataset
from llm4rec_cli.data.streams import stream
from llm4rec_cli.data.texts import TEXT_COLUMNS
from llm4rec_cli.errors import DataError

Asked = TypeVar("Asked", Examples, Impressions)

SHUFFLED = {  # which columns of the items are permuted together
    Control.shuffle_text: (*TEXT_COLUMNS, "price", "tokens"),
    Control.shuffle_tokens: ("tokens",),
}


def controlled_dataset(dataset: RecDataset, control: Control, seed: int) -> RecDataset:
    """What a control does to training and evaluation alike.

    `shuffle_text` permutes the texts, prices and tokens included, among the items; `shuffle_tokens` the tokens alone.
    `shuffle_history` permutes the training part of each user's sequence: reviews move with their items, times stay in
    place; the targets of validation and test stay what they were. Of a click log it permutes the history of each
    impression. Any other control leaves the dataset as it is.

    Args:
        dataset: as prepared, before a recipe has made the items' text; it is not changed.
        control: which.
        seed: `dataset.seed`.
    """
    rng = stream(seed, control.value)
    if control in SHUFFLED:
        columns = [name for name in SHUFFLED[control] if name in dataset.items]
        moved = dataset.items[columns].iloc[rng.permutation(dataset.n_items)].reset_index(drop=True)
        changed = replace(dataset, items=dataset.items.assign(**{name: moved[name] for name in columns}))
    elif control is Control.shuffle_history and dataset.impressions is not None:
        histories = [history[rng.permutation(len(history))] for history in dataset.impressions["history"]]
        changed = replace(dataset, impressions=dataset.impressions.assign(history=histories))
    elif control is Control.shuffle_history:
        user = dataset.interactions["user"].to_numpy()
        training = np.flatnonzero(split_dataset(dataset).assignment == TRAIN)
        order = np.arange(len(user))
        order[training] = training[_shuffled_within(user[training], rng)]
        shuffled = dataset.interactions.iloc[order].reset_index(drop=True)
        if "timestamp" in shuffled:
            shuffled["timestamp"] = dataset.interactions["timestamp"]
        changed = replace(dataset, interactions=shuffled)
    else:
        return dataset
    return replace(changed, manifest=dataset.manifest | {"control": control.value})


def controlled_examples(examples: Asked, control: Control, seed: int) -> Asked:
    """What a control does to the histories of evaluation.

    `shuffle_history` permutes each history whole. The dataset's own shuffle is not enough: there the validation item
    still stands last in a test history, and the last item is what most sequential models live on. `swap_users` gives
    each user's examples the history of another user (that of their last example, which is the longest), so that nobody
    keeps their own; user, target and candidates stay. Any other control leaves the examples as they are.

    Args:
        examples: of one part; a swap is among their users.
        control: which.
        seed: `dataset.seed`.

    Raises:
        DataError: `swap_users` of a single user.
    """
    rng = stream(seed, control.value, 1)
    if control is Control.shuffle_history:
        flat, offsets = examples.histories()
        owner = np.repeat(np.arange(len(examples)), np.diff(offsets))
        return replace(examples, sequence=flat[_shuffled_within(owner, rng)], start=offsets[:-1], end=offsets[1:])
    if control is Control.swap_users:
        who, users = pd.factorize(examples.user)
        if len(users) == 1:
            raise DataError("a single user has no other's history to swap with", "take more examples")
        last = np.empty(len(users), dtype=np.int64)
        last[who] = np.arange(len(examples))  # of equal places the last is written last
        ring = rng.permutation(len(users))
        other = np.empty_like(ring)
        other[ring] = np.roll(ring, 1)
        taken = last[other[who]]
        return replace(examples, start=examples.start[taken], end=examples.end[taken])
    return examples


def _shuffled_within(group: IntArray, rng: np.random.Generator) -> IntArray:
    """(n,) a random order of positions that keeps each group, given sorted, in its place."""
    return np.lexsort((rng.random(len(group)), group))
