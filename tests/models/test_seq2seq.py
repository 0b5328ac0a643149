"""T5 on packed tokens equals the T5 of transformers, on padded batches and row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.errors import UsageError
from llm4rec_cli.models.shared.seq2seq import MAX_WORDS, PackedT5, group_by_length, groups_of, load_t5, pack_batch

pytestmark = pytest.mark.numeric


def random_t5(**options) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=90, d_model=24, d_kv=6, d_ff=40, num_layers=2, num_heads=3, dropout_rate=0.1, **options)
    )
    for weight in t5.parameters():  # T5 initialises some so small that a mistake would not show
        torch.nn.init.normal_(weight, std=0.4)
    return t5


def random_rows(n: int = 9) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(3)
    rows = []
    for i in range(n):
        source = rng.integers(3, 90, 1 + 5 * i)
        target = rng.integers(3, 90, int(rng.integers(1, 7)))
        rows.append((source, np.cumsum(rng.random(len(source)) < 0.5), target))
    return rows


def logits(model: PackedT5, rows) -> list[torch.Tensor]:
    """The logits of each row's target, in the rows' order."""
    batch = pack_batch(rows)
    groups, lengths = groups_of(batch), batch["lengths"]
    masks = groups.source_masks(lengths[:, 0])
    memory = model.encode(batch["source"], batch["words"], groups, masks)
    flat = model.t5.lm_head(model.decode(batch["decoder_inputs"], memory, groups, masks))[batch["read"]]
    parts = flat.split(lengths[:, 1].tolist())
    return [parts[place] for place in np.argsort(groups.order)]


@pytest.mark.parametrize("options", [{}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}])
def test_packed_logits_equal_those_of_transformers_row_by_row(options):
    t5 = random_t5(**options)
    model = PackedT5(t5, whole_word=True).eval()
    rows = random_rows()
    for (source, words, target), packed in zip(rows, logits(model, rows), strict=True):
        embedded = t5.shared(torch.tensor(source)) + model.words(torch.tensor(words))
        expected = t5(inputs_embeds=embedded[None], decoder_input_ids=torch.tensor([[0, *target[:-1]]])).logits[0]
        assert_close(packed, expected, rel=1e-4)


def test_gradients_equal_those_of_transformers_in_one_padded_batch():
    t5 = random_t5()
    model = PackedT5(t5, whole_word=False).eval()
    rows = random_rows()
    torch.cat(logits(model, rows)).square().mean().backward()
    ours = {name: weight.grad.clone() for name, weight in t5.named_parameters()}
    t5.zero_grad()
    longest = max(len(source) for source, _, _ in rows)
    tokens = torch.tensor([[*source, *[0] * (longest - len(source))] for source, _, _ in rows])
    mask = torch.tensor([[1] * len(source) + [0] * (longest - len(source)) for source, _, _ in rows])
    decoder_inputs = torch.tensor([[0, *target[:-1], *[0] * (6 - len(target))] for _, _, target in rows])
    padded = t5(input_ids=tokens, attention_mask=mask, decoder_input_ids=decoder_inputs).logits
    torch.cat([row[: len(target)] for row, (_, _, target) in zip(padded, rows, strict=True)]).square().mean().backward()
    for name, weight in t5.named_parameters():
        assert_close(ours[name], weight.grad, rel=1e-4, msg=name)


def test_groups_have_little_padding_and_words_beyond_the_last_share_its_embedding():
    rng = np.random.default_rng(0)
    source, target = rng.integers(1, 400, 500), rng.integers(1, 30, 500)
    groups = group_by_length(source, target)
    assert sorted(groups.order) == list(range(500))
    np.testing.assert_array_equal(groups.n_tokens, np.stack([source, target], axis=1)[groups.order])
    assert sum(n * longest for n, longest, _ in groups.shapes) < 1.25 * source.sum()
    model = PackedT5(random_t5(), whole_word=True).eval()
    source, target = np.full(3, 5), np.array([4])
    late, last = (np.array([1, 2, w]) for w in (MAX_WORDS + 7, MAX_WORDS - 1))
    torch.testing.assert_close(logits(model, [(source, late, target)]), logits(model, [(source, last, target)]))
    first, second = logits(model.train(), random_rows()), logits(model, random_rows())
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert torch.equal(torch.cat(logits(model.eval(), random_rows())), torch.cat(logits(model, random_rows())))


def test_a_checkpoint_is_read_with_a_row_for_each_token_and_the_papers_shapes_have_its_numbers_of_weights(tmp_path):
    random_t5().save_pretrained(tmp_path)
    for n_tokens in (95, 85):
        t5 = load_t5(str(tmp_path), n_tokens, dropout=0.2)
        assert t5.shared.weight.shape[0] == t5.lm_head.weight.shape[0] == n_tokens
        assert t5.config.dropout_rate == 0.2
        assert torch.equal(t5.shared.weight[:85], random_t5().shared.weight[:85])
    for size, published in (("small", 60_506_624), ("base", 222_903_552)):
        with torch.device("meta"):
            t5 = load_t5(size, n_tokens=32_128, dropout=0.1)
        assert sum(weight.numel() for weight in t5.parameters()) == published
    with pytest.raises(UsageError, match=r"model\.backbone"):
        load_t5(str(tmp_path / "none"), 90, 0.1)
