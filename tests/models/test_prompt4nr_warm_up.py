"""The warm-up: done once, on titles of the training part only, without effect on other random numbers."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from llm4rec_cli.config.schema import Precision
from llm4rec_cli.conformance.builders import tiny_dataset, tiny_log
from llm4rec_cli.data.split import leave_one_out, split_dataset
from llm4rec_cli.models.prompt4nr import warm_up
from llm4rec_cli.models.prompt4nr.settings import WarmUpConfig
from llm4rec_cli.models.shared.tokens import Ragged, pack_rows
from llm4rec_cli.text.backbone import load_tokenizer
from tests.models.prompt4nr_data import TITLES, config, model
from tests.models.tiny_bert import CHARACTERS, SPECIAL, tiny_bert

pytestmark = pytest.mark.numeric

BODY = "bert.layers.0.intermediate.dense.weight"
HEAD = "bert.transform.dense.weight"


@pytest.fixture
def trainings(monkeypatch):
    """The texts of each warm-up that was trained."""
    trainings = []
    train = warm_up._train

    def recording(bert, texts, tokens, settings):
        rows = [texts.flat[begin:end] for begin, end in pairwise(texts.offsets)]
        trainings.append([tokens.decode(row.tolist()).replace(" ", "") for row in rows])
        train(bert, texts, tokens, settings)

    monkeypatch.setattr(warm_up, "_train", recording)
    return trainings


def settings(backbone, template="discrete_utility", epochs=1, **changes):
    return replace(
        config(template), backbone=backbone, warm_up=WarmUpConfig(epochs, 8, 1e-3, Precision.bf16), **changes
    )


def weights(built):
    return built.bert.state_dict()


def test_it_is_done_once_for_all_templates_seeds_and_training_settings(headless, tmp_path, trainings):
    cold = model(tmp_path, settings(headless, epochs=0)).state_dict()
    built, drawn = [], []
    for chosen, seed in (
        (settings(headless), 0),
        (settings(headless), 0),
        (settings(headless, "hybrid_action"), 3),
        (settings(headless, "continuous_utility", prompt_only=True, titles=3), 0),
    ):
        built.append(model(tmp_path, chosen, seed=seed))
        drawn.append((torch.rand(3), built[-1].bert.new.detach()))
    assert len(trainings) == 1
    for trained, cached in zip(*drawn[:2], strict=True):
        assert torch.equal(trained, cached), "random numbers are the same whether it is trained or cached"
    first, *others = map(weights, built)
    for state in others:
        assert all(torch.equal(state[name], first[name]) for name in first if name != "new")
    (file,) = (tmp_path / "backbones").glob("*.safetensors")
    saved = load_file(file)
    assert set(saved) == set(first)
    assert all(torch.equal(first[name], saved[name]) for name in saved if name != "new")
    for name in (BODY, HEAD, "bert.bias", "bert.kind", "bert.words.weight", "bert.positions.weight"):
        assert not torch.equal(cold[name], built[0].state_dict()[name]), name
    assert torch.equal(cold["bert.new"], built[0].state_dict()["bert.new"])  # initialised by the seed


def test_it_reads_only_titles_of_the_training_part_cut_to_what_the_backbone_reads(headless, tmp_path, trainings):
    titles = [f"make {i}" for i in range(9)]
    shown = [("train", 0, 0.0, [4, 5], "0-1 1-0")] * 20
    model(tmp_path, settings(headless), split_dataset(tiny_log([*shown, ("dev", 0, 9.0, [6, 0], "7-1 1-0")], titles)))
    dataset = tiny_dataset([[0, 1, 2, 3], [4, 1, 0]], n_items=8)
    dataset.items["title"] = titles[:8]
    model(tmp_path, settings(headless), leave_one_out(dataset))
    assert trainings == [[f"make{i}" for i in (0, 1, 4, 5)], ["make0", "make1", "make4"]]
    rows = [*[("train", 0, 0.0, [0], "0-1 1-0")] * 3, ("dev", 0, 9.0, [0], "1-1 0-0")]
    model(tmp_path, settings(headless), split_dataset(tiny_log(rows, ["a " * 600, "b"])))
    assert sorted(map(len, trainings[2])) == [1, 511]  # [CLS] takes a place


def test_other_settings_titles_or_backbones_train_another_warm_up(headless, tmp_path, trainings):
    first = model(tmp_path, settings(headless)).bert.bias
    for number, changes in enumerate(
        (
            {"warm_up": WarmUpConfig(2, 8, 1e-3, Precision.bf16)},
            {"warm_up": WarmUpConfig(1, 4, 1e-3, Precision.bf16)},
            {"warm_up": WarmUpConfig(1, 8, 1e-4, Precision.bf16)},
            {"warm_up": WarmUpConfig(1, 8, 1e-3, Precision.fp32)},
            {"new_learning_rate": 1e-2},
        ),
        start=2,
    ):
        assert not torch.equal(first, model(tmp_path, replace(settings(headless), **changes)).bert.bias), changes
        assert len(trainings) == number
    with_head = str(tiny_bert(tmp_path / "other"))
    cold, warm = (model(tmp_path, settings(with_head, epochs=epochs)) for epochs in (0, 1))
    assert not torch.equal(cold.state_dict()[HEAD], warm.state_dict()[HEAD]) and warm.is_head_new is False
    more = split_dataset(tiny_log([("train", 0, 0.0, [3], "0-1 1-0")] * 3 + [("dev", 0, 9.0, [6], "7-1 1-0")], TITLES))
    model(tmp_path, settings(headless), more)
    assert len(trainings) == 8
    slow, fast = (
        weights(model(tmp_path, settings(with_head, epochs=3, new_learning_rate=rate))) for rate in (1e-4, 0.1)
    )
    assert all(torch.equal(slow[name], fast[name]) for name in slow), "a trained head learns at the rate of the body"


def test_the_loss_falls_over_the_epochs(headless, tmp_path):
    built = [model(tmp_path, settings(headless, epochs=epochs)) for epochs in (1, 30)]
    tokens = load_tokenizer(Path(headless))
    titles = Ragged.from_rows(
        [encoding.ids for encoding in tokens.encode_batch_fast([title for title in TITLES if title])]
    )
    inputs = pack_rows(titles)
    index, targets = warm_up.mask_tokens(
        inputs["tokens"], tokens.get_vocab(with_added_tokens=True), np.random.default_rng(0)
    )
    del inputs["starts"]
    losses = []
    for built_model in built:
        with torch.no_grad():
            logits = built_model.bert.states_at(index, **inputs) @ built_model.bert.words.weight.T
            logits = logits + built_model.bert.bias
        losses.append(cross_entropy(logits, targets).item())
    assert losses[1] < 0.8 * losses[0]


def test_tokens_are_masked_as_in_bert(headless):
    tokens = load_tokenizer(Path(headless))
    vocabulary = len(SPECIAL) + 3 + 2 * len(CHARACTERS)
    rows = np.random.default_rng(0).integers(len(SPECIAL), vocabulary, (400, 50))
    rows[:, 0], rows[:, -1] = 2, 3  # [CLS] and [SEP]
    lengths = np.random.default_rng(1).integers(30, 51, 400)
    inputs = pack_rows(Ragged.from_rows([row[:length].tolist() for row, length in zip(rows, lengths, strict=True)]))
    before = inputs["tokens"].clone()
    index, targets = warm_up.mask_tokens(
        inputs["tokens"], tokens.get_vocab(with_added_tokens=True), np.random.default_rng(2)
    )
    assert torch.equal(before[index], targets)
    assert not set(targets.tolist()) & {0, 2, 3}  # neither padding, [CLS] nor [SEP] is predicted
    after = inputs["tokens"][index]
    n_words = int(lengths.sum()) - 400 - int((lengths == 50).sum())
    assert len(index) / n_words == pytest.approx(0.15, abs=0.01)
    assert (after == 4).float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (after == targets).float().mean().item() == pytest.approx(0.1, abs=0.02)
    untouched = torch.ones(len(before), dtype=torch.bool)
    untouched[index] = False
    assert torch.equal(before[untouched], inputs["tokens"][untouched])
