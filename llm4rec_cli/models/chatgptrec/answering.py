"""Prompting a chat model, and parsing its completions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm4rec_cli import processes
from llm4rec_cli.capabilities import AnswerDetails, Ratings
from llm4rec_cli.config.schema import Written
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.errors import UsageError
from llm4rec_cli.llm import completions
from llm4rec_cli.llm.requests import Backend, Completion, Request, Status
from llm4rec_cli.llm.store import Store, cache_key
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.chatgptrec.config import ChatGPTRecConfig
from llm4rec_cli.models.chatgptrec.matching import MatchKind, TitleMatcher
from llm4rec_cli.models.chatgptrec.parse_rating import STARS, parse_rating
from llm4rec_cli.models.chatgptrec.parse_text import parse_text
from llm4rec_cli.models.chatgptrec.parse_titles import parse_titles
from llm4rec_cli.models.chatgptrec.prompts import RANKING_TASKS, WRITING_TASKS, PromptBuilder, item_titles
from llm4rec_cli.models.chatgptrec.settings import AnswerMethod
from llm4rec_cli.progress import track

PRIOR_BATCH = 256  # titles in a request without a user: a few seconds on a CPU


class PromptedModel:
    """A chat model used as a recommender.

    A generated list ranks its items in its order; an item that is not listed scores -inf, and so counts as a miss. A
    list restricted to the candidates ranks the titles that it names, and the others tie after them. Likelihoods rank
    all items.
    """

    def __init__(self, config: ChatGPTRecConfig, context: Context, backend: Backend, store: Store) -> None:
        self.config, self.split, self.seed, self.task = config, context.split, context.seed, context.task
        self.llm, self.backend, self.store = context.llm, backend, store
        self.prompts = PromptBuilder(config.prompts, self.split, self.seed, backend.count_tokens)
        self.matcher = TitleMatcher(self.prompts.titles, config.threshold)
        self.completions: dict[str, Completion] = {}  # by request
        self.prior: dict[str, dict[str, float]] = {}  # prompt without a user -> continuation -> log-likelihood
        self.usage = completions.Usage()
        self.previewed: set[str] = set()  # requests that a dry run has shown

    def add_items(self, split: Split) -> None:
        """Append items by their titles; few-shot examples keep the catalogue without them."""
        self.prompts.titles = item_titles(split, self.config.prompts.noun)
        self.matcher = TitleMatcher(self.prompts.titles, self.config.threshold)

    def prepare_answers(self, examples: Examples) -> Examples:
        """Complete all requests in one call, so that a completion does not depend on how examples are batched. Return
        the examples, each repeated once per order of its candidates.

        Raises:
            UsageError: there are several processes.
        """
        if processes.world_size() > 1:
            raise UsageError("a chat model runs in one process only", "run llm4rec train … without torchrun")
        examples = self.in_all_orders(examples)
        self.complete(self.task, examples)
        return examples

    def in_all_orders(self, examples: Examples) -> Examples:
        """Return the examples, each repeated once per order of its candidates."""
        shuffles = self.config.prompts.shuffles
        return examples.repeated(shuffles) if shuffles > 1 else examples

    def complete(self, task: str, examples: Examples, under: str = "") -> list[Completion]:
        """Return the completion for each example. Only new requests are sent. `under` names a control in progress bars
        and logs."""
        requests = self.requests(task, examples)
        prior_requests = self._prior_requests(task, examples)
        answered = self.previewed if self.llm.dry_run else self.completions
        new = {key: r for r in requests + prior_requests if (key := _request_key(r)) not in answered}
        if new or self.llm.dry_run:
            self.previewed |= new.keys()
            name = ", ".join(filter(None, [f"querying {Path(self.llm.model).name}", under]))
            results = completions.complete([*new.values()], self.backend, self.llm, self.store, name, self.usage)
            self.completions |= dict(zip(new, results, strict=True))
        for request in prior_requests:
            logprobs = self.completions[_request_key(request)].logprobs
            by_continuation = zip(request.continuations or (), logprobs or (), strict=True)
            self.prior.setdefault(_prompt_key(request), {}).update(by_continuation)
        return [self.completions[_request_key(request)] for request in requests]

    def requests(self, task: str, examples: Examples) -> list[Request]:
        """Return the request for each example, without PMI's requests that all users share."""
        return [self._request(task, examples, i) for i in track(range(len(examples)), "writing prompts")]

    def _request(self, task: str, examples: Examples, i: int, with_user: bool = True) -> Request:
        """Build the request for example i. Explanations and summaries are always generated."""
        if task in WRITING_TASKS:
            possible: tuple[str, ...] = ()
        elif task == "rating":
            possible = tuple(str(star) for star in STARS)
        elif examples.candidates is None:
            possible = tuple(self.prompts.titles)
        else:
            possible = tuple(self.prompts.titles[item] for item in examples.candidates[i])
        if self.config.scores_choices and possible:
            messages = self.prompts.messages(task, examples, i, None, scored=True, with_user=with_user)
            return Request(messages, possible)
        order = None if examples.candidates is None else self.prompts.candidate_order(examples, i).tolist()
        messages = self.prompts.messages(task, examples, i, order, scored=False)
        request = Request(messages, max_tokens=min(self.llm.max_tokens, getattr(self.config.prompts, task).max_tokens))
        if self.config.answer is not AnswerMethod.constrained:
            return request
        listed = self.config.prompts.listed if task in RANKING_TASKS else 0
        return replace(request, choices=tuple(sorted(set(possible))), listed=listed)

    def _prior_requests(self, task: str, examples: Examples) -> list[Request]:
        """Build the requests for what PMI subtracts: likelihoods without a user, computed once for all users.

        A title is always scored in the same slice of the catalogue: no user's scores depend on which other users are
        evaluated. Titles of added items have slices of their own. Where titles are scored one by one, those that no
        user needs are left out.
        """
        if self.config.answer is not AnswerMethod.pmi or task in WRITING_TASKS:
            return []
        catalogue = set(self.prompts.titles[: self.split.n_items])
        added = set(self.prompts.titles) - catalogue
        groups = [sorted(catalogue), sorted(added)] if task in RANKING_TASKS else [[str(star) for star in STARS]]
        size = 1 if self.backend.scores_one_by_one else PRIOR_BATCH
        slices = [tuple(texts[start : start + size]) for texts in groups for start in range(0, len(texts), size)]
        by_prompt: dict[str, Request] = {}
        needed: dict[str, set[str]] = {}
        for i in range(len(examples)):
            request = self._request(task, examples, i, with_user=False)
            by_prompt[_prompt_key(request)] = request
            needed.setdefault(_prompt_key(request), set()).update(request.continuations or ())
        return [
            replace(request, continuations=continuations)
            for prompt, request in by_prompt.items()
            for continuations in slices
            if not needed[prompt].isdisjoint(continuations)
        ]

    @property
    def ranking_task(self) -> str:
        """The task whose prompt ranks items; `sequential` if the run's task is not a ranking."""
        return self.task if self.task in RANKING_TASKS else "sequential"

    def score(self, examples: Examples) -> Tensor:
        n_scores = len(self.prompts.titles) if examples.candidates is None else examples.candidates.shape[1]
        scores = torch.full((len(examples), n_scores), -torch.inf)
        if self.config.scores_choices:
            for i, likelihoods in enumerate(self._likelihoods(self.ranking_task, examples)):
                scores[i] = torch.from_numpy(likelihoods)
            return scores
        for i, completion in enumerate(self.complete(self.ranking_task, examples)):
            items, _ = self._parse_list(completion, examples, i)
            if self.config.answer is AnswerMethod.constrained and len(items):
                scores[i] = self._ranked_with_namesakes(items, examples, i)
                continue
            columns = items if examples.candidates is None else _positions(items, examples.candidates[i])
            scores[i, columns] = -torch.arange(len(items), dtype=torch.float32)
        return scores

    def _ranked_with_namesakes(self, items: IntArray, examples: Examples, i: int) -> Tensor:
        """Return (n_scores,) minus each item's rank in the model's list. Items of one title tie, and so do all that are
        not named."""
        places: dict[str, int] = {}
        for place, item in enumerate(items):  # an endpoint may repeat a title, which then matches another item of it
            places.setdefault(self.prompts.titles[item], place)
        columns = range(len(self.prompts.titles)) if examples.candidates is None else examples.candidates[i]
        return -torch.tensor([places.get(self.prompts.titles[item], len(items)) for item in columns]).float()

    def _parse_list(self, completion: Completion, examples: Examples, i: int) -> tuple[IntArray, dict[str, Any]]:
        """Return the distinct items of a generated list, best first, and its row of `account`."""
        cut = completion.finish == "length"
        titles, status = parse_titles(completion.text, self.config.prompts.listed, cut)
        matches = self.matcher.match(titles, None if examples.candidates is None else examples.candidates[i])
        items = np.array([item for item in matches.items if item >= 0], dtype=np.int64)
        row: dict[str, Any] = {
            "answer": completion.text,
            "status": (status if len(items) else Status.invalid).value,
            "n_listed": len(titles),
            **{f"n_{kind}": matches.kinds.count(kind) for kind in MatchKind},
            "n_ambiguous": int((matches.ties > 1).sum()),
        }
        if completion.logprobs is not None:
            row["log_probability"] = list(completion.logprobs)
        if examples.candidates is not None and len(items):
            order = self.prompts.candidate_order(examples, i)
            row["first_place"] = int(np.flatnonzero(order == items[0])[0]) + 1
        return items, row

    def rate(self, examples: Examples) -> Ratings:
        """Return the parsed rating, or the training mean where it is invalid; or the expectation under likelihoods."""
        if self.config.scores_choices:
            log_likelihoods = np.stack(self._likelihoods("rating", examples)).astype(np.float64)
            weights = np.exp(log_likelihoods - log_likelihoods.max(1, keepdims=True))
            return Ratings((weights / weights.sum(1, keepdims=True)) @ np.array(STARS, dtype=np.float64))
        results = self.complete("rating", examples)
        parsed = np.array([self._parse_rating(completion, examples, i)[0] for i, completion in enumerate(results)])
        return Ratings(np.where(np.isnan(parsed), self.fallback, parsed), parsed)

    def _parse_rating(self, completion: Completion, examples: Examples, i: int) -> tuple[float, Status]:
        return parse_rating(completion.text, self.prompts.titles[int(examples.target[i])])

    def _likelihoods(self, task: str, examples: Examples) -> list[NDArray[np.float32]]:
        """Return for each example (n_continuations,) log-likelihoods; with PMI minus those without the user."""
        scores = [np.array(completion.logprobs, dtype=np.float32) for completion in self.complete(task, examples)]
        if self.config.answer is AnswerMethod.pmi:
            for i, likelihoods in enumerate(scores):
                request = self._request(task, examples, i, with_user=False)
                prior = self.prior[_prompt_key(request)]
                likelihoods -= np.array([prior[text] for text in request.continuations or ()], dtype=np.float32)
        return scores

    @property
    def fallback(self) -> float:
        """The rating in place of an invalid one: the mean of the training part."""
        return float(self.split.dataset.interactions["rating"][self.split.assignment == TRAIN].mean())

    def write(self, examples: Examples, written: Written) -> list[str]:
        task = "explanation" if written is Written.explanation else "review_summary"
        return [parse_text(completion.text)[0] for completion in self.complete(task, examples)]

    def answer_details(self, examples: Examples) -> AnswerDetails | None:
        """Return the raw text of each answer, its status, and for a list counts by kind of match, and the
        log-probability of each title where it was decoded among the candidates.

        Its metrics are shares of all answers (`answers/…`) and of all items listed (`listed/…`).
        """
        if self.config.scores_choices:
            return None
        results = self.complete(self.task, examples)
        if self.task in RANKING_TASKS:
            rows = pd.DataFrame([self._parse_list(completion, examples, i)[1] for i, completion in enumerate(results)])
        else:
            is_rating = self.task == "rating"
            parsed = [
                self._parse_rating(c, examples, i) if is_rating else parse_text(c.text) for i, c in enumerate(results)
            ]
            rows = pd.DataFrame({"answer": [c.text for c in results], "status": [status.value for _, status in parsed]})
        metrics = {f"answers/{status.value}": float((rows["status"] == status.value).mean()) for status in Status}
        if "n_listed" in rows:
            n_listed = max(1, int(rows["n_listed"].sum()))
            counts = [name for name in map(str, rows) if name.startswith("n_") and name != "n_listed"]
            metrics |= {f"listed/{name.removeprefix('n_')}": float(rows[name].sum() / n_listed) for name in counts}
            metrics["listed/mean"] = float(rows["n_listed"].mean())
        if "first_place" in rows:
            metrics["listed/first_place"] = float(rows["first_place"].mean())
        return AnswerDetails(rows, metrics, (rows["status"] != Status.invalid.value).to_numpy())

    def places(self, examples: Examples) -> IntArray:
        """Return (n, c) the place, from 0, at which each candidate is listed."""
        assert examples.candidates is not None
        orders = [self.prompts.candidate_order(examples, i) for i in range(len(examples))]
        return np.stack([_positions(row, order) for row, order in zip(examples.candidates, orders, strict=True)])

    def usage_summary(self) -> dict[str, Any]:
        return {"backend": self.llm.backend.name, "model": self.llm.model, **self.usage.describe()}


def _positions(items: IntArray, candidates: IntArray) -> IntArray:
    order = np.argsort(candidates)
    return order[np.searchsorted(candidates, items, sorter=order)]


def _prompt_key(request: Request) -> str:
    return json.dumps(request.messages)


def _request_key(request: Request) -> str:
    """Return a hash: as text, a request that scores a whole catalogue would keep its titles once a user."""
    return cache_key({}, request)
