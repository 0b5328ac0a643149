"""Fast attention over padded prompts and of single tokens equals transformers' own."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.llm import attention

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


def build(model_type="llama", **more):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **SIZES, **more)).eval()


def logits(model, lengths=LENGTHS):
    """Logits of six tokens generated after left-padded prompts of these lengths."""
    width = max(lengths)
    mask = torch.arange(width) >= width - torch.tensor(lengths)[:, None]
    tokens = torch.randint(1, 60, mask.shape, generator=torch.Generator().manual_seed(1)).where(mask, 0)
    output = model.generate(
        tokens,
        attention_mask=mask.long(),
        max_new_tokens=6,
        do_sample=False,
        cache_implementation="static",
        disable_compile=True,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return torch.stack(output.logits, 1)


def count_calls(monkeypatch, *names):
    """The number of calls of each function of the module, by name."""
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
def test_a_model_with_fast_attention_generates_the_same_logits(window, lengths):
    model = build("mistral", sliding_window=window)
    expected = logits(model, lengths)
    attention.use_fast_attention(model)
    assert model.config._attn_implementation == attention.NAME
    assert_close(logits(model, lengths), expected, rel=1e-5)


@pytest.mark.parametrize("model_type", attention.SUPPORTED_MODELS)
def test_models_of_each_supported_type_generate_the_same_logits(model_type):
    model = build(model_type)
    expected = logits(model)
    attention.use_fast_attention(model)
    assert model.config._attn_implementation == attention.NAME
    assert_close(logits(model), expected, rel=1e-5)


@pytest.mark.parametrize(("model_type", "more"), [("gpt2", {}), ("llama", {"attn_implementation": "eager"})])
def test_other_models_are_left_alone(model_type, more):
    model = build(model_type, **more)
    before = model.config._attn_implementation
    attention.use_fast_attention(model)
    assert model.config._attn_implementation == before != attention.NAME


def test_padded_prompts_and_single_tokens_use_fast_attention_except_beyond_a_sliding_window(monkeypatch):
    model = build()
    attention.use_fast_attention(model)
    calls = count_calls(monkeypatch, "_attend_prompts", "_attend_few_tokens", "sdpa_attention_forward")
    logits(model)
    assert calls == {"_attend_prompts": 2, "_attend_few_tokens": 2 * 5, "sdpa_attention_forward": 0}  # two layers
    calls.update(dict.fromkeys(calls, 0))
    windowed = build("mistral", sliding_window=4)
    attention.use_fast_attention(windowed)
    logits(windowed)
    assert (calls["_attend_prompts"], calls["sdpa_attention_forward"]) == (0, 2)


@pytest.mark.parametrize(("n", "tolerance"), [(1, 5), (40, 1.1)], ids=["one token, with rounded scores", "prompts"])
def test_in_bf16_it_is_about_as_accurate_as_transformers_own(n, tolerance):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 6, n, 64, generator=generator) * 3  # scores up to about 40
    key, value = torch.randn(2, 3, 2, 40, 64, generator=generator)
    mask = torch.ones(n, 40, dtype=torch.bool).tril(40 - n).expand(3, 1, -1, -1)
    module = torch.nn.Module()
    module.num_key_value_groups = 3
    rounded = [tensor.bfloat16() for tensor in (query, key, value)]
    unrounded = [tensor.float() for tensor in rounded]
    exact_output, _ = sdpa_attention_forward(module, *unrounded, mask)
    errors = [
        (output.float() - exact_output).square().mean().sqrt()
        for output, _ in (sdpa_attention_forward(module, *rounded, mask), attention.attend(module, *rounded, mask))
    ]
    assert errors[1] <= tolerance * errors[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: mask[1, 0, 6].fill_(True),  # sees what comes later
        lambda mask: mask[0, 0, 8, :3].fill_(False),  # does not see the beginning
        lambda mask: mask[2, 0, 5, 2].fill_(False),  # misses a token in between
        lambda mask: mask[3, 0, 8, 0].fill_(True),  # sees padding
        lambda mask: mask[1, 0, 2, 1].fill_(True),  # sees a token before its start
    ],
)
def test_another_mask_is_not_mistaken_for_one_of_padded_prompts(change):
    start = 9 - torch.tensor(LENGTHS)
    query, key = torch.arange(9)[:, None], torch.arange(12)
    mask = ((key <= query) & (key >= start[:, None, None]))[:, None]
    assert attention._prompt_starts(mask) == start.tolist()
    change(mask)
    assert attention._prompt_starts(mask) is None


def test_one_mask_for_all_rows_is_expanded():
    query, key, value = torch.randn(3, 3, 4, 5, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
    output, _ = attention.attend(None, query, key, value, mask)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(output, expected.transpose(1, 2))
