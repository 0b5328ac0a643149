"""Requests to a chat model, its completions, and the interface of a backend; free of torch.

Completions are kept in a store (`store.py`), under a key that covers all that changes them, and are paid for once
(`completions.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any, Protocol


class Status(Enum):
    """How well a completion could be parsed."""

    ok = "ok"  # in the requested format
    repaired = "repaired"  # in another format, but unambiguous
    invalid = "invalid"  # no answer in it


SHORTER_PROMPTS = "with model=chatgptrec, lower prompt.history_tokens or prompt.shots"  # part of a remedy
CHOICE_FIELDS = ("choices", "listed")  # of a Request
TEXT = "text"  # the role of a text that a local model continues, without its chat template
Message = dict[str, str]  # role: system, user or assistant, or TEXT in the only message; content


@dataclass(frozen=True)
class Request:
    """A conversation to be completed, or one with continuations to be scored.

    Attributes:
        messages: oldest first. The last one is the user's.
        continuations: None = generate a completion; otherwise texts whose log-likelihoods are wanted.
        max_tokens: limit of a generated completion.
        repeat: distinguishes requests with the same messages, where several samples are wanted.
        choices: None = free text; otherwise the distinct texts that a generated answer is made of.
        listed: 0 = the answer is one of the choices; otherwise a JSON list of so many different ones, best first, or of
            all where there are fewer.
    """

    messages: tuple[Message, ...]
    continuations: tuple[str, ...] | None = None
    max_tokens: int = 256
    repeat: int = 0
    choices: tuple[str, ...] | None = None
    listed: int = 0

    @property
    def has_choices(self) -> bool:
        return self.choices is not None

    def one_by_one(self) -> list[Request]:
        """Return a request for each continuation; of one without continuations, itself."""
        if self.continuations is None:
            return [self]
        return [replace(self, continuations=(continuation,)) for continuation in self.continuations]

    def content(self) -> dict[str, Any]:
        """Return the fields by name. Those of choices are left out without choices, so that such requests keep the key
        of their stored completions."""
        fields = asdict(self)
        return fields if self.has_choices else {k: v for k, v in fields.items() if k not in CHOICE_FIELDS}


@dataclass(frozen=True)
class Completion:
    """A backend's raw reply to a request. The store's JSON has the same field names.

    Attributes:
        text: what was generated; empty where continuations were scored.
        logprobs: (n_continuations,) the summed log-likelihood of each continuation's tokens; of choices, the
            log-probability of each named one among those that could still be named; None where text was free.
        lengths: (n_continuations,) tokens of each continuation, or of each choice named; None where text was free.
        finish: why it ended: `stop`, `length`, or the server's own word.
        prompt_tokens, answer_tokens: as the backend counts them; the second over all continuations.
        seconds: from the request to the whole reply; in a local batch, the request's share.
        model: as the backend identifies it: the weights' hash, or the server's model and system fingerprint.
        asked_at: when the request was sent, UTC, ISO 8601.
        attempts: how often the request was sent until it succeeded.
        cached_tokens: prompt tokens that the server had read before and bills at another price.
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
    cached_tokens: int = 0


def joined(scored: Sequence[Completion]) -> Completion:
    """Return the completion of a request whose continuations were scored one by one."""
    if len(scored) == 1:
        return scored[0]
    return replace(
        scored[-1],
        prompt_tokens=sum(one.prompt_tokens for one in scored),
        cached_tokens=sum(one.cached_tokens for one in scored),
        answer_tokens=sum(one.answer_tokens for one in scored),
        seconds=sum(one.seconds for one in scored),
        attempts=1 + sum(one.attempts - 1 for one in scored),
        logprobs=tuple(value for one in scored for value in one.logprobs or ()),
        lengths=tuple(value for one in scored for value in one.lengths or ()),
    )


TOKENS_PER_MESSAGE = 8  # upper estimate of what a chat template adds to a message
TOKENS_PER_REQUEST = 32  # and to a conversation: a default system message, the beginning of the reply


def estimated_prompt_tokens(request: Request, count_tokens: Callable[[str], int]) -> int:
    """Return an upper estimate of a conversation's tokens."""
    return TOKENS_PER_REQUEST + sum(
        TOKENS_PER_MESSAGE + count_tokens(message["content"]) for message in request.messages
    )


class Backend(Protocol):
    """A chat model. It caches nothing: it is sent only what the store lacks."""

    @property
    def counts_exactly(self) -> bool:
        """Whether the prompt tokens of `token_counts` are exact."""
        ...

    @property
    def scores_one_by_one(self) -> bool:
        """Whether each continuation is a separate request that repeats the prompt."""
        ...

    def identity(self, has_choices: bool = False) -> dict[str, Any]:
        """Return all that changes a completion besides the request: JSON values; no secret, no path, no time."""
        ...

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, exactly or as an upper estimate."""
        ...

    def token_counts(self, request: Request) -> tuple[int, int]:
        """Return the prompt tokens of a request, exactly or as an upper estimate, and the answer tokens at most."""
        ...

    def groups(self, requests: Sequence[Request]) -> list[list[int]] | None:
        """Partition the indices of requests into batches, as a function of the whole list.

        A completion may depend on its batch (padding, arithmetic), so a batch that lacks one is sent whole.
        None: each completion depends only on its own request.
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
