"""A chat model whose answers a test makes up, request by request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llm4rec_cli.llm.requests import Answer, Request


class Speaking:
    """Answers by a function, and remembers what it was asked.

    Args:
        says: of a request, the text; or, of one with continuations, their log-likelihoods.
        name: tells it from another.
    """

    def __init__(self, says: Callable[[Request], Any], name: str = "speaking") -> None:
        self.says, self.name = says, name
        self.asked: list[Request] = []

    def identity(self) -> dict[str, Any]:
        return {"backend": self.name}

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def groups(self, requests: Sequence[Request]) -> list[list[int]] | None:
        return None

    def ask(self, requests: Any) -> Iterator[tuple[int, Answer]]:
        for number, request in enumerate(requests):
            self.asked.append(request)
            said = self.says(request)
            logprobs = None if request.continuations is None else tuple(said)
            lengths = None if logprobs is None else tuple(1 for _ in logprobs)
            text = said if logprobs is None else ""
            yield number, Answer(text, "stop", 1, 1, 0.0, "speaking", "2026-01-01T00:00:00", logprobs, lengths)
