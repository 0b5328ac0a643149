"""What a chat model is asked, and what it answers; free of torch.

A backend offers `ask(requests)`. Answers are kept in a store (`store.py`) under a key that holds all that changes them,
and are asked for once (`ask.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol


class Status(Enum):
    """How an answer could be read."""

    ok = "ok"  # as it was asked for
    repaired = "repaired"  # not so, but what it says is clear
    invalid = "invalid"  # it says nothing that was asked for


Message = dict[str, str]  # role: system, user or assistant; content


@dataclass(frozen=True)
class Request:
    """One conversation that the model shall go on with, or whose continuations it shall judge.

    Attributes:
        messages: oldest first; the last one is the user's.
        continuations: None = an answer is generated; otherwise answers whose log-likelihoods are asked for.
        max_tokens: of a generated answer, at most.
        repeat: tells apart requests of the same words, where a sampled answer is wanted several times.
    """

    messages: tuple[Message, ...]
    continuations: tuple[str, ...] | None = None
    max_tokens: int = 256
    repeat: int = 0


@dataclass(frozen=True)
class Answer:
    """What came back, raw.

    Attributes:
        text: what was generated; empty where likelihoods were asked for.
        logprobs: (n_continuations,) the summed log-likelihood of each continuation's tokens; None where generated.
        lengths: (n_continuations,) how many tokens each continuation has; None where generated.
        finish: why it ended: `stop`, `length`, or what the server says.
        prompt_tokens, answer_tokens: as the backend counts them; of continuations all together.
        seconds: from asking to the whole answer; of a local batch a request's share.
        model: what the backend says it is: the weights' hash, or the server's model and system fingerprint.
        asked_at: UTC, ISO 8601.
        attempts: how often it was sent until it was answered.
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
    """Who answers. It keeps nothing, and is not asked twice for what the store has."""

    def identity(self) -> dict[str, Any]:
        """All that changes an answer besides the request: JSON values; no secret, no path, no time."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, exactly or as an estimate from above."""
        ...

    def groups(self, requests: Sequence[Request]) -> list[list[int]] | None:
        """Which requests are answered together, as a function of the whole list: numbers of requests, each once.

        An answer may depend on its group (padding, arithmetic), so a group of which one answer is missing is asked
        whole. None: each answer depends on its own request alone.
        """
        ...

    def ask(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers in any order, each with the number of its request, as soon as it is whole.

        Args:
            requests: one group; without groups any requests, each of which is taken when it can be sent.

        Raises:
            UsageError: the backend refuses in a way that no repetition mends (key, model or request).
            RunError: it could not be reached, or kept failing; what was answered before has been yielded.
        """
        ...
