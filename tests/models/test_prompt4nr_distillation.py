"""The distillation: done once for all seeds, towards the order of frozen text, without clicks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.models.prompt4nr import distillation
from llm4rec_cli.models.prompt4nr.config import Attention, DistillationConfig, WarmUpConfig
from llm4rec_cli.models.shared.clicks import training_clicks
from llm4rec_cli.models.shared.frozen_text import FrozenText
from llm4rec_cli.text.features import encode_texts
from tests.models.prompt4nr_data import config, log, model

pytestmark = pytest.mark.numeric

HEAD = "bert.transform.dense.weight"


@pytest.fixture
def trainings(monkeypatch):
    """One entry for each distillation that was trained."""
    trainings = []
    train = distillation._train
    monkeypatch.setattr(distillation, "_train", lambda *arguments: (trainings.append(1), train(*arguments)))
    return trainings


def settings(backbone, steps=2, template="hybrid_utility", teacher=(True, 0.2), of_distillation=(), **changes):
    values = {"histories": 4, "candidates": 8, "learning_rate": 1e-3, "temperature": 0.05, **dict(of_distillation)}
    distilled = DistillationConfig(steps, **values, centred=teacher[0], history_temperature=teacher[1])
    warm_up = WarmUpConfig(0, 8, 1e-3, Precision.fp32, distilled)
    return replace(config(template), backbone=backbone, warm_up=warm_up, **changes)


def test_it_is_done_once_for_all_seeds_and_ways_of_training_on_clicks(headless, tmp_path, trainings):
    states, drawn = [], []
    for chosen, seed in ((settings(headless), 0), (settings(headless), 0), (settings(headless, negatives=2), 3)):
        built = model(tmp_path, chosen, seed=seed)
        states.append(built.state_dict())
        drawn.append(torch.rand(3))
    assert len(trainings) == 1
    assert torch.equal(*drawn[:2]), "random numbers are the same whether it is trained or cached"
    for state in states[1:]:
        assert all(torch.equal(state[name], states[0][name]) for name in state)
    assert {built.learning_rate_of(name, 2e-5) for name, _ in built.named_parameters()} == {2e-5}


def test_other_settings_or_impressions_train_another(headless, tmp_path, trainings):
    heads = [model(tmp_path, settings(headless)).state_dict()[HEAD]]
    for changes in (
        *({"steps": 3}, {"new_learning_rate": 1e-4}, {"max_length": 100}, {"template": "hybrid_action"}, {"titles": 3}),
        *({"attention": Attention.shared}, {"teacher": (False, 0.2)}, {"teacher": (True, None)}),
        *({"of_distillation": {"learning_rate": 1e-4}}, {"of_distillation": {"histories": 5}}),
        *({"of_distillation": {"candidates": 9}}, {"of_distillation": {"temperature": 0.1}}),
        {"of_distillation": {"seed": 1}},
    ):
        heads.append(model(tmp_path, settings(headless, **changes)).state_dict()[HEAD])
        assert len(trainings) == len(heads), changes
        assert not torch.equal(heads[0], heads[-1]), changes
    model(tmp_path, settings(headless), log(n_train=30))
    for words in (20, 30):  # no title is longer: the longest candidate moves the positions of a shared history
        model(tmp_path, settings(headless, attention=Attention.shared, candidate_words=words, max_length=120))
    assert len(trainings) == len(heads) + 3


def test_on_a_few_clicks_it_comes_to_answer_as_frozen_text(headless, tmp_path):
    split = log(2)
    encoder = EncoderConfig(headless, Pooling.mean, 256, Precision.fp32)
    teacher = FrozenText(lambda texts: encode_texts(texts, encoder, tmp_path, "cpu"), split, True, 0.2)
    clicks = training_clicks(split)
    shown = np.unique(np.concatenate([clicks.item, clicks.others]))
    zeros = np.zeros(len(clicks), dtype=np.int64)
    candidates = np.tile(shown, (len(clicks), 1))
    examples = Examples(clicks.user, zeros, clicks.sequence, clicks.start, clicks.end, zeros, candidates=candidates)
    expected = (teacher.score(examples) / 0.05).softmax(1)
    answers = [model(tmp_path, settings(headless, steps), split).score(examples) for steps in (1, 300)]
    before, after = ((expected * (expected / answer).log()).sum(1).mean().item() for answer in answers)
    assert before > 0.5
    assert after < before / 2, "with other draws of dropout it ends at 0.001 to 0.4"


def test_the_loss_is_the_divergence_of_two_softmaxes():
    """KL(p ‖ q) with p = softmax(similarity / 0.5) = (¾, ¼) and q = softmax(log-odds) = (½, ½)."""
    similarity, log_odds = torch.tensor([[0.5 * np.log(3), 0.0]]), torch.tensor([[7.0, 7.0]])
    expected = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert distillation.divergence(log_odds, similarity, 0.5).item() == pytest.approx(expected, rel=1e-6)
