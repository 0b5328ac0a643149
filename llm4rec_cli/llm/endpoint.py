"""Endpoints that speak OpenAI's chat completions, by the `openai` client.

The client speaks HTTP: TLS, proxies, connections kept open, errors by status. Ours is what it lacks: a deadline for a
whole answer (its own is one of silence, which a slow drip never breaks), another try after an answer that is none
(truncated, garbled, without a choice), waits that a server asks for beyond two minutes, and one failure that loses no
other answer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import math
import os
import random
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import urllib3

from llm4rec_cli.config.schema import LLMConfig
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import Llm4RecError, RunError, UsageError, raise_first
from llm4rec_cli.llm.requests import Answer, Request

if TYPE_CHECKING:
    import openai

log = logging.getLogger(__name__)

OPENAI = "https://api.openai.com/v1"
PAUSE = 0.5  # seconds before the second try, doubled before each further one; the half of it is random
LONGEST_PAUSE = 60.0
NO_KEY = "none"  # in the place of one
LONGEST_WAIT = 3600.0  # that a server may ask for: beyond it somebody should look
SECRET = 8  # characters: a shorter key is none, but a word such as EMPTY, which answers may hold

_AGAIN = (408, 409, 429)  # besides 5xx, the refusals that another try may change
_REMEDIES = {
    401: "llm.key_variable names the environment variable that holds the key",
    403: "llm.key_variable names the environment variable that holds the key",
    429: "the account has no quota left; what was answered is kept",
    404: "llm.model=NAME as the server calls it; llm.base_url=URL up to and with /v1",
}
_PIECES = re.compile(r"[A-Za-z]+|[^\w\s]|\s{2,}|\w")


@dataclass(frozen=True)
class _Failure:
    """A try that gave no answer.

    Attributes:
        said: why, without the key.
        refused: the status of a refusal that no other try changes; None of what may pass.
        wait: seconds that the server asks to wait for; None where it does not.
    """

    said: str
    refused: int | None = None
    wait: float | None = None


class EndpointBackend:
    """A chat model behind an endpoint.

    Args:
        seed: sent along, for servers that heed it.

    Raises:
        UsageError: `check` says why.
    """

    def __init__(self, config: LLMConfig, seed: int) -> None:
        raise_first(problems(config))
        self.config, self.seed = config, seed
        self.base_url = (config.base_url or OPENAI).rstrip("/")
        self._jitter = random.Random()  # of its own: when a server fails must not change what others draw

    def identity(self) -> dict[str, Any]:
        return {
            "backend": "openai",
            "base_url": self.base_url,
            "model": self.config.model,
            "temperature": self.config.temperature,
            "top_p": self.config.top_p,
            "seed": self.seed,
        }

    def count_tokens(self, text: str) -> int:
        """An estimate from above, as the server's tokenizer is not here.

        A word of ASCII letters counts one a three letters begun; each digit, each sign and each byte of other letters
        counts one. By SmolLM2's tokenizer, whose vocabulary of 49,000 is a small one, that is 1.1 to 1.6 times what
        lists of titles, reviews and news take; of titles that stand alone, one in twelve takes more.
        """
        return sum(
            math.ceil(len(piece) / 3) if piece.isascii() and piece.isalpha() else len(piece.encode())
            for piece in _PIECES.findall(text)
        )

    def groups(self, requests: Sequence[Request]) -> None:
        """None: an answer depends on its own request alone."""

    def ask(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        """`llm.concurrency` at a time. After one that failed for good no more are sent, and those under way end.

        Raises:
            UsageError: the server refuses one, there is no key, or likelihoods are asked for.
            RunError: one failed `1 + llm.retries` times, or the server asks for a wait beyond reason.
        """
        key = _key(self.config, self.base_url)
        with asyncio.Runner() as runner:
            answers = self._answers(map(_to_generate, requests), key)
            while (answered := runner.run(_next(answers))) is not None:
                yield answered

    async def _answers(self, requests: Iterable[Request], key: str) -> AsyncIterator[tuple[int, Answer]]:
        from openai import AsyncOpenAI

        waiting, under_way = enumerate(requests), set[asyncio.Task[tuple[int, Answer | _Failure]]]()
        failed, stop = None, asyncio.Event()
        async with AsyncOpenAI(api_key=key, base_url=self.base_url, max_retries=0, timeout=None) as client:
            while True:
                while not failed and len(under_way) < self.config.concurrency and (due := next(waiting, None)):
                    under_way.add(asyncio.create_task(self._answered(client, *due, key, stop)))
                if not under_way:
                    break
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for number, outcome in [task.result() for task in done]:
                    if isinstance(outcome, Answer):
                        yield number, outcome
                    else:
                        failed = failed or outcome
                        stop.set()
        if failed:
            raise self._error(failed)

    async def _answered(
        self, client: openai.AsyncOpenAI, number: int, request: Request, key: str, stop: asyncio.Event
    ) -> tuple[int, Answer | _Failure]:
        """One request's answer, or why there is none, in as many tries as it takes until `stop`."""
        begun, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            asked_at = datetime.now(UTC).isoformat(timespec="seconds")
            body = await self._tried(client, request, key)
            seconds = time.monotonic() - begun
            outcome = self._read(body, request, seconds, asked_at, attempt) if isinstance(body, bytes) else body
            if isinstance(outcome, Answer) or outcome.refused or stop.is_set():
                return number, outcome
            if attempt > self.config.retries or (outcome.wait or 0) > LONGEST_WAIT:
                return number, replace(outcome, said=f"{outcome.said} ({attempt} tries)")
            pause = self._pause(attempt, outcome.wait)
            log.log(logging.INFO if pause > 10 else logging.DEBUG, "%s; again in %.0f s", outcome.said, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
                return number, outcome

    async def _tried(self, client: openai.AsyncOpenAI, request: Request, key: str) -> bytes | _Failure:
        """The body of a 200 that came whole and in time, without the key, which a server might echo."""
        import openai

        # Its own newer models refuse the one name, and many other servers do not know the other.
        limit = "max_completion_tokens" if self.base_url == OPENAI else "max_tokens"
        asked = {
            "model": self.config.model,
            "messages": [dict(message) for message in request.messages],
            "temperature": self.config.temperature,
            "top_p": self.config.top_p,
            "seed": int(stream(self.seed, "llm", request.repeat).integers(2**31)),
            limit: request.max_tokens,
        }
        try:
            async with asyncio.timeout(self.config.timeout):
                response = await client.chat.completions.with_raw_response.create(**cast(Any, asked))
            return response.content.replace(key.encode(), b"[key]") if len(key) >= SECRET else response.content
        except TimeoutError:
            return _Failure(f"no whole answer within {self.config.timeout:g} s")
        except openai.APIStatusError as error:
            status, told = error.status_code, error.body
            passes = (status in _AGAIN or status >= 500) and error.code != "insufficient_quota"
            said = _words(told.get("message", told) if isinstance(told, dict) else told or "", key)
            wait = _retry_after(error.response.headers.get("retry-after"))
            return _Failure(f"{status} {said}".strip(), None if passes else status, wait)
        except openai.APIConnectionError as error:
            return _Failure(_words(error.__cause__ or error, key))

    def _read(self, body: bytes, request: Request, seconds: float, asked_at: str, attempts: int) -> Answer | _Failure:
        """The answer in a body; a failure where it is no chat completion."""
        try:
            said = json.loads(body)
            choice, usage = said["choices"][0], said.get("usage") or {}
            text = choice["message"]["content"] or ""  # null: it refused, or what it said was filtered
            if not isinstance(text, str):
                raise TypeError
            asked = sum(self.count_tokens(told["content"]) for told in request.messages)
            return Answer(
                text=text,
                finish=choice.get("finish_reason") or "stop",
                prompt_tokens=int(usage.get("prompt_tokens") or asked),
                answer_tokens=int(usage.get("completion_tokens") or self.count_tokens(text)),
                seconds=seconds,
                model=" ".join(filter(None, (said.get("model"), said.get("system_fingerprint")))),
                asked_at=asked_at,
                attempts=attempts,
            )
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            return _Failure(f"an answer that is no chat completion: {_words(body.decode(errors='replace'))}")

    def _pause(self, attempt: int, wait: float | None) -> float:
        """Seconds until the next try: what the server asks for, and otherwise twice as long each time."""
        if wait is not None:
            return wait + self._jitter.uniform(0, PAUSE)  # never earlier, and not all at one moment
        return min(LONGEST_PAUSE, PAUSE * 2 ** min(attempt - 1, 16)) * self._jitter.uniform(0.5, 1)

    def _error(self, failed: _Failure) -> Llm4RecError:
        if failed.refused:
            remedy = "llm.dry_run=true shows what is asked; llm.model=NAME and llm.max_tokens=N go with it"
            return UsageError(f"{self.base_url} refuses: {failed.said}", _REMEDIES.get(failed.refused, remedy))
        return RunError(
            f"{self.base_url}: {failed.said}" + (f"; it asks to wait {failed.wait:,.0f} s" if failed.wait else ""),
            "give the same command again: what was answered is kept. llm.retries, llm.timeout and llm.concurrency "
            "say what it is borne with",
        )


async def _next(answers: AsyncIterator[tuple[int, Answer]]) -> tuple[int, Answer] | None:
    return await anext(answers, None)


def problems(config: LLMConfig) -> Iterator[UsageError]:
    """Settings that cannot be used, or that would hold a secret; none of them is repeated."""
    if not re.fullmatch(r"[A-Za-z_]\w*", config.key_variable):
        yield UsageError(
            "llm.key_variable is no name of an environment variable: the key itself stands nowhere but in one",
            "export OPENAI_API_KEY=…, and leave llm.key_variable out",
        )
    if config.base_url is None:
        return
    try:
        url = urlsplit(config.base_url)
        plain = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        plain = False
    if not plain or "@" in config.base_url or "?" in config.base_url or "#" in config.base_url:
        yield UsageError(
            "llm.base_url is not an address alone, by http or https, without a user, a password or a query",
            "llm.base_url=http://HOST:PORT/v1; the key comes from the environment",
        )


def _key(config: LLMConfig, base_url: str) -> str:
    """The key, or what a server on this machine, or one that is not reached by https, gets in its place.

    Raises:
        UsageError: there is none, or none that HTTP could carry.
    """
    key = os.environ.get(config.key_variable, "").strip()
    if not key and _on_this_machine(base_url):
        return NO_KEY
    if urlsplit(base_url).scheme == "http" and not _on_this_machine(base_url):
        log.warning("%s is reached unencrypted, so it is sent no key: give its address with https", base_url)
        return NO_KEY
    if not key:
        raise UsageError(
            f"{base_url} wants a key, and the environment variable {config.key_variable} is not set",
            f"export {config.key_variable}=…, or llm.key_variable=NAME for another",
        )
    if not re.fullmatch("[!-~]+", key):
        raise UsageError(f"{config.key_variable} holds no key: it is not one word in ASCII", "copy the key once more")
    return key


def _on_this_machine(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _to_generate(request: Request) -> Request:
    if request.continuations is not None:
        raise UsageError(
            "an endpoint does not say how likely a given answer is",
            "llm=local, or model.answer=generate",
        )
    return request


def _retry_after(stated: str | None) -> float | None:
    """Seconds that a server asks to wait for, by number or by date; None where it does not."""
    try:
        return urllib3.Retry().parse_retry_after(stated) if stated else None
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None


def _words(told: object, key: str = "") -> str:
    """The first of what a server or a library says, in one line and without the key."""
    text = str(told).replace(key, "[key]") if len(key) >= SECRET else str(told)
    return " ".join(text.split())[:300]
