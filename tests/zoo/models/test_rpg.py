"""RPG's inputs, loss and scores against naive loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.ids.item_ids import ItemIds
from llm4rec_cli.models.base import Context
from llm4rec_cli.tasks.ranking import rank
from llm4rec_zoo.models.rpg.model import RPG
from tests.support.driver import job_of

rng = np.random.default_rng(0)
SPLIT = leave_one_out(tiny_dataset([rng.integers(0, 20, 9).tolist() for _ in range(12)]))
EXAMPLES = SPLIT.examples(SplitName.test)
CODES = np.column_stack([rng.integers(0, size, 20) for size in (5, 3, 4)])
CODES[[4, 9, 13]] = CODES[4]  # a group of three


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    sizes = ("hidden_size=8", "inner_size=12", "heads=2", "max_length=6", "temperature=0.2")
    config = job_of("model=rpg", *(f"model.{setting}" for setting in sizes)).model
    model = RPG(config, Context(config, SPLIT, 0, tmp_path, "cpu"), ItemIds(CODES))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model.eval()


def vector(model, item):
    """The mean of an item's rows, one by one."""
    first = [0, model.sizes[0], model.sizes[0] + model.sizes[1]]
    return sum(model.tokens.weight[first[j] + CODES[item, j]] for j in range(3)) / 3


def log_probabilities(model, state, j):
    first = sum(model.sizes[:j])
    weight, bias = model.heads.weight[8 * j : 8 * j + 8], model.heads.bias[8 * j : 8 * j + 8]
    predicted = state + F.silu(weight @ state + bias)
    cosines = [F.cosine_similarity(predicted, model.tokens.weight[first + k], dim=0) for k in range(model.sizes[j])]
    return (torch.stack(cosines) / 0.2).log_softmax(0)


def states(model, items):
    """The state after each of a few items."""
    inputs = torch.stack([vector(model, item) for item in items])
    return model.norm(model.encoder(inputs, torch.tensor([[1, len(items)]])))


def test_scores_are_means_of_the_log_probabilities_of_an_item_s_codes(model):
    scores = model.score(EXAMPLES)
    flat, offsets = EXAMPLES.histories(6)
    with torch.no_grad():
        for i in range(len(EXAMPLES)):
            state = states(model, flat[offsets[i] : offsets[i + 1]])[-1]
            by_code = [log_probabilities(model, state, j) for j in range(3)]
            for item in range(20):
                expected = sum(by_code[j][CODES[item, j]] for j in range(3)) / 3
                assert scores[i, item].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_loss_is_the_mean_over_codes_and_positions(model):
    rows = model.training_rows()
    loss = model(**rows.batch(0, list(range(len(rows)))))["loss"]
    total, n = 0.0, 0
    flat, offsets = SPLIT.train_sequences()
    with torch.no_grad():
        for user in range(12):
            items = flat[offsets[user] : offsets[user + 1]]
            assert len(items) == 7  # one window
            for state, target in zip(states(model, items[:-1]), items[1:], strict=True):
                total -= sum(log_probabilities(model, state, j)[CODES[target, j]].item() for j in range(3)) / 3
                n += 1
    assert loss.item() == pytest.approx(total / n, rel=1e-5)


def test_items_of_one_id_tie_and_blocks_are_the_scores(model, monkeypatch):
    scores = model.score(EXAMPLES)
    assert torch.equal(scores[:, 4], scores[:, 9])
    asked = replace(EXAMPLES, target=np.full(len(EXAMPLES), 9))
    ranking = rank(model, asked, mask_history=False, top_items=3, batch_size=4)
    assert (ranking.n_tied == 3).all()
    assert (ranking.n_better == (scores > scores[:, 9:10]).sum(1).numpy()).all()
    monkeypatch.setattr("llm4rec_zoo.models.rpg.model.SCORES_AT_ONCE", 60)
    parts, blocks = zip(*model.score_blocks(EXAMPLES), strict=True)
    assert [part.stop - part.start for part in parts] == [3] * 4
    assert torch.allclose(torch.cat(blocks), scores, rtol=1e-5)


def test_paths_of_different_lengths_are_refused(llm4rec):
    answer = llm4rec("train", "model=rpg", "model.ids.kind=collaborative")
    assert answer.code == 2
    assert "paths of different lengths" in answer.err
