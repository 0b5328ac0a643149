"""Whether a chat model has memorised a dataset: which end of a record it finds likeliest, and which it writes.

A model that knows no record can still be right: it may prefer a frequent end, such as a rating of 5, or follow the
order of ids, as where a user's next item is often numbered like those before it. The first is chance: the share of a
model that always prefers the frequent end; of written ends, the share that the same answers would have if the ends were
swapped among the records. The second is measured on made-up records, in which each id is replaced by the next in the
order of ids: what follows from frequency and order stays, and what can only be remembered goes. A title's end follows
from its beginning, too, for a model that knows the language or the world; titles have no made-up records.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.config.schema import Backend, PromptLogprobs
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DryRun
from llm4rec_cli.llm import completions
from llm4rec_cli.llm.completions import Usage
from llm4rec_cli.llm.requests import TEXT, Completion, Request
from llm4rec_cli.llm.store import Store
from llm4rec_cli.results.chat import MEMORISATION_COLUMNS, MEMORISATION_NOTES, memorisation_cells
from llm4rec_cli.results.result import MemorisationScore
from llm4rec_cli.results.tables import Content, say
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job

ENDS = 5  # possible ends of a record
SHOWN = 3  # whole records before it
HISTORY = 10  # items of a user's line before the next one
ROWS = 5000  # rating rows to draw from, evenly spaced
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


class Probe(NamedTuple):
    """Requests for records, with the true end first, and for their made-up copies (titles have none)."""

    records: Sequence[Request]
    made_up: Sequence[Request] = ()


class Hits(NamedTuple):
    """Of each record of a probe whether the model has its true end, from 0 to 1; and the share of them by chance."""

    shares: list[float]
    chance: float


def is_memory(score: MemorisationScore) -> bool:
    """Return whether the share is above chance and above the share of made-up records."""
    return score.above_chance and score.p is not None and score.p < ERROR / (2 * len(PROBES))


def with_next_ids(dataset: RecDataset) -> RecDataset:
    """Return a dataset with the raw id of each user and item replaced by the next one, and the last by the first.

    Ids are in natural order: i9 before i10.
    """
    items = dataset.items.assign(item_id=_next_ids(dataset.items["item_id"].to_numpy()))
    return replace(dataset, items=items, user_ids=_next_ids(dataset.user_ids))


def _next_ids(ids: NDArray[np.object_]) -> NDArray[np.object_]:
    in_parts = [[int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(raw_id))] for raw_id in ids]
    order = sorted(range(len(ids)), key=in_parts.__getitem__)
    following = np.empty_like(ids)
    following[order] = ids[np.roll(order, -1)]
    return following


def probes(dataset: RecDataset, n: int, seed: int, as_text: bool = False) -> dict[str, Probe]:
    """Return each of PROBES that the dataset has the columns for, with up to n records; `as_text` for a model that
    continues texts, such as a base model."""
    sources = {"titles": _titles, "items": _items, "rows": _rows, "next_item": _next_items}
    made_up, result = with_next_ids(dataset), {}
    for number, (name, source) in enumerate(sources.items()):
        records = source(dataset)
        if len({end for _, end in records}) < ENDS:
            continue
        drawn = stream(seed, "memorisation", number).permutation(len(records))[: n + SHOWN]
        copies = [records] if name == "titles" else [records, source(made_up)]
        posed = ([copy[i] for i in drawn] for copy in copies)
        result[name] = Probe(*(_requests(dataset.manifest["name"], of_copy, seed, as_text) for of_copy in posed))
    return result


def _requests(name: str, records: Sequence[Record], seed: int, as_text: bool) -> list[Request]:
    """Return a request for each record after the first SHOWN: its own end comes first, then those of others.

    In a text that is continued, an end begins with the space before it, as most tokens with a space have it at their
    beginning.
    """
    whole_lines = "\n".join(beginning + end for beginning, end in records[:SHOWN])
    probed, rng = records[SHOWN:], stream(seed, "memorisation: other ends")
    result = []
    for beginning, end in probed:
        in_random_order = dict.fromkeys(probed[i][1] for i in rng.permutation(len(probed)))
        drawn = [wrong for wrong in in_random_order if wrong != end][: ENDS - 1]
        before = beginning.rstrip(" ") if as_text else beginning
        space, asked = beginning[len(before) :], "" if as_text else "Complete this one:\n"
        text = f"These are lines of the data set {name}:\n{whole_lines}\n{asked}{before}"
        message = {"role": TEXT if as_text else "user", "content": text}
        result.append(Request((message,), tuple(space + each for each in (end, *drawn))))
    return result


def to_be_written(requests: Sequence[Request]) -> list[Request]:
    """Return the requests of a probe without the ends: the model writes one."""
    return [replace(request, continuations=None, max_tokens=MAX_TOKENS) for request in requests]


def likeliest(requests: Sequence[Request], completions: Sequence[Completion]) -> Hits:
    """Return where the true end is the likeliest of those offered."""
    return Hits([_first_is_best(completion.logprobs or ()) for completion in completions], _chance(requests))


def _first_is_best(values: Sequence[float]) -> float:
    """Return 1 if the first value is the highest, 1 / k if it is among k highest ones, else 0."""
    is_best = np.array(values) == max(values)
    return float(is_best[0] / is_best.sum())


def verbatim(requests: Sequence[Request], completions: Sequence[Completion]) -> Hits:
    """Return where the true end is written, but for white space: on the first line, by itself or after the beginning.
    `completions` are of `to_be_written(requests)`."""
    true = [_plain(request.continuations[0]) for request in requests if request.continuations]
    written = [_written(request, completion.text) for request, completion in zip(requests, completions, strict=True)]
    hits = [float(end == of_record) for end, of_record in zip(written, true, strict=True)]
    frequency, n = Counter(true), len(true)
    of_others = sum(frequency[end] for end in written) - sum(hits)  # each end swapped with each other record's
    return Hits(hits, max(of_others / max(1, n * (n - 1)), 1 / len(frequency)))


def score(hits: Hits, of_made_up: Hits | None = None) -> MemorisationScore:
    """Score a probe; `of_made_up` are hits on the made-up copies of the same records, in the same order."""
    from scipy.stats import binomtest

    n, share = len(hits.shares), float(np.mean(hits.shares))
    interval = binomtest(round(share * n), n).proportion_ci(1 - ERROR / (2 * len(PROBES)), method="exact")
    share_made_up = p = None
    if of_made_up is not None:
        gain = np.subtract(hits.shares, of_made_up.shares)
        share_made_up = float(np.mean(of_made_up.shares))
        n_differ = int((gain != 0).sum())
        p = float(binomtest(int((gain > 0).sum()), n_differ, alternative="greater").pvalue) if n_differ else 1.0
    return MemorisationScore(share, float(interval.low), float(interval.high), hits.chance, n, share_made_up, p)


def measure(job: Job, probes: Mapping[str, Probe], usage: Usage) -> dict[str, MemorisationScore]:
    """Return the score of each probe, by likelihood where the chat model has it and by written ends. Raises DryRun
    under `llm.dry_run`, once all probes are shown."""
    backend, chat_model = stages.chat_backend(job, job.config.dataset.seed), Path(job.llm.model).name
    scores = {}
    with Store(completions.store_path(job.llm, job.cache)) as store:

        def complete(requests: Sequence[Request], name: str) -> list[Completion]:
            with suppress(DryRun):
                return completions.complete(requests, backend, job.llm, store, f"{chat_model}, {name}", usage)
            return []

        for probe_name, probe in probes.items():
            for is_written in (False, True) if _has_likelihoods(job) else (True,):
                label = probe_name + VERBATIM * is_written
                copies = zip(probe, (label, f"{label}, made-up"), strict=True)
                answered = [
                    (requests, complete(to_be_written(requests) if is_written else requests, name))
                    for requests, name in copies
                    if requests
                ]
                if not job.llm.dry_run:
                    hits = verbatim if is_written else likeliest
                    scores[label] = score(*(hits(*copy) for copy in answered))
    if job.llm.dry_run:
        say(f"in all, as estimated: {usage.in_words()}")
        raise DryRun("dry run: requests were printed, none was sent")
    return scores


def table(job: Job, dataset: str, scores: Mapping[str, MemorisationScore]) -> Content:
    title = f"{Path(job.llm.model).name} on records of {dataset}: share with the true end"
    likeliest = "the true end is the likeliest of several; " if _has_likelihoods(job) else ""
    probed = [f"{name}: {text}" for name, text in PROBES.items() if name + VERBATIM in scores]
    rows = [memorisation_cells(probe, score) for probe, score in scores.items()]
    notes = [f"{likeliest}verbatim: the true end is written", *probed, *MEMORISATION_NOTES]
    return Content(title, MEMORISATION_COLUMNS, rows, notes)


def _has_likelihoods(job: Job) -> bool:
    return job.llm.backend is Backend.local or job.llm.prompt_logprobs is not PromptLogprobs.none


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
    shares = [_first_is_best([frequency[end] for end in ends]) for ends in offered]
    return float(max(np.mean(shares), np.mean([1 / len(ends) for ends in offered])))


def _titles(dataset: RecDataset) -> list[Record]:
    words = [title.split() for title in _column(dataset, "title")]
    halves = [(title[: len(title) // 2], title[len(title) // 2 :]) for title in words if len(title) > 1]
    return [(" ".join(beginning) + " ", " ".join(end)) for beginning, end in halves]


def _items(dataset: RecDataset) -> list[Record]:
    ids = map(str, dataset.items["item_id"])
    return [(f"{item}|", title) for item, title in zip(ids, _column(dataset, "title"), strict=False) if title]


def _rows(dataset: RecDataset) -> list[Record]:
    columns = [name for name in ("rating", "timestamp") if name in dataset.interactions]
    if not columns:
        return []
    rows = dataset.interactions.dropna(subset=columns)[["user", "item", *columns]]
    rows = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, ROWS, dtype=np.int64))] if len(rows) > ROWS else rows
    item_ids = dataset.items["item_id"].to_numpy()
    return [
        (f"{dataset.user_ids[user]}\t{item_ids[item]}\t", "\t".join(f"{value:.10g}" for value in values))
        for user, item, *values in rows.itertuples(index=False)
    ]


def _next_items(dataset: RecDataset) -> list[Record]:
    items, item_ids = dataset.interactions["item"].to_numpy(), dataset.items["item_id"].to_numpy()
    records = []
    for user, (start, end) in enumerate(zip(dataset.offsets[:-1], dataset.offsets[1:], strict=True)):
        if end - start > 1:
            *before, last = map(str, item_ids[items[max(start, end - 1 - HISTORY) : end]])
            records.append((f"{dataset.user_ids[user]}: {' '.join(before)} ", last))
    return records


def _column(dataset: RecDataset, name: str) -> list[str]:
    return [_plain(text) for text in dataset.items[name].fillna("")] if name in dataset.items else []
