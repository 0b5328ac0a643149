"""ChatGPTRec (arXiv 2304.10149): a chat model is asked, and what it says is read with care."""

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
from llm4rec_cli.capabilities import Ratings
from llm4rec_cli.config.schema import Written
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import TRAIN
from llm4rec_cli.errors import UsageError
from llm4rec_cli.llm import ask
from llm4rec_cli.llm.requests import Answer, Backend, Request, Status
from llm4rec_cli.llm.store import Store
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.chatgptrec import answers
from llm4rec_cli.models.chatgptrec.config import AnswerBy, ChatGPTRecConfig
from llm4rec_cli.models.chatgptrec.matching import How, Matcher
from llm4rec_cli.models.chatgptrec.prompts import RANKINGS, WRITTEN, Prompter

STARS = (1, 2, 3, 4, 5)
AT_ONCE = 256  # titles of a request that no user stands behind: a few seconds on a CPU


class ChatGPTRec:
    """A chat model in the place of a recommender.

    What is generated is ranked as it is listed; an item that is not listed is refused (-inf), so it counts as a miss.
    Likelihoods rank all items.

    Args:
        backend: who answers.
        store: where answers are kept.
    """

    def __init__(self, config: ChatGPTRecConfig, context: Context, backend: Backend, store: Store) -> None:
        self.config, self.split, self.seed, self.task = config, context.split, context.seed, context.task
        self.llm, self.backend, self.store = context.llm, backend, store
        self.prompter = Prompter(config.prompts, self.split, self.seed, backend.count_tokens)
        self.matcher = Matcher(self.prompter.titles, config.threshold)
        self.given: dict[str, Answer] = {}
        self.prior: dict[str, dict[str, float]] = {}  # prompt without a user -> continuation -> log-likelihood
        self.usage = ask.Usage()

    # --- what is asked

    def foresee(self, examples: Examples) -> Examples:
        """Asks all questions at once, so that an answer does not depend on how they are batched.

        Returns:
            the examples, each once an order of its candidates.

        Raises:
            UsageError: there are several processes.
        """
        if processes.world_size() > 1:
            raise UsageError("a chat model is asked by one process", "llm4rec train …, without torchrun")
        if self.config.prompts.shuffles > 1:
            examples = examples.repeated(self.config.prompts.shuffles)
        self._answers(self.task, examples)
        return examples

    def _answers(self, task: str, examples: Examples) -> list[Answer]:
        """The answer about each example; what was asked before is not asked again."""
        requests = [self._request(task, examples, i) for i in range(len(examples))]
        prior = self._prior_requests(task, examples)
        new = {key: request for request in requests + prior if (key := _key(request)) not in self.given}
        if new:
            doing = f"asking {Path(self.llm.model).name}"
            found = ask.answers(list(new.values()), self.backend, self.llm, self.store, doing, self.usage)
            self.given |= dict(zip(new, found, strict=True))
        for request in prior:
            judged = zip(request.continuations or (), self.given[_key(request)].logprobs or (), strict=True)
            self.prior.setdefault(_told(request), {}).update(judged)
        return [self.given[_key(request)] for request in requests]

    def _request(self, task: str, examples: Examples, i: int, of_user: bool = True) -> Request:
        """What is asked about example i. A text is always generated."""
        if self.config.answer is AnswerBy.generate or task in WRITTEN:
            order = None if examples.candidates is None else self.prompter.order(examples, i).tolist()
            messages = self.prompter.messages(task, examples, i, order, judged=False)
            max_tokens = min(self.llm.max_tokens, getattr(self.config.prompts, task).max_tokens)
            return Request(messages, max_tokens=max_tokens)
        if task == "rating":
            judged = tuple(str(star) for star in STARS)
        elif examples.candidates is None:
            judged = tuple(self.prompter.titles)
        else:
            judged = tuple(self.prompter.titles[item] for item in examples.candidates[i])
        return Request(self.prompter.messages(task, examples, i, None, judged=True, of_user=of_user), judged)

    def _prior_requests(self, task: str, examples: Examples) -> list[Request]:
        """What PMI takes off is judged without a user, and once for all users.

        Titles are judged with those that stand beside them in the catalogue, whoever else is asked: what a user's
        candidates get depends on no other user.
        """
        if self.config.answer is not AnswerBy.pmi or task in WRITTEN:
            return []
        whole = sorted(set(self.prompter.titles)) if task in RANKINGS else [str(star) for star in STARS]
        groups = [tuple(whole[start : start + AT_ONCE]) for start in range(0, len(whole), AT_ONCE)]
        prompts: dict[str, Request] = {}
        wanted: dict[str, set[str]] = {}
        for i in range(len(examples)):
            request = self._request(task, examples, i, of_user=False)
            prompts[_told(request)] = request
            wanted.setdefault(_told(request), set()).update(request.continuations or ())
        return [
            replace(request, continuations=group)
            for told, request in prompts.items()
            for group in groups
            if not wanted[told].isdisjoint(group)
        ]

    # --- what is made of the answers

    @property
    def ranking(self) -> str:
        """The ranking task that it is asked; `sequential` where none is."""
        return self.task if self.task in RANKINGS else "sequential"

    def score(self, examples: Examples) -> Tensor:
        """By place in the written list, or by likelihood."""
        n_scores = self.split.n_items if examples.candidates is None else examples.candidates.shape[1]
        scores = torch.full((len(examples), n_scores), -torch.inf)
        if self.config.answer is not AnswerBy.generate:
            for i, likely in enumerate(self._likelihoods(self.ranking, examples)):
                scores[i] = torch.from_numpy(likely)
            return scores
        for i, answer in enumerate(self._answers(self.ranking, examples)):
            listed, _ = self._listed(answer, examples, i)
            places = listed if examples.candidates is None else _places(listed, examples.candidates[i])
            scores[i, places] = -torch.arange(len(listed), dtype=torch.float32)
        return scores

    def _listed(self, answer: Answer, examples: Examples, i: int) -> tuple[IntArray, dict[str, Any]]:
        """The items that an answer lists, best first, each once, and what is told of how they were read."""
        cut = answer.finish == "length"
        titles, status = answers.titles(answer.text, self.config.prompts.listed, cut)
        matched = self.matcher.match(titles, None if examples.candidates is None else examples.candidates[i])
        items = np.array([item for item in matched.items if item >= 0], dtype=np.int64)
        told = {
            "answer": answer.text,
            "status": (status if len(items) else Status.invalid).value,
            "n_listed": len(titles),
            **{f"n_{how}": matched.how.count(how) for how in How},
            "n_ambiguous": int((matched.ties > 1).sum()),
        }
        if examples.candidates is not None and len(items):
            told["first_place"] = int(np.flatnonzero(self.prompter.order(examples, i) == items[0])[0]) + 1
        return items, told

    def rate(self, examples: Examples) -> Ratings:
        """What is said, the mean of the training ratings where it is no rating; or the expected value by likelihood."""
        if self.config.answer is not AnswerBy.generate:
            judged = np.stack(self._likelihoods("rating", examples)).astype(np.float64)
            share = np.exp(judged - judged.max(1, keepdims=True))
            return Ratings((share / share.sum(1, keepdims=True)) @ np.array(STARS, dtype=np.float64))
        found = self._answers("rating", examples)
        said = np.array([self._rating(answer, examples, i)[0] for i, answer in enumerate(found)])
        return Ratings(np.where(np.isnan(said), self.fallback, said), said)

    def _rating(self, answer: Answer, examples: Examples, i: int) -> tuple[float, Status]:
        return answers.rating(answer.text, STARS[0], STARS[-1], self.prompter.titles[int(examples.target[i])])

    def _likelihoods(self, task: str, examples: Examples) -> list[NDArray[np.float32]]:
        """(n_judged,) of each example: log-likelihoods of what is judged; by PMI less those without the user."""
        likelihoods = [np.array(answer.logprobs, dtype=np.float32) for answer in self._answers(task, examples)]
        if self.config.answer is AnswerBy.pmi:
            for i, likely in enumerate(likelihoods):
                request = self._request(task, examples, i, of_user=False)
                prior = self.prior[_told(request)]
                likely -= np.array([prior[text] for text in request.continuations or ()], dtype=np.float32)
        return likelihoods

    @property
    def fallback(self) -> float:
        """The rating of an answer that is none: the mean of the training part."""
        return float(self.split.dataset.interactions["rating"][self.split.assignment == TRAIN].mean())

    def write(self, examples: Examples, written: Written) -> list[str]:
        task = "explanation" if written is Written.explanation else "review_summary"
        return [answers.text(answer.text)[0] for answer in self._answers(task, examples)]

    def account(self, examples: Examples) -> pd.DataFrame:
        """(n) rows: each raw answer, its status, and of a list what became of its titles; nothing of likelihoods."""
        if self.config.answer is not AnswerBy.generate:
            return pd.DataFrame(index=range(len(examples)))
        found = self._answers(self.task, examples)
        if self.task in RANKINGS:
            return pd.DataFrame([self._listed(answer, examples, i)[1] for i, answer in enumerate(found)])
        rated = self.task == "rating"
        read = [self._rating(a, examples, i) if rated else answers.text(a.text) for i, a in enumerate(found)]
        return pd.DataFrame({"answer": [a.text for a in found], "status": [status.value for _, status in read]})

    def spent(self) -> dict[str, Any]:
        return {"backend": self.llm.backend.name, "model": self.llm.model, **self.usage.describe()}


def _places(items: IntArray, candidates: IntArray) -> IntArray:
    """(n,) where each item stands among the candidates."""
    order = np.argsort(candidates)
    places: IntArray = order[np.searchsorted(candidates, items, sorter=order)]
    return places


def _told(request: Request) -> str:
    return json.dumps(request.messages)


def _key(request: Request) -> str:
    return json.dumps([request.messages, request.continuations, request.max_tokens, request.repeat])


def build(context: Context) -> ChatGPTRec:
    backend = ask.backend(context.llm, context.cache, context.device, context.seed)
    return ChatGPTRec(context.config, context, backend, Store(ask.store_path(context.llm, context.cache)))
