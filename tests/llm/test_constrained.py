"""Lists of distinct choices, decoded by a Llama of two small layers, against one pass per token without a cache."""

import json

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from llm4rec_cli.llm import constrained
from llm4rec_cli.llm.constrained import Answer, decode
from llm4rec_cli.llm.requests import Request
from tests.llm.test_local import TITLES, WORDS, backend, chat_request, complete
from tests.llm.tiny_llm import tiny_llm

pytestmark = pytest.mark.numeric

CHOICES = tuple(dict.fromkeys((*TITLES, 'soap "bar", red', "soap <|im_end|>")))


@pytest.fixture(scope="module")
def fp32(tmp_path_factory):
    return backend(tiny_llm(tmp_path_factory.mktemp("llm")), tmp_path_factory.mktemp("cache"), batch_tokens=4096)


def list_request(text, listed, choices=CHOICES):
    return Request(({"role": "user", "content": text},), choices=choices, listed=listed)


@torch.inference_mode()
def naive(model, prompt, first, later, n):
    """Return the choices named and their log-probabilities, by a whole pass for each token."""
    tokens, named, log_probs = list(prompt), [], []
    while len(named) < n:
        codes = later if named else first
        left, path, log_prob = [i for i in range(len(codes)) if i not in named], [], 0.0
        while len(left) > 1:
            possible = sorted({codes[i][len(path)] for i in left})
            scores = model(torch.tensor([tokens + path])).logits[0, -1, possible].log_softmax(0)
            best = int(scores.argmax())
            log_prob += float(scores[best])
            path.append(possible[best])
            left = [i for i in left if codes[i][: len(path)] == path]
        named.append(left[0])
        log_probs.append(log_prob)
        tokens += codes[left[0]]
    return named, log_probs


@pytest.mark.parametrize("listed", [1, 4, 20])
def test_lists_are_those_of_a_pass_per_token(fp32, listed):
    requests = [list_request(", ".join(WORDS[: 1 + 2 * i]), listed) for i in range(4)]
    for request, completion in zip(requests, complete(fp32, requests), strict=True):
        n = min(listed, len(CHOICES))
        named, log_probs = naive(
            fp32.model, fp32._prompt(request.messages), *fp32._codes(request.choices, request.listed), n
        )
        assert json.loads(completion.text) == [CHOICES[i] for i in named]
        assert len(set(named)) == n
        assert completion.logprobs == pytest.approx(log_probs, abs=1e-4)
        assert completion.answer_tokens == sum(completion.lengths)


def test_lists_do_not_depend_on_how_many_tokens_a_pass_reads_nor_on_a_cache_that_must_grow(fp32, monkeypatch):
    requests = [list_request(", ".join(WORDS[: 1 + 2 * i]), 6) for i in range(4)]
    expected = complete(fp32, requests)
    for setting, value in (("AT_ONCE", 1), ("AT_ONCE", 3), ("AT_ONCE", 1000), ("ROOM", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(constrained, setting, value)
            for ours, same in zip(complete(fp32, requests), expected, strict=True):
                assert ours.text == same.text and ours.logprobs == pytest.approx(same.logprobs, abs=1e-4)


def test_a_bare_answer_is_one_of_the_choices(fp32):
    (completion,) = complete(fp32, [list_request("How many stars?", 0, ("1", "10", "2"))])
    codes = [[*fp32._tokens(text), 2] for text in ("1", "10", "2")]
    named, log_probs = naive(fp32.model, fp32._prompt(chat_request("How many stars?").messages), codes, codes, 1)
    assert completion.text == ("1", "10", "2")[named[0]]
    assert completion.logprobs == pytest.approx(log_probs, abs=1e-4)


def test_tokens_without_a_choice_take_no_pass_of_their_own(fp32, monkeypatch):
    passes = []
    read = constrained._Batch.read
    monkeypatch.setattr(constrained._Batch, "read", lambda self, tokens: passes.append(tokens) or read(self, tokens))
    (completion,) = complete(fp32, [list_request("a", 1, ("red nail polish", "blue hair dryer"))])
    assert passes == [] and completion.answer_tokens > 5, "the first token decides"
    complete(fp32, [list_request("a", 2, ("red nail polish", "blue hair dryer", "soap"))])
    assert len(passes) == -(-len(passes[0][0] + passes[-1][0]) // constrained.AT_ONCE) == 2, "of nine tokens"


def test_windows_of_attention_are_those_of_each_list_alone():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = MistralForCausalLM(
        MistralConfig(vocab_size=50, num_key_value_heads=2, sliding_window=6, initializer_range=0.3, **sizes)
    ).eval()
    codes = [[5, 6, 7, 9], [5, 6, 8, 9], [5, 10, 9], [11, 12, 13, 14, 15, 9], [11, 12, 14, 9]]
    prompts = [list(range(20, 29)), [30, 31]]
    answers = [Answer(codes, codes, 4) for _ in prompts]
    decode(model, prompts, answers)
    for prompt, answer in zip(prompts, answers, strict=True):
        named, log_probs = naive(model, prompt, codes, codes, 4)
        assert answer.named == named
        assert answer.log_probs == pytest.approx(log_probs, abs=1e-4)
