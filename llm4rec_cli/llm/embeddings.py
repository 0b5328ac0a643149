"""Vectors of texts by an endpoint with OpenAI's embeddings API. Each text is paid for once, as the store has its
vector."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.errors import RunError, UsageError
from llm4rec_cli.files import locked
from llm4rec_cli.llm.endpoint import OPENAI, api_key
from llm4rec_cli.llm.requests import Completion, Request
from llm4rec_cli.llm.store import Store, cache_key
from llm4rec_cli.progress import track

log = logging.getLogger(__name__)

KEY_VARIABLE = "OPENAI_API_KEY"
TEXTS_PER_REQUEST = 64
RETRIES, TIMEOUT = 6, 60.0


def embed(texts: Sequence[str], model: str, base_url: str | None, cache: Path) -> NDArray[np.float32]:
    """Return (n, size) the endpoint's vectors of texts, in order. Each is stored on arrival, in `llm/answers.sqlite`.

    Raises:
        UsageError: the endpoint refuses (key, model or a text).
        RunError: it cannot be reached, or its response is no list of vectors.
    """
    address = (base_url or OPENAI).rstrip("/")
    identity = {"backend": "openai", "base_url": address, "model": model, "embeddings": True}
    requests = {text: Request(({"role": "user", "content": text or " "},)) for text in texts}  # empty ones are refused
    keys = {text: cache_key(identity, request) for text, request in requests.items()}
    path = cache / "llm" / "answers.sqlite"
    with Store(path) as store, locked(path.with_name(".embeddings.lock"), path):  # processes of a run ask once
        answers = store.get(keys.values())
        missing = [text for text in requests if keys[text] not in answers]
        if missing:
            log.info("%s: vectors of %d texts by %s, %d are stored", address, len(missing), model, len(answers))
        for start in track(range(0, len(missing), TEXTS_PER_REQUEST), "embedding item texts"):
            batch = missing[start : start + TEXTS_PER_REQUEST]
            inputs = [requests[text].messages[0]["content"] for text in batch]
            for text, answer in zip(batch, _sent(inputs, model, address), strict=True):
                answers[keys[text]] = store.add(keys[text], identity, requests[text], answer, cost=0.0)
    decoded = {text: np.frombuffer(base64.b64decode(answers[key].text), np.float32) for text, key in keys.items()}
    return np.stack([decoded[text] for text in texts])


def _sent(inputs: list[str], model: str, address: str) -> list[Completion]:
    """Return a completion for each text, with its vector as float32 in base 64."""
    import openai

    begun, asked_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    key = api_key(KEY_VARIABLE, address)
    try:
        with openai.OpenAI(api_key=key, base_url=address, max_retries=RETRIES, timeout=TIMEOUT) as client:
            response = client.embeddings.create(model=model, input=inputs, encoding_format="float")
        vectors = [one.embedding for one in sorted(response.data, key=lambda one: one.index)]
        if len(vectors) != len(inputs):
            raise ValueError(f"{len(vectors)} vectors for {len(inputs)} texts")
        stored: dict[str, Any] = {
            "finish": "stop",
            "prompt_tokens": response.usage.prompt_tokens // len(inputs),  # servers report only the sum
            "answer_tokens": 0,
            "seconds": (time.monotonic() - begun) / len(inputs),
            "model": response.model,
            "asked_at": asked_at,
        }
        return [
            Completion(base64.b64encode(np.array(vector, dtype=np.float32).tobytes()).decode(), **stored)
            for vector in vectors
        ]
    except openai.APIStatusError as error:
        reason = f"{address} refuses embeddings of {model}: {error.status_code}"
        if error.status_code >= 500 or error.status_code in (408, 409, 429):
            raise RunError(reason, "run the same command again: vectors so far are stored") from error
        raise UsageError(
            reason, f"check model.encoder.name=endpoint:MODEL, model.encoder.base_url and {KEY_VARIABLE}"
        ) from error
    except (openai.APIConnectionError, ValueError, TypeError, AttributeError) as error:
        raise RunError(
            f"{address}: no vectors of {model} ({type(error).__name__})",
            "run the same command again: vectors so far are stored; check model.encoder.base_url",
        ) from error
