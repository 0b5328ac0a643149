"""A local chat model of transformers: generates completions in batches, and scores continuations."""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import torch

from llm4rec_cli.config.schema import LLMConfig
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import UsageError
from llm4rec_cli.llm.likelihood import log_likelihoods
from llm4rec_cli.llm.requests import SHORTER_PROMPTS, TEXT, Completion, Message, Request
from llm4rec_cli.text.weights import load_model, load_tokenizer, locate_causal, model_folder, without_template

log = logging.getLogger(__name__)

CODES_KEPT = 64  # lists of choices whose tokens are kept
VERSION = 2  # raised when the same request would get another completion
CHOICES_VERSION = 3  # the same of requests with choices; `results_version` of models that send them is raised too


class LocalBackend:
    """A local chat model; tokenizer and model are loaded on first use.

    A continuation is tokenised on its own, after the chat template's beginning of an assistant's turn. That ends with a
    line break or a special token, which no tokenizer of ours merges with a following letter, so prompt and continuation
    have the same tokens as their concatenation.

    In fp32 log-likelihoods equal those of each continuation alone to 1e-4. In bf16 SmolLM2's of titles differed from
    those in fp32 by 0.13 on average and 0.4 at most, and by up to 0.13 with the other continuations of the request.
    The same batch gets the same completions.

    Raises:
        UsageError: the weights do not exist.
        DataError: the packaged weights have an unexpected checksum.
    """

    counts_exactly = True
    scores_one_by_one = False

    def __init__(self, config: LLMConfig, cache: Path, device: str, seed: int) -> None:
        self.config, self.cache, self.device, self.seed = config, cache, device, seed
        self.weights = locate_causal(config.model)
        self._codes = lru_cache(maxsize=CODES_KEPT)(self._tokenised)  # of a catalogue all requests have the same

    def identity(self, has_choices: bool = False) -> dict[str, Any]:
        sampling = {"top_p": self.config.top_p, "seed": self.seed} if self.config.temperature else {}
        return {
            "backend": "local",
            "version": CHOICES_VERSION if has_choices else VERSION,
            "weights": self.weights.identity,
            "precision": self.config.precision.name,
            "batch_tokens": self.config.batch_tokens,
            "temperature": self.config.temperature,
            **sampling,
        }

    def count_tokens(self, text: str) -> int:
        return len(self._tokens(text))

    def token_counts(self, request: Request) -> tuple[int, int]:
        """Return the exact number of prompt tokens, and the largest possible number of answer tokens."""
        if request.continuations is not None:
            scored = self.tokenizer(list(request.continuations), add_special_tokens=False)["input_ids"]
            return len(self._prompt(request.messages)), sum(map(len, scored))
        return len(self._prompt(request.messages)), self._max_tokens(request)

    def groups(self, requests: Sequence[Request]) -> list[list[int]]:
        """Form batches of prompts of similar length, at most `llm.batch_tokens` with padding; scoring is not batched.

        The longest come first. A list made of some of these batches is split into the same ones.

        Raises:
            UsageError: a prompt leaves too little of `llm.context` for its completion.
        """
        lengths = self._checked_lengths(requests)
        scored = [i for i, request in enumerate(requests) if request.continuations is not None]
        generated = [i for i, request in enumerate(requests) if request.continuations is None]

        def kind(i: int) -> tuple[bool, int]:
            return requests[i].has_choices, -requests[i].max_tokens

        generated.sort(key=lambda i: (*kind(i), -lengths[i]))
        batches = [[i] for i in scored]
        for _, of_one_kind in groupby(generated, key=kind):
            remaining = list(of_one_kind)
            while remaining:
                size = max(1, self.config.batch_tokens // lengths[remaining[0]])
                batches.append(remaining[:size])
                remaining = remaining[size:]
        return batches

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[int, Completion]]:
        """Yield the completions of one batch after the other.

        Raises:
            UsageError: as `groups`; or the chat template refuses a conversation.
        """
        requests = list(requests)
        for indices in self.groups(requests):
            batch = [requests[i] for i in indices]
            began, asked_at = time.perf_counter(), _now()
            prompts = [self._prompt(request.messages) for request in batch]
            if batch[0].continuations is not None:
                answers = [self._score(batch[0].continuations, prompts[0])]
            else:
                answer = self._generate if batch[0].choices is None else self._choose
                answers = answer(batch, prompts)
            seconds = (time.perf_counter() - began) / len(batch)
            common: dict[str, Any] = {"seconds": seconds, "model": self.weights.identity, "asked_at": asked_at}
            for i, prompt, fields in zip(indices, prompts, answers, strict=True):
                yield i, Completion(prompt_tokens=len(prompt), **common, **fields)

    def _generate(self, requests: Sequence[Request], prompts: Sequence[list[int]]) -> list[dict[str, Any]]:
        """Generate the answers of a batch; return the fields of the completions that are theirs, in order."""
        width = max(map(len, prompts))
        tokens = torch.full((len(prompts), width), self._end_tokens[0])
        mask = torch.zeros_like(tokens)
        for row, prompt in enumerate(prompts):
            tokens[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        answers = []
        for output in self._continue(tokens, mask, requests):
            length = next((t for t, token in enumerate(output) if token in self._end_tokens), len(output))
            text = self.tokenizer.decode(output[:length], skip_special_tokens=True)
            finish = "stop" if length < len(output) else "length"
            answers.append({"text": text, "finish": finish, "answer_tokens": length})
        return answers

    def _continue(self, tokens: torch.Tensor, mask: torch.Tensor, requests: Sequence[Request]) -> list[list[int]]:
        temperature = self.config.temperature
        sampling = {"do_sample": True, "temperature": temperature, "top_p": self.config.top_p, "top_k": 0}
        keys = [zlib.crc32(json.dumps([request.messages, request.repeat]).encode()) for request in requests]
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.inference_mode():
            torch.manual_seed(int(stream(self.seed, "answers", *keys).integers(2**63)))
            output = self.model.generate(
                input_ids=tokens.to(self.device),
                attention_mask=mask.to(self.device),
                max_new_tokens=requests[0].max_tokens,
                eos_token_id=self._end_tokens,
                pad_token_id=self._end_tokens[0],
                # Not copied at each token; and it is masked: without a mask a CPU takes several times as long.
                cache_implementation="static",
                disable_compile=True,
                **(sampling if temperature else {"do_sample": False}),
            )
        return output[:, tokens.shape[1] :].tolist()

    def _choose(self, requests: Sequence[Request], prompts: Sequence[list[int]]) -> list[dict[str, Any]]:
        """Answer a batch with its choices; as `_generate`."""
        from llm4rec_cli.llm.constrained import Answer, decode

        codes = [self._codes(request.choices, request.listed) for request in requests]
        answers = [Answer(*code, max(1, request.listed)) for code, request in zip(codes, requests, strict=True)]
        decode(self.model, prompts, answers)
        fields = []
        for request, (first, later), answer in zip(requests, codes, answers, strict=True):
            named = [(request.choices or ())[choice] for choice in answer.named]
            lengths = [len((later if place else first)[choice]) for place, choice in enumerate(answer.named)]
            text = json.dumps(named, ensure_ascii=False) if request.listed else named[0]
            fields.append(_scored(text, answer.log_probs, lengths))
        return fields

    def _tokenised(self, choices: tuple[str, ...] | None, listed: int) -> tuple[list[list[int]], list[list[int]]]:
        """Return the tokens of each choice as the first and as a later one of a JSON list, with the comma after it, so
        that none is a prefix of another; of a bare answer both with the end of the text."""
        texts = [self._defuse(choice) for choice in choices or ()]
        if not listed:
            bare = [[*self._tokens(text), self._end_tokens[0]] for text in texts]
            return bare, bare
        quoted = [json.dumps(text, ensure_ascii=False) for text in texts]
        first, later = (
            self.tokenizer([f"{begin}{text}," for text in quoted], add_special_tokens=False)["input_ids"]
            for begin in ("[", " ")
        )
        return first, later

    def _score(self, continuations: Sequence[str], prompt: list[int]) -> dict[str, Any]:
        """Score the continuations of a prompt; as `_generate`."""
        tokens = [self._tokens(self._defuse(text)) for text in continuations]
        return _scored("", log_likelihoods(self.model, prompt, tokens).tolist(), list(map(len, tokens)))

    def _checked_lengths(self, requests: Sequence[Request]) -> list[int]:
        """Return the tokens of each request's prompt.

        Raises:
            UsageError: the longest, with its completion, exceeds the context.
        """
        lengths = [len(self._prompt(request.messages)) for request in requests]
        longest = max((n + self._max_tokens(request) for n, request in zip(lengths, requests, strict=True)), default=0)
        if longest > self.config.context:
            raise UsageError(
                f"the longest prompt and its answer take {longest:,} tokens, more than "
                f"llm.context={self.config.context}",
                f"set llm.context={longest} if the model allows it, or choose another llm.model; {SHORTER_PROMPTS}",
            )
        return lengths

    def _max_tokens(self, request: Request) -> int:
        """Return the maximal tokens of a request's completion or continuation."""
        if request.choices is not None:
            lengths = sorted(map(len, self._codes(request.choices, request.listed)[0]), reverse=True)
            return sum(lengths[: max(1, request.listed)])
        if request.continuations is None:
            return request.max_tokens
        return max(map(self.count_tokens, request.continuations), default=0)

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        if messages[0]["role"] == TEXT:
            tokens: list[int] = self.tokenizer(self._defuse(messages[0]["content"]))["input_ids"]
            return tokens
        if self.tokenizer.chat_template is None:
            raise without_template(self.config.model)
        defused = [message | {"content": self._defuse(message["content"])} for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(defused, add_generation_prompt=True, tokenize=False)
        except jinja2.TemplateError as error:
            raise UsageError(
                f"the chat template of {self.config.model} refuses a conversation: {error}",
                "change the roles of the prompt, or choose another llm.model",
            ) from error
        return self._tokens(text)  # the template has added the special tokens

    def _defuse(self, text: str) -> str:
        """Break up special tokens of the template in a text, which is untrusted, so that it cannot end its turn."""
        for token in map(str, self.tokenizer.added_tokens_decoder.values()):
            if token.strip():  # some are spaces
                text = text.replace(token, f"{token[:1]} {token[1:]}")
        return text

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self._folder, chats=False)

    @cached_property
    def model(self) -> Any:
        log.info("loading %s in %s", self.config.model, self.config.precision.name)
        return load_model(self._folder, self.config.precision, self.device)

    @cached_property
    def _end_tokens(self) -> list[int]:
        """Tokens that end a completion, by the tokenizer and the model's settings; weights, which a dry run does not
        load, are not needed."""
        files = [self._folder / name for name in ("generation_config.json", "config.json")]
        settings = json.loads(next(file for file in files if file.is_file()).read_text(encoding="utf-8"))
        configured = settings.get("text_config", settings).get("eos_token_id")
        tokens = configured if isinstance(configured, list) else [configured]
        return list(dict.fromkeys(token for token in (self.tokenizer.eos_token_id, *tokens) if token is not None))

    @cached_property
    def _folder(self) -> Path:
        """The folder that transformers loads.

        Raises:
            UsageError: the model's context is shorter than `llm.context`.
        """
        folder = model_folder(self.weights, self.cache)
        settings = json.loads((folder / "config.json").read_text())
        limit = settings.get("text_config", settings).get("max_position_embeddings", self.config.context)
        if self.config.context > limit:
            raise UsageError(
                f"llm.context={self.config.context} exceeds the {limit} tokens that {self.config.model} can read",
                f"set llm.context={limit}",
            )
        return folder


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _scored(text: str, logprobs: list[float], lengths: list[int]) -> dict[str, Any]:
    scores = {"logprobs": tuple(logprobs), "lengths": tuple(lengths)}
    return {"text": text, "finish": "stop", "answer_tokens": sum(lengths), **scores}
