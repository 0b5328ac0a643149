"""Settings, requests and a backend that echoes them, shared by the tests of completions."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from llm4rec_cli.config.schema import LLMConfig
from llm4rec_cli.llm import completions
from llm4rec_cli.llm.endpoint import EndpointBackend
from llm4rec_cli.llm.requests import Completion, Request, estimated_prompt_tokens
from llm4rec_cli.llm.store import Store


def llm_config(**changes: Any) -> Any:
    """Return the typed settings of a local endpoint."""
    defaults = {
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
    return OmegaConf.merge(OmegaConf.structured(LLMConfig), defaults | changes)


def local_config(folder: object, **changes: Any) -> LLMConfig:
    """Return the typed settings of a local model in a folder."""
    local = {"backend": "local", "model": str(folder), "base_url": None, "batch_tokens": 256, "max_tokens": 8}
    config: Any = OmegaConf.to_object(llm_config(**local | changes))
    return config


def request(text: str, **more: Any) -> Request:
    return Request(({"role": "user", "content": text},), **({"max_tokens": 10} | more))


def requests(n: int) -> list[Request]:
    return [request(f"question {i}") for i in range(n)]


def completion(text: str, **more: Any) -> Completion:
    """Return a completion of 3 tokens to a prompt of 5."""
    counts = {"prompt_tokens": 5, "answer_tokens": 3, "seconds": 0.5}
    defaults = {"finish": "stop", "model": "tiny", "asked_at": "now"} | counts
    return Completion(**({"text": text} | defaults | more))


def prompt_of(request: Request) -> str:
    return request.messages[-1]["content"]


class EchoBackend:
    """Completes a request with its prompt and a hash of its batch, and records what it was sent.

    Args:
        size: requests in a batch; None = each is independent.
        fails_after: completions before `error` is raised.
    """

    counts_exactly = False
    scores_one_by_one = False

    def __init__(
        self, size: int | None = None, fails_after: int | None = None, error: BaseException | None = None
    ) -> None:
        self.size, self.left, self.error = size, fails_after, error
        self.calls: list[list[str]] = []

    def identity(self, has_choices: bool = False) -> dict[str, Any]:
        return {"backend": "echo", "size": self.size}

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def token_counts(self, request: Request) -> tuple[int, int]:
        return estimated_prompt_tokens(request, self.count_tokens), request.max_tokens

    def groups(self, requests: Sequence[Request]) -> list[list[int]] | None:
        """Cut the list into batches, the last ones first."""
        if self.size is None:
            return None
        indices = list(range(len(requests)))
        return [indices[start : start + self.size] for start in range(0, len(indices), self.size)][::-1]

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[int, Completion]]:
        self.calls.append([])
        batch = requests if self.size is None else list(requests)
        batch_hash = "" if self.size is None else hashlib.sha256(repr(batch).encode()).hexdigest()
        for index, request in enumerate(batch):
            self.calls[-1].append(prompt_of(request))
            if self.left == 0 and self.error is not None:
                raise self.error
            self.left = None if self.left is None else self.left - 1
            yield index, completion(f"to {prompt_of(request)} {batch_hash}")

    @property
    def sent(self) -> list[str]:
        return [prompt for call in self.calls for prompt in call]


def complete_in_process(url: str, path: Path, n: int) -> None:
    """Send n requests to an endpoint; run in a process of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for its background processes
    config = llm_config(base_url=url)
    with Store(path) as store:
        completions.complete(requests(n), EndpointBackend(config, 0), config, store, "querying", completions.Usage())
