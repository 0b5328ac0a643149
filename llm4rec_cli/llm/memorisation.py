"""Whether a chat model knows a dataset by heart: which end of a record it finds likeliest, and which it writes.

All ends are those of true records, but some are more frequent: a rating of 5, the id of a popular item. A model that
always prefers the frequent end knows no record, so chance is the share that it would have. Of written ends it is the
share that the same answers would have if the ends were swapped among the records. A title's end also follows from its
beginning, for a model that knows the language or the world; ids, ratings and times do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest

from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.streams import stream
from llm4rec_cli.llm.requests import Completion, Request

ENDS = 5  # possible ends of a record
SHOWN = 3  # whole records before it
HISTORY = 10  # items of a user's line before the next one
MAX_TOKENS = 48  # of an end that is written
VERBATIM = "/verbatim"  # after the name of a probe whose ends are written
ERROR = 0.05  # chance that some probe of a model that knows nothing is above chance
PROBES = {
    "titles": "a title's last words, after its first",
    "items": "an item's title, after its raw id",
    "rows": "rating and time, after the raw ids of user and item",
    "next_item": "the raw id of a user's last item, after those before it",
}

Record = tuple[str, str]  # its beginning, and its end


@dataclass(frozen=True)
class Score:
    """How often the true end of a record is the likeliest of several, or is written.

    Attributes:
        share: of the records; ties count in part.
        low, high: the exact interval over records, of 95 % for all probes together (Bonferroni).
        chance: of the likeliest end, the share of the most frequent end among those offered, which needs no beginning,
            and at least that of a random one; of a written one, its mean over the ends of the other records, and at
            least one in as many as there are different ends.
        n: records.
    """

    share: float
    low: float
    high: float
    chance: float
    n: int

    @property
    def above_chance(self) -> bool:
        return self.low > self.chance


def requests(dataset: RecDataset, n: int, seed: int) -> dict[str, list[Request]]:
    """Return up to n requests for each of PROBES that the dataset has the columns for; the true end comes first.

    Args:
        seed: of the records drawn.
    """
    sources: dict[str, Callable[[RecDataset, np.random.Generator], list[Record]]] = {
        "titles": _titles,
        "items": _items,
        "rows": _rows,
        "next_item": _next_items,
    }
    result = {}
    for name, source in sources.items():
        rng = stream(seed, "memorisation", list(sources).index(name))
        records = source(dataset, rng)
        records = [records[i] for i in rng.permutation(len(records))[: n + SHOWN]]
        if len({end for _, end in records}) >= ENDS:
            result[name] = _probe(dataset.manifest["name"], records, rng)
    return result


def _probe(name: str, records: Sequence[Record], rng: np.random.Generator) -> list[Request]:
    shown = "\n".join(beginning + end for beginning, end in records[:SHOWN])
    probed = records[SHOWN:]
    result = []
    for beginning, end in probed:
        others = dict.fromkeys(probed[i][1] for i in rng.permutation(len(probed)))
        drawn = [other for other in others if other != end][: ENDS - 1]
        text = f"These are lines of the data set {name}:\n{shown}\nComplete this one:\n{beginning}"
        result.append(Request(({"role": "user", "content": text},), (end, *drawn)))
    return result


def to_be_written(requests: Sequence[Request]) -> list[Request]:
    """Return the requests of a probe without the ends: the model writes one."""
    return [replace(request, continuations=None, max_tokens=MAX_TOKENS) for request in requests]


def score(requests: Sequence[Request], completions: Sequence[Completion]) -> Score:
    """Score which end is the likeliest.

    Args:
        completions: of one probe's requests.
    """
    log_probs = [np.array(completion.logprobs) for completion in completions]
    best = [ends == ends.max() for ends in log_probs]
    return _score([is_best[0] / is_best.sum() for is_best in best], _chance(requests))


def score_verbatim(requests: Sequence[Request], completions: Sequence[Completion]) -> Score:
    """Score which end is written, but for white space: on the first line, alone or after the record's beginning.

    Args:
        requests: of one probe, with the ends.
        completions: of `to_be_written(requests)`.
    """
    true = [_plain(request.continuations[0]) for request in requests if request.continuations]
    written = [_written(request, completion.text) for request, completion in zip(requests, completions, strict=True)]
    hits = [float(end == of_record) for end, of_record in zip(written, true, strict=True)]
    frequency, n = Counter(true), len(true)
    of_others = sum(frequency[end] for end in written) - sum(hits)  # each end swapped with each other record's
    return _score(hits, max(of_others / max(1, n * (n - 1)), 1 / len(frequency)))


def _score(shares: Sequence[float], chance: float) -> Score:
    n, share = len(shares), float(np.mean(shares))
    interval = binomtest(round(share * n), n).proportion_ci(1 - ERROR / (2 * len(PROBES)), method="exact")
    return Score(share, float(interval.low), float(interval.high), chance, n)


def _written(request: Request, text: str) -> str:
    beginning = _plain(request.messages[-1]["content"].splitlines()[-1])
    first_line = _plain(next(iter(text.strip().splitlines()), ""))
    return first_line.removeprefix(beginning).strip()


def _plain(text: str) -> str:
    return " ".join(text.split())


def _chance(requests: Sequence[Request]) -> float:
    """Return how often the true end is the most frequent of those offered; equally frequent ones count in part."""
    offered = [request.continuations or () for request in requests]
    frequency = Counter(ends[0] for ends in offered)
    shares = []
    for ends in offered:
        counts = np.array([frequency[end] for end in ends])
        is_most = counts == counts.max()
        shares.append(is_most[0] / is_most.sum())
    return float(max(np.mean(shares), np.mean([1 / len(ends) for ends in offered])))


def _titles(dataset: RecDataset, rng: np.random.Generator) -> list[Record]:
    words = [title.split() for title in _column(dataset, "title")]
    halves = [(title[: len(title) // 2], title[len(title) // 2 :]) for title in words if len(title) > 1]
    return [(" ".join(beginning) + " ", " ".join(end)) for beginning, end in halves]


def _items(dataset: RecDataset, rng: np.random.Generator) -> list[Record]:
    ids = map(str, dataset.items["item_id"])
    return [(f"{item}|", title) for item, title in zip(ids, _column(dataset, "title"), strict=False) if title]


def _rows(dataset: RecDataset, rng: np.random.Generator) -> list[Record]:
    columns = [name for name in ("rating", "timestamp") if name in dataset.interactions]
    if not columns:
        return []
    drawn = dataset.interactions.iloc[rng.permutation(len(dataset.interactions))[:5000]].dropna(subset=columns)
    item_ids = dataset.items["item_id"].to_numpy()
    return [
        (f"{dataset.user_ids[user]}\t{item_ids[item]}\t", "\t".join(f"{value:.10g}" for value in values))
        for user, item, *values in drawn[["user", "item", *columns]].itertuples(index=False)
    ]


def _next_items(dataset: RecDataset, rng: np.random.Generator) -> list[Record]:
    items, item_ids = dataset.interactions["item"].to_numpy(), dataset.items["item_id"].to_numpy()
    records = []
    for user, (start, end) in enumerate(zip(dataset.offsets[:-1], dataset.offsets[1:], strict=True)):
        if end - start > 1:
            *before, last = map(str, item_ids[items[max(start, end - 1 - HISTORY) : end]])
            records.append((f"{dataset.user_ids[user]}: {' '.join(before)} ", last))
    return records


def _column(dataset: RecDataset, name: str) -> list[str]:
    return [_plain(text) for text in dataset.items[name].fillna("")] if name in dataset.items else []
