"""Attention over padded prompts and of single tokens is transformers' own, and goes the short way."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llm4rec_cli.llm import attention
from tests.numeric import assert_close

pytestmark = pytest.mark.numeric

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
LENGTHS = (9, 5, 9, 2)


def made(kind="llama", **more):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **more)).eval()


def generated(model, lengths=LENGTHS):
    """Logits at each of six tokens that follow prompts of these lengths, padded on their left."""
    width = max(lengths)
    mask = torch.arange(width) >= width - torch.tensor(lengths)[:, None]
    tokens = torch.randint(1, 60, mask.shape, generator=torch.Generator().manual_seed(1)).where(mask, 0)
    told = model.generate(
        tokens,
        attention_mask=mask.long(),
        max_new_tokens=6,
        do_sample=False,
        cache_implementation="static",
        disable_compile=True,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return torch.stack(told.logits, 1)


def counting(monkeypatch, *names):
    """How often each function of the module is called, by its name."""
    calls = dict.fromkeys(names, 0)
    for name in names:
        plain = getattr(attention, name)

        def counted(*args, _name=name, _plain=plain, **others):
            calls[_name] += 1
            return _plain(*args, **others)

        monkeypatch.setattr(attention, name, counted)
    return calls


@pytest.mark.parametrize("lengths", [LENGTHS, (4, 4), (7,)], ids=["padded", "of one length", "one prompt"])
@pytest.mark.parametrize("window", [None, 4, 40], ids=["no window", "a window within the prompt", "a wide window"])
def test_a_hastened_model_says_what_transformers_own_says(window, lengths):
    model = made("mistral", sliding_window=window)
    expected = generated(model, lengths)
    attention.hasten(model)
    assert model.config._attn_implementation == attention.NAME
    assert_close(generated(model, lengths), expected, rel=1e-5)


@pytest.mark.parametrize("kind", attention.HASTENED)
def test_models_of_each_type_say_what_transformers_own_says(kind):
    model = made(kind)
    expected = generated(model)
    attention.hasten(model)
    assert model.config._attn_implementation == attention.NAME
    assert_close(generated(model), expected, rel=1e-5)


@pytest.mark.parametrize(("kind", "more"), [("gpt2", {}), ("llama", {"attn_implementation": "eager"})])
def test_other_models_are_left_alone(kind, more):
    model = made(kind, **more)
    before = model.config._attn_implementation
    attention.hasten(model)
    assert model.config._attn_implementation == before != attention.NAME


def test_padded_prompts_and_single_tokens_go_the_short_way(monkeypatch):
    model = made()
    attention.hasten(model)
    calls = counting(monkeypatch, "_of_prompts", "_of_one_token", "sdpa_attention_forward")
    generated(model)
    assert calls == {"_of_prompts": 2, "_of_one_token": 2 * 5, "sdpa_attention_forward": 0}  # of two layers


def test_prompts_seen_through_a_window_are_left_to_transformers(monkeypatch):
    model = made("mistral", sliding_window=4)
    attention.hasten(model)
    calls = counting(monkeypatch, "_of_prompts", "sdpa_attention_forward")
    generated(model)
    assert calls == {"_of_prompts": 0, "sdpa_attention_forward": 2}


@pytest.mark.parametrize(("n", "worse"), [(1, 5), (40, 1.1)], ids=["a token, whose scores are rounded", "prompts"])
def test_in_bf16_it_is_about_as_near_to_the_truth_as_transformers_own(n, worse):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 6, n, 64, generator=generator) * 3  # scores up to some forty
    key, value = torch.randn(2, 3, 2, 40, 64, generator=generator)
    mask = torch.ones(n, 40, dtype=torch.bool).tril(40 - n).expand(3, 1, -1, -1)
    module = torch.nn.Module()
    module.num_key_value_groups = 3
    rounded = [tensor.bfloat16() for tensor in (query, key, value)]
    exact = [tensor.float() for tensor in rounded]
    truth, _ = sdpa_attention_forward(module, *exact, mask)
    errors = [
        (found.float() - truth).square().mean().sqrt()
        for found, _ in (sdpa_attention_forward(module, *rounded, mask), attention.attend(module, *rounded, mask))
    ]
    assert errors[1] <= worse * errors[0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda mask: mask[1, 0, 6].fill_(True),  # sees what comes later
        lambda mask: mask[0, 0, 8, :3].fill_(False),  # does not see the beginning
        lambda mask: mask[2, 0, 5, 2].fill_(False),  # lacks one in between
        lambda mask: mask[3, 0, 8, 0].fill_(True),  # sees padding
        lambda mask: mask[1, 0, 2, 1].fill_(True),  # sees something before it begins, as of an earlier chunk
    ],
)
def test_another_mask_is_not_taken_for_one_of_padded_prompts(spoil):
    begin = 9 - torch.tensor(LENGTHS)
    query, key = torch.arange(9)[:, None], torch.arange(12)
    mask = ((key <= query) & (key >= begin[:, None, None]))[:, None]
    assert attention._begins(mask) == begin.tolist()
    spoil(mask)
    assert attention._begins(mask) is None


def test_a_mask_of_all_rows_is_one_of_each():
    query, key, value = torch.randn(3, 3, 4, 5, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
    found, _ = attention.attend(None, query, key, value, mask)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(found, expected.transpose(1, 2))
