"""sid_gpt's rows, loss and rankings against naive loops, on a small catalogue."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.ids.item_ids import END, ItemIds
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared import decoding
from llm4rec_cli.models.shared.trie import Trie
from llm4rec_cli.tasks.ranking import rank
from llm4rec_zoo.models.sid_gpt.model import SidGPT
from tests.support.driver import job_of

rng = np.random.default_rng(0)
LENGTHS = [3, 9, 4, 12, 5, 9, 3, 7, 9, 20]
SPLIT = leave_one_out(tiny_dataset([rng.integers(0, 30, n).tolist() for n in LENGTHS]))
EXAMPLES = SPLIT.examples(SplitName.test)
CODES = np.array([[i % 4, i // 4 % 3, i // 12] for i in range(30)])
CODES[[4, 9, 13]] = CODES[4]  # a group of three
UNEVEN = np.column_stack([np.arange(30) % 5, np.where(np.arange(30) < 5, END, np.arange(30) // 5)])
UNEVEN[:5] = np.column_stack([np.arange(5, 10), np.full(5, END)])


@pytest.fixture
def build(tmp_path):
    def of(*settings, codes=CODES):
        torch.manual_seed(0)
        sizes = ("hidden_size=16", "inner_size=16", "heads=2", "max_length=6")
        config = job_of("model=sid_gpt", *(f"model.{setting}" for setting in (*sizes, *settings))).model
        model = SidGPT(config, Context(config, SPLIT, 0, tmp_path, "cpu"), ItemIds(codes)).eval()
        for name, weight in model.named_parameters():
            if "norm" not in name:
                torch.nn.init.normal_(weight, std=0.3)
        return model

    return of


def tokens_of(codes, item):
    """START and the tokens of an item, level by level."""
    sizes = codes.max(0) + 1
    return [0, *(1 + int(sizes[:j].sum()) + int(code) for j, code in enumerate(codes[item]) if code != END)]


def logits(model, tokens):
    """The logits after each token of one sequence, by attention written out."""
    x = model.tokens.weight[torch.tensor(tokens)] + model.encoder.positions.weight[: len(tokens)]
    future = torch.ones(len(tokens), len(tokens)).triu(1).bool()
    for layer in model.encoder.layers:
        q, k, v = (part.view(-1, 2, 8).transpose(0, 1) for part in layer.qkv(layer.norm_attention(x)).chunk(3, 1))
        scores = (q @ k.transpose(1, 2) / 8**0.5).masked_fill(future, -torch.inf)
        x = x + layer.out((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
        x = x + layer.down(F.gelu(layer.up(layer.norm_feedforward(x)), approximate="tanh"))
    return model.norm(x) @ model.tokens.weight.t()


@pytest.mark.parametrize("codes", [CODES, UNEVEN], ids=["one length", "paths of a tree"])
def test_the_loss_is_that_of_each_code_after_the_first_item(build, codes):
    model = build("max_length=50", codes=codes)
    rows = model.training_rows()
    assert len(rows) == 8  # of users with three items, one is left for training
    first = [0, 1, *(1 + np.cumsum(codes.max(0) + 1)).tolist()]
    losses = []
    for user, length in enumerate(LENGTHS):
        items = SPLIT.dataset.sequence[SPLIT.dataset.offsets[user] :][: length - 2]
        sequence = [token for item in items for token in tokens_of(codes, item)]
        with torch.no_grad():
            out = logits(model, sequence)
        for t in range(len(tokens_of(codes, items[0])), len(sequence) - 1):
            if (target := sequence[t + 1]) != 0:
                level = next(j for j in range(1, len(first)) if first[j] <= target < first[j + 1])
                losses.append(
                    F.cross_entropy(out[t, first[level] : first[level + 1]], torch.tensor(target - first[level]))
                )
    batch = model(**rows.batch(0, list(range(len(rows)))))
    assert batch["n_terms"] == len(losses)
    assert batch["loss"].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_losses_without_a_history_are_a_code_over_all_codes_alike(build):
    sequences = np.split(SPLIT.dataset.sequence, SPLIT.dataset.offsets[1:-1])
    targets = [item for sequence in sequences for item in sequence[1:-2].tolist()]
    n_codes = sum(len(tokens_of(UNEVEN, item)) - 1 for item in targets)  # without START
    popularity = -sum(np.log(targets.count(item) / len(targets)) for item in targets) / n_codes
    expected = len(targets) * np.log(30) / n_codes, popularity
    assert build(codes=UNEVEN).reference_losses() == pytest.approx(expected)


def test_windows_and_passes_give_the_same_losses_and_scores(build, monkeypatch):
    rows = build().training_rows()
    batch = rows.batch(0, list(range(len(rows))))
    assert (batch["targets"] != -100).sum() == 3 * sum(max(n - 3, 0) for n in LENGTHS)
    assert batch["groups"][:, 1].max() == 4 * 7
    model = build("beams=null")
    scores = model.score(EXAMPLES)
    model.trie = Trie.from_codes(model.distinct_ids, 4)
    monkeypatch.setattr(decoding, "SOURCE_TOKENS_PER_BATCH", 30)
    assert torch.allclose(model.score(EXAMPLES), scores, rtol=1e-5)
    candidates = np.tile(np.array([3, 9, 13, 28]), (10, 1))
    chosen = model.score(replace(EXAMPLES, candidates=candidates))
    assert torch.allclose(chosen, scores[:, [3, 9, 13, 28]], rtol=1e-5)


@pytest.mark.parametrize("codes", [CODES, UNEVEN], ids=["one length", "paths of a tree"])
def test_exact_scores_are_likelihoods_among_the_codes_that_continue_an_id(build, codes):
    model = build("beams=null", codes=codes)
    examples = replace(EXAMPLES, start=np.where(np.arange(10) == 2, EXAMPLES.end, EXAMPLES.start))  # an empty history
    scores = model.score(examples)
    distinct = {tuple(tokens_of(codes, item)[1:]) for item in range(30)}
    with torch.no_grad():
        for i in range(10):
            history = examples.sequence[examples.start[i] : examples.end[i]][-6:]
            begin = [token for item in history for token in tokens_of(codes, item)]
            for item in (0, 4, 17):
                code, total = tuple(tokens_of(codes, item)[1:]), 0.0
                for level in range(len(code)):
                    options = sorted({c[level] for c in distinct if c[:level] == code[:level]})
                    after = logits(model, [*begin, 0, *code[:level]])[-1, options]
                    total += after.log_softmax(0)[options.index(code[level])].item()
                assert scores[i, item].item() == pytest.approx(total, rel=1e-4, abs=1e-5)


def test_beams_give_the_exact_scores_of_what_they_reach_and_leave_the_rest_unranked(build, monkeypatch):
    monkeypatch.setattr(decoding, "exact_is_cheaper", lambda *_: False)
    for codes in (CODES, UNEVEN):
        model = build("beams=40", codes=codes)  # as many as ids
        assert torch.allclose(model.score(EXAMPLES), model.exact_scores(EXAMPLES), rtol=1e-5)
    model = build("beams=4")
    scores, exact = model.score(EXAMPLES), model.exact_scores(EXAMPLES)
    reached = scores.isfinite()
    assert torch.allclose(scores[reached], exact[reached], rtol=1e-5)
    assert ((reached.sum(1) >= 4) & (reached.sum(1) <= 6)).all()  # of which three may share an id
    ranking = rank(model, EXAMPLES, mask_history=False, top_items=10, batch_size=3)
    missed = ~reached.gather(1, torch.from_numpy(EXAMPLES.target.astype(np.int64))[:, None])[:, 0].numpy()
    assert (ranking.n_tied[missed] == 0).all()
    assert "best items by exact scores are in no beam of 4" in model.gaps(EXAMPLES, None, [10])["beam-search"]
