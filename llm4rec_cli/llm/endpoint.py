"""Endpoints with OpenAI's chat completions API, through the `openai` client.

The client handles HTTP: TLS, proxies, persistent connections, errors by status, retries with growing pauses, and
`Retry-After`. This module adds that responses which are no completions are requested again, and that a failure of one
request loses no other completion.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import logging
import math
import os
import re
import time
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from llm4rec_cli.config import secrets
from llm4rec_cli.config.schema import LLMConfig, PromptLogprobs, Structured
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import Llm4RecError, RunError, UsageError, raise_first
from llm4rec_cli.llm.requests import SHORTER_PROMPTS, Completion, Request, estimated_prompt_tokens

if TYPE_CHECKING:
    import openai

log = logging.getLogger(__name__)

OPENAI = "https://api.openai.com/v1"
PLACEHOLDER_KEY = "none"  # sent where no key is
MIN_SECRET = 8  # characters: a shorter key is a placeholder such as EMPTY, which completions may contain

WRAPPER = "answer"  # the property of a schema whose root has to be an object
WRAPPER_TOKENS = 8  # at most, of `{"answer": [` and `]}`
MOST_SHOWN = 5  # tokens in a message
BROKEN_OFF = ("error", "abort")  # reasons to stop of OpenRouter, and of vLLM and SGLang, that leave no answer
UNFINISHED = ("length", "content_filter")  # reasons to stop that leave an answer without its form
# In place of the refusal of one prompt by Azure's filter: what a filter of answers leaves.
FILTERED = b'{"choices": [{"finish_reason": "content_filter", "message": {"content": ""}}]}'

_RETRIED = (408, 409, 429)  # statuses that may pass, besides 5xx
_REMEDIES = {
    401: "llm.key_variable names the environment variable that holds the key",
    403: "llm.key_variable names the environment variable that holds the key",
    429: "the account has no quota left; answers so far are stored",
    404: "check llm.model=NAME, as the server calls it, and llm.base_url=URL, which ends with /v1",
}
TOO_LONG = f"raise the server's context, or choose another llm.model; {SHORTER_PROMPTS}"
_LISTED_LINE = re.compile(r"^[ \t]*+(?:\d{1,3}[.)]|[-*•])[ \t]++(\S.*)$", re.MULTILINE)
_TOKEN_LIKE = re.compile(r"[A-Za-z]+|[^\w\s]|\s{2,}|\w")


@dataclass(frozen=True)
class _Failure:
    """A request without a completion.

    Attributes:
        reason: without the key.
        status: of a refusal that no retry changes; None of a failure that may pass.
        remedy: of a response that lacks what was requested, which no retry changes either; or of a refusal whose
            code says more than its status.
    """

    reason: str
    status: int | None = None
    remedy: str | None = None

    @property
    def may_pass(self) -> bool:
        return self.status is None and self.remedy is None


class EndpointBackend:
    """A chat model behind an endpoint.

    Raises:
        UsageError: a setting is unusable; see `problems`.
    """

    scores_one_by_one = True

    def __init__(self, config: LLMConfig, seed: int) -> None:
        raise_first(problems(config))
        self.config, self.seed = config, seed
        self.base_url = (config.base_url or OPENAI).rstrip("/")

    def identity(self, has_choices: bool = False) -> dict[str, Any]:
        structured, template_hash = self.config.structured, None
        if self.config.prompt_logprobs is PromptLogprobs.echo:
            template_hash = hashlib.sha256(self._tokenizer.chat_template.encode()).hexdigest()[:16]
        return {
            "backend": "openai",
            "base_url": self.base_url,
            "model": self.config.model,
            "temperature": self.config.temperature,
            "top_p": self.config.top_p,
            "seed": self.seed,
            **({} if structured is Structured.none else {"structured": structured.name}),
            **({"chat_template": template_hash} if template_hash else {}),
        }

    @property
    def counts_exactly(self) -> bool:
        return self.config.tokenizer is not None

    def token_counts(self, request: Request) -> tuple[int, int]:
        """Return a request's prompt tokens, by `llm.tokenizer` or estimated, and its answer tokens at most. Each
        continuation is sent with the prompt, and one token is generated after it."""
        n = len(request.continuations or [""])
        if self._tokenizer is None:
            prompt = estimated_prompt_tokens(request, self.count_tokens)
            own = sum(map(self.count_tokens, request.continuations or ()))
        else:
            chat = [dict(message) for message in request.messages]
            prompt = len(self._tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"])
            own = sum(
                len(self._tokenizer(text, add_special_tokens=False)["input_ids"])
                for text in request.continuations or ()
            )
        return n * prompt + own, self._max_tokens(request) if request.continuations is None else n

    @cached_property
    def _tokenizer(self) -> Any:
        if self.config.tokenizer is None:
            return None
        from llm4rec_cli.text.weights import load_tokenizer

        return load_tokenizer(self.config.tokenizer, "llm.tokenizer")

    def count_tokens(self, text: str) -> int:
        """Return a high estimate, but no bound, as the server's tokenizer is not available.

        A word of n ASCII letters counts ceil(n / 3). Each digit, each sign and each byte of other letters counts one.
        For lists of titles, reviews and news that is 1.1 to 1.6 times the count of SmolLM2's tokenizer (a small
        vocabulary of 49,000). One in twelve single titles takes more.
        """
        return sum(
            math.ceil(len(piece) / 3) if piece.isascii() and piece.isalpha() else len(piece.encode())
            for piece in _TOKEN_LIKE.findall(text)
        )

    def groups(self, requests: Sequence[Request]) -> None:
        """Return None: a completion depends only on its own request."""

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[int, Completion]]:
        """Yield completions; `llm.concurrency` requests are under way at a time.

        After a request failed for good no more are sent, and requests under way are finished.

        Raises:
            UsageError: the server refuses a request, the key is missing, or likelihoods are requested.
            RunError: a request failed `1 + llm.retries` times, or the server asks to wait for over two minutes.
        """
        completions = self._complete(requests)
        return _in_thread(completions) if _has_running_loop() else completions

    def _complete(self, requests: Iterable[Request]) -> Generator[tuple[int, Completion], None, None]:
        key = api_key(self.config.key_variable, self.base_url)
        with asyncio.Runner() as runner:
            scores = self.config.prompt_logprobs is not PromptLogprobs.none
            completions = self._completions(requests if scores else map(_refuse_continuations, requests), key)
            while (numbered := runner.run(_next(completions))) is not None:
                yield numbered

    async def _completions(self, requests: Iterable[Request], key: str) -> AsyncIterator[tuple[int, Completion]]:
        from openai import AsyncOpenAI

        waiting, under_way = enumerate(requests), dict[asyncio.Task[Completion | _Failure], int]()
        failure, config = None, self.config
        async with AsyncOpenAI(
            api_key=key, base_url=self.base_url, max_retries=config.retries, timeout=config.timeout
        ) as client:
            while True:
                while not failure and len(under_way) < self.config.concurrency and (due := next(waiting, None)):
                    index, request = due
                    under_way[asyncio.create_task(self._answer(client, request, key))] = index
                if not under_way:
                    break
                done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    index, outcome = under_way.pop(task), task.result()
                    if isinstance(outcome, Completion):
                        yield index, outcome
                    else:
                        failure = failure or outcome
        if failure:
            raise self._error(failure)

    async def _answer(self, client: openai.AsyncOpenAI, request: Request, key: str) -> Completion | _Failure:
        """Return a request's completion or failure. A response that is no completion is requested again at once."""
        begun, sent = time.monotonic(), 0
        for _ in range(1 + self.config.retries):
            sent_at = datetime.now(UTC).isoformat(timespec="seconds")
            body, retries = await self._send(client, request, key)
            sent += 1 + retries
            if isinstance(body, _Failure):
                return body
            outcome = self._read(body, request, time.monotonic() - begun, sent_at, sent)
            if isinstance(outcome, Completion) or not outcome.may_pass:
                break
        return outcome

    async def _send(self, client: openai.AsyncOpenAI, request: Request, key: str) -> tuple[bytes | _Failure, int]:
        """Return the body of a 200 without the key, which a server might echo, or `FILTERED`; and how often the client
        sent the request again."""
        import openai

        # OpenAI's newer models refuse `max_tokens`; many other servers do not know `max_completion_tokens`.
        is_echo = request.continuations is not None and self.config.prompt_logprobs is PromptLogprobs.echo
        limit = "max_completion_tokens" if self.base_url == OPENAI and not is_echo else "max_tokens"
        parameters = {
            "model": self.config.model,
            "messages": [dict(message) for message in request.messages],
            "temperature": self.config.temperature,
            "top_p": self.config.top_p,
            "seed": int(stream(self.seed, "llm", request.repeat).integers(2**31)),
            limit: self._max_tokens(request),
            **self._structure(request),
        }
        if request.continuations is not None:
            scoring = self._echo if is_echo else _scoring
            parameters |= scoring(parameters.pop("messages"), request.continuations[0]) | {limit: 1}
        resource = client.completions if is_echo else client.chat.completions
        try:
            response = await resource.with_raw_response.create(**cast(Any, parameters))
            body = response.content.replace(key.encode(), b"[key]") if len(key) >= MIN_SECRET else response.content
            return body, response.retries_taken
        except openai.APIStatusError as error:
            if error.code == "content_filter" and request.continuations is None:
                return FILTERED, 0
            status, body = error.status_code, error.body
            may_pass = (status in _RETRIED or status >= 500) and error.code != "insufficient_quota"
            message = _excerpt(body.get("message", body) if isinstance(body, dict) else body or "", key)
            remedy = TOO_LONG if error.code == "context_length_exceeded" else None
            return _Failure(f"{status} {message}".strip(), None if may_pass else status, remedy), 0
        except openai.APITimeoutError:
            return _Failure(f"no response within {self.config.timeout:g} s"), 0
        except openai.APIConnectionError as error:
            return _Failure(_excerpt(error.__cause__ or error, key)), 0

    def _read(self, body: bytes, request: Request, seconds: float, sent_at: str, attempt: int) -> Completion | _Failure:
        try:
            response = json.loads(body)
            choice, usage = response["choices"][0], response.get("usage") or {}
            if choice.get("error") or choice.get("finish_reason") in BROKEN_OFF:
                reason = choice.get("error") or choice["finish_reason"]
                return _Failure(f"the server broke off its answer: {_excerpt(reason)}")
            text, logprobs = "", None
            if request.continuations is not None:
                is_echo = self.config.prompt_logprobs is PromptLogprobs.echo
                scores = choice.get("logprobs") if is_echo else response.get("prompt_logprobs")
                if scores is None or "content" in scores:  # llama.cpp's server: only those of generated tokens
                    other = "chat" if is_echo else "echo"
                    return _Failure(
                        "the response has no log-probabilities of the prompt, which were requested",
                        remedy=f"llm.prompt_logprobs={other}, if the server returns them so; or leave it out: with "
                        "model=chatgptrec under model.answer=generate or constrained",
                    )
                tokens = _echoed_tokens(scores, usage) if is_echo else _prompt_tokens(scores)
                logprobs = self._log_probs_at_end(tokens, request)
                if logprobs is None:
                    return _Failure(
                        f"the tokens {[token for token, _ in tokens[-MOST_SHOWN:]]} do not end with "
                        f"{request.continuations[0]!r}, whose log-probability was requested",
                        remedy="llm.tokenizer=PATH, the model's, to count them; or model.answer=constrained",
                    )
            else:
                text = choice["message"]["content"] or ""  # null: the model refused, or a filter removed its text
                if not isinstance(text, str):
                    raise TypeError
                if request.choices is not None and self.config.structured is Structured.json_schema:
                    text = _unwrapped(text)
                if choice.get("finish_reason") not in UNFINISHED and (strays := self._strays(request, text)):
                    return _Failure(
                        f"the server does not restrict its answers: it wrote {strays[0]!r}, not one of "
                        f"the {len(request.choices or ())} allowed",
                        remedy="another llm.structured, by the server's version (docs/guides/chat-models.md); or "
                        "model.answer=generate",
                    )
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
            estimate = sum(self.count_tokens(message["content"]) for message in request.messages)
            return Completion(
                text=text,
                finish=choice.get("finish_reason") or "stop",
                prompt_tokens=int(usage.get("prompt_tokens") or estimate),
                answer_tokens=int(usage.get("completion_tokens") or self.count_tokens(text)),
                seconds=seconds,
                model=" ".join(filter(None, (response.get("model"), response.get("system_fingerprint")))),
                asked_at=sent_at,
                logprobs=None if logprobs is None else (sum(logprobs),),
                lengths=None if logprobs is None else (len(logprobs),),
                attempts=attempt,
                cached_tokens=int(cached or 0),
            )
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            return _Failure(f"the response is not a chat completion: {_excerpt(body.decode(errors='replace'))}")

    def _is_restricted(self, request: Request) -> bool:
        """Return whether the server may answer only with the request's choices."""
        return request.has_choices and self.config.structured is not Structured.none

    def _structure(self, request: Request) -> dict[str, Any]:
        structured = self.config.structured
        if request.choices is None or not self._is_restricted(request):
            return {}
        one = {"type": "string", "enum": list(request.choices)}
        n = min(request.listed, len(request.choices))
        schema = {"type": "array", "items": one, "minItems": n, "maxItems": n} if request.listed else one
        if structured is Structured.structured_outputs:
            outputs = {"json": schema} if request.listed else {"choice": list(request.choices)}
            return {"extra_body": {"structured_outputs": outputs}}
        if structured is Structured.guided:
            guide = {"guided_json": schema} if request.listed else {"guided_choice": list(request.choices)}
            return {"extra_body": guide}
        if structured is Structured.json_object:
            return {"response_format": {"type": "json_object", "schema": schema}}
        properties = {"properties": {WRAPPER: schema}, "required": [WRAPPER], "additionalProperties": False}
        json_schema = {"name": WRAPPER, "strict": True, "schema": {"type": "object", **properties}}
        return {"response_format": {"type": "json_schema", "json_schema": json_schema}}

    def _max_tokens(self, request: Request) -> int:
        """Return the tokens that an answer may have. A list of the longest choices has to fit."""
        if not self._is_restricted(request):
            return request.max_tokens
        as_json = [self.count_tokens(json.dumps(choice, ensure_ascii=False)) for choice in request.choices or ()]
        longest = sorted(as_json, reverse=True)[: max(1, request.listed)]
        return max(request.max_tokens, sum(longest) + 2 * len(longest) + WRAPPER_TOKENS)

    def _strays(self, request: Request, text: str) -> list[str]:
        """Return what an answer names outside its choices; empty for a sentence without a list, such as a refusal."""
        if not self._is_restricted(request):
            return []
        try:
            named = json.loads(text)
        except ValueError:
            named = _listed_within(text) if request.listed else text.strip()
        named = [str(name) for name in (named if isinstance(named, list) else [named]) if name != ""]
        return [name for name in named if name not in (request.choices or ())]

    def _log_probs_at_end(self, tokens: Sequence[tuple[str, float | None]], request: Request) -> list[float] | None:
        """Return the log-probability of each token of a continuation at the end of a prompt's tokens; None without
        these.

        Servers write the text of tokens in different ways, so that it is only relied on without `llm.tokenizer`.
        """
        assert request.continuations is not None
        (continuation,) = request.continuations
        n, text = 0, ""
        if self._tokenizer is None:
            while len(text) < len(continuation) and n < len(tokens):
                n += 1
                text = tokens[-n][0] + text
            if text != continuation:
                return None
        else:
            prompt = self._written(request.messages)
            n = len(self._tokenizer(prompt + continuation).input_ids) - len(self._tokenizer(prompt).input_ids)
        log_probs = [float(log_prob) for _, log_prob in tokens[-n:] if log_prob is not None]
        return log_probs if len(log_probs) == n else None

    def _written(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return a prompt as the model reads it."""
        chat = [dict(message) for message in messages]
        return str(self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))

    def _echo(self, messages: list[Any], continuation: str) -> dict[str, Any]:
        """Return the parameters for the log-probabilities of a continuation at the end of a text that is repeated."""
        tokenizer = self._tokenizer
        written = self._written(messages)
        begins = tokenizer.bos_token and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
        if begins:  # so does the server's, which would repeat it
            written = written.removeprefix(tokenizer.bos_token)
        return {"prompt": written + continuation, "echo": True, "logprobs": 1}

    def _error(self, failure: _Failure) -> Llm4RecError:
        if failure.status:
            remedy = "check llm.model and llm.max_tokens; llm.dry_run=true prints the requests"
            problem = f"{self.base_url} refuses the request: {failure.reason}"
            return UsageError(problem, failure.remedy or _REMEDIES.get(failure.status, remedy))
        if failure.remedy:
            return UsageError(f"{self.base_url}: {failure.reason}", failure.remedy)
        return RunError(
            f"{self.base_url}: {failure.reason}",
            "if a server is running there (llm.base_url), run the same command again: answers so far are stored. "
            "llm.retries, llm.timeout and llm.concurrency set how much failure is tolerated",
        )


async def _next(completions: AsyncIterator[tuple[int, Completion]]) -> tuple[int, Completion] | None:
    return await anext(completions, None)


def _has_running_loop() -> bool:
    """Return whether an event loop runs in this thread, as in Jupyter: a second one cannot run there."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_thread(completions: Generator[tuple[int, Completion], None, None]) -> Iterator[tuple[int, Completion]]:
    """Yield what a generator yields, and run it in another thread, which an interruption does not wait for."""
    thread = ThreadPoolExecutor(1)
    try:
        while (numbered := thread.submit(next, completions, None).result()) is not None:
            yield numbered
    finally:
        thread.submit(completions.close)
        thread.shutdown(wait=False)


def problems(config: LLMConfig) -> Iterator[UsageError]:
    """Yield settings that are unusable or contain a secret."""
    yield from secrets.problems(config)
    if config.prompt_logprobs is PromptLogprobs.echo and config.tokenizer is None:
        yield UsageError(
            "llm.prompt_logprobs=echo sends the prompt as a text, which the model's chat template writes",
            "llm.tokenizer=PATH, a folder or hub id with the model's tokenizer",
        )


def api_key(variable: str, base_url: str) -> str:
    """Return the key in an environment variable; a placeholder for a local server without one, and for a remote one
    without https.

    Raises:
        UsageError: the key is missing, or HTTP cannot carry it.
    """
    key = os.environ.get(variable, "").strip()
    if not key and _is_local(base_url):
        return PLACEHOLDER_KEY
    if urlsplit(base_url).scheme == "http" and not _is_local(base_url):
        log.warning("%s is not encrypted, so no key is sent to it: use its https address", base_url)
        return PLACEHOLDER_KEY
    if not key:
        raise UsageError(
            f"{base_url} needs a key, and the environment variable {variable} is not set",
            f"export {variable}=…, or set llm.key_variable=NAME to another variable",
        )
    if not re.fullmatch("[!-~]+", key):
        raise UsageError(f"{variable} is not a key: it must be one ASCII word", "copy the key again")
    return key


def _is_local(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _scoring(messages: list[Any], continuation: str) -> dict[str, Any]:
    """Return the parameters for the log-probabilities of a continuation, in vLLM's words: it is the beginning of the
    assistant's message, and so the end of the prompt."""
    begun = [*messages, {"role": "assistant", "content": continuation}]
    more = {"prompt_logprobs": 0, "add_generation_prompt": False, "continue_final_message": True}
    return {"messages": begun, "extra_body": more}


def _prompt_tokens(scores: list[Any]) -> list[tuple[str, float | None]]:
    """Return the prompt tokens of a chat completion with their log-probabilities, which the first token lacks."""
    entries = [[*(entry or {}).values()] for entry in scores]
    return [(entry[0]["decoded_token"], entry[0]["logprob"]) if entry else ("", None) for entry in entries]


def _echoed_tokens(scores: dict[str, Any], usage: dict[str, Any]) -> list[tuple[str, float | None]]:
    """Return the tokens of the prompt in an echo, as `_prompt_tokens`, without the generated one."""
    echoed = [*zip(scores["tokens"], scores["token_logprobs"], strict=True)]
    return echoed[: len(echoed) - int(usage["completion_tokens"])]


def _unwrapped(text: str) -> str:
    """Return the value of an answer's only property: a list as JSON, one text as it is. A text of another form is left
    to the parsers."""
    try:
        value = json.loads(text)[WRAPPER]
    except (ValueError, LookupError, TypeError):
        return text
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _listed_within(text: str) -> list[Any]:
    """Return titles from a JSON list or from numbered or bulleted lines in a text; empty for fewer than two."""
    try:
        titles = json.loads(text[text.find("[") : text.rfind("]") + 1])
    except ValueError:
        titles = [line.strip() for line in _LISTED_LINE.findall(text)]
    return titles if len(titles) > 1 else []


def _refuse_continuations(request: Request) -> Request:
    if request.continuations is not None:
        raise UsageError(
            "endpoints do not return likelihoods of answers",
            "use llm=local, or model.answer=generate; llm.prompt_logprobs=chat or echo if the server returns those of "
            "prompts",
        )
    return request


def _excerpt(message: object, key: str = "") -> str:
    """Return the beginning of a server's or a library's message, on one line and without the key."""
    text = str(message).replace(key, "[key]") if len(key) >= MIN_SECRET else str(message)
    return " ".join(text.split())[:300]
