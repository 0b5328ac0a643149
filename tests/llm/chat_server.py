"""A chat model behind an endpoint on loopback, whose failures a test scripts."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.data.misbehaving_server import Answer, Request, body, running

BASE = "/v1"
PATHS = (f"{BASE}/chat/completions", f"{BASE}/completions")


def completion_body(text: Any, **more: Any) -> bytes:
    """Return the body of a valid chat completion."""
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny-2024",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    }
    return json.dumps(body | more).encode()


class ChatServer:
    """Completes a prompt with `to PROMPT`.

    Attributes:
        url: for llm.base_url.
        responses: by prompt, the responses to its first requests; later ones are completed.
        counts: requests by prompt.
        bodies: of the requests, parsed.
        keys: Authorization headers of the requests.
    """

    def __init__(self) -> None:
        self.url = ""
        self.responses: Callable[[str], Sequence[Answer]] = lambda prompt: ()
        self.counts: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.concurrent, self.max_concurrent = 0, 0
        self._lock = threading.Lock()

    def answer(self, request: Request) -> None:
        sent = json.loads(request.sent)
        prompt = sent["messages"][-1]["content"] if "messages" in sent else sent["prompt"]
        with self._lock:
            count = self.counts[prompt]
            self.counts[prompt] += 1
            self.bodies.append(sent)
            self.keys.add(request.headers.get("Authorization"))
            self.concurrent += 1
            self.max_concurrent = max(self.max_concurrent, self.concurrent)
        responses = self.responses(prompt)
        (responses[count] if count < len(responses) else completed(f"to {prompt}"))(request)
        with self._lock:
            self.concurrent -= 1


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    chat = ChatServer()
    with running() as server:
        chat.url, _ = (server.at(path, chat.answer).removesuffix(path) + BASE for path in PATHS)
        yield chat


def completed(text: Any, **more: Any) -> Answer:
    return body(completion_body(text, **more), etag=None, **{"Content-Type": "application/json"})


def ok(content: bytes | str) -> Answer:
    """Respond 200 with this body."""
    content = content.encode() if isinstance(content, str) else content
    return body(content, etag=None, **{"Content-Type": "application/json"})


def api_error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    """Respond with an error in OpenAI's format."""

    def answer(request: Request) -> None:
        content = json.dumps({"error": {"message": message, "type": "error", "code": code}}).encode()
        request.begin(status, {"Content-Length": len(content), "Content-Type": "application/json"} | headers)
        request.wfile.write(content)

    return answer


def hang_up(request: Request) -> None:
    """Close the connection without a response."""
