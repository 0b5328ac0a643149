"""Constrained and greedy decoding, compared with the forward pass and `generate` of transformers."""

import numpy as np
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from llm4rec_cli.conformance.meta import without_values
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.models.shared import decoding
from llm4rec_cli.models.shared.decoding import Memory, T5Decoder
from llm4rec_cli.models.shared.trie import START, Trie

pytestmark = pytest.mark.numeric

END = 1
SEEDS = {"relu": 6, "gated, unscaled": 0}  # weights that end texts at different lengths
COMMON = 2  # a token that these models generate early, late or never
LENGTHS = torch.tensor([9, 5, 9, 2])
# leaves at depths 1 to 5, a forced prefix of two tokens, and forced tails
UNEVEN = [[2, 3, *code, END] for code in ([4], [4, 4], [4, 5, 6, 7], [4, 5, 7, 7, 7], [5], [6, 6, 4], [6, 6, 5, 4, 4])]
EVEN = [[a, b, c] for a in (2, 3) for b in (4, 5, 6, 7) for c in (4, 5, 6, 7, 8)]
KINDS = {
    "relu": {"feed_forward_proj": "relu"},
    "gated, unscaled": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}


def model(kind="relu"):
    """A small T5; its weights are drawn here, as the initialisation of transformers differs between versions."""
    config = T5Config(
        vocab_size=12,
        d_model=16,
        d_kv=4,  # so that all heads together are narrower than the model
        num_heads=3,
        d_ff=20,
        num_layers=2,
        relative_attention_num_buckets=4,  # so that distances of 3 and more share buckets
        relative_attention_max_distance=6,
        decoder_start_token_id=START,
        **KINDS[kind],
    )
    t5 = T5ForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(SEEDS[kind])
    for _, parameter in sorted(t5.named_parameters()):
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    torch.nn.init.normal_(t5.shared.weight, std=2.0, generator=generator)
    return t5


@pytest.fixture(params=KINDS)
def t5(request):
    return model(request.param)


def sources(n=4, seed=0):
    """Padded token ids and their attention mask."""
    lengths = LENGTHS.repeat(-(-n // len(LENGTHS)))[:n]
    tokens = torch.randint(2, 12, (n, 9), generator=torch.Generator().manual_seed(seed))
    mask = (torch.arange(9) < lengths[:, None]).long()
    return tokens * mask, mask


def memory_of(t5, tokens, mask):
    with torch.no_grad():
        hidden = t5.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
    return decoding.build_memory(t5, hidden, mask.sum(1).numpy())


def brute_force(t5, tokens, mask, codes):
    """(B, codes) log-likelihoods by one forward pass per code, renormalised over the allowed next tokens."""
    scores = torch.zeros(len(tokens), len(codes))
    for i, code in enumerate(codes):
        prefix = torch.tensor([[START, *code[:-1]]]).expand(len(tokens), -1)
        with torch.no_grad():
            logits = t5(input_ids=tokens, attention_mask=mask, decoder_input_ids=prefix).logits.float()
        for t, token in enumerate(code):
            allowed = sorted({c[t] for c in codes if c[:t] == code[:t]})
            scores[:, i] += logits[:, t, allowed].log_softmax(-1)[:, allowed.index(token)]
    return scores


@pytest.mark.parametrize("codes", [UNEVEN, EVEN], ids=["uneven", "even"])
def test_scores_and_beams_as_wide_as_the_catalogue_equal_one_forward_pass_per_code(t5, codes):
    tokens, mask = sources()
    memory, trie, expected = memory_of(t5, tokens, mask), Trie.from_codes(codes), brute_force(t5, tokens, mask, codes)
    scores = decoding.leaf_scores(T5Decoder(t5), memory, trie)
    assert_close(scores, expected, rel=1e-5)
    assert_close(scores.exp().sum(1), torch.ones(len(tokens)), rel=1e-5)
    leaves, scores = decoding.beam_search(T5Decoder(t5), memory, trie, len(codes))
    expected, order = expected.sort(1, descending=True)
    assert_close(scores, expected, rel=1e-5)
    assert torch.equal(leaves, order)


@pytest.mark.parametrize("codes", [UNEVEN, EVEN], ids=["uneven", "even"])
def test_scores_do_not_depend_on_how_many_nodes_are_decoded_at_once_or_on_the_candidates(monkeypatch, codes):
    t5, memory = model(), memory_of(model(), *sources())
    leaves = torch.tensor([[0, 6, 3], [5, 5, 1], [2, 3, 4], [6, 1, 0]])
    expected = decoding.leaf_scores(T5Decoder(t5), memory, Trie.from_codes(codes))
    for nodes, rows in ((4, decoding.NODES_PER_BATCH), (128, decoding.NODES_PER_BATCH), (1, 1), (2, 4), (3, 100)):
        monkeypatch.setattr(decoding, "NODES_PER_BATCH", rows)
        trie = Trie.from_codes(codes, nodes)
        assert_close(decoding.leaf_scores(T5Decoder(t5), memory, trie), expected, rel=1e-5)
        if rows > 4:
            scores = decoding.candidate_scores(T5Decoder(t5), memory, trie, leaves)
            assert_close(scores, expected.gather(1, leaves), rel=1e-5)


@pytest.mark.parametrize("beams", [1, 2, 3, 5, 8])
def test_beam_search_returns_what_that_of_transformers_returns(t5, beams):
    tokens, mask = sources()
    memory, trie = memory_of(t5, tokens, mask), Trie.from_codes(EVEN)
    leaves, scores = decoding.beam_search(T5Decoder(t5), memory, trie, beams)
    assert_close(scores, decoding.leaf_scores(T5Decoder(t5), memory, trie).gather(1, leaves), rel=1e-5)
    if beams == 1:
        return  # greedy search has no scores of sequences
    options = {"num_beams": beams, "num_return_sequences": beams, "max_new_tokens": 3, "renormalize_logits": True}
    generated = t5.generate(
        **options | {"input_ids": tokens, "attention_mask": mask, "length_penalty": 0.0, "early_stopping": False},
        prefix_allowed_tokens_fn=lambda _, prefix: sorted(
            {code[len(prefix) - 1] for code in EVEN if code[: len(prefix) - 1] == prefix.tolist()[1:]}
        ),
        output_scores=True,
        return_dict_in_generate=True,
    )
    assert leaves.flatten().tolist() == [EVEN.index(code) for code in generated.sequences[:, 1:].tolist()]
    assert_close(scores.flatten(), generated.sequences_scores, rel=1e-5)


def naive_beam_search(codes, scores, beams, forbidden):
    """The leaves of a beam search that prunes inner prefixes only, by the codes' scores; -1 where there are fewer."""
    live, leaves = [()], []
    while live:
        below = [{(*code[: len(prefix) + 1],) for code in codes if code[: len(prefix)] == [*prefix]} for prefix in live]
        total = {}
        for prefix in set().union(*below):
            matches = [i for i, code in enumerate(codes) if code[: len(prefix)] == [*prefix]]
            total[prefix] = scores[matches].logsumexp(0).item()
            if len(matches) == 1:
                leaves.append((total.pop(prefix), matches[0]))
        live = sorted(total, key=total.get, reverse=True)[:beams]
    best = [leaf for _, leaf in sorted(leaves, reverse=True) if not forbidden[leaf]][:beams]
    return best + [-1] * (beams - len(best))


@pytest.mark.parametrize("beams", [1, 2, 4, 9])
@pytest.mark.parametrize(("seed", "share"), [(0, 0), (1, 0), (2, 0.5), (3, 0.8), (4, 0.9)])
def test_beam_search_equals_a_naive_one_in_any_tree(seed, share, beams):
    rng = np.random.default_rng(seed)
    codes = sorted({tuple(rng.integers(4, 7, rng.integers(1, 8)).tolist()) for _ in range(60)})
    codes = [[2, 3, *code, END] for code in rng.permutation(np.array(codes, dtype=object)).tolist()]
    forbidden = rng.random((12, len(codes))) < share
    t5 = model()
    memory, trie = memory_of(t5, *sources(12, seed)), Trie.from_codes(codes)
    exact = decoding.leaf_scores(T5Decoder(t5), memory, trie)
    leaves, scores = decoding.beam_search(T5Decoder(t5), memory, trie, beams, forbidden.nonzero())
    assert leaves.tolist() == [
        naive_beam_search(codes, *row) for row in zip(exact, [beams] * 12, forbidden, strict=True)
    ]
    assert_close(scores, exact.gather(1, leaves.clamp(min=0)).masked_fill(leaves < 0, -torch.inf), rel=1e-5)


@pytest.mark.parametrize("max_tokens", [1, 12])
def test_greedy_text_is_that_of_transformers(t5, max_tokens):
    tokens, mask = sources(24)
    texts = decoding.greedy_decode(T5Decoder(t5), memory_of(t5, tokens, mask), COMMON, max_tokens)
    options = {"num_beams": 1, "do_sample": False, "eos_token_id": COMMON, "max_new_tokens": max_tokens}
    generated = t5.generate(input_ids=tokens, attention_mask=mask, **options)[:, 1:].tolist()
    assert texts == [row[: row.index(COMMON)] if COMMON in row else row for row in generated]
    if max_tokens > 1:
        assert len({len(text) for text in texts}) > 2


def test_only_nodes_with_a_choice_below_are_decoded_and_a_row_that_has_ended_leaves_the_batch(monkeypatch):
    shapes, states = [], T5Decoder.states

    def counted(decoder, memory, tokens, *rest):
        shapes.append(tuple(tokens.shape))
        return states(decoder, memory, tokens, *rest)

    monkeypatch.setattr(T5Decoder, "states", counted)
    t5 = model("gated, unscaled")
    texts = decoding.greedy_decode(T5Decoder(t5), memory_of(t5, *sources(24)), COMMON, 12)
    longer = [sum(len(text) >= n for text in texts) for n in range(12)]
    assert all(n <= rows <= n / decoding.SHRINK_BELOW for n, (rows, _) in zip(longer, shapes, strict=True))
    shapes.clear()
    t5, trie = model(), Trie.from_codes([[9, 9, *code, END] for code in EVEN])
    decoding.leaf_scores(T5Decoder(t5), memory_of(t5, *sources()), trie)
    decoding.beam_search(T5Decoder(t5), memory_of(t5, *sources()), trie, 3)
    assert shapes == [(1, 13), (1, 5), (4, 3)]  # 3 forced, 2, 8; levels no wider than the beam, once; then 3 beams
    assert [decoding.exact_is_cheaper(trie, beams) for beams in (3, 7, 8)] == [False, False, True]  # the widest level


def test_scores_of_all_leaves_are_computed_without_reading_a_value():
    t5, (tokens, mask) = model(), sources()
    memory, trie = memory_of(t5, tokens, mask), Trie.from_codes(EVEN, 4).to("meta")
    memory = Memory([k.to("meta") for k in memory.keys], [v.to("meta") for v in memory.values], memory.mask.to("meta"))
    with without_values():  # where a read is an error
        assert decoding.leaf_scores(T5Decoder(t5.to("meta")), memory, trie).shape == (4, len(EVEN))


@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_scores_in_bf16_are_close_and_come_back_in_fp32(how):
    t5, trie = model(), Trie.from_codes(EVEN, 4)  # below the nodes of the tree, which is walked
    tokens, mask = sources()
    expected = decoding.leaf_scores(T5Decoder(t5), memory_of(t5, tokens, mask), trie)
    candidates = torch.arange(12).view(4, 3)
    if how == "weights":
        t5 = t5.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        memory = memory_of(t5, tokens, mask)
        scores = decoding.leaf_scores(T5Decoder(t5), memory, trie)
        some = decoding.candidate_scores(T5Decoder(t5), memory, trie, candidates)
        _, best = decoding.beam_search(T5Decoder(t5), memory, trie, 3)
        texts = decoding.greedy_decode(T5Decoder(t5), memory, END, 3)
    assert memory.keys[0].dtype == torch.bfloat16
    assert {scores.dtype, some.dtype, best.dtype} == {torch.float32}
    assert (scores - expected).abs().mean() < 0.15
    torch.testing.assert_close(some, scores.gather(1, candidates), atol=0.2, rtol=0)
    assert len(texts) == 4
