"""A list of requests answered: what the store has from there, the rest by the backend, within the budget."""

from __future__ import annotations

import logging
import os
import random
import textwrap
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm4rec_cli.config import schema
from llm4rec_cli.config.schema import LLMConfig
from llm4rec_cli.errors import DryRun, RunError
from llm4rec_cli.llm.requests import Answer, Backend, Request
from llm4rec_cli.llm.store import Store, key_of
from llm4rec_cli.progress import track_iterable

log = logging.getLogger(__name__)

SHOWN = 3  # requests that a dry run prints
TOKENS_A_MESSAGE = 8  # what a chat template puts around one, at most
TOKENS_A_REQUEST = 32  # what it puts around all: a system message of its own, the answer's beginning


@dataclass
class Usage:
    """What the answers of a run took; every `answers` adds to it.

    Attributes:
        requests: that differ.
        stored: how many of them the store had.
        sent: how many requests were asked and answered now, those of a group that the store had in part included.
        resent: how often a request had to be sent again until it was answered.
        prompt_tokens, answer_tokens, seconds, cost: of all answers, as they were when they were asked for; the cost at
            this run's prices.
        spent_tokens, spent_cost: of what was asked now, which the budget limits. A request that was sent again counts
            once: servers do not say what those tries cost.
    """

    requests: int = 0
    stored: int = 0
    sent: int = 0
    resent: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    spent_tokens: int = 0
    spent_cost: float = 0.0

    def describe(self) -> dict[str, float]:
        """What does not depend on how much the store had: of a resumed run the same as of an undisturbed one, but for
        seconds, and for requests that were on their way when it was killed."""
        names = ("requests", "resent", "prompt_tokens", "answer_tokens", "seconds", "cost")
        return {name: getattr(self, name) for name in names}


def backend(config: LLMConfig, cache: Path, device: str, seed: int) -> Backend:
    """Who answers, by `llm.backend`."""
    if config.backend is schema.Backend.openai:
        from llm4rec_cli.llm.endpoint import EndpointBackend

        return EndpointBackend(config, seed)
    from llm4rec_cli.llm.local import LocalBackend

    return LocalBackend(config, cache, device, seed)


def store_path(config: LLMConfig, cache: Path) -> Path:
    """The file of all answers."""
    return Path(config.store) if config.store else cache / "llm" / "answers.sqlite"


def answers(
    requests: Sequence[Request], backend: Backend, config: LLMConfig, store: Store, doing: str, usage: Usage
) -> list[Answer]:
    """Each request's answer, in order. Each answer is kept as it comes, so whatever ends this loses none.

    Args:
        requests: all that are to be asked: groups are formed over the whole list.
        doing: what the progress is called.
        usage: of the run so far, which is added to.

    Raises:
        DryRun: `llm.dry_run`, when the requests have been shown.
        RunError: `llm.replay`, and the store lacks an answer; the budget is too small; or the backend failed.
        UsageError: the backend refuses.
    """
    keys, groups = keys_of(requests, backend)
    asking = _Asking(dict(zip(keys, requests, strict=True)), groups, backend, config, store, usage)
    if config.dry_run:
        asking.show(doing)
        raise DryRun("a dry run: requests were shown, and none was asked")
    if config.replay and asking.waiting:
        missing = len(asking.requests) - len(asking.found)
        raise RunError(
            f"{doing}: {missing:,} of {len(asking.requests):,} answers are not in {store.path}",
            "llm.replay=false asks for them, with the same llm and prompts; llm.store=PATH names another store",
        )
    usage.requests += len(asking.requests)
    usage.stored += len(asking.found)
    try:
        for _ in track_iterable(asking.answered(), sum(map(len, asking.waiting)), doing):
            pass
    finally:
        log.info(
            "%s: %d of %d answers are in the store, %d requests were sent, %d tokens spent at a cost of %.4f",
            *(doing, len(asking.found), len(asking.requests), usage.sent, usage.spent_tokens, usage.spent_cost),
        )
    for key in asking.requests:  # in their order, so that sums do not depend on which answer came first
        answer = asking.found[key]
        usage.resent += answer.attempts - 1
        usage.prompt_tokens += answer.prompt_tokens
        usage.answer_tokens += answer.answer_tokens
        usage.seconds += answer.seconds
        usage.cost += _cost(config, answer.prompt_tokens, answer.answer_tokens)
    return [asking.found[key] for key in keys]


def keys_of(requests: Sequence[Request], backend: Backend) -> tuple[list[str], list[list[str]] | None]:
    """What each answer is kept under, and which keys are answered together; None where each is answered apart.

    An answer that may depend on its group is kept under all of it: the same list of requests always gives the same
    answers, whatever was asked before.
    """
    identity = backend.identity()
    alone = [key_of(identity, request) for request in requests]
    distinct = dict(zip(alone, requests, strict=True))
    numbers = backend.groups(list(distinct.values()))
    if numbers is None:
        return alone, None
    first = list(distinct)
    named = [[first[i] for i in group] for group in numbers]
    within = {key: group for group in named if len(group) > 1 for key in group}
    final = {key: key_of(identity, request, within.get(key, ())) for key, request in distinct.items()}
    return [final[key] for key in alone], [[final[key] for key in group] for group in named]


class _Asking:
    """One list of requests on its way.

    Args:
        requests: those that differ, by key.
        groups: as of `keys_of`.

    Attributes:
        found: the answers that are in the store by now, by key.
        waiting: groups of keys that are to be asked, each whole.
    """

    def __init__(
        self,
        requests: dict[str, Request],
        groups: list[list[str]] | None,
        backend: Backend,
        config: LLMConfig,
        store: Store,
        usage: Usage,
    ) -> None:
        self.requests, self.identity, self.backend = requests, backend.identity(), backend
        self.config, self.store, self.usage = config, store, usage
        self.found = store.find(requests)
        self.apart = groups is None
        waiting = [
            group for group in groups or [[key] for key in requests] if any(key not in self.found for key in group)
        ]
        # In an order of this process's own: several with the same list share the work, as each looks before it asks.
        random.Random(os.getpid()).shuffle(waiting)
        self.waiting = deque(waiting)
        self._reserved: dict[str, tuple[int, float]] = {}  # tokens and cost at most of what is under way

    def answered(self) -> Iterator[Answer]:
        """Asks for all that waits, and keeps each answer before it is given."""
        while self.waiting:
            sent: list[str] = []
            due = self._due(sent) if self.apart else list(self._due(sent))
            for number, answer in self.backend.ask(due) if due else ():
                key = sent[number]
                self._reserved.pop(key, None)
                cost = _cost(self.config, answer.prompt_tokens, answer.answer_tokens)
                self.usage.sent += 1
                self.usage.spent_tokens += answer.prompt_tokens + answer.answer_tokens
                self.usage.spent_cost += cost
                self.found[key] = self.store.keep(key, self.identity, self.requests[key], answer, cost)
                yield self.found[key]
            if self.waiting and not sent:
                raise self._beyond_budget()

    def _due(self, sent: list[str]) -> Iterator[Request]:
        """What is asked next: one group, or, of requests that are answered apart, as many as the budget allows.

        Each is looked for once more when its turn comes: another process may have asked it meanwhile.

        Args:
            sent: takes their keys.
        """
        while self.waiting and (self.apart or not sent):
            group = self.waiting[0]
            if len(there := self.store.find(group)) == len(group):
                self.usage.stored += len(there.keys() - self.found)
                self.found |= there
            elif self._allowed(group):
                sent += group
                yield from (self.requests[key] for key in group)
            else:
                return
            self.waiting.popleft()

    def _allowed(self, group: Sequence[str]) -> bool:
        """Whether the budget suffices for a group and for what is under way, which is then reserved."""
        if self.config.budget_tokens is None and self.config.budget_cost is None:
            return True
        wanted = {key: self._at_most([key]) for key in group}
        tokens, cost = map(sum, zip(*wanted.values(), *self._reserved.values(), strict=True))
        if not self._within(self.usage.spent_tokens + tokens, self.usage.spent_cost + cost):
            return False
        self._reserved |= wanted
        return True

    def _within(self, tokens: int, cost: float) -> bool:
        of_tokens, of_cost = self.config.budget_tokens, self.config.budget_cost
        return (of_tokens is None or tokens <= of_tokens) and (of_cost is None or cost <= of_cost)

    def _beyond_budget(self) -> RunError:
        spent, cost = self.usage.spent_tokens, self.usage.spent_cost
        next_tokens, next_cost = self._at_most(self.waiting[0])
        all_tokens, all_cost = self._at_most(key for group in self.waiting for key in group)
        missing = f"{len(self.requests) - len(self.found):,} of {len(self.requests):,} answers are missing"
        kept = "what was answered is kept and costs nothing again"
        if not self._within(spent + next_tokens, 0):
            return RunError(
                f"llm.budget_tokens={self.config.budget_tokens}: {spent} are spent, {missing}, and the next may take "
                f"{next_tokens}",
                f"llm.budget_tokens={all_tokens} is enough for the rest; {kept}",
            )
        return RunError(
            f"llm.budget_cost={self.config.budget_cost}: {cost:.4f} is spent, {missing}, and the next may cost "
            f"{next_cost:.4f}",
            f"llm.budget_cost={all_cost:.4f} is enough for the rest; {kept}",
        )

    def _at_most(self, keys: Iterable[str]) -> tuple[int, float]:
        """Tokens and cost that requests take at most, as the backend counts."""
        tokens, cost = 0, 0.0
        for key in keys:
            prompt, answer = _estimate(self.backend, self.requests[key])
            tokens += prompt + answer
            cost += _cost(self.config, prompt, answer)
        return tokens, cost

    def show(self, doing: str) -> None:
        """Prints what would be asked, what it would cost at most, and some of the requests."""
        tokens, cost = self._at_most(key for group in self.waiting for key in group)
        print(f"{doing}: {len(self.requests):,} requests, {len(self.found):,} of them answered in {self.store.path}")
        print(f"to be asked: {sum(map(len, self.waiting)):,}, at most {tokens:,} tokens at a cost of {cost:.4f}")
        for number, request in enumerate(list(self.requests.values())[:SHOWN], start=1):
            judged = request.continuations
            print(f"--- request {number}: " + (f"judges {len(judged)}, first {judged[0]!r}" if judged else "generates"))
            for message in request.messages:
                print(f"{message['role']}:\n{textwrap.indent(_printable(message['content']), '    ')}")


def _printable(text: str) -> str:
    """Without characters that would act on a terminal: titles and reviews are anybody's."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _estimate(backend: Backend, request: Request) -> tuple[int, int]:
    """Tokens at most of a prompt, and of its answer or its continuations."""
    messages = request.messages
    prompt = TOKENS_A_REQUEST + sum(TOKENS_A_MESSAGE + backend.count_tokens(told["content"]) for told in messages)
    if request.continuations is None:
        return prompt, request.max_tokens
    return prompt, sum(map(backend.count_tokens, request.continuations))


def _cost(config: LLMConfig, prompt_tokens: int, answer_tokens: int) -> float:
    return (prompt_tokens * config.price_prompt + answer_tokens * config.price_answer) / 1e6
