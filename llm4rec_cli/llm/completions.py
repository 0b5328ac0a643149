"""Complete a list of requests: from the store where it has the completion, else from the backend, within the budget."""

from __future__ import annotations

import logging
import os
import random
import textwrap
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llm4rec_cli import progress
from llm4rec_cli.config import schema
from llm4rec_cli.config.schema import LLMConfig
from llm4rec_cli.errors import DryRun, RunError, printable
from llm4rec_cli.llm.requests import Backend, Completion, Request, joined
from llm4rec_cli.llm.store import Store, cache_key

log = logging.getLogger(__name__)

DRY_RUN_REQUESTS = 3  # requests that a dry run prints


@dataclass
class Usage:
    """Requests, tokens, seconds and cost of a run. Every call of `complete` adds to it.

    Attributes:
        requests: distinct ones.
        stored: of these, completed from the store.
        sent: requests sent and completed in this run, including a batch that was partly stored.
        resent: how often a request had to be sent again before it succeeded.
        prompt_tokens, cached_tokens, answer_tokens, seconds, cost: of all completions, as recorded when they were made.
            The cost at this run's prices.
        spent_tokens, spent_cost: of what was sent in this run, which the budget limits. A request that was sent again
            counts once: servers do not report what failed attempts cost.
    """

    requests: int = 0
    stored: int = 0
    sent: int = 0
    resent: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    spent_tokens: int = 0
    spent_cost: float = 0.0

    def add(self, completion: Completion, config: LLMConfig) -> None:
        self.resent += completion.attempts - 1
        self.prompt_tokens += completion.prompt_tokens
        self.answer_tokens += completion.answer_tokens
        self.seconds += completion.seconds
        self.cached_tokens += completion.cached_tokens
        self.cost += _cost_of(config, completion)

    def describe(self) -> dict[str, float]:
        """Return what does not depend on the store's content: equal for a resumed and an uninterrupted run, except for
        seconds, and for requests under way when the run was killed."""
        names = ("requests", "resent", "prompt_tokens", "cached_tokens", "answer_tokens", "seconds", "cost")
        return {name: getattr(self, name) for name in names}

    def in_words(self) -> str:
        """Return `550 requests, 692,405 prompt tokens, 38,141 answer tokens, 0.0000 in cost`."""
        tokens = f"{self.prompt_tokens:,} prompt tokens, {self.answer_tokens:,} answer tokens"
        return f"{self.requests:,} requests, {tokens}, {self.cost:.4f} in cost"


def build_backend(config: LLMConfig, cache: Path, device: str, seed: int) -> Backend:
    if config.backend is schema.Backend.openai:
        from llm4rec_cli.llm.endpoint import EndpointBackend

        return EndpointBackend(config, seed)
    from llm4rec_cli.llm.local import LocalBackend

    return LocalBackend(config, cache, device, seed)


def store_path(config: LLMConfig, cache: Path) -> Path:
    return Path(config.store) if config.store else cache / "llm" / "answers.sqlite"


def complete(
    requests: Sequence[Request], backend: Backend, config: LLMConfig, store: Store, description: str, usage: Usage
) -> list[Completion]:
    """Return each request's completion, in order. Each is stored on arrival, so an interruption loses nothing.

    A backend that scores continuations one by one gets one request for each, so stored ones are not paid for again.

    Args:
        requests: all requests of a run: batches are formed over the whole list.
        usage: usage of the run so far; updated.

    Raises:
        DryRun: under `llm.dry_run`, after the requests have been printed.
        RunError: under `llm.replay` the store lacks a completion; the budget is too small; or the backend failed.
        UsageError: the backend refuses.
    """
    parts = [request.one_by_one() if backend.scores_one_by_one else [request] for request in requests]
    completions = iter(
        _complete([part for of_one in parts for part in of_one], backend, config, store, description, usage)
    )
    return [joined([next(completions) for _ in of_one]) for of_one in parts]


def _complete(
    requests: Sequence[Request], backend: Backend, config: LLMConfig, store: Store, description: str, usage: Usage
) -> list[Completion]:
    """Return `complete`'s completions of requests that are sent as they are."""
    keys, batches = cache_keys(requests, backend)
    session = _Session(dict(zip(keys, requests, strict=True)), batches, backend, config, store, usage)
    if config.dry_run:
        session.preview(description)
        raise DryRun("dry run: requests were printed, none was sent")
    if config.replay and session.pending:
        raise RunError(
            f"{description}: {session.n_missing:,} of {len(session.requests):,} answers are not in {store.path}",
            "request them with llm.replay=false and the same llm and prompts, or set llm.store=PATH to another store",
        )
    if session.pending:
        log.info("%s: %d requests, %s", description, len(session.pending_keys), session.projection_in_words())
    usage.requests += len(session.requests)
    usage.stored += len(session.completions)
    began, before = progress.clock(), replace(usage)

    def speed() -> str:
        tokens = (usage.spent_tokens - before.spent_tokens) / max(progress.clock() - began, 1e-9)
        cost = f", cost {usage.spent_cost:.4f}" if usage.spent_cost else ""
        return f"{tokens:,.0f} tokens a second{cost}"

    try:
        for _ in progress.track_iterable(session.run(), len(session.pending_keys), description, speed):
            pass
    finally:
        log.info(
            "%s: %d of %d answers are in the store, %d of them new, %d tokens spent at a cost of %.4f",
            *(description, len(session.completions), len(session.requests)),
            *(usage.sent - before.sent, usage.spent_tokens - before.spent_tokens, usage.spent_cost - before.spent_cost),
        )
        if session.n_replaced and session.n_missing:
            kept = "are kept" if usage.sent == before.sent else "are replaced: go on without llm.ask_again"
            log.warning("%s: the %d old answers %s", description, session.n_replaced, kept)
    for key in session.requests:  # in their order, so that float sums do not depend on the order of arrival
        usage.add(session.completions[key], config)
    return [session.completions[key] for key in keys]


def cache_keys(requests: Sequence[Request], backend: Backend) -> tuple[list[str], list[list[str]] | None]:
    """Return each request's cache key, and the keys of each batch; None where completions are independent.

    A completion that may depend on its batch is keyed by the whole batch: the same list of requests always gets the
    same completions, whatever was requested before.
    """
    identities = {has_choices: backend.identity(has_choices) for has_choices in (False, True)}
    single_keys = [cache_key(identities[request.has_choices], request) for request in requests]
    distinct = dict(zip(single_keys, requests, strict=True))
    groups = backend.groups(list(distinct.values()))
    if groups is None:
        return single_keys, None
    ordered = list(distinct)
    batches = [[ordered[i] for i in group] for group in groups]
    batch_of = {key: batch for batch in batches if len(batch) > 1 for key in batch}
    keys = {
        key: cache_key(identities[request.has_choices], request, batch_of.get(key, ()))
        for key, request in distinct.items()
    }
    return [keys[key] for key in single_keys], [[keys[key] for key in batch] for batch in batches]


class _Session:
    """The state of one call of `complete`.

    Attributes:
        requests: distinct ones, by key.
        completions: in the store so far, by key.
        pending: batches of keys that lack a completion, each whole.
        n_replaced: completions that `llm.ask_again` replaces once the first new one arrives.
    """

    def __init__(
        self,
        requests: dict[str, Request],
        batches: list[list[str]] | None,
        backend: Backend,
        config: LLMConfig,
        store: Store,
        usage: Usage,
    ) -> None:
        self.requests, self.backend = requests, backend
        self.config, self.store, self.usage = config, store, usage
        self.n_replaced = store.replace(requests) if config.ask_again else 0
        self.completions = store.get(requests)
        self.independent = batches is None
        all_batches = batches or [[key] for key in requests]
        pending = [batch for batch in all_batches if any(key not in self.completions for key in batch)]
        # Shuffled by process: several with the same list share the work, as each checks the store before it sends.
        random.Random(os.getpid()).shuffle(pending)
        self.pending = deque(pending)
        self._reserved: dict[str, tuple[int, float]] = {}  # upper estimate of tokens and cost of requests under way

    @property
    def pending_keys(self) -> list[str]:
        return [key for batch in self.pending for key in batch]

    @property
    def n_missing(self) -> int:
        return len(self.requests) - len(self.completions)

    def run(self) -> Iterator[Completion]:
        """Send all that is pending, and store each completion before it is yielded."""
        while self.pending:
            sent: list[str] = []
            due = self._due(sent) if self.independent else list(self._due(sent))
            for index, completion in self.backend.complete(due) if due else ():
                key = sent[index]
                self._reserved.pop(key, None)
                cost = _cost_of(self.config, completion)
                self.usage.sent += 1
                self.usage.spent_tokens += completion.prompt_tokens + completion.answer_tokens
                self.usage.spent_cost += cost
                request = self.requests[key]
                identity = self.backend.identity(request.has_choices)
                self.completions[key] = self.store.add(key, identity, request, completion, cost)
                yield self.completions[key]
            if self.pending and not sent:
                raise self._over_budget()

    def _due(self, sent: list[str]) -> Iterator[Request]:
        """Yield the requests to send next, and append their keys to `sent`: one batch, or as many independent requests
        as the budget allows.

        The store is checked once more for each: another process may have completed it meanwhile.
        """
        while self.pending and (self.independent or not sent):
            batch = self.pending[0]
            if len(stored := self.store.get(batch)) == len(batch):
                self.usage.stored += len(stored.keys() - self.completions)
                self.completions |= stored
            elif self._reserve(batch):
                sent += batch
                yield from (self.requests[key] for key in batch)
            else:
                return
            self.pending.popleft()

    def _reserve(self, batch: Sequence[str]) -> bool:
        """Reserve budget for a batch; False where it does not suffice for the batch and all that is under way."""
        if self.config.budget_tokens is None and self.config.budget_cost is None:
            return True
        estimates = {key: self._estimate([key]) for key in batch}
        tokens, cost = map(sum, zip(*estimates.values(), *self._reserved.values(), strict=True))
        if not self._within_budget(self.usage.spent_tokens + tokens, self.usage.spent_cost + cost):
            return False
        self._reserved |= estimates
        return True

    def _within_budget(self, tokens: int, cost: float) -> bool:
        max_tokens, max_cost = self.config.budget_tokens, self.config.budget_cost
        return (max_tokens is None or tokens <= max_tokens) and (max_cost is None or cost <= max_cost)

    def _over_budget(self) -> RunError:
        usage = self.usage
        next_tokens, next_cost = self._estimate(self.pending[0])
        rest_tokens, rest_cost = self._estimate(self.pending_keys)
        if not self._within_budget(usage.spent_tokens + next_tokens, 0):
            budget, sufficient = f"llm.budget_tokens={self.config.budget_tokens}", f"llm.budget_tokens={rest_tokens}"
            spent, next_request = f"{usage.spent_tokens} tokens are spent", f"take {next_tokens}"
        else:
            budget, sufficient = f"llm.budget_cost={self.config.budget_cost}", f"llm.budget_cost={rest_cost:.4f}"
            spent, next_request = f"{usage.spent_cost:.4f} is spent", f"cost {next_cost:.4f}"
        missing = f"{self.n_missing:,} of {len(self.requests):,} answers are missing"
        return RunError(
            f"{budget}: {spent}, {missing}, and the next may {next_request}",
            f"set {sufficient}, enough for the rest; answers so far are stored and cost nothing again",
        )

    def _estimate(self, keys: Iterable[str]) -> tuple[int, float]:
        """Return upper estimates of the tokens and the cost of requests, by the backend's count."""
        prompt_tokens, answer_tokens = self.projection(keys)
        return prompt_tokens + answer_tokens, _cost(self.config, prompt_tokens, answer_tokens)

    def projection(self, keys: Iterable[str]) -> tuple[int, int]:
        """Return the prompt tokens of requests, exact if the backend counts exactly, and the answer tokens at most."""
        counts = [self.backend.token_counts(self.requests[key]) for key in keys]
        return sum(prompt for prompt, _ in counts), sum(answer for _, answer in counts)

    def projection_in_words(self) -> str:
        """Return `12,034 prompt tokens, at most 2,560 answer tokens, at most 0.0045 in cost` of all that is pending.

        Without the model's tokenizer prompt tokens, and with them the cost, are a high estimate, but no bound.
        """
        prompt_tokens, answer_tokens = self.projection(self.pending_keys)
        is_exact = self.backend.counts_exactly
        parts = [
            f"{'' if is_exact else 'about '}{prompt_tokens:,} prompt tokens",
            f"at most {answer_tokens:,} answer tokens",
        ]
        if cost := _cost(self.config, prompt_tokens, answer_tokens):
            parts.append(f"{'at most' if is_exact else 'about'} {cost:.4f} in cost")
        return ", ".join(parts)

    def preview(self, description: str) -> None:
        """Print the number of requests, their maximum cost, and the first request if nothing was printed before.

        `usage` adds up what is to be sent.
        """
        replaced = f", {self.n_replaced:,} to be replaced" if self.n_replaced else ""
        print(
            f"{description}: {len(self.requests):,} requests, {len(self.completions):,} in {self.store.path}{replaced}"
        )
        print(f"to send: {len(self.pending_keys):,}, {self.projection_in_words()}")
        n_printed = 0 if self.usage.requests else DRY_RUN_REQUESTS
        self.usage.requests += len(self.pending_keys)
        prompt_tokens, answer_tokens = self.projection(self.pending_keys)
        self.usage.prompt_tokens += prompt_tokens
        self.usage.answer_tokens += answer_tokens
        self.usage.cost += _cost(self.config, prompt_tokens, answer_tokens)
        for number, request in enumerate(list(self.requests.values())[:n_printed], start=1):
            options = request.continuations or request.choices
            verb = "score" if request.continuations else f"name {max(1, request.listed)} of"
            kind = f"{verb} {len(options)}, first {options[0]!r}" if options else "generate"
            print(f"--- request {number}: {kind}")
            for message in request.messages:
                print(f"{message['role']}:\n{textwrap.indent(printable(message['content']), '    ')}")


def _cost_of(config: LLMConfig, completion: Completion) -> float:
    """Return the cost of a completion; tokens that the server had cached at their own price, if there is one."""
    price = config.price_prompt if config.price_cached is None else config.price_cached
    full = _cost(config, completion.prompt_tokens - completion.cached_tokens, completion.answer_tokens)
    return full + completion.cached_tokens * price / 1e6


def _cost(config: LLMConfig, prompt_tokens: int, answer_tokens: int) -> float:
    return (prompt_tokens * config.price_prompt + answer_tokens * config.price_answer) / 1e6
