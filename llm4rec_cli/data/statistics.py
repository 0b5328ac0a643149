"""A prepared dataset in numbers and sentences: ours beside the paper's, and how far its order can be trusted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from llm4rec_cli.config.schema import PaperStatistics, SplitRule

PARTS = ("train", "valid", "test")
PART_COLUMNS = ("part", "impressions", "users", "items shown", "clicks")
_YEAR_10000 = 253_402_300_800  # in seconds since 1970


class Comparison(NamedTuple):
    """One statistic; `paper` is None where the paper prints none."""

    statistic: str
    ours: int
    paper: int | None


def comparison(manifest: dict[str, Any], paper: PaperStatistics | None) -> list[Comparison]:
    """Users, items and interactions after all filters, ours and the paper's; of a click log impressions, clicks, and
    the impressions of each part."""
    counted = {name: manifest[name] for name in ("users", "items")}
    if manifest["impressions"]:
        split = manifest["split"]
        counted |= {"impressions": manifest["impressions"], "clicks": sum(split["clicks"].values())}
        counted |= {part: split[part] for part in PARTS}
    else:
        counted["interactions"] = manifest["interactions"]
    return [Comparison(name, ours, getattr(paper, name) if paper else None) for name, ours in counted.items()]


def parts(manifest: dict[str, Any]) -> list[list[str]]:
    """The parts of a click log, as PART_COLUMNS."""
    split = manifest["split"]
    return [
        [part, f"{split[part]:,}", *(f"{split[what][part]:,}" for what in ("users", "shown", "clicks"))]
        for part in PARTS
    ]


def remarks(manifest: dict[str, Any], paper: PaperStatistics | None) -> list[str]:
    """What a reader of results on this dataset should know, a sentence each."""
    said = [
        f"{row.statistic}: {row.ours:,} here, {row.paper:,} in the paper ({row.ours - row.paper:+,}): "
        "results on it do not stand beside the paper's"
        for row in comparison(manifest, paper)
        if row.paper is not None and row.ours != row.paper
    ]
    if paper and not said:
        said.append(f"the statistics equal the paper's ({paper.source})")
    for domain, counts in manifest["read"].items():
        (_, rows), *dropped = counts.items()
        said += [f"{domain}: {n:,} of {rows:,} rows dropped: {reason}" for reason, n in dropped if n]
    users, items = manifest["users"], manifest["items"]
    if manifest["users_without_times"]:
        share = manifest["users_without_times"] / users
        said.append(f"{share:.1%} of users have no times: their order is the file's, taken on trust")
    if manifest["users_tied_at_end"]:
        share = manifest["users_tied_at_end"] / users
        said.append(
            f"{share:.1%} of users end on two interactions of the same time: which is the test one is the file's order"
        )
    first, last = manifest.get("times", (0.0, 0.0))
    if not _is_date(first) or not _is_date(last):
        said.append(f"times reach from {first:g} to {last:g}, no seconds since 1970: only their order counts")
    split = manifest["split"]
    if split["rule"] == SplitRule.temporal.value:
        valid, test = map(_moment, split["begins"])
        said.append(
            f"split by time: train before {valid}, validation before {test}, then test; each user's first "
            f"interaction of a period is asked about: {split['valid']:,} and {split['test']:,}; "
            f"{split['unused']:,} others are not used"
        )
    if split["rule"] == SplitRule.transfer.value:
        asked = split["test_domain"]
        said.append(
            f"split by domain: train has {split['train']:,} interactions of {_others(manifest, asked)}; validation "
            f"asks about each user's last there: {split['valid']:,}; test about {split['test']:,} in {asked}, of the "
            f"{split['test_users']:,} users who are in train, too; {split['unused']:,} of other users are not used"
        )
    if split["rule"] == SplitRule.p5_reviews.value:
        said.append(
            f"split at random over all interactions, as P5's reviews: {split['train']:,} train, {split['valid']:,} "
            f"validation, {split['test']:,} test; train holds the last interaction of {split['last_trained']:,} users, "
            "which the ranking tasks ask about elsewhere: their results are marked leaky"
        )
    if split["rule"] == SplitRule.mind.value:
        said.append(
            "split as Prompt4NR's: MIND's dev is test; of its train 5 % of the impressions, drawn by dataset.seed, are "
            "validation"
        )
        if sum(split["empty_history"].values()):
            said.append(
                f"without a history are {_of_parts(split, 'empty_history')}; dataset.empty_history=skip leaves "
                "those of validation and test out, as Prompt4NR's code does"
            )
        if sum(split["unrankable"].values()):
            said.append(
                f"without a click, or with nothing but clicks, are {_of_parts(split, 'unrankable')}: those of "
                "validation and test are left out"
            )
    if "users_of_several_domains" in manifest:
        said.append(f"{manifest['users_of_several_domains']:,} of {users:,} users are in more than one domain")
    if manifest["items_without_text"]:
        said.append(f"{manifest['items_without_text'] / items:.1%} of items have no text at all")
    if manifest["items_without_title"] > manifest["items_without_text"]:
        said.append(f"{manifest['items_without_title'] / items:.1%} of items have no title")
    if manifest["synthetic"]:
        said.append("the data is synthetic: its numbers settle no claim and stand beside no paper's")
    said.append(f"item numbers: {manifest['item_order']}")
    return said


def _of_parts(split: dict[str, Any], what: str) -> str:
    """`3 of 120 train, 0 of 6 valid and 1 of 40 test impressions`."""
    *first, last = (f"{split[what][part]:,} of {split[part]:,} {part}" for part in PARTS)
    return f"{', '.join(first)} and {last} impressions"


def _others(manifest: dict[str, Any], domain: str) -> str:
    return ", ".join(name for name in manifest["read"] if name != domain)


def _is_date(time: float) -> bool:
    """Whether a time can be one in seconds since 1970: a file may count in any unit."""
    return 0 <= time < _YEAR_10000


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC") if _is_date(time) else f"{time:g}"
