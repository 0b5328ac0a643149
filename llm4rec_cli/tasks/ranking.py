"""The ranking tasks: sequential (full ranking of the catalogue) and direct (sampled candidates)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from llm4rec_cli import processes
from llm4rec_cli.arithmetic import at_once, product
from llm4rec_cli.capabilities import BlockRanker, InnerProductRanker, NamesItems, Ranker, SparseRanker
from llm4rec_cli.config.schema import Candidates, Config, SplitName, TaskConfig
from llm4rec_cli.data.candidates import with_candidates
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.slices import SLICE, before_control, target_slices
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.evaluation.beyond_accuracy import (
    PADDING,
    by_group,
    coverage,
    frequency_groups,
    intra_list_diversity,
    novelty,
    title_similarity,
)
from llm4rec_cli.evaluation.bootstrap import bootstrap_intervals
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.evaluation.sparse_ranks import SparseRanks
from llm4rec_cli.ids.nearness import code_slices
from llm4rec_cli.progress import track_iterable
from llm4rec_cli.tasks.base import Evaluation, diverged, eligible_examples, is_zeroed, limit_examples, to_evaluation
from llm4rec_cli.tasks.topk import best_blocks, block_maxima, top_scored

T = TypeVar("T")

# A bound, so that memory does not grow with users × items.
SCORES_AT_ONCE = {"cpu": 1 << 22, "accelerator": 1 << 26}
# Inner products are computed in blocks of this many: on a CPU, 4 MB stay in the cache from one pass to the next.
PRODUCTS_AT_ONCE = {"cpu": 1 << 20, "accelerator": 1 << 26}

MAX_TITLES_COMPARED = 2000  # examples whose recommended titles are compared, drawn by dataset.seed
LEAK_RATIO = 0.8  # of NDCG@5 to HR@5
MIN_HITS = 50
LEAK = (
    "NDCG@5 is {:.2f} of HR@5, where rankers of a whole catalogue have at most 0.8: check whether item numbers or the "
    "order of items give the target away"
)


@dataclass(frozen=True)
class Ranking:
    """The rank of each example's target.

    Attributes:
        top_items: (n, k) the item numbers with the highest scores, best first, ties by the lower number; filled up with
            PADDING where fewer than k items can be recommended.
    """

    n_better: IntArray  # (n,) how many other items have a higher score than the target
    n_tied: IntArray  # (n,) how many items share its score, including itself; 0 if the model did not rank it: a miss
    n_candidates: IntArray  # (n,) how many items could be ranked: those that are not masked
    top_items: IntArray
    top_scores: NDArray[np.float32]  # (n, k) float32, their scores


def examples(split: Split, split_name: SplitName, config: Config, cache: Path) -> Examples:
    """Return the examples of one split, with sampled candidates if any, and `dataset.control` applied. Raises DataError
    if there are none."""
    task, split = config.task, split.for_ranking()
    examples = eligible_examples(split, split_name, config)
    if task.candidates != Candidates.full:
        seed = config.dataset.seed
        examples = with_candidates(examples, split, task.candidates, task.negatives, seed, cache, task.draw)
    return limit_examples(examples, config)


def protocol(task: TaskConfig) -> str:
    """Return `full`, `uniform-100`, `uniform-100-draw1`, …"""
    if task.candidates == Candidates.full:
        return "full"
    of_draw = f"-draw{task.draw}" if task.draw else ""
    return f"{task.candidates.name}-{task.negatives + 1}{of_draw}"


def rank(
    model: Ranker, examples: Examples, mask_history: bool, top_items: int, batch_size: int, zeroed: bool = False
) -> Ranking:
    """Rank every target, at most `batch_size` examples and SCORES_AT_ONCE scores at a time (at least one example); a
    BlockRanker bounds its scores itself. Raises RunError if a score is NaN.

    Examples are batched by history length, so that models compute little on padding. Several processes rank a share
    each, and every process returns all ranks.

    Args:
        mask_history: exclude items of the history from the ranking. A target among them is a miss: sparing it, as some
            evaluations do, would give it away, since no other item of the history can be the answer.
        top_items: how many of the best items to return; 0 = only ranks, which is faster.
        zeroed: give items of the history a score of 0 instead of excluding them.
    """
    to_evaluation(model)
    examples = replace(examples, mask_history=mask_history)
    if _is_sparse(model, examples):
        return _gathered(_sparse_ranking(model, examples, top_items, batch_size, zeroed))
    first = model.score(examples[:1])
    in_blocks = model if isinstance(model, BlockRanker) and examples.candidates is None else None
    rows = batch_size if in_blocks is not None else min(batch_size, _rows(SCORES_AT_ONCE, first))
    batches = _batches(examples, rows)
    by_products = model if isinstance(model, InnerProductRanker) and examples.candidates is None else None
    threads = torch.get_num_threads() if by_products is not None and first.device.type == "cpu" else 1

    def rank_batch(batch: IntArray) -> tuple[IntArray, ...]:
        some = examples[batch]
        if by_products is not None:
            return _rank_blocks(_products(by_products, some, _rows(PRODUCTS_AT_ONCE, first)), top_items, zeroed)
        if in_blocks is not None:
            blocks = ((some[part], scores) for part, scores in in_blocks.score_blocks(some))
            return _rank_blocks(blocks, top_items, zeroed)
        return _rank_blocks([(some, model.score(some))], top_items, zeroed)

    work = track_iterable(_in_threads(rank_batch, batches, threads), len(batches), "ranking")
    return _gathered(zip(batches, work, strict=True))


def _batches(examples: Examples, rows: int) -> list[IntArray]:
    """Return this process's share of the examples in batches, by history length."""
    share = processes.share(len(examples))
    mine = share.start + np.argsort(examples.history_length[share], kind="stable")
    return [mine[start : start + rows] for start in range(0, len(mine), rows)]


def _gathered(ranked: Iterable[tuple[IntArray, tuple[NDArray[Any], ...]]]) -> Ranking:
    """Return the ranking of all processes' batches, each with its columns of `Ranking`."""
    gathered = [(batch, *columns) for shared in processes.gathered(list(ranked)) for batch, columns in shared]
    order, *columns = (np.concatenate(column) for column in zip(*gathered, strict=True))
    in_order = np.argsort(order)
    return Ranking(*(column[in_order] for column in columns))


def _is_sparse(model: Ranker, examples: Examples) -> TypeGuard[SparseRanker]:
    is_of_catalogue = examples.candidates is None
    return is_of_catalogue and isinstance(model, SparseRanker) and model.own_scores(examples[:1]) is not None


def _sparse_ranking(
    model: SparseRanker, examples: Examples, top_items: int, batch_size: int, zeroed: bool
) -> Iterator[tuple[IntArray, tuple[NDArray[Any], ...]]]:
    """Yield each batch of this process with its columns of `Ranking`."""
    shared = SparseRanks(model.shared_scores(), examples.outside)
    batches = _batches(examples, batch_size)
    for batch in track_iterable(batches, len(batches), "ranking"):
        some = examples[batch]
        own = model.own_scores(some)
        assert own is not None
        entries = shared.entries(own, some.masked_items(), zeroed)
        top, scores = shared.best(entries, len(batch), top_items)
        top[scores == -np.inf] = PADDING
        yield batch, (*shared.ranks(entries, some.target), top, scores)


def _rows(bound: Mapping[str, int], scores: torch.Tensor) -> int:
    """Return how many rows as wide as `scores` are within a bound: a power of two (fast products), at least one."""
    allowed = max(1, at_once(bound, scores.device.type) // scores.shape[1])
    return 1 << (allowed.bit_length() - 1)


def _in_threads(work: Callable[[IntArray], T], batches: list[IntArray], threads: int) -> Iterator[T]:
    """Yield `work` of each batch in order, done by this number of threads.

    Each of torch's threads ranks batches of its own: sharing every operation, which takes microseconds, they would
    mostly wait for each other.
    """
    if threads == 1:
        yield from map(work, batches)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
            yield from pool.map(work, batches)
    finally:
        torch.set_num_threads(threads)  # a part of torch has one setting for all threads


@torch.no_grad()
def _products(model: InnerProductRanker, examples: Examples, block: int) -> Iterator[tuple[Examples, torch.Tensor]]:
    """Yield `block` examples at a time with their scores; queries are faster for many, products for few."""
    queries, vectors = model.queries(examples), model.item_vectors()
    scores = queries.new_empty(min(block, len(queries)), len(vectors))  # reused: new memory is slow
    for start in range(0, len(queries), block):
        part = slice(start, start + block)
        yield examples[part], product(queries[part], vectors, scores[: len(queries[part])])


@torch.no_grad()
def _rank_blocks(blocks: Iterable[tuple[Examples, torch.Tensor]], top_items: int, zeroed: bool) -> tuple[IntArray, ...]:
    """Return the columns of `Ranking` for blocks of examples with their (n, n_items) or (n, c) scores, which are
    overwritten."""
    ranked, flags = [], None
    for examples, scores in blocks:
        flags = torch.empty_like(scores) if flags is None else flags
        ranked.append(_rank_block(examples, scores, flags[: len(scores)], top_items, zeroed))
    n_better, n_tied, n_candidates, values, numbers = (torch.cat(column) for column in zip(*ranked, strict=True))
    top, top_scores = top_scored(values, numbers, top_items)
    n_ranked = (values > -torch.inf).sum(1, keepdim=True)
    top[torch.arange(top.shape[1], device=top.device) >= n_ranked] = PADDING
    return tuple(column.cpu().numpy() for column in (n_better, n_tied, n_candidates, top, top_scores))


def _rank_block(
    examples: Examples, scores: torch.Tensor, flags: torch.Tensor, top_items: int, zeroed: bool
) -> tuple[torch.Tensor, ...]:
    """Return n_better, n_tied and n_candidates of one block, and the scores and numbers that hold its best items.

    An item with score -inf is not ranked. An unranked target is a miss: it ties with nothing, not even itself. `flags`
    is a buffer as large as the scores.
    """
    (n, n_scores), device = scores.shape, scores.device
    n_candidates = torch.full((n,), n_scores, device=device)
    outside = examples.outside if examples.candidates is None else None
    if outside is not None:
        scores[:, torch.from_numpy(outside).long().to(device)] = -torch.inf
        n_candidates -= len(outside)
    if (masked := examples.masked_items()) is not None:
        row, item = masked
        if outside is not None:
            inside = ~np.isin(item, outside)
            row, item = row[inside], item[inside]
        scores[torch.from_numpy(row).to(device), torch.from_numpy(item).to(device)] = 0.0 if zeroed else -torch.inf
        pairs = np.sort(row * n_scores + item)  # np.unique would take ten times as long
        different = pairs[np.diff(pairs, prepend=-1) > 0]
        if not zeroed:
            n_candidates -= torch.from_numpy(np.bincount(different // n_scores, minlength=n)).to(device)
    maxima = block_maxima(scores)
    if bool(maxima.isnan().any()):
        raise diverged("scores")
    if examples.candidates is None:
        target = scores.gather(1, torch.from_numpy(examples.target).long().to(device).unsqueeze(1))
        values, numbers = best_blocks(scores, maxima, top_items)
    else:
        target = scores[:, :1]
        values, numbers = scores, torch.from_numpy(examples.candidates).long().to(device)
    # Flags as floats, exact up to 2^24: a sum of booleans takes four times as long, as each is converted.
    n_better = torch.gt(scores, target, out=flags).sum(1).long()
    n_tied = torch.eq(scores, target, out=flags).sum(1).long()
    unranked = target.squeeze(1) == -torch.inf
    return (
        torch.where(unranked, n_candidates - 1, n_better),
        n_tied.masked_fill_(unranked, 0),
        n_candidates,
        values,
        numbers,
    )


def per_example(
    model: Ranker, split: Split, examples: Examples, config: Config
) -> dict[str, NDArray[np.floating[Any]]]:
    """Return (n,) values of each metric of a target's rank."""
    ranking = rank(model, examples, config.task.masked, 0, config.trainer.eval_batch_size, is_zeroed(config.task))
    return ranking_metrics(ranking.n_better, ranking.n_tied, ranking.n_candidates, list(config.task.cutoffs))


def validation_score(model: Ranker, split: Split, examples: Examples, config: Config) -> float:
    """Return the task's selection metric on these examples; higher is better."""
    return float(per_example(model, split, examples, config)[config.task.selection].mean())


def evaluate(model: Ranker, split: Split, examples: Examples, config: Config) -> Evaluation:
    """Rank the examples and score the ranks.

    The breakdown `slice` has metrics of the slices of `data.slices`, and of a model with item ids those of
    `ids.nearness`; predictions have a column for each. If items are
    held out of training, cold targets (held out) and warm targets are also reported separately: as metrics
    `cold/<metric>` and `warm/<metric>`, as breakdown `target_is_cold`, and as breakdown `chance`, a constant scorer.
    """
    task = config.task
    stored = max(task.top_items, task.stored_items or 0)
    zeroed = is_zeroed(task)
    ranking = rank(model, examples, task.masked, stored, config.trainer.eval_batch_size, zeroed)
    values = ranking_metrics(ranking.n_better, ranking.n_tied, ranking.n_candidates, list(task.cutoffs))
    train_count = split.for_ranking().train_counts()[examples.target]
    slices = target_slices(split.for_ranking(), examples)
    if isinstance(model, NamesItems):
        slices |= code_slices(model.item_codes, before_control(split.for_ranking(), examples))
    masked_targets = replace(examples, mask_history=task.masked and not zeroed).masked_targets()
    metrics = {name: float(value.mean()) for name, value in values.items()}
    metrics |= _beyond_accuracy(split, examples, ranking.top_items[:, : task.top_items], config.dataset.seed)
    item_ids = split.dataset.items["item_id"].to_numpy()
    predictions = pd.DataFrame(
        {
            "user_id": split.dataset.user_ids[examples.user],
            "target": item_ids[examples.target],
            "target_train_count": train_count,
            "history_length": examples.history_length,
            "n_better": ranking.n_better,
            "n_tied": ranking.n_tied,
            "n_candidates": ranking.n_candidates,
            "top_items": [item_ids[row[row != PADDING]] for row in ranking.top_items],
            "top_scores": [
                scores[row != PADDING] for row, scores in zip(ranking.top_items, ranking.top_scores, strict=True)
            ],
            **{f"{SLICE}{name}": inside for name, inside in slices.items()},
            **values,
        }
    )
    if examples.turn is not None:
        predictions["turn"] = examples.turn
    intervals = _intervals(values, examples.user, config, 0)
    breakdown = {
        "target_train_count": by_group(values, frequency_groups(train_count)),
        "slice": by_group(values, slices),
    }
    if split.cold is not None:
        is_cold = split.cold[examples.target]
        predictions["target_is_cold"] = is_cold
        groups = {"cold": is_cold, "warm": ~is_cold}
        n, missed = ranking.n_candidates, masked_targets
        chance = ranking_metrics(np.where(missed, n - 1, 0), np.where(missed, 0, n), n, list(task.cutoffs))
        breakdown |= {"target_is_cold": by_group(values, groups), "chance": by_group(chance, groups)}
        for key, group in enumerate(breakdown["target_is_cold"], start=1):
            group_values = {f"{group}/{name}": value[groups[group]] for name, value in values.items()}
            metrics |= {name: float(value.mean()) for name, value in group_values.items()}
            intervals |= _intervals(group_values, examples.user[groups[group]], config, key)
    warnings = []
    if n_masked := int(masked_targets.sum()):
        warnings.append(f"{n_masked:,} of {len(examples):,} targets are in the masked history, and count as misses")
    if examples.candidates is None and leaks(metrics, len(examples)):
        warnings.append(LEAK.format(metrics["ndcg@5"] / metrics["hr@5"]))
    return Evaluation(metrics, intervals, breakdown, predictions, warnings=warnings)


def leaks(metrics: Mapping[str, float], n_examples: int) -> bool:
    """Return whether hits among the first five are first suspiciously often, as where item numbers leak the target.

    NDCG@5 / HR@5 is 0.59 for hits at random places and 1 if all are first. Trained rankers mostly have 0.65 to 0.70,
    the floors popularity and transition_text 0.55 to 0.79 on Beauty and Scientific, `next_id` with leaking item numbers
    1.00. Fewer than MIN_HITS hits say nothing.
    """
    hits, gain = metrics.get("hr@5", 0.0), metrics.get("ndcg@5", 0.0)
    return hits * n_examples >= MIN_HITS and gain > LEAK_RATIO * hits


def _beyond_accuracy(split: Split, examples: Examples, top_items: IntArray, seed: int) -> dict[str, float]:
    """Return coverage and novelty of the recommended items. If items have titles, also the diversity of the recommended
    titles and their similarity to the history. The target's own similarity shows whether that similarity is a bias."""
    k = top_items.shape[1]
    metrics = {f"coverage@{k}": coverage(top_items[top_items != PADDING], split.n_items)}
    columns = {f"novelty@{k}": novelty(top_items, split.for_ranking().train_counts())}
    words = split.dataset.words
    if words is not None and split.dataset.has_titles:
        sample = np.sort(stream(seed, "titles compared").permutation(len(examples))[:MAX_TITLES_COMPARED])
        histories, targets = examples[sample].histories(), examples.target[sample]
        similar, target_similar = title_similarity(top_items[sample], histories, targets, words)
        columns[f"title_diversity@{k}"] = intra_list_diversity(top_items[sample], words)
        columns |= {f"title_similarity@{k}": similar, "title_similarity_of_target": target_similar}
    return metrics | {name: float(np.nanmean(values)) for name, values in columns.items() if not np.isnan(values).all()}


def _intervals(
    values: dict[str, NDArray[np.floating[Any]]], user: IntArray, config: Config, key: int
) -> dict[str, tuple[float, float]]:
    rng = stream(config.dataset.seed, "bootstrap", *([key] if key else []))
    return bootstrap_intervals(values, rng, config.task.bootstrap, user)
