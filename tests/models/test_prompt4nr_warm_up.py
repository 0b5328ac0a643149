"""The warm-up of the head: done once, on the titles of the training part alone, and nobody's random numbers change."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from llm4rec_cli.config.schema import Precision
from llm4rec_cli.data.split import leave_one_out, split_dataset
from llm4rec_cli.models.prompt4nr import warm_up
from llm4rec_cli.models.prompt4nr.config import WarmUpConfig
from llm4rec_cli.models.prompt4nr.sequences import Ragged, packed
from llm4rec_cli.models.prompt4nr.templates import tokenizer
from tests.builders import tiny_dataset, tiny_log
from tests.models.prompt4nr_data import TITLES, config, model
from tests.models.tiny_bert import CHARACTERS, SPECIAL, tiny_bert

pytestmark = pytest.mark.numeric

BODY = "bert.layers.0.intermediate.dense.weight"
HEAD = "bert.transform.dense.weight"


@pytest.fixture(scope="module")
def headless(tmp_path_factory):
    return str(tiny_bert(tmp_path_factory.mktemp("bert"), head=False))


@pytest.fixture
def trainings(monkeypatch):
    """The titles of each warm-up that was trained."""
    seen = []
    train = warm_up._train

    def recorded(bert, titles, tokens, settings):
        rows = [titles.flat[begin:end] for begin, end in pairwise(titles.offsets)]
        seen.append([tokens.decode(row.tolist()).replace(" ", "") for row in rows])
        train(bert, titles, tokens, settings)

    monkeypatch.setattr(warm_up, "_train", recorded)
    return seen


def settings(backbone, template="discrete_utility", epochs=1, **changes):
    return replace(
        config(template), backbone=backbone, warm_up=WarmUpConfig(epochs, 8, 1e-3, Precision.bf16), **changes
    )


def weights(built):
    return built.bert.state_dict()


def test_it_is_done_once_for_all_templates_and_seeds_and_ways_to_train(headless, tmp_path, trainings):
    first = weights(model(tmp_path, settings(headless)))
    others = [
        model(tmp_path, settings(headless, "hybrid_action"), seed=3),
        model(tmp_path, settings(headless, "continuous_utility", prompt_only=True, titles=3)),
    ]
    assert len(trainings) == 1
    for other in map(weights, others):
        assert all(torch.equal(other[name], first[name]) for name in first if name != "new")
    assert len(list((tmp_path / "backbones").glob("*.safetensors"))) == 1


def test_it_trains_body_and_head(headless, tmp_path):
    cold, warm = (model(tmp_path, settings(headless, epochs=epochs)).state_dict() for epochs in (0, 1))
    for name in (BODY, HEAD, "bert.bias", "bert.kind", "bert.words.weight", "bert.positions.weight"):
        assert not torch.equal(cold[name], warm[name]), name
    assert torch.equal(cold["bert.new"], warm["bert.new"])  # drawn by the seed


def test_without_it_a_new_head_is_drawn_by_the_seed(headless, tmp_path, trainings):
    first, same, other = (model(tmp_path, settings(headless, epochs=0), seed=seed).state_dict() for seed in (0, 0, 1))
    assert trainings == []
    assert torch.equal(first[HEAD], same[HEAD])
    assert not torch.equal(first[HEAD], other[HEAD])
    assert torch.equal(first[BODY], other[BODY])


def test_random_numbers_go_on_alike_whether_it_was_trained_or_kept(headless, tmp_path):
    drawn = []
    for _ in range(2):
        built = model(tmp_path, settings(headless, "hybrid_action"))
        drawn.append((torch.rand(3), built.bert.new.detach()))
    for trained, kept in zip(*drawn, strict=True):
        assert torch.equal(trained, kept)


def test_only_what_training_shows_or_has_in_a_history_is_read(headless, tmp_path, trainings):
    titles = [f"make {i}" for i in range(9)]
    shown = [("train", 0, 0.0, [4, 5], "0-1 1-0")] * 20
    split = split_dataset(tiny_log([*shown, ("dev", 0, 9.0, [6, 0], "7-1 1-0")], titles))
    model(tmp_path, settings(headless), split)
    assert trainings == [[f"make{i}" for i in (0, 1, 4, 5)]]


def test_of_a_shop_the_training_part_is_read(headless, tmp_path, trainings):
    found = tiny_dataset([[0, 1, 2, 3], [4, 1, 0]], n_items=8)
    found.items["title"] = [f"make {i}" for i in range(8)]
    model(tmp_path, settings(headless), leave_one_out(found))
    assert trainings == [["make0", "make1", "make4"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"warm_up": WarmUpConfig(2, 8, 1e-3, Precision.bf16)},
        {"warm_up": WarmUpConfig(1, 4, 1e-3, Precision.bf16)},
        {"warm_up": WarmUpConfig(1, 8, 1e-4, Precision.bf16)},
        {"warm_up": WarmUpConfig(1, 8, 1e-3, Precision.fp32)},
        {"new_learning_rate": 1e-2},
    ],
)
def test_whatever_changes_it_has_it_done_anew(headless, tmp_path, trainings, changes):
    first, other = settings(headless), replace(settings(headless), **changes)
    assert not torch.equal(model(tmp_path, first).bert.bias, model(tmp_path, other).bert.bias)
    assert len(trainings) == 2


def test_other_titles_or_another_backbone_have_it_done_anew(headless, tmp_path, trainings):
    model(tmp_path, settings(headless))
    model(tmp_path, settings(str(tiny_bert(tmp_path / "other"))))
    more = split_dataset(tiny_log([("train", 0, 0.0, [3], "0-1 1-0")] * 3 + [("dev", 0, 9.0, [6], "7-1 1-0")], TITLES))
    model(tmp_path, settings(headless), more)
    assert len(trainings) == 3


def test_a_title_longer_than_the_backbone_reads_is_cut(headless, tmp_path, trainings):
    long = "a " * 600
    shown = split_dataset(
        tiny_log([("train", 0, 0.0, [0], "0-1 1-0")] * 3 + [("dev", 0, 9.0, [0], "1-1 0-0")], [long, "b"])
    )
    model(tmp_path, settings(headless), shown)
    assert sorted(map(len, trainings[0])) == [1, 511]  # [CLS] takes a place


def test_the_loss_falls_over_the_epochs(headless, tmp_path):
    built = [model(tmp_path, settings(headless, epochs=epochs)) for epochs in (1, 30)]
    tokens = tokenizer(Path(headless))
    titles = Ragged.of([found.ids for found in tokens.encode_batch_fast([title for title in TITLES if title])])
    inputs = packed(titles)
    places, wanted = warm_up.blanked(inputs, tokens.get_vocab(with_added_tokens=True), np.random.default_rng(0))
    del inputs["begins"]
    losses = []
    for one in built:
        with torch.no_grad():
            logits = one.bert.everywhere(places, **inputs) @ one.bert.words.weight.T + one.bert.bias
        losses.append(cross_entropy(logits, wanted).item())
    assert losses[1] < 0.8 * losses[0]


def test_blanks_are_drawn_as_bert_draws_them(headless):
    tokens = tokenizer(Path(headless))
    vocabulary = len(SPECIAL) + 3 + 2 * len(CHARACTERS)
    rows = np.random.default_rng(0).integers(len(SPECIAL), vocabulary, (400, 50))
    rows[:, 0], rows[:, -1] = 2, 3  # [CLS] and [SEP]
    lengths = np.random.default_rng(1).integers(30, 51, 400)
    inputs = packed(Ragged.of([row[:length].tolist() for row, length in zip(rows, lengths, strict=True)]))
    before = inputs["tokens"].clone()
    places, wanted = warm_up.blanked(inputs, tokens.get_vocab(with_added_tokens=True), np.random.default_rng(2))
    assert torch.equal(before[places], wanted)
    assert not set(wanted.tolist()) & {0, 2, 3}  # no padding is asked for, nor what frames a title
    after = inputs["tokens"][places]
    n_words = int(lengths.sum()) - 400 - int((lengths == 50).sum())
    assert len(places) / n_words == pytest.approx(0.15, abs=0.01)
    assert (after == 4).float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (after == wanted).float().mean().item() == pytest.approx(0.1, abs=0.02)
    untouched = torch.ones(len(before), dtype=torch.bool)
    untouched[places] = False
    assert torch.equal(before[untouched], inputs["tokens"][untouched])


def test_the_embeddings_of_a_backbone_with_a_head_are_warmed_up_too(tmp_path):
    backbone = str(tiny_bert(tmp_path / "bert"))
    cold, warm = (model(tmp_path, settings(backbone, epochs=epochs)).state_dict() for epochs in (0, 1))
    assert not torch.equal(cold[HEAD], warm[HEAD])
    assert model(tmp_path, settings(backbone)).is_head_new is False


def test_the_model_is_built_on_what_the_warm_up_left(headless, tmp_path):
    """Saved weights and the model's agree, the type embedding and the bias of the head among them."""
    built = weights(model(tmp_path, settings(headless)))
    (file,) = (tmp_path / "backbones").glob("*.safetensors")
    kept = load_file(file)
    assert set(kept) == set(built)
    assert all(torch.equal(built[name], kept[name]) for name in kept if name != "new")
