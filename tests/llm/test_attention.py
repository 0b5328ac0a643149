"""Attention over padded prompts and of single tokens is transformers' own, and goes the short way."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from llm4rec_cli.llm import attention

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


def made(window=None):
    torch.manual_seed(0)
    if window is None:
        return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=window)).eval()


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
    model = made(window)
    expected = generated(model, lengths)
    attention.hasten(model)
    assert model.config._attn_implementation == attention.NAME
    torch.testing.assert_close(generated(model, lengths), expected, atol=1e-5, rtol=1e-4)


def test_padded_prompts_and_single_tokens_go_the_short_way(monkeypatch):
    model = made()
    attention.hasten(model)
    calls = counting(monkeypatch, "_of_prompts", "_of_one_token", "sdpa_attention_forward")
    generated(model)
    assert calls == {"_of_prompts": 2, "_of_one_token": 2 * 5, "sdpa_attention_forward": 0}  # of two layers


def test_prompts_seen_through_a_window_are_left_to_transformers(monkeypatch):
    model = made(window=4)
    attention.hasten(model)
    calls = counting(monkeypatch, "_of_prompts", "sdpa_attention_forward")
    generated(model)
    assert calls == {"_of_prompts": 0, "sdpa_attention_forward": 2}


def test_in_bf16_it_is_as_near_to_fp32_as_transformers_own():
    exact = generated(made())
    plain, hastened = made().bfloat16(), made().bfloat16()
    attention.hasten(hastened)
    first = [(generated(model)[:, 0].float() - exact[:, 0]).abs().mean() for model in (plain, hastened)]
    assert first[1] <= 1.5 * first[0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda mask: mask[1, 0, 6].fill_(True),  # sees what comes later
        lambda mask: mask[0, 0, 8, :3].fill_(False),  # does not see the beginning
        lambda mask: mask[2, 0, 5, 2].fill_(False),  # lacks one in between
        lambda mask: mask[3, 0, 8, 0].fill_(True),  # sees padding
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
