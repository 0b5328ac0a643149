"""Controls of a ranking by a chat model: the same users and candidates, with what it reads changed in one respect.

They say what a metric depends on: the order in which candidates are listed, the wording of the prompt, whose history it
is, the order of that history, and what titles say.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from llm4rec_cli.capabilities import HasVariations, Ranker
from llm4rec_cli.config.schema import Control, Question
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.errors import RunError, UsageError
from llm4rec_cli.evaluation import crossed
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.tasks import base as tasks
from llm4rec_cli.tasks import ranking

if TYPE_CHECKING:
    from llm4rec_cli.data.split import Split
    from llm4rec_cli.runs.spec import RunSpec

log = logging.getLogger(__name__)

FloatArray = NDArray[np.floating[Any]]
TENTHS = 10  # parts of a list of candidates


def measure(spec: RunSpec, split: Split, model: Any, examples: Examples) -> dict[str, Any] | None:
    """Return the `controls` entry of metrics.json; None for a task or a model without them, under `dataset.control`, or
    where `model.controls` is 0, a replay lacks their answers, or the chat model refuses one of their prompts.

    Args:
        examples: of the task, none of them repeated.
    """
    if (sample := _sample(spec, model, examples)) is None:
        return None
    metric = spec.task.selection

    def values(ranker: Ranker, varied: Examples) -> FloatArray:
        task, batch_size = spec.task, spec.config.trainer.eval_batch_size
        ranks = ranking.rank(ranker, varied, task.mask_history, 1, batch_size, tasks.is_zeroed(task))
        return ranking_metrics(ranks.n_better, ranks.n_tied, ranks.n_candidates, list(spec.task.cutoffs))[metric]

    if (variations := _variations(spec, model, sample)) is None:
        return None
    changed = {name: values(*variation) for name, variation in variations.items()}
    unchanged = values(model, sample)
    rows = {}
    for name, by_user in changed.items():
        low, high = crossed.difference(by_user[:, None], unchanged[:, None]).interval()
        rows[name] = {"value": float(by_user.mean()), "difference": float((by_user - unchanged).mean())}
        rows[name] |= {"low": low, "high": high} if len(sample) > 1 else {}
    return {
        "users": len(sample),
        "metric": metric,
        "value": float(unchanged.mean()),
        "variations": rows,
        "wordings": _spread(unchanged, changed),
        "order": _order(model, sample, variations),
        "popularity": _popularity(model, split, sample),
        "llm": model.controls_usage(),
    }


def preview(spec: RunSpec, model: Any, examples: Examples) -> dict[str, Any] | None:
    """Show the requests of the controls that `measure` would send, under `llm.dry_run`; return what they would use."""
    if (sample := _sample(spec, model, examples)) is None:
        return None
    return None if _variations(spec, model, sample) is None else cast(dict[str, Any], model.controls_usage())


def _variations(spec: RunSpec, model: Any, sample: Examples) -> dict[str, tuple[Any, Examples]] | None:
    """Return the model's variations of its prompts; None if it refuses one of them, or a replay lacks an answer."""
    try:
        return cast(dict[str, tuple[Any, Examples]], model.variations(sample, spec.config.dataset.seed))
    except (RunError, UsageError) as error:
        if isinstance(error, RunError) and not spec.llm.replay:
            raise
        log.warning("no controls: %s", error.problem)  # as where another wording exceeds the context
        return None


def _sample(spec: RunSpec, model: Any, examples: Examples) -> Examples | None:
    """Return the examples of the users whose ranking is repeated; None where there are no controls."""
    n_users = spec.model.control_users(spec.config)
    is_control = spec.config.dataset.control is not Control.none
    if not n_users or is_control or spec.task.question is not Question.rank or not isinstance(model, HasVariations):
        return None
    return tasks.subset(examples, n_users, spec.config.dataset.seed, "controls")


def _spread(unchanged: FloatArray, changed: Mapping[str, FloatArray]) -> float:
    """Return the difference between the best and the worst wording."""
    means = [unchanged.mean(), *(v.mean() for name, v in changed.items() if name.startswith("wording "))]
    return float(max(means) - min(means))


def _order(model: HasVariations, sample: Examples, variations: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how ranks depend on the order in which candidates are listed; None for a model that lists none.

    `share` is that of the order in the variance of a candidate's rank: 1 minus the intraclass correlation ICC(1) of its
    ranks in several orders, within users. It is 0 where the order has no effect, and 1 where nothing else has.
    `mean_rank` is that of the candidates in each tenth of the list, the first one first.
    """
    others = [examples for name, (_, examples) in variations.items() if name.startswith("order ")]
    if not others:
        return None
    orders = [replace(sample, turn=np.zeros(len(sample), dtype=np.int64)), *others]
    ranks = np.stack([_ranks(model.score(examples).numpy()) for examples in orders], axis=-1)  # (n, c, orders)
    places = np.stack([model.places(examples) for examples in orders], axis=-1)
    _, c, k = ranks.shape
    of_candidate = ranks.mean(2, keepdims=True)
    within = float(((ranks - of_candidate) ** 2).sum(2).mean() / (k - 1))
    between = float(k * ((of_candidate - ranks.mean((1, 2), keepdims=True)) ** 2).sum((1, 2)).mean() / (c - 1))
    total = between + (k - 1) * within
    tenth = places * TENTHS // c
    curve = [float(ranks[tenth == part].mean()) for part in range(min(TENTHS, c))] if c >= TENTHS else []
    return {"orders": k, "share": min(1.0, k * within / total) if total else 0.0, "mean_rank": curve}


def _popularity(model: HasVariations, split: Split, sample: Examples) -> float | None:
    """Return the mean over users of Spearman's correlation between a candidate's rank and its rank by training
    popularity; None if all candidates always tie."""
    counts = split.for_ranking().train_counts()
    items = np.arange(split.n_items)[None].repeat(len(sample), 0) if sample.candidates is None else sample.candidates
    pairs = zip(_ranks(model.score(sample).numpy()), _ranks(counts[items].astype(float)), strict=True)
    correlations = [float(np.corrcoef(a, b)[0, 1]) for a, b in pairs if a.std() > 0 and b.std() > 0]
    return float(np.mean(correlations)) if correlations else None


def _ranks(scores: FloatArray) -> FloatArray:
    """Return (n, c) ranks from 1 for the highest score; ties share their mean rank."""
    ranks: FloatArray = rankdata(-scores, axis=1)
    return ranks
