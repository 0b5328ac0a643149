"""A chat model of transformers on this machine: answers are generated in batches, continuations are judged."""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import torch

from llm4rec_cli.config.schema import LLMConfig
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import UsageError
from llm4rec_cli.llm.likelihood import log_likelihoods
from llm4rec_cli.llm.requests import Answer, Message, Request
from llm4rec_cli.llm.weights import folder_of, load_model, load_tokenizer, locate

log = logging.getLogger(__name__)

VERSION = 2  # raised when the same request would be answered otherwise


class LocalBackend:
    """A chat model on this machine; tokenizer and model are loaded when first needed.

    A continuation is tokenised on its own, and follows what the chat template begins an assistant's turn with. Such a
    beginning ends with a line break or a special token, with which no tokenizer of ours joins a first letter: the
    tokens are those of prompt and continuation as a whole.

    In fp32 log-likelihoods are those of each continuation alone to 1e-4. In bf16 SmolLM2's of titles were 0.13 from
    those in fp32 on average and 0.4 at most, and moved by up to 0.13 with what was judged beside them. The same group
    gets the same answers.

    Args:
        cache: folder; a converted GGUF file is kept under llm/.
        device: where the model runs.
        seed: of sampled answers.

    Raises:
        UsageError: there are no such weights.
        DataError: the packaged weights are not those we know.
    """

    def __init__(self, config: LLMConfig, cache: Path, device: str, seed: int) -> None:
        self.config, self.cache, self.device, self.seed = config, cache, device, seed
        self.weights = locate(config.model)

    def identity(self) -> dict[str, Any]:
        sampling = {"top_p": self.config.top_p, "seed": self.seed} if self.config.temperature else {}
        return {
            "backend": "local",
            "version": VERSION,
            "weights": self.weights.identity,
            "precision": self.config.precision.name,
            "batch_tokens": self.config.batch_tokens,
            "temperature": self.config.temperature,
            **sampling,
        }

    def count_tokens(self, text: str) -> int:
        """Exactly, without what a chat template adds."""
        return len(self._tokens(text))

    def groups(self, requests: Sequence[Request]) -> list[list[int]]:
        """Prompts of like length that padded take at most `llm.batch_tokens` together; what is judged stands alone.

        The longest come first, and a list of some of these groups is divided into the same ones.

        Raises:
            UsageError: a prompt leaves too little of `llm.context` for its answer.
        """
        lengths = self._checked_lengths(requests)
        alone = [i for i, request in enumerate(requests) if request.continuations is not None]
        generated = [i for i, request in enumerate(requests) if request.continuations is None]
        generated.sort(key=lambda i: (-requests[i].max_tokens, -lengths[i]))
        groups = [[i] for i in alone]
        for _, alike in groupby(generated, key=lambda i: requests[i].max_tokens):
            order = list(alike)
            while order:
                size = max(1, self.config.batch_tokens // lengths[order[0]])
                groups.append(order[:size])
                order = order[size:]
        return groups

    def ask(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        """One group at a time.

        Raises:
            UsageError: as `groups`; or the chat template refuses a conversation.
        """
        requests = list(requests)
        for group in self.groups(requests):
            asked = [requests[i] for i in group]
            answers = self._generated(asked) if asked[0].continuations is None else [self._judged(asked[0])]
            yield from zip(group, answers, strict=True)

    def _generated(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers of a group, in order."""
        began = time.perf_counter()
        prompts = [self._prompt(request.messages) for request in requests]
        width = max(map(len, prompts))
        tokens = torch.full((len(prompts), width), self._ends[0])
        mask = torch.zeros_like(tokens)
        for row, prompt in enumerate(prompts):
            tokens[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        made = self._generate(tokens, mask, requests)
        seconds = (time.perf_counter() - began) / len(requests)
        answers = []
        for prompt, answer in zip(prompts, made, strict=True):
            length = next((t for t, token in enumerate(answer) if token in self._ends), len(answer))
            answers.append(
                Answer(
                    text=self.tokenizer.decode(answer[:length], skip_special_tokens=True),
                    finish="stop" if length < len(answer) else "length",
                    prompt_tokens=len(prompt),
                    answer_tokens=length,
                    seconds=seconds,
                    model=self.weights.identity,
                    asked_at=_now(),
                )
            )
        return answers

    def _generate(self, tokens: torch.Tensor, mask: torch.Tensor, requests: Sequence[Request]) -> list[list[int]]:
        """What follows prompts that are padded on their left: tokens of each, to its end and filled with ends."""
        temperature = self.config.temperature
        how = {"do_sample": True, "temperature": temperature, "top_p": self.config.top_p, "top_k": 0}
        keys = [zlib.crc32(json.dumps([request.messages, request.repeat]).encode()) for request in requests]
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.inference_mode():
            torch.manual_seed(int(stream(self.seed, "answers", *keys).integers(2**63)))
            made = self.model.generate(
                input_ids=tokens.to(self.device),
                attention_mask=mask.to(self.device),
                max_new_tokens=requests[0].max_tokens,
                eos_token_id=self._ends,
                pad_token_id=self._ends[0],
                # Not copied at each token, and masked: without a mask a CPU takes several times as long for a token.
                cache_implementation="static",
                disable_compile=True,
                **(how if temperature else {"do_sample": False}),
            )
        return made[:, tokens.shape[1] :].tolist()

    def _judged(self, request: Request) -> Answer:
        """The answer to a request with continuations."""
        began = time.perf_counter()
        prompt = self._prompt(request.messages)
        continuations = [self._tokens(self._plain(text)) for text in request.continuations or ()]
        logprobs = log_likelihoods(self.model, prompt, continuations).tolist()
        lengths = tuple(map(len, continuations))
        return Answer(
            text="",
            finish="stop",
            prompt_tokens=len(prompt),
            answer_tokens=sum(lengths),
            seconds=time.perf_counter() - began,
            model=self.weights.identity,
            asked_at=_now(),
            logprobs=tuple(logprobs),
            lengths=lengths,
        )

    def _checked_lengths(self, requests: Sequence[Request]) -> list[int]:
        """Tokens of each request's prompt.

        Raises:
            UsageError: with its answer the longest takes more than the context.
        """
        prompts = [len(self._prompt(request.messages)) for request in requests]
        longest = max((prompt + self._at_most(r) for prompt, r in zip(prompts, requests, strict=True)), default=0)
        if longest > self.config.context:
            raise UsageError(
                f"the longest prompt takes {longest:,} tokens with its answer, and llm.context={self.config.context}",
                f"llm.context={longest} where the model takes as many; or less: prompt.history_tokens, prompt.shots",
            )
        return prompts

    def _at_most(self, request: Request) -> int:
        """Tokens of a request's answer at most."""
        if request.continuations is None:
            return request.max_tokens
        return max(map(self.count_tokens, request.continuations), default=0)

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        told = [message | {"content": self._plain(message["content"])} for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(told, add_generation_prompt=True, tokenize=False)
        except jinja2.TemplateError as error:
            raise UsageError(
                f"the chat template of {self.config.model} refuses a conversation: {error}",
                "a prompt of other roles, or another llm.model",
            ) from error
        return self._tokens(text)  # the template puts special tokens itself

    def _plain(self, text: str) -> str:
        """Text, which may be anybody's, that ends no turn: what would be a token of the template's is broken up."""
        for token in map(str, self.tokenizer.added_tokens_decoder.values()):
            if token.strip():  # some are mere spaces
                text = text.replace(token, f"{token[:1]} {token[1:]}")
        return text

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self._folder)

    @cached_property
    def model(self) -> Any:
        log.info("loading %s in %s", self.config.model, self.config.precision.name)
        return load_model(self._folder, self.config.precision, self.device)

    @cached_property
    def _ends(self) -> list[int]:
        """Tokens that end an answer: by the model's settings, several at times, and by the tokenizer's."""
        named = self.model.generation_config.eos_token_id
        ends = named if isinstance(named, list) else [named]
        return list(dict.fromkeys(end for end in (self.tokenizer.eos_token_id, *ends) if end is not None))

    @cached_property
    def _folder(self) -> Path:
        """What transformers loads.

        Raises:
            UsageError: the model takes less than `llm.context`.
        """
        folder = folder_of(self.weights, self.cache)
        settings = json.loads((folder / "config.json").read_text())
        limit = settings.get("text_config", settings).get("max_position_embeddings", self.config.context)
        if self.config.context > limit:
            raise UsageError(
                f"llm.context={self.config.context}, and {self.config.model} takes {limit} tokens at most",
                f"llm.context={limit}",
            )
        return folder


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
