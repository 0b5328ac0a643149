"""Whether another system was tested, and trained, on the split that its lists are judged on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import VALID, Split
from llm4rec_cli.errors import DataError
from llm4rec_studies.inspection.audit import Check
from llm4rec_studies.models.external import files
from llm4rec_studies.models.external.config import ExternalConfig
from llm4rec_studies.models.external.ids import renamed

# Why a user's target is another one, the likelier first.
SAME_TIME = "their target has the same time as ours"
NEAR = "their target has the same time as ours in single precision, which is 64 or 128 s coarse"
EARLIER_ITEM = "their target is our validation item, one earlier"
ABSENT = "they do not test this user"
NOT_HERE = "their target is no interaction of this user here"
ELSEWHERE = "their target is elsewhere in the user's history"
# Splits that differ from ours for one reason alone.
KNOWN = {
    SAME_TIME: "it is leave-one-out by another order of equal times: the file's, or a library's own sort",
    NEAR: "it is RecBole's own leave-one-out, which orders items by such times, and equal ones by the file",
    EARLIER_ITEM: "it tests on the items before the last, our validation part",
    ABSENT: "it is ours for fewer users: filters differ",
    NOT_HERE: "their data are others, or have other ids",
    ELSEWHERE: "it is no leave-one-out, but a random split or one in time",
}


def check_targets(file: Path, config: ExternalConfig, split: Split, examples: Examples) -> Check:
    """Compare the targets that another system was tested on with ours.

    Args:
        file: rows of user and item.
        config: says whose ids the file has.
        examples: those that its lists are judged on.

    Raises:
        UsageError, DataError: the file is unreadable, or targets differ: the error names the first user, and which
            split theirs is, if it is one of KNOWN.
    """
    theirs = _pairs(file, config)
    user_ids, item_ids = split.dataset.user_ids, split.dataset.items["item_id"].to_numpy()
    tested = _by_user(theirs["user"], theirs["item"])
    ours = _by_user(user_ids[examples.user], item_ids[examples.target])
    differs = [user for user in ours if tested.get(user) != ours[user]]
    if not differs:
        return Check("tested on our split", True, f"{file.name}: the targets of all {len(ours):,} users are ours")
    reasons = _reasons(differs, tested, split, examples)
    only = next((reason for reason in KNOWN if all(reason in of_user for of_user in reasons)), None)
    counts = Counter(only or min(of_user, key=list(KNOWN).index) for of_user in reasons)
    first = differs[0]
    shown = [", ".join(sorted(map(str, of))) or "none" for of in (ours[first], tested.get(first, ()))]
    told = "; ".join(f"{n:,}: {reason}" for reason, n in counts.most_common())
    raise DataError(
        f"{file.name}: another split: {len(differs):,} of {len(ours):,} users have another target, first '{first}' "
        f"(ours: {shown[0]}; theirs: {shown[1]}). {told}: {'' if only else 'for the first of these, '}"
        f"{KNOWN[only or counts.most_common(1)[0][0]]}",
        "train and test on our split, which llm4rec export data writes; without --targets the lists are judged as of "
        "an unknown split",
    )


def check_training(file: Path, config: ExternalConfig, split: Split, examples: Examples) -> Check:
    """Count our test targets among the rows that another system was trained on.

    A target that our training has, too, as users may repeat an item, does not count.
    """
    theirs = _pairs(file, config)
    users, items = pd.Index(split.dataset.user_ids), pd.Index(split.dataset.items["item_id"])
    pairs = users.get_indexer(pd.Index(theirs["user"])).astype(np.int64) * split.n_items + items.get_indexer(
        pd.Index(theirs["item"])
    )
    known = split.dataset.interactions["user"].to_numpy(np.int64) * split.n_items + split.dataset.sequence
    target = examples.user.astype(np.int64) * split.n_items + examples.target
    leaked = np.isin(target, np.setdiff1d(pairs, known[split.assignment < VALID]))
    found = f"{leaked.sum():,} of {len(target):,} test targets are among the {len(theirs):,} rows of {file.name}"
    if leaked.any():
        found += f", first of user '{split.dataset.user_ids[examples.user[leaked][0]]}'"
    return Check("not trained on test targets", not leaked.any(), found)


def _pairs(file: Path, config: ExternalConfig) -> pd.DataFrame:
    """Return the rows of user and item of a file, as raw ids."""
    lists = files.read(file, scored=False)
    for column, ids in (("user", config.user_ids), ("item", config.item_ids)):
        if ids:
            lists = renamed(lists, column, Path(ids))
    return lists.rows


def _by_user(users: Iterable[str], items: Iterable[str]) -> dict[str, set[str]]:
    found = defaultdict[str, set[str]](set)
    for user, item in zip(users, items, strict=True):
        found[user].add(item)
    return found


def _reasons(
    users: Sequence[str], tested: Mapping[str, set[str]], split: Split, examples: Examples
) -> list[frozenset[str]]:
    """Return why the targets of each of these users may differ, of KNOWN."""
    interactions, offsets = split.dataset.interactions, split.dataset.offsets.tolist()
    number = dict(zip(split.dataset.user_ids[examples.user], examples.user.tolist(), strict=True))
    own = dict(zip(examples.user.tolist(), examples.row.tolist(), strict=True))
    item = pd.Index(split.dataset.items["item_id"])
    time = interactions["timestamp"].to_numpy() if "timestamp" in interactions else np.arange(len(interactions))

    def of_user(user: str) -> frozenset[str]:
        if not (theirs := tested.get(user)):
            return frozenset({ABSENT})
        rows = np.arange(offsets[number[user]], offsets[number[user] + 1])
        at = rows[np.isin(split.dataset.sequence[rows], item.get_indexer(list(theirs)))]
        if not len(at):
            return frozenset({NOT_HERE})
        last = own[number[user]]
        holds = {
            SAME_TIME: time[at] == time[last],
            NEAR: time[at].astype(np.float32) == time[last].astype(np.float32),
            EARLIER_ITEM: split.assignment[at] == VALID,
        }
        return frozenset([reason for reason, rows_of in holds.items() if rows_of.any()] or [ELSEWHERE])

    return [of_user(user) for user in users]
