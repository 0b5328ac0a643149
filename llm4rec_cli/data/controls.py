"""Controls destroy one source of signal on purpose. A gain that survives does not come from that source.

`controlled_dataset` is applied before the split, `controlled_examples` after it. Candidates belong to interactions and
are the same under every control but `shuffle_ties`, which alone changes which interactions are held out.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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

    `shuffle_text` permutes texts, prices and tokens among the items; `shuffle_tokens` permutes only tokens.
    `shuffle_history` permutes the training interactions of each user: reviews move with their items, times stay in
    place, and the targets of validation and test are unchanged. In a click log it permutes the history of each
    impression. `shuffle_ties` permutes the interactions of each user that have the same time, so that held-out
    interactions are no longer chosen by the order of a file. The fingerprint changes, as the split does. Other controls
    return the dataset unchanged.

    Args:
        dataset: as prepared, before a recipe has made the items' text; not modified.

    Raises:
        DataError: `shuffle_ties`, and no two interactions of a user have the same time.
    """
    rng = stream(seed, control.value)
    if control in SHUFFLED:
        columns = [name for name in SHUFFLED[control] if name in dataset.items]
        shuffled = dataset.items[columns].iloc[rng.permutation(dataset.n_items)].reset_index(drop=True)
        changed = replace(dataset, items=dataset.items.assign(**{name: shuffled[name] for name in columns}))
    elif control is Control.shuffle_history and dataset.impressions is not None:
        histories = [np.asarray(history)[rng.permutation(len(history))] for history in dataset.impressions["history"]]
        changed = replace(dataset, impressions=dataset.impressions.assign(history=pd.Series(histories)))
    elif control is Control.shuffle_history:
        user = dataset.interactions["user"].to_numpy()
        train = np.flatnonzero(split_dataset(dataset).assignment == TRAIN)
        order = np.arange(len(user))
        order[train] = train[_shuffled_within(user[train], rng)]
        interactions = dataset.interactions.iloc[order].reset_index(drop=True)
        if "timestamp" in interactions:
            interactions["timestamp"] = dataset.interactions["timestamp"]
        changed = replace(dataset, interactions=interactions)
    elif control is Control.shuffle_ties:
        changed = _with_shuffled_ties(dataset, rng)
    else:
        return dataset
    return replace(changed, manifest=changed.manifest | {"control": control.value})


def controlled_examples(examples: AnyExamples, control: Control, seed: int) -> AnyExamples:
    """Return the examples with the histories that a control evaluates on.

    `shuffle_history` permutes each whole history. After `controlled_dataset` the validation item would still be last in
    a test history, and most sequential models depend on the last item. `swap_users` gives each user's examples the
    history of another user (of their last example, which is the longest), so that no user keeps their own. User, target
    and candidates are unchanged. Other controls return the examples unchanged.

    Raises:
        DataError: `swap_users`, and all examples are of one user.
    """
    rng = stream(seed, control.value, 1)
    if control is Control.shuffle_history:
        example = np.repeat(np.arange(len(examples)), examples.history_length)
        return examples.reordered(_shuffled_within(example, rng))
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


def has_ties(dataset: RecDataset) -> bool:
    """Return whether two interactions of a user have the same time, of a dataset with times."""
    return not _is_first(dataset).all()


def _is_first(dataset: RecDataset) -> NDArray[np.bool_]:
    """Return (n,) whether an interaction is the first of its user at its time; one without a time always is."""
    user, time = (dataset.interactions[name].to_numpy() for name in ("user", "timestamp"))
    is_first = np.ones(len(user), dtype=bool)
    is_first[1:] = (user[1:] != user[:-1]) | (time[1:] != time[:-1])
    return is_first


def _with_shuffled_ties(dataset: RecDataset, rng: np.random.Generator) -> RecDataset:
    """Return the dataset with each user's interactions of one time in random order; those without a time stay."""
    name = dataset.manifest["name"]
    if "timestamp" not in dataset.interactions:
        raise DataError(
            f"dataset.control=shuffle_ties shuffles interactions at one time, and dataset '{name}' has no times",
            "choose a dataset with times: dataset=ml-100k, or a file of your own with a column for timestamp",
        )
    if not has_ties(dataset):
        raise DataError(
            f"dataset.control=shuffle_ties would change nothing: no two interactions of a user in dataset '{name}' "
            "have the same time",
            "leave it out",
        )
    order = _shuffled_within(np.cumsum(_is_first(dataset)), rng)
    fingerprint = hashlib.sha256(f"{dataset.fingerprint} {Control.shuffle_ties.value}".encode()).hexdigest()
    return replace(
        dataset,
        interactions=dataset.interactions.iloc[order].reset_index(drop=True),
        manifest=dataset.manifest | {"fingerprint": fingerprint},  # that of the dataset covers dataset.seed
    )


def _shuffled_within(group: IntArray, rng: np.random.Generator) -> IntArray:
    """Return (n,) a random order of positions that keeps each group in its place; groups are sorted."""
    return np.lexsort((rng.random(len(group)), group))
