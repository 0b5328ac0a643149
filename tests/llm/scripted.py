"""What tests of asking share: settings, requests, and a backend that answers from memory."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from llm4rec_cli.config.schema import LLMConfig
from llm4rec_cli.llm import ask
from llm4rec_cli.llm.endpoint import EndpointBackend
from llm4rec_cli.llm.requests import Answer, Request
from llm4rec_cli.llm.store import Store


def llm_config(**changes: Any) -> Any:
    """Settings of an endpoint on this machine, typed."""
    settled = {
        "backend": "openai",
        "model": "tiny",
        "base_url": "http://127.0.0.1:9/v1",
        "key_variable": "LLM4REC_TEST_KEY",
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 10,
        "context": 512,
        "precision": "fp32",
        "batch_tokens": 1,
        "concurrency": 4,
        "timeout": 30.0,
        "retries": 3,
        "price_prompt": 1.0,
        "price_answer": 2.0,
    }
    return OmegaConf.merge(OmegaConf.structured(LLMConfig), settled | changes)


def request(text: str, **more: Any) -> Request:
    return Request(({"role": "user", "content": text},), **({"max_tokens": 10} | more))


def requests(n: int) -> list[Request]:
    return [request(f"question {i}") for i in range(n)]


def answer(text: str, **more: Any) -> Answer:
    """One of 3 tokens to a prompt of 5."""
    told = {
        "finish": "stop",
        "prompt_tokens": 5,
        "answer_tokens": 3,
        "seconds": 0.5,
        "model": "tiny",
        "asked_at": "now",
    }
    return Answer(**({"text": text} | told | more))


def words(request: Request) -> str:
    return request.messages[-1]["content"]


class Scripted:
    """A backend whose answer tells with whom a request was asked, and which remembers what it was asked.

    Args:
        size: requests a group; None = each is answered apart.
        fails_after: answers, and then raises `error`.
    """

    def __init__(
        self, size: int | None = None, fails_after: int | None = None, error: BaseException | None = None
    ) -> None:
        self.size, self.left, self.error = size, fails_after, error
        self.asked: list[list[str]] = []

    def identity(self) -> dict[str, Any]:
        return {"backend": "scripted", "size": self.size}

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def groups(self, requests: Sequence[Request]) -> list[list[int]] | None:
        """The list in pieces, the last ones first."""
        if self.size is None:
            return None
        numbers = list(range(len(requests)))
        return [numbers[start : start + self.size] for start in range(0, len(numbers), self.size)][::-1]

    def ask(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        self.asked.append([])
        taken = requests if self.size is None else list(requests)
        company = "" if self.size is None else hashlib.sha256(repr(taken).encode()).hexdigest()
        for number, one in enumerate(taken):
            self.asked[-1].append(words(one))
            if self.left == 0 and self.error is not None:
                raise self.error
            self.left = None if self.left is None else self.left - 1
            yield number, answer(f"to {words(one)} {company}")

    @property
    def all_asked(self) -> list[str]:
        return [asked for together in self.asked for asked in together]


def asks(url: str, path: Path, n: int, barrier: Barrier | None = None, results: Queue[list[str]] | None = None) -> None:
    """In a process of its own: asks an endpoint n questions."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in its background
    config = llm_config(base_url=url)
    with Store(path) as store:
        if barrier is not None:
            barrier.wait(120)
        found = ask.answers(requests(n), EndpointBackend(config, 0), config, store, "asking", ask.Usage())
    if results is not None:
        results.put([one.text for one in found])
