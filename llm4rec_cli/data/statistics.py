"""Statistics of a dataset: counted as it is prepared, compared with the paper's, and remarks on their reliability."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llm4rec_cli.config.schema import PaperStatistics, SplitRule
from llm4rec_cli.data.rawfiles import YEAR_10000
from llm4rec_cli.data.split import TEST, TRAIN, UNUSED, VALID, cut_at, split_dataset
from llm4rec_cli.data.texts import TEXT_COLUMNS

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import IntArray, RecDataset

PARTS = {"train": TRAIN, "valid": VALID, "test": TEST}
PART_COLUMNS = ("part", "impressions", "users", "items shown", "clicks")
FEW_REPEATS = 0.01  # share of interactions: below it, items of the history are hardly ever the next one
FEW_USERS = 5_000  # of fewer, an epoch has few steps at the default batch of 512 sequences
FEW_TESTED = 100  # users: intervals over fewer are wide
EARLIEST_LAST_TIME = 100_000_000  # March 1973, in seconds since 1970: data that end before have no times but steps


def step(domain: str, name: str, users: pd.Series | IntArray, items: int) -> dict[str, Any]:
    """Return the counts after a step of the preparation, given the user of each interaction that it leaves."""
    n_users = pd.Series(users).nunique()
    return {"domain": domain, "step": name, "users": n_users, "items": items, "interactions": len(users)}


def step_in_words(step: dict[str, Any]) -> str:
    return f"{step['step']}: {step['users']:,} users, {step['items']:,} items, {step['interactions']:,} interactions"


def unknown_items(ids: pd.Series, is_unknown: NDArray[np.bool_], known: pd.Series) -> dict[str, Any]:
    """Describe interactions whose items are not in the item file: their number, that of the items, an id, and the one
    in the item file that it may stand for."""
    unknown = ids[is_unknown]
    first = str(unknown.iloc[0])
    number = first.removesuffix(".0")
    alike = next((other for other in (number, f"{number}.0", number.lstrip("0")) if other != first), "")
    meant = alike if alike and (known.astype(str) == alike).any() else ""
    counts = {"interactions": len(unknown), "of": len(ids), "items": int(unknown.nunique())}
    return counts | {"example": first, "meant": meant}


def counts(
    items: pd.DataFrame, interactions: pd.DataFrame, impressions: pd.DataFrame | None, offsets: IntArray
) -> dict[str, Any]:
    """Return the counts of a dataset with numbered users and items, for its manifest.

    Besides sizes: the first and last time, the users whose last two times are equal, the users who lack a time, and the
    number of interactions that repeat another of the same user, item and time.
    """
    texts = items.reindex(columns=TEXT_COLUMNS).fillna("")
    is_empty = texts.apply(lambda column: column.str.strip()) == ""
    last = offsets[1:][np.diff(offsets) >= 1] - 1  # interactions without a time come last
    sizes = {
        "users": len(offsets) - 1,
        "items": len(items),
        "interactions": len(interactions),
        "impressions": 0 if impressions is None else len(impressions),
        "items_without_title": int(is_empty["title"].sum()),
        "items_without_text": int(is_empty.all(axis="columns").sum()),
    }
    if "timestamp" not in interactions:
        return {**sizes, "users_tied_at_end": 0, "users_without_times": len(last)}
    time = interactions["timestamp"].to_numpy()
    last_of_two = offsets[1:][np.diff(offsets) >= 2] - 1
    return {
        **sizes,
        "times": [float(np.nanmin(time)), float(np.nanmax(time))],
        "users_tied_at_end": int((time[last_of_two] == time[last_of_two - 1]).sum()),
        "users_without_times": int(np.isnan(time[last]).sum()),
        "repeated": int(interactions.dropna(subset="timestamp").duplicated(["user", "item", "timestamp"]).sum()),
    }


def split_sizes(dataset: RecDataset) -> dict[str, Any]:
    """Return the size of each part (in interactions or impressions), and details of the split rule for `prepare`.

    `begins`: when validation and test begin (temporal). `test_users`: users in test (by domain). `last_trained`: users
    whose last interaction is in train, although `leave_one_out` tests on it (P5's reviews). Of a click log: users,
    shown items and clicks of each part, and how many impressions have no history or cannot be ranked.
    """
    split, sizes = split_dataset(dataset), dict[str, Any]()
    if split.impression_assignment is not None:
        for name, code in PARTS.items():
            part = split.impressions(code)
            sizes[name] = len(part)
            counts = {
                "users": len(np.unique(part.user)),
                "shown": part.n_shown.sum(),
                "clicks": part.n_clicks.sum(),
                "empty_history": (part.history_length == 0).sum(),
                "unrankable": (~part.rankable).sum(),
            }
            for key, n in counts.items():
                sizes.setdefault(key, {})[name] = int(n)
        return sizes
    part_sizes = np.bincount(split.assignment, minlength=4)
    sizes |= {name: int(part_sizes[part]) for name, part in {**PARTS, "unused": UNUSED}.items()}
    if "cuts" in dataset.manifest["split"]:
        time = dataset.interactions["timestamp"].to_numpy()
        sizes["begins"] = [cut_at(time, cut) for cut in dataset.manifest["split"]["cuts"]]
    if split.in_train_domain is not None:
        sizes["test_users"] = len(np.unique(dataset.interactions["user"].to_numpy()[split.assignment == TEST]))
    if dataset.manifest["split"]["rule"] == SplitRule.p5_reviews.value:
        sizes["last_trained"] = int((split.assignment[dataset.offsets[1:] - 1] == TRAIN).sum())
    return sizes


class Comparison(NamedTuple):
    """A statistic of our data and the paper's, which is None if the paper does not report it."""

    statistic: str
    ours: int
    paper: int | None


def comparison(manifest: Mapping[str, Any], paper: PaperStatistics | None) -> list[Comparison]:
    """Compare our counts after all filters with the paper's.

    Counts are users, items and interactions; of a click log, impressions, clicks and the impressions of each part.
    """
    counts = {name: manifest[name] for name in ("users", "items")}
    if manifest["impressions"]:
        split = manifest["split"]
        counts |= {"impressions": manifest["impressions"], "clicks": sum(split["clicks"].values())}
        counts |= {part: split[part] for part in PARTS}
    else:
        counts["interactions"] = manifest["interactions"]
    return [Comparison(name, ours, getattr(paper, name) if paper else None) for name, ours in counts.items()]


def differences(manifest: Mapping[str, Any], paper: PaperStatistics | None) -> Iterator[tuple[str, int, int]]:
    """Yield each statistic that differs from the paper's, with our count and the paper's."""
    for statistic, ours, printed in comparison(manifest, paper):
        if paper is not None and printed is not None and (as_printed(ours) if paper.rounded else ours) != printed:
            yield statistic, ours, printed


def as_printed(count: int) -> int:
    """Return the number for which tables print 94.8K or 2.5M."""
    unit = 1 if count < 1000 else 100 if count < 1_000_000 else 100_000
    return round(count / unit) * unit


def parts(manifest: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each part of a click log, with the columns PART_COLUMNS."""
    split = manifest["split"]
    return [
        [part, f"{split[part]:,}", *(f"{split[key][part]:,}" for key in ("users", "shown", "clicks"))] for part in PARTS
    ]


def remarks(manifest: Mapping[str, Any], paper: PaperStatistics | None) -> list[str]:
    """Return sentences about the dataset that matter for interpreting results on it."""
    notes = [
        f"{statistic}: {ours:,} here, {printed:,} in the paper ({ours - printed:+,}): "
        "results are not comparable with the paper's"
        for statistic, ours, printed in differences(manifest, paper)
    ]
    if paper and not notes:
        notes.append(f"the statistics equal the paper's{', rounded' * paper.rounded} ({paper.source})")
    for domain, counts in manifest["read"].items():
        (_, rows), *dropped = counts.items()
        notes += [f"{domain}: {n:,} of {rows:,} rows dropped: {reason}" for reason, n in dropped if n]
    unknown = manifest.get("unknown_items", {})  # absent in datasets prepared before
    notes += [f"{domain}: {unknown_in_words(its_items)}: they are dropped" for domain, its_items in unknown.items()]
    users, items = manifest["users"], manifest["items"]
    if manifest["users_without_times"] and "times" not in manifest:
        notes.append("no interaction has a time: file order is taken as time order")
    elif manifest["users_without_times"]:
        share = manifest["users_without_times"] / users
        notes.append(f"{share:.1%} of users have interactions without a time: they come last, in file order")
    if manifest["users_tied_at_end"]:
        share = manifest["users_tied_at_end"] / users
        notes.append(
            f"{share:.1%} of users have the same time on their last two interactions: file order decides which is test"
        )
    if manifest.get("repeated"):  # absent in datasets prepared before
        notes.append(
            f"{manifest['repeated']:,} interactions have user, item and time of another: all are kept, "
            "unless dataset.drop_duplicates=true"
        )
    first, last = manifest.get("times", (0.0, 0.0))
    if "times" in manifest and not has_dates(manifest):
        notes.append(f"times range from {first:g} to {last:g}, not seconds since 1970: only their order is used")
    notes += _split_remarks(manifest)
    if "users_of_several_domains" in manifest:
        notes.append(f"{manifest['users_of_several_domains']:,} of {users:,} users are in more than one domain")
    if manifest["items_without_text"]:
        notes.append(f"{manifest['items_without_text'] / items:.1%} of items have no text at all")
    if manifest["items_without_title"] > manifest["items_without_text"]:
        notes.append(f"{manifest['items_without_title'] / items:.1%} of items have no title")
    if manifest["synthetic"]:
        notes.append("the data is synthetic: results settle no claim and are not compared with a paper's")
    notes.append(f"item numbers: {manifest['item_order']}")
    return notes


def unknown_in_words(unknown: Mapping[str, Any]) -> str:
    """Return `26,000 of 100,836 interactions are of 4,850 items that the item file lacks, such as '31.0' (it has
    '31')`, of what `prepare` found."""
    of_items = f"{unknown['interactions']:,} of {unknown['of']:,} interactions are of {unknown['items']:,} items"
    meant = f" (it has '{unknown['meant']}')" if unknown["meant"] else ""
    return f"{of_items} that the item file lacks, such as '{unknown['example']}'{meant}"


def profile(dataset: RecDataset, tested: int) -> list[str]:
    """Return sentences on how dense the interactions are, how long histories are, and how many users are tested.

    Args:
        tested: the number of users with a test example.
    """
    lengths = np.diff(dataset.offsets)
    n, users, items = len(dataset.interactions), dataset.n_users, len(dataset.items)
    notes = [
        f"{n / users:.1f} interactions a user (median {np.median(lengths):.0f}, {lengths.min()} to {lengths.max()}), "
        f"{n / items:.1f} an item; {100 * n / (users * items):.2g} % of all pairs"
    ]
    if tested < FEW_TESTED:
        rule = dataset.manifest["split"]["rule"]
        remedy = "" if rule == SplitRule.leave_one_out.value else "; dataset.split=leave_one_out tests more"
        notes.append(f"the split leaves {tested:,} users for test, which is too few to compare models{remedy}")
    return notes


def _split_remarks(manifest: Mapping[str, Any]) -> list[str]:
    """Return sentences about the split rule and the sizes of its parts; empty for `leave_one_out`."""
    split = manifest["split"]
    if split["rule"] == SplitRule.temporal.value:
        valid, test = (
            datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC") if has_dates(manifest) else f"{time:g}"
            for time in split["begins"]
        )
        return [
            f"split by time: train before {valid}, then validation before {test}, then test; examples are each user's "
            f"first interaction of a period: {split['valid']:,} validation, {split['test']:,} test; "
            f"{split['unused']:,} other interactions are not used"
        ]
    if split["rule"] == SplitRule.transfer.value:
        domain = split["test_domain"]
        in_training = ", ".join(name for name in manifest["read"] if name != domain)
        return [
            f"split by domain: train has {split['train']:,} interactions of {in_training}; validation "
            f"has each user's last one there: {split['valid']:,}; test has {split['test']:,} of {domain}, by the "
            f"{split['test_users']:,} users who are also in train; {split['unused']:,} of other users are not used"
        ]
    if split["rule"] == SplitRule.p5_reviews.value:
        return [
            f"random split of all interactions, as P5 splits reviews: {split['train']:,} train, {split['valid']:,} "
            f"validation, {split['test']:,} test; train holds the last interaction of {split['last_trained']:,} users, "
            "which leave_one_out would test on: results of ranking tasks are marked leaky"
        ]
    if split["rule"] == SplitRule.given.value:
        return [
            f"split as the raw files give it: {split['train']:,} train, {split['valid']:,} validation, "
            f"{split['test']:,} test; {split['unused']:,} other interactions occur only in histories"
        ]
    if not SplitRule(split["rule"]).splits_impressions:
        return []
    notes = [
        "split by days: test is MIND's dev; validation is the last day of MIND's train"
        if split["rule"] == SplitRule.mind_last_day.value
        else "split as Prompt4NR's: test is MIND's dev; validation is 5 % of MIND's train, drawn by dataset.seed"
    ]
    if sum(split["empty_history"].values()):
        notes.append(
            f"impressions without a history: {_by_part(split, 'empty_history')}; dataset.empty_history=skip leaves out "
            "those of validation and test, as Prompt4NR's code does"
        )
    if sum(split["unrankable"].values()):
        notes.append(
            f"impressions where none or all of the items were clicked: {_by_part(split, 'unrankable')}; those of "
            "validation and test are left out"
        )
    return notes


def _by_part(split: Mapping[str, Any], key: str) -> str:
    """Return counts such as `3 of 120 train, 0 of 6 valid and 1 of 40 test`."""
    *first, last = (f"{split[key][part]:,} of {split[part]:,} {part}" for part in PARTS)
    return f"{', '.join(first)} and {last}"


def has_dates(manifest: Mapping[str, Any]) -> bool:
    """Return whether the interactions have times that can be in seconds since 1970; files may use any unit, and numbers
    of steps."""
    if "times" not in manifest:
        return False
    first, last = manifest["times"]
    return bool(first >= 0 and EARLIEST_LAST_TIME <= last < YEAR_10000)


def repeats_in_words(share: float) -> str:
    """Return `0.0 % of the interactions in training and validation repeat an item of their user`."""
    return f"{100 * share:.1f} % of the interactions in training and validation repeat an item of their user"


def advice_on_mask(share: float) -> str:
    """Return which mask fits data with this share of repeats: the history leaves the ranking where it is hardly ever
    the answer."""
    if share < FEW_REPEATS:
        return "task.mask_history=true ranks only what a user does not have yet, and may decide which model is best"
    return "task.mask_history=false, the default, lets a model recommend what a user has already"
