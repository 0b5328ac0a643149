"""Controls of answers: the same examples, with what the chat model reads changed in one respect.

They say what a metric depends on: the order in which candidates are listed, the wording of the prompt, whose history it
is, the order of that history, and what titles say.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from dataclasses import replace
from itertools import count, islice, product
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from scipy.stats import rankdata

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import Control
from llm4rec_cli.data.controls import controlled_examples
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DryRun, RunError, UsageError
from llm4rec_cli.evaluation import crossed
from llm4rec_cli.llm.completions import Usage
from llm4rec_cli.models.chatgptrec.answering import PromptedModel
from llm4rec_cli.models.chatgptrec.matching import TitleMatcher
from llm4rec_cli.models.chatgptrec.prompt_schema import Prompts, TaskPrompt, template_fields
from llm4rec_cli.models.chatgptrec.prompts import RANKING_TASKS, PromptBuilder

if TYPE_CHECKING:
    from llm4rec_cli.capabilities import MetricValues

log = logging.getLogger(__name__)

FloatArray = NDArray[np.floating[Any]]
WORDINGS = ("default", "short", "adviser")  # prompts that are compared
ORDERS = 3  # of the candidates, which are compared
TENTHS = 10  # parts of a list of candidates
EQUAL = 100  # similarity of titles that are the same


class Variations(NamedTuple):
    """Who answers what under each change, by name. Users, targets and candidates stay."""

    orders: dict[str, tuple[PromptedModel, Examples]]
    wordings: dict[str, tuple[PromptedModel, Examples]]
    contents: dict[str, tuple[PromptedModel, Examples]]

    def by_name(self) -> dict[str, tuple[PromptedModel, Examples]]:
        return self.orders | self.wordings | self.contents


def measure(model: PromptedModel, examples: Examples, seed: int, values: MetricValues) -> dict[str, Any] | None:
    """Measure the controls; see `HasControls.controls`."""
    spent = Usage(spent_tokens=model.usage.spent_tokens, spent_cost=model.usage.spent_cost)
    if (variations := _requested(model, examples, seed, spent)) is None:
        return None
    by_name = variations.by_name()
    varied = {name: values(*variation) for name, variation in by_name.items()}
    unchanged = values(model, examples)
    unchanged_by_user = crossed.means_by_user([unchanged], examples.user)
    rows: dict[str, dict[str, float]] = {}
    for name, value in varied.items():
        low, high = crossed.difference(crossed.means_by_user([value], examples.user), unchanged_by_user).interval()
        rows[name] = {"value": float(value.mean()), "difference": float((value - unchanged).mean())}
        rows[name] |= {"low": low, "high": high} if len(unchanged_by_user) > 1 else {}
        rows[name] |= _invalid(*by_name[name])
    wordings = [unchanged.mean(), *(varied[name].mean() for name in variations.wordings)]
    is_ranking = model.task in RANKING_TASKS
    return {
        "value": float(unchanged.mean()),
        **_invalid(model, examples),
        "variations": rows,
        "wordings": float(max(wordings) - min(wordings)) if variations.wordings else None,
        "order": order(model, examples, [examples for _, examples in variations.orders.values()]),
        "popularity": _popularity(model, examples) if is_ranking else None,
        "llm": spent.describe(),
    }


def usage(model: PromptedModel, examples: Examples, seed: int) -> dict[str, Any] | None:
    """Return what `HasControls.controls_usage` says."""
    spent = Usage(spent_tokens=model.usage.spent_tokens, spent_cost=model.usage.spent_cost)
    return None if _requested(model, examples, seed, spent) is None else spent.describe()


def _requested(model: PromptedModel, examples: Examples, seed: int, spent: Usage) -> Variations | None:
    """Return the variations, whose answers share the model's and are requested, each variation's at once; under
    `llm.dry_run` they are only shown. A variation that changes no request is left out, such as the order where no
    candidates are listed, and so is one that the chat model refuses. None if a replay lacks an answer.

    Args:
        spent: what they use is added to it.
    """
    variations, own = _variations(model, examples, seed, spent), model.requests(model.task, examples)
    for kind in variations:
        for name, (varied, changed) in list(kind.items()):
            if varied.requests(model.task, changed) == own:
                del kind[name]
                continue
            try:
                with suppress(DryRun):
                    varied.complete(model.task, changed, name)
            except UsageError as error:  # as where another wording exceeds the context
                log.warning("no control by %s: %s", name, error.problem)
                del kind[name]
            except RunError as error:
                if not model.llm.replay:
                    raise
                log.warning("no controls: %s", error.problem)
                return None
    return variations


def _variations(model: PromptedModel, examples: Examples, seed: int, spent: Usage) -> Variations:
    """Return answers with ORDERS − 1 further orders of the candidates; the other WORDINGS that show the same facts; the
    history of another user, or the part that is shown in random order (not with few-shot examples, which are parts of
    it); and every title replaced by the noun and random letters, as a number may be read as a rating."""
    same, prompts = _varied(model, spent), model.config.prompts
    orders = {
        f"order {turn + 1}": (same, replace(examples, turn=np.full(len(examples), turn))) for turn in range(1, ORDERS)
    }
    wordings = {}
    for name in WORDINGS:
        if _facts(worded := _worded(model, name), model.task) == _facts(prompts, model.task):
            wordings[f"wording {name}"] = _varied(model, spent, worded), examples
        else:
            log.info("no control by wording %s: the prompt of %s shows other facts", name, model.task)
    contents = {}
    if len(np.unique(examples.user)) > 1:
        contents["another user's history"] = same, controlled_examples(examples, Control.swap_users, seed)
    if not prompts.shots:
        part = model.prompts.with_shown_histories(model.task, examples)
        contents["shuffled history"] = same, controlled_examples(part, Control.shuffle_history, seed)
    contents["neutral titles"] = _varied(model, spent, titles=_neutral_titles(model, seed)), examples
    return Variations(orders, wordings, contents)


def _worded(model: PromptedModel, name: str) -> Prompts:
    """Return the prompts with the task's wording and the system message of another file."""
    other = compose([f"model={model.config.name}", f"prompt/{model.config.name}@model.prompts={name}"])
    prompts, worded = model.config.prompts, cast(Prompts, OmegaConf.to_object(other.config.model.prompts))
    own: TaskPrompt = getattr(prompts, model.task)
    of_task: Any = replace(getattr(worded, model.task), max_tokens=own.max_tokens)
    return replace(prompts, system=worded.system, **{model.task: of_task})


def _facts(prompts: Prompts, task: str) -> list[set[str]]:
    """Return the fields of the data that each part of a task's prompt shows."""
    prompt: TaskPrompt = getattr(prompts, task)
    parts = [prompt.task, prompt.behaviour, prompt.candidates, *([prompt.shots, prompt.shot] if prompts.shots else [])]
    return [template_fields(part) - {"noun", "listed"} for part in parts]


def _neutral_titles(model: PromptedModel, seed: int) -> list[str]:
    """Return for each title the noun and letters that only it has, such as `film QVB`."""
    n = len(model.prompts.titles)
    length = next(length for length in count(1) if len(ascii_uppercase) ** length >= n)
    codes = list(islice(product(ascii_uppercase, repeat=length), n))
    drawn = stream(seed, "neutral titles").permutation(n)
    return [f"{model.config.prompts.noun} {''.join(codes[i])}" for i in drawn]


def _varied(
    model: PromptedModel, spent: Usage, prompts: Prompts | None = None, titles: list[str] | None = None
) -> PromptedModel:
    """Return the model with other prompts or titles. A history is shown as far as it fits with its own titles."""
    other = copy(model)
    other.usage = spent
    other.config = replace(model.config, prompts=prompts or model.config.prompts)
    other.prompts = PromptBuilder(other.config.prompts, model.split, model.seed, model.backend.count_tokens)
    other.prompts.titles = model.prompts.titles if titles is None else titles
    other.prompts.title_tokens = model.prompts.title_tokens
    # Invented titles differ in a letter: one that is only similar to them is another.
    other.matcher = model.matcher if titles is None else TitleMatcher(titles, EQUAL)
    return other


def _invalid(model: PromptedModel, examples: Examples) -> dict[str, float]:
    """Return the share of answers that could not be read, as `invalid`; empty where none is written. An unreadable
    rating is the training mean, whose error may be lower than a readable one's."""
    details = model.answer_details(examples)
    return {} if details is None else {"invalid": float(1 - details.valid.mean())}


def order(model: Any, examples: Examples, reordered: list[Examples]) -> Mapping[str, Any] | None:
    """Return how ranks depend on the order in which candidates are listed; None for a model that lists none.

    `share` is how much of the variance of a candidate's rank comes from the order: 1 minus the intraclass correlation
    ICC(1) of its ranks in several orders, within users. It is 0 where the order has no effect, and 1 where nothing else
    has. `mean_rank` is the mean rank of the candidates in each tenth of the list, in order.

    Args:
        reordered: the same with other orders.
    """
    if not reordered:
        return None
    orders = [replace(examples, turn=np.zeros(len(examples), dtype=np.int64)), *reordered]
    ranks = np.stack([_ranks(model.score(listed).numpy()) for listed in orders], axis=-1)  # (n, c, orders)
    places = np.stack([model.places(listed) for listed in orders], axis=-1)
    _, c, k = ranks.shape
    of_candidate = ranks.mean(2, keepdims=True)
    within = float(((ranks - of_candidate) ** 2).sum(2).mean() / (k - 1))
    between = float(k * ((of_candidate - ranks.mean((1, 2), keepdims=True)) ** 2).sum((1, 2)).mean() / (c - 1))
    total = between + (k - 1) * within
    tenth = places * TENTHS // c
    curve = [float(ranks[tenth == part].mean()) for part in range(min(TENTHS, c))] if c >= TENTHS else []
    return {"orders": k, "share": min(1.0, k * within / total) if total else 0.0, "mean_rank": curve}


def _popularity(model: PromptedModel, examples: Examples) -> float | None:
    """Return the mean over users of Spearman's correlation between a candidate's rank and its rank by training
    popularity; None if all candidates always tie."""
    counts, candidates = model.split.for_ranking().train_counts(), examples.candidates
    items = np.arange(len(counts))[None].repeat(len(examples), 0) if candidates is None else candidates
    pairs = zip(_ranks(model.score(examples).numpy()), _ranks(counts[items].astype(float)), strict=True)
    correlations = [float(np.corrcoef(a, b)[0, 1]) for a, b in pairs if a.std() > 0 and b.std() > 0]
    return float(np.mean(correlations)) if correlations else None


def _ranks(scores: FloatArray) -> FloatArray:
    """Return (n, c) ranks from 1 for the highest score. Ties share their mean rank."""
    return rankdata(-scores, axis=1)
