"""Controls: one source of signal is destroyed on purpose. A gain that survives does not come from that source.

`controlled_dataset` is applied before the split, `controlled_examples` after it. Candidates belong to interactions and
are the same under every control.
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

AnyExamples = TypeVar("AnyExamples", Examples, Impressions)

SHUFFLED = {  # item columns that are permuted together
    Control.shuffle_text: (*TEXT_COLUMNS, "price", "tokens"),
    Control.shuffle_tokens: ("tokens",),
}


def controlled_dataset(dataset: RecDataset, control: Control, seed: int) -> RecDataset:
    """Return the dataset that a control trains and evaluates on.

    `shuffle_text` permutes texts, prices and tokens among the items; `shuffle_tokens` permutes tokens alone.
    `shuffle_history` permutes the training interactions of each user: reviews move with their items, times stay in
    place, and the targets of validation and test are unchanged. In a click log it permutes the history of each
    impression. Other controls return the dataset unchanged.

    Args:
        dataset: as prepared, before a recipe has made the items' text; not modified.
        control: one of the controls.
        seed: `dataset.seed`.
    """
    rng = stream(seed, control.value)
    if control in SHUFFLED:
        columns = [name for name in SHUFFLED[control] if name in dataset.items]
        shuffled = dataset.items[columns].iloc[rng.permutation(dataset.n_items)].reset_index(drop=True)
        changed = replace(dataset, items=dataset.items.assign(**{name: shuffled[name] for name in columns}))
    elif control is Control.shuffle_history and dataset.impressions is not None:
        histories = [history[rng.permutation(len(history))] for history in dataset.impressions["history"]]
        changed = replace(dataset, impressions=dataset.impressions.assign(history=histories))
    elif control is Control.shuffle_history:
        user = dataset.interactions["user"].to_numpy()
        train = np.flatnonzero(split_dataset(dataset).assignment == TRAIN)
        order = np.arange(len(user))
        order[train] = train[_shuffled_within(user[train], rng)]
        interactions = dataset.interactions.iloc[order].reset_index(drop=True)
        if "timestamp" in interactions:
            interactions["timestamp"] = dataset.interactions["timestamp"]
        changed = replace(dataset, interactions=interactions)
    else:
        return dataset
    return replace(changed, manifest=dataset.manifest | {"control": control.value})


def controlled_examples(examples: AnyExamples, control: Control, seed: int) -> AnyExamples:
    """Return the examples with the histories that a control evaluates on.

    `shuffle_history` permutes each whole history. `controlled_dataset` alone would leave the validation item last in a
    test history, and most sequential models depend on the last item. `swap_users` gives each user's examples the
    history of another user (of their last example, which is the longest), so that no user keeps their own; user, target
    and candidates are unchanged. Other controls return the examples unchanged.

    Args:
        examples: of one split; histories are swapped among their users.
        control: one of the controls.
        seed: `dataset.seed`.

    Raises:
        DataError: `swap_users`, and all examples are of one user.
    """
    rng = stream(seed, control.value, 1)
    if control is Control.shuffle_history:
        flat, offsets = examples.histories()
        example = np.repeat(np.arange(len(examples)), np.diff(offsets))
        return replace(examples, sequence=flat[_shuffled_within(example, rng)], start=offsets[:-1], end=offsets[1:])
    if control is Control.swap_users:
        user, users = pd.factorize(examples.user)
        if len(users) == 1:
            raise DataError(
                "dataset.control=swap_users needs examples of at least two users",
                "raise task.max_examples, or choose a larger dataset",
            )
        last = np.empty(len(users), dtype=np.int64)
        last[user] = np.arange(len(examples))  # where a user repeats, the last assignment wins
        ring = rng.permutation(len(users))
        other = np.empty_like(ring)
        other[ring] = np.roll(ring, 1)
        source = last[other[user]]
        return replace(examples, start=examples.start[source], end=examples.end[source])
    return examples


def _shuffled_within(group: IntArray, rng: np.random.Generator) -> IntArray:
    """Return (n,) a random order of positions that keeps each group in its place; groups are sorted."""
    return np.lexsort((rng.random(len(group)), group))
