"""The ranking tasks: sequential (the whole catalogue) and direct (sampled candidates)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from llm4rec_cli import processes
from llm4rec_cli.capabilities import Ranker
from llm4rec_cli.config.schema import Candidates, Config, SplitName
from llm4rec_cli.data.candidates import with_candidates
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import RunError
from llm4rec_cli.evaluation.beyond_accuracy import (
    PADDING,
    by_frequency,
    by_group,
    coverage,
    intra_list_diversity,
    novelty,
    title_similarity,
    title_words,
)
from llm4rec_cli.evaluation.bootstrap import bootstrap_intervals, bootstrap_of_sums
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.progress import track
from llm4rec_cli.tasks.base import Evaluation, limited, part_examples
from llm4rec_cli.tasks.topk import top_columns, top_numbers

# So many that memory does not grow with users × items; on a CPU, that a block of scores (16 MB) stays near the cache.
SCORES_AT_ONCE = {"cpu": 1 << 22, "accelerator": 1 << 26}

COMPARED = 2000  # examples at most whose recommended titles are compared, drawn by the dataset's seed
COUNT = "examples"  # beside sums of metrics, of how many they are


@dataclass(frozen=True)
class Ranking:
    """Where each example's target came out.

    Attributes:
        n_better: (n,) how many other items score above the target.
        n_tied: (n,) how many items share its score, itself included; 0 where the model refused to rank it: a miss.
        n_candidates: (n,) how many items could be ranked: what is masked could not, the target always can.
        top_items: (n, k) the item numbers with the highest scores, best first; of equal scores the lower number first;
            PADDING from where on no item is left that could be recommended.
    """

    n_better: IntArray
    n_tied: IntArray
    n_candidates: IntArray
    top_items: IntArray


def examples(split: Split, part: SplitName, config: Config, cache: Path) -> Examples:
    """What the task asks: the part's examples, with candidates if they are sampled, under the dataset's control.

    Raises:
        DataError: the part holds no example.
    """
    task, split = config.task, split.for_ranking()
    found = part_examples(split, part, config)
    if task.candidates != Candidates.full:
        found = with_candidates(found, split, task.candidates, task.negatives, config.dataset.seed, cache)
    return limited(found, config)


def protocol(task: Any) -> str:
    """The protocol's name: `full`, `uniform-100`, …"""
    if task.candidates == Candidates.full:
        return "full"
    return f"{task.candidates.name}-{task.negatives + 1}"


def rank(model: Ranker, asked: Examples, mask_history: bool, top_items: int, batch_size: int) -> Ranking:
    """Ranks every target, at most `batch_size` examples and SCORES_AT_ONCE scores at a time (one example at least).

    Examples of like history length go together, so that models compute next to nothing on padding. Several processes
    rank a share each and know all ranks in the end.

    Args:
        mask_history: items of the history cannot be recommended again (the target always can).

    Raises:
        RunError: the model's scores are not numbers.
    """
    if isinstance(model, torch.nn.Module):
        model.eval()
    asked = replace(asked, mask_history=mask_history)
    first = model.score(asked[:1])
    rows = _rows_at_once(batch_size, first.shape[1], first.device.type)
    flags = first.new_empty(rows, first.shape[1])  # one buffer for all batches: fresh memory costs as much as its use
    share = processes.share(len(asked))
    mine = share.start + np.argsort(asked.history_length[share], kind="stable")
    batches = [mine[start : start + rows] for start in range(0, len(mine), rows)]
    ranked = [(batch, *_rank_batch(model, asked[batch], top_items, flags)) for batch in track(batches, "ranking")]
    parts = [part for share in processes.gathered(ranked) for part in share]
    order, *columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    back = np.argsort(order)
    return Ranking(*(column[back] for column in columns))


def _rows_at_once(batch_size: int, n_scores: int, device: str) -> int:
    """How many rows of `n_scores` go together: a power of two where memory decides, which suits matrix products."""
    allowed = max(1, SCORES_AT_ONCE["cpu" if device == "cpu" else "accelerator"] // n_scores)
    return min(batch_size, 1 << (allowed.bit_length() - 1))


def _rank_batch(
    model: Ranker, asked: Examples, top_items: int, flags: torch.Tensor
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """n_better, n_tied, n_candidates and top_items of one batch, as in `Ranking`.

    A score of -inf refuses to rank an item. A target that is refused is a miss: it ties with nothing, not even itself.

    Args:
        flags: a buffer of at least as many rows as examples, and as wide as their scores.
    """
    scores = model.score(asked)
    n, n_scores = scores.shape
    n_candidates = np.full(n, n_scores)
    if (masked := asked.masked_items()) is not None:
        row, item = masked
        scores[torch.from_numpy(row).to(scores.device), torch.from_numpy(item).to(scores.device)] = -torch.inf
        n_candidates -= np.bincount(np.unique(row * n_scores + item) // n_scores, minlength=n)
    if bool(scores.amax(1).isnan().any()):
        raise RunError("the model's scores are not numbers: training diverged", "lower trainer.learning_rate")
    if asked.candidates is None:
        target = scores.gather(1, torch.from_numpy(asked.target).long().to(scores.device).unsqueeze(1))
        best = top_columns(scores, top_items)
    else:
        target = scores[:, :1]
        best = top_numbers(scores, torch.from_numpy(asked.candidates).long().to(scores.device), top_items)
    # Flags as floats: a sum of booleans, which are converted one by one, takes four times as long. Exact up to 2^24.
    flags = flags[:n]
    n_better = torch.gt(scores, target, out=flags).sum(1).long()
    n_tied = torch.eq(scores, target, out=flags).sum(1).long()
    better, tied, top = n_better.cpu().numpy(), n_tied.cpu().numpy(), best.cpu().numpy()
    refused = (target == -torch.inf).squeeze(1).cpu().numpy()
    better[refused], tied[refused] = n_candidates[refused] - 1, 0
    if asked.candidates is not None or bool((scores.gather(1, best[:, -1:]) == -torch.inf).any()):
        n_ranked = torch.gt(scores, -torch.inf, out=flags).sum(1).long().cpu().numpy()
        top[np.arange(top.shape[1]) >= n_ranked[:, None]] = PADDING
    return better, tied, n_candidates, top


def validation_score(model: Ranker, split: Split, asked: Examples, config: Config) -> float:
    """The task's selection metric on these examples; higher is better."""
    ranking = rank(model, asked, config.task.mask_history, 1, config.trainer.eval_batch_size)
    values = ranking_metrics(ranking.n_better, ranking.n_tied, ranking.n_candidates, list(config.task.cutoffs))
    return float(values[config.task.selection].mean())


def evaluate(model: Ranker, split: Split, asked: Examples, config: Config) -> Evaluation:
    """Ranks the examples and scores the ranks.

    Where items are held out of training, examples whose target is one of them stand apart as well: as `cold/<metric>`
    and `warm/<metric>`, in the breakdown `target_is_cold`, and in `chance`, what a scorer that knows nothing would get.
    """
    task = config.task
    ranking = rank(model, asked, task.mask_history, task.top_items, config.trainer.eval_batch_size)
    values = ranking_metrics(ranking.n_better, ranking.n_tied, ranking.n_candidates, list(task.cutoffs))
    train_count = split.for_ranking().train_counts()[asked.target]
    metrics = {name: float(value.mean()) for name, value in values.items()}
    metrics |= _beyond_accuracy(split, asked, ranking.top_items, config.dataset.seed)
    item_ids = split.dataset.items["item_id"].to_numpy()
    predictions = pd.DataFrame(
        {
            "user_id": split.dataset.user_ids[asked.user],
            "target": item_ids[asked.target],
            "target_train_count": train_count,
            "history_length": asked.history_length,
            "n_better": ranking.n_better,
            "n_tied": ranking.n_tied,
            "n_candidates": ranking.n_candidates,
            "top_items": [item_ids[row[row != PADDING]] for row in ranking.top_items],
        }
    )
    if asked.turn is not None:
        predictions["turn"] = asked.turn
    intervals = _intervals(values, asked.user, config, 0)
    breakdown = {"target_train_count": by_frequency(values, train_count)}
    if split.cold is not None:
        is_cold = split.cold[asked.target]
        predictions["target_is_cold"] = is_cold
        groups = {"cold": is_cold, "warm": ~is_cold}
        anywhere = ranking_metrics(
            np.zeros_like(ranking.n_better), ranking.n_candidates, ranking.n_candidates, list(task.cutoffs)
        )
        breakdown |= {"target_is_cold": by_group(values, groups), "chance": by_group(anywhere, groups)}
        for key, group in enumerate(breakdown["target_is_cold"], start=1):
            own = {f"{group}/{name}": value[groups[group]] for name, value in values.items()}
            metrics |= {name: float(value.mean()) for name, value in own.items()}
            intervals |= _intervals(own, asked.user[groups[group]], config, key)
    return Evaluation(metrics, intervals, breakdown, predictions)


def _beyond_accuracy(split: Split, asked: Examples, top_items: IntArray, seed: int) -> dict[str, float]:
    """Of the recommended items: coverage and novelty; and, where they have titles, how various those are, how close to
    the history, and how close the target's is, which tells whether the closeness is a bias."""
    k = top_items.shape[1]
    found = {f"coverage@{k}": coverage(top_items[top_items != PADDING], split.n_items)}
    columns = {f"novelty@{k}": novelty(top_items, split.for_ranking().train_counts())}
    titles = split.dataset.items["title"].fillna("") if "title" in split.dataset.items else pd.Series(dtype=str)
    if titles.str.contains(r"\w").any():
        some = np.sort(stream(seed, "titles compared").permutation(len(asked))[:COMPARED])
        words = title_words(titles.tolist())
        similar, of_target = title_similarity(top_items[some], asked[some].histories(), asked.target[some], words)
        columns[f"title_diversity@{k}"] = intra_list_diversity(top_items[some], words)
        columns |= {f"title_similarity@{k}": similar, "title_similarity_of_target": of_target}
    return found | {name: float(np.nanmean(values)) for name, values in columns.items() if not np.isnan(values).all()}


def _intervals(
    values: dict[str, NDArray[np.floating[Any]]], user: IntArray, config: Config, key: int
) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals over users, who are asked once each, or, of some splits, several times."""
    rng = stream(config.dataset.seed, "bootstrap", *([key] if key else []))
    n = len(user)
    if len(np.unique(user)) == n:
        return bootstrap_intervals(values, rng, config.task.bootstrap)

    def means(sums: Mapping[str, NDArray[np.floating[Any]]]) -> dict[str, NDArray[np.floating[Any]]]:
        return {name: sums[name] / sums[COUNT] for name in values}

    return bootstrap_of_sums(values | {COUNT: np.ones(n)}, means, user, rng, config.task.bootstrap)
