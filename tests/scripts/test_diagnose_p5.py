import diagnose_p5 as diagnosis
import numpy as np
import pytest
import torch

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.p5.model import build
from tests.models.p5_data import N_ITEMS, config, shop
from tests.support.numeric import assert_close

EXAMPLES = shop().examples(SplitName.valid)


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    return build(Context(config(), shop(), 0, tmp_path, "cpu", "sequential")).eval()


@torch.no_grad()
def test_the_losses_of_a_target_s_tokens_average_to_the_loss_of_training(model):
    batch = model.training_rows().batch(0, [0, 3, 40, 90])
    losses, position = diagnosis.token_losses(model, batch)
    row = np.cumsum(position == 0) - 1
    means = [losses[torch.from_numpy(row == i)].mean() for i in range(4)]
    assert_close(torch.stack(means).mean(), model(**batch)["loss"], rel=1e-5)


def test_losses_are_averaged_by_place():
    assert diagnosis.by_position(torch.tensor([1.0, 4.0, 3.0, 6.0]), np.array([0, 1, 0, 2])) == pytest.approx([2, 4, 6])


def test_histories_are_another_users_or_in_another_order(model):
    values = model._field_values(EXAMPLES)
    own = diagnosis.histories(values, "own")
    another = diagnosis.histories(values, "another")
    shuffled = diagnosis.histories(values, "shuffled")
    assert [h.tolist() for h in another] == [h.tolist() for h in [*own[1:], own[0]]]
    assert [sorted(h) for h in shuffled] == [sorted(h) for h in own]
    assert any(h.tolist() != o.tolist() for h, o in zip(shuffled, own, strict=True))


def test_attention_without_queries_is_uniform_but_for_positions(model):
    for name, weight in model.named_parameters():
        if name.endswith("q.weight"):
            weight.data.zero_()
    assert diagnosis.attention(model, EXAMPLES)["cross"] == (1.0, 0.0)


def test_a_model_that_scores_all_items_alike_ranks_by_chance(model, monkeypatch):
    monkeypatch.setattr(model, "score", lambda examples: torch.zeros(len(examples), N_ITEMS))
    hit, ndcg = diagnosis.ranking(model, EXAMPLES)
    assert hit == pytest.approx(10 / N_ITEMS)
    assert ndcg == pytest.approx(sum(1 / np.log2(rank + 1) for rank in range(1, 11)) / N_ITEMS)


def test_every_weight_is_in_one_group(model):
    groups = diagnosis.weight_groups(model)
    assert sum(len(weights) for weights in groups.values()) == len(list(model.parameters()))
    assert {"cross attention, queries and keys", "tokens", "whole words", "decoder feed-forward"} <= {*groups}
    first = model.packed.t5.decoder.block[0].layer[1].EncDecAttention
    assert any(weight is first.q.weight for weight in groups["cross attention, queries and keys"])
    assert any(weight is first.o.weight for weight in groups["cross attention, values and output"])
