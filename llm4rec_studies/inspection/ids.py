"""What item ids share: collisions, use of codes, likeness of items with a common prefix, stability over seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, triu
from sklearn.metrics import adjusted_rand_score

from llm4rec_cli.config.registry import model_names
from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.errors import UsageError
from llm4rec_cli.ids.item_ids import END, ItemIds
from llm4rec_cli.ids.trees import co_occurrence
from llm4rec_cli.models import base as models
from llm4rec_cli.results.tables import Content
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from llm4rec_cli.text.vectors import Tfidf

UNEVEN = 0.8  # of the entropy of evenly used codes: sentences name a level below it


@dataclass(frozen=True)
class Likeness:
    """How alike the items of a group are, over all pairs of items in one group.

    Attributes:
        pairs: their number.
        text: the mean cosine of the TF-IDF vectors of their texts; None without pairs, as the next one.
        together: the share of pairs that some user has in training.
    """

    pairs: int
    text: float | None
    together: float | None


@dataclass(frozen=True)
class Level:
    """One level of the ids.

    Attributes:
        items: how many have a code at this level.
        used, size: the number of different codes that items have, and the highest code + 1.
        entropy: of the codes of items, as a share of that of `size` evenly used codes.
        largest: the share of items with the most frequent code.
        code, prefix: likeness of items with a common code at this level, and with the same codes up to it.
        stability: mean adjusted Rand index of the groups by prefix, between the first seed and each other: 1 for the
            same groups, 0 for unrelated ones; None with one seed.
    """

    items: int
    used: int
    size: int
    entropy: float
    largest: float
    code: Likeness
    prefix: Likeness
    stability: float | None


@dataclass(frozen=True)
class Report:
    """Facts about the ids of a catalogue.

    Attributes:
        colliding: how many items share their id with another.
        largest_group: the most items of one id.
        all_pairs: likeness of any two items.
    """

    ids: str
    dataset: str
    items: int
    distinct: int
    colliding: int
    largest_group: int
    all_pairs: Likeness
    levels: list[Level]


def inspected(job: Job, seeds: int) -> Report:
    """Return facts about the ids that a model's settings give.

    Raises:
        UsageError: the model does not name items by codes.
    """
    job = settled(job)
    split = stages.split_dataset(job, stages.load(job)).for_ranking()
    context = models.Context(job.model, split, job.config.seed, job.cache, job.device, job.task.name)
    first = models.codes_of(context)
    if first is None:
        having = [name for name in model_names() if models.names_items_by_codes(name)]
        raise UsageError(f"model '{job.model.name}' has no item ids", f"model={'|'.join(having)}")
    others = [ids for seed in range(1, seeds) if (ids := models.codes_of(context, seed)) is not None]
    return report(first, others, split, job.model.display_name())


def report(ids: ItemIds, others: list[ItemIds], split: Split, name: str) -> Report:
    """Return facts about ids; `others` are those of other seeds."""
    texts, together = Tfidf(split.dataset.texts).catalogue, co_occurrence(split)
    everything: IntArray = np.zeros(len(ids.codes), dtype=np.int64)
    prefix, other_prefixes, levels = everything, [everything for _ in others], []
    for level, codes in enumerate(ids.codes.T):
        prefix = _refined(prefix, codes)
        other_prefixes = [
            _refined(groups, other.codes[:, level]) if level < other.codes.shape[1] else groups
            for groups, other in zip(other_prefixes, others, strict=True)
        ]
        counts = np.bincount(codes[codes != END])
        shares = counts[counts > 0] / counts.sum()
        stability = [float(adjusted_rand_score(prefix, groups)) for groups in other_prefixes]
        levels.append(
            Level(
                items=int(counts.sum()),
                used=len(shares),
                size=len(counts),
                entropy=float(-(shares * np.log(shares)).sum() / np.log(len(counts))) if len(counts) > 1 else 0.0,
                largest=float(shares.max()),
                code=likeness(codes, texts, together),
                prefix=likeness(prefix, texts, together),
                stability=float(np.mean(stability)) if stability else None,
            )
        )
    return Report(
        ids=name,
        dataset=split.dataset.manifest["name"],
        items=len(ids.codes),
        distinct=len(ids.distinct[0]),
        colliding=int((ids.group_sizes > 1).sum()),
        largest_group=int(ids.group_sizes.max()),
        all_pairs=likeness(everything, texts, together),
        levels=levels,
    )


def _refined(groups: IntArray, codes: IntArray) -> IntArray:
    """Return the number of each item's pair of group and code."""
    return np.unique(groups * (codes.max() + 2) + codes + 1, return_inverse=True)[1]


def likeness(groups: IntArray, texts: csr_array, together: csr_array) -> Likeness:
    """Return how alike the items of a group are.

    The sum of the cosines of all pairs is that of the squared lengths of the groups' sums, without each item's own.

    Args:
        groups: (n_items,) the group of each item; END = none.
        texts: (n_items, terms) rows of length 1, or 0.
        together: (n_items, n_items) symmetric, not 0 for items that some user has both of.
    """
    items = np.flatnonzero(groups != END)
    number, member = np.unique(groups[items], return_inverse=True)
    sizes = np.bincount(member)
    pairs = int((sizes * (sizes - 1)).sum()) // 2
    if pairs == 0:
        return Likeness(0, None, None)
    grouping = csr_array((np.ones(len(items)), (member, items)), shape=(len(number), len(groups)))
    sums = csr_array(grouping @ texts)
    cosines = (sums.multiply(sums).sum() - texts[items].multiply(texts[items]).sum()) / 2
    edges = triu(together, 1).tocoo()
    same = (groups[edges.row] == groups[edges.col]) & (groups[edges.row] != END)
    return Likeness(pairs, float(cosines / pairs), float(same.sum() / pairs))


def tables(report: Report) -> list[Content]:
    """Return a table of the ids as a whole, and one with a row per level."""
    whole = [
        ["items", f"{report.items:,}"],
        ["distinct ids", f"{report.distinct:,}"],
        ["items that share their id", f"{report.colliding:,} ({100 * report.colliding / report.items:.1f} %)"],
        ["items of the largest group", f"{report.largest_group:,}"],
        ["likeness in text of any two items", _number(report.all_pairs.text)],
        ["any two items together in training", _percent(report.all_pairs.together)],
    ]
    rows = [
        [
            str(number),
            f"{level.used:,} of {level.size:,}",
            f"{level.entropy:.3f}",
            f"{100 * level.largest:.1f} %",
            *(_number(level.code.text), _percent(level.code.together)),
            f"{level.prefix.pairs:,}",
            *(_number(level.prefix.text), _percent(level.prefix.together)),
            _number(level.stability),
        ]
        for number, level in enumerate(report.levels, start=1)
    ]
    columns = ["level", "codes used", "entropy", "largest code", "text, same code", "together, same code"]
    columns += ["pairs of a prefix", "text, same prefix", "together, same prefix", "stability"]
    notes = [
        "entropy: 1 if all codes are used equally; text: mean cosine of TF-IDF; together: share of pairs that some "
        "user has in training; stability: adjusted Rand index of the groups by prefix between seeds"
    ]
    kept = [i for i, name in enumerate(columns) if name != "stability" or report.levels[0].stability is not None]
    levels = Content("levels", [columns[i] for i in kept], [[row[i] for i in kept] for row in rows], notes)
    return [Content(f"{report.ids} on {report.dataset}", ("ids", "value"), whole), levels]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def sentences(report: Report) -> Iterator[str]:
    """Yield what the tables mean for a model on these ids."""
    if report.colliding:
        yield (
            f"{report.colliding:,} items share their id, up to {report.largest_group:,} one id: they tie, and a metric "
            "is its expectation over their order."
        )
    else:
        yield "Each item has an id of its own."
    levels = enumerate(report.levels, start=1)
    if uneven := [str(number) for number, level in levels if level.size > 1 and level.entropy < UNEVEN]:
        yield f"Codes are used unevenly at level {', '.join(uneven)}."
    first, chance = report.levels[0].code, report.all_pairs
    if first.text is not None and chance.text:
        times = f"{first.text / chance.text:.1f} times"
        yield f"Items with the same first code are {times} as alike in text as any two items."
    if first.together is not None and chance.together:
        yield f"A user has both of them {first.together / chance.together:.1f} times as often as any two items."
