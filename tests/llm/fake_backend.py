"""A backend whose completions a test computes from the request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llm4rec_cli.llm.requests import Completion, Request, estimated_prompt_tokens


class FakeBackend:
    """Completes requests by `reply`, which returns a text or the log-likelihoods of continuations; records them."""

    counts_exactly = False
    scores_one_by_one = False

    def __init__(self, reply: Callable[[Request], Any], name: str = "fake") -> None:
        self.reply, self.name = reply, name
        self.requests: list[Request] = []

    def identity(self, has_choices: bool = False) -> dict[str, Any]:
        return {"backend": self.name}

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def token_counts(self, request: Request) -> tuple[int, int]:
        return estimated_prompt_tokens(request, self.count_tokens), request.max_tokens

    def groups(self, requests: Sequence[Request]) -> list[list[int]] | None:
        return None

    def complete(self, requests: Any) -> Iterator[tuple[int, Completion]]:
        for index, request in enumerate(requests):
            self.requests.append(request)
            reply = self.reply(request)
            logprobs = None if request.continuations is None else tuple(reply)
            lengths = None if logprobs is None else tuple(1 for _ in logprobs)
            text = reply if logprobs is None else ""
            yield index, Completion(text, "stop", 1, 1, 0.0, "fake", "2026-01-01T00:00:00", logprobs, lengths)
