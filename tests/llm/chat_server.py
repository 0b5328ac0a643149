"""A chat model behind an endpoint on loopback, which misbehaves as a test tells it to."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.data.misbehaving_server import Answer, Request, body, running

PATH = "/v1/chat/completions"


def completion(text: Any, **more: Any) -> bytes:
    """The body of a good answer."""
    said = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny-2024",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    }
    return json.dumps(said | more).encode()


class Chat:
    """Answers `to QUESTION`.

    Args:
        url: for llm.base_url.

    Attributes:
        moods: what it does to a question, one a time it is asked, before it answers well.
        asked: how often each question came.
        bodies: what was sent, as JSON.
        keys: what stood in the headers as the key.
    """

    def __init__(self) -> None:
        self.url = ""
        self.moods: Callable[[str], Sequence[Answer]] = lambda question: ()
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.at_once, self.most_at_once = 0, 0
        self._lock = threading.Lock()

    def answer(self, request: Request) -> None:
        said = json.loads(request.sent)
        question = said["messages"][-1]["content"]
        with self._lock:
            count = self.asked[question]
            self.asked[question] += 1
            self.bodies.append(said)
            self.keys.add(request.headers.get("Authorization"))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        moods = self.moods(question)
        (moods[count] if count < len(moods) else good(f"to {question}"))(request)
        with self._lock:
            self.at_once -= 1


@contextmanager
def chatting() -> Iterator[Chat]:
    chat = Chat()
    with running() as server:
        chat.url = server.at(PATH, chat.answer).removesuffix("/chat/completions")
        yield chat


def good(text: Any, **more: Any) -> Answer:
    return body(completion(text, **more), etag=None, **{"Content-Type": "application/json"})


def said(content: bytes | str) -> Answer:
    """A 200 with this body."""
    content = content.encode() if isinstance(content, str) else content
    return body(content, etag=None, **{"Content-Type": "application/json"})


def refused(code: int, message: str = "no", told: str | None = None, **headers: str) -> Answer:
    """An error as OpenAI words it."""

    def answer(request: Request) -> None:
        content = json.dumps({"error": {"message": message, "type": "error", "code": told}}).encode()
        request.begin(code, {"Content-Length": len(content), "Content-Type": "application/json"} | headers)
        request.wfile.write(content)

    return answer


def hung_up(request: Request) -> None:
    """The connection closes without a word."""
