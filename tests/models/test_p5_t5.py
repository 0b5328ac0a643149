"""T5 on packed tokens equals transformers' own T5, padded or alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from llm4rec_cli.errors import UsageError
from llm4rec_cli.models.p5.rows import packed
from llm4rec_cli.models.p5.t5 import MAX_WORDS, Groups, PackedT5, grouped, load
from llm4rec_cli.models.shared.sequences import IGNORED
from tests.numeric import assert_close

pytestmark = pytest.mark.numeric


def published(**more) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=90, d_model=24, d_kv=6, d_ff=40, num_layers=2, num_heads=3, dropout_rate=0.1, **more)
    )
    for weight in t5.parameters():  # T5 draws some of them so small that a mistake would not show
        torch.nn.init.normal_(weight, std=0.4)
    return t5


def rows(n: int = 9) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(3)
    found = []
    for i in range(n):
        source = rng.integers(3, 90, 1 + 5 * i)
        target = rng.integers(3, 90, int(rng.integers(1, 7)))
        found.append((source, np.cumsum(rng.random(len(source)) < 0.5), target))
    return found


def groups_of(batch: dict[str, torch.Tensor]) -> Groups:
    return Groups.of(batch["order"], batch["shapes"], batch["lengths"])


def logits(model: PackedT5, some) -> list[torch.Tensor]:
    """The logits of each row's target, in the rows' order."""
    batch = packed(some)
    groups = groups_of(batch)
    states = model.decode(batch["begun"], model.encode(batch["source"], batch["words"], groups), groups)
    flat = model.t5.lm_head(states)[batch["wanted"] != IGNORED]
    parts = flat.split(groups.target.tolist())
    return [parts[place] for place in np.argsort(groups.order)]


@pytest.mark.parametrize("more", [{}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}])
def test_packed_logits_equal_those_of_transformers_row_by_row(more):
    t5 = published(**more)
    model = PackedT5(t5, whole_word=True).eval()
    some = rows()
    for (source, words, target), found in zip(some, logits(model, some), strict=True):
        embedded = t5.shared(torch.tensor(source)) + model.words(torch.tensor(words))
        wanted = t5(inputs_embeds=embedded[None], decoder_input_ids=torch.tensor([[0, *target[:-1]]])).logits[0]
        assert_close(found, wanted, rel=1e-4)


def test_without_whole_words_the_encoder_is_transformers_own():
    t5 = published()
    model = PackedT5(t5, whole_word=False).eval()
    (source, _, target), *_ = some = rows()[4:]
    wanted = t5(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[0, *target[:-1]]])).logits[0]
    assert_close(logits(model, some)[0], wanted, rel=1e-4)


def test_a_row_is_computed_alike_alone_and_among_others():
    model = PackedT5(published(), whole_word=True).eval()
    some = rows()
    for row, found in zip(some, logits(model, some), strict=True):
        assert_close(logits(model, [row])[0], found, rel=1e-4)


def test_gradients_equal_those_of_transformers_in_one_padded_batch():
    t5 = published()
    model = PackedT5(t5, whole_word=False).eval()
    some = rows()
    torch.cat(logits(model, some)).square().mean().backward()
    ours = {name: weight.grad.clone() for name, weight in t5.named_parameters()}
    t5.zero_grad()
    longest = max(len(source) for source, _, _ in some)
    tokens = torch.tensor([[*source, *[0] * (longest - len(source))] for source, _, _ in some])
    mask = torch.tensor([[1] * len(source) + [0] * (longest - len(source)) for source, _, _ in some])
    begun = torch.tensor([[0, *target[:-1], *[0] * (6 - len(target))] for _, _, target in some])
    found = t5(input_ids=tokens, attention_mask=mask, decoder_input_ids=begun).logits
    torch.cat([row[: len(target)] for row, (_, _, target) in zip(found, some, strict=True)]).square().mean().backward()
    for name, weight in t5.named_parameters():
        assert_close(ours[name], weight.grad, rel=1e-4, msg=name)


def test_groups_hold_every_row_once_with_little_padding():
    rng = np.random.default_rng(0)
    source, target = rng.integers(1, 400, 500), rng.integers(1, 30, 500)
    groups = grouped(source, target)
    assert sorted(groups.order) == list(range(500))
    assert (groups.source == source[groups.order]).all() and (groups.target == target[groups.order]).all()
    assert sum(n * longest for n, longest, _ in groups.shapes) < 1.25 * source.sum()


def test_words_beyond_the_last_embedding_share_it():
    model = PackedT5(published(), whole_word=True).eval()
    source, target = np.full(3, 5), np.array([4])
    late, last = (np.array([1, 2, w]) for w in (MAX_WORDS + 7, MAX_WORDS - 1))
    torch.testing.assert_close(logits(model, [(source, late, target)]), logits(model, [(source, last, target)]))


def test_dropout_is_drawn_in_training_alone():
    model = PackedT5(published(), whole_word=True)
    first, second = logits(model.train(), rows()), logits(model, rows())
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert torch.equal(torch.cat(logits(model.eval(), rows())), torch.cat(logits(model, rows())))


def test_a_published_checkpoint_is_read_and_its_vocabulary_grows(tmp_path):
    published().save_pretrained(tmp_path)
    t5 = load(str(tmp_path), n_tokens=95, dropout=0.2)
    assert t5.shared.weight.shape[0] == t5.lm_head.weight.shape[0] == 95
    assert t5.config.dropout_rate == 0.2
    assert torch.equal(t5.shared.weight[:90], published().shared.weight)


def test_an_unknown_backbone_is_refused_in_words(tmp_path):
    with pytest.raises(UsageError, match=r"model\.backbone"):
        load(str(tmp_path / "none"), 90, 0.1)
