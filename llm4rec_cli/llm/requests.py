"""Requests to a chat model, its completions, and the interface of a backend; free of torch.

Completions are kept in a store (`store.py`), under a key that covers all that changes them, and are paid for once
(`completions.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol


class Status(Enum):
    """How well a completion could be parsed."""

    ok = "ok"  # in the requested format
    repaired = "repaired"  # in another format, but unambiguous
    invalid = "invalid"  # no answer in it


Message = dict[str, str]  # role: system, user or assistant; content


@dataclass(frozen=True)
class Request:
    """A conversation to be completed, or one with continuations to be scored.

    Attributes:
        messages: oldest first; the last one is the user's.
        continuations: None = generate a completion; otherwise texts whose log-likelihoods are wanted.
        max_tokens: limit of a generated completion.
        repeat: distinguishes requests with the same messages, where several samples are wanted.
    """

    messages: tuple[Message, ...]
    continuations: tuple[str, ...] | None = None
    max_tokens: int = 256
    repeat: int = 0


@dataclass(frozen=True)
class Completion:
    """A backend's raw reply to a request. Field names are those of the store's JSON.

    Attributes:
        text: what was generated; empty where continuations were scored.
        logprobs: (n_continuations,) the summed log-likelihood of each continuation's tokens; None where generated.
        lengths: (n_continuations,) tokens of each continuation; None where generated.
        finish: why it ended: `stop`, `length`, or the server's own word.
        prompt_tokens, answer_tokens: as the backend counts them; the second over all continuations.
        seconds: from the request to the whole reply; in a local batch, the request's share.
        model: as the backend identifies it: the weights' hash, or the server's model and system fingerprint.
        asked_at: when the request was sent, UTC, ISO 8601.
        attempts: how often the request was sent until it succeeded.
    """

    text: str
    finish: str
    prompt_tokens: int
    answer_tokens: int
    seconds: float
    model: str
    asked_at: str
    logprobs: tuple[float, ...] | None = None
    lengths: tuple[int, ...] | None = None
    attempts: int = 1


class Backend(Protocol):
    """A chat model. It caches nothing: it is sent only what the store lacks."""

    def identity(self) -> dict[str, Any]:
        """Return all that changes a completion besides the request: JSON values; no secret, no path, no time."""
        ...

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, exactly or as an upper estimate."""
        ...

    def groups(self, requests: Sequence[Request]) -> list[list[int]] | None:
        """Partition the indices of requests into batches, as a function of the whole list.

        A completion may depend on its batch (padding, arithmetic), so a batch that lacks one is sent whole.
        None: each completion depends on its own request alone.
        """
        ...

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[int, Completion]]:
        """Yield completions with the index of their request, in any order, each as soon as it is whole.

        Args:
            requests: one batch; without batches any requests, each consumed when it can be sent.

        Raises:
            UsageError: the backend refuses for good (key, model or request).
            RunError: it could not be reached, or kept failing; earlier completions have been yielded.
        """
        ...
