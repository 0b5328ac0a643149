import bench_p5_sizes as bench
import pytest
import torch

from llm4rec_cli.models.p5.vocabulary import load_tokenizer
from llm4rec_cli.models.shared.seq2seq import load_t5
from llm4rec_cli.models.shared.t5_shapes import T5_SHAPES

SMALL = ["+experiment=p5/paper", "dataset=demo", "dataset.split=leave_one_out", "task=rating"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """The folder of a backbone with 700 tokens, and the tokenizer that it is made with."""
    folder = tmp_path_factory.mktemp("backbone")
    tokenizer = load_tokenizer("tiny", ["five stars for a red kite"] * 3, 300, folder)
    bench.save_backbone(T5_SHAPES["tiny"], tokenizer, folder, 700, 728)
    return folder


def test_a_backbone_has_the_shape_and_a_row_for_each_token(backbone):
    tokenizer = load_tokenizer(str(backbone), [], 0, backbone)
    assert tokenizer.get_vocab_size() == 700
    assert tokenizer.encode("a red kite").tokens == ["▁a", "▁red", "▁kite"]
    t5 = load_t5(str(backbone), 700, 0.1)
    assert (t5.shared.num_embeddings, t5.config.d_model, t5.config.num_layers) == (
        700,
        128,
        2,
    )  # rows without a token are cut


@pytest.mark.parametrize("size", ["small", "base"])
def test_the_papers_shapes_have_its_numbers_of_weights(size):
    """60.5 and 222.9 million, as published."""
    shape, rows = T5_SHAPES[size], bench.N_ROWS
    inner, d = shape.heads * shape.head_size, shape.width
    attention, feed_forward = 4 * d * inner, 2 * d * shape.inner_size
    norms, positions = d * (5 * shape.layers + 2), 2 * 32 * shape.heads
    weights = rows * d + shape.layers * (3 * attention + 2 * feed_forward) + norms + positions
    assert weights == {"small": 60_506_624, "base": 222_903_552}[size]


def test_a_step_trains(backbone, cache, monkeypatch):
    changes = []
    step = torch.optim.AdamW.step

    def observed(optimizer):
        before = optimizer.param_groups[0]["params"][0].detach().clone()
        step(optimizer)
        changes.append((optimizer.param_groups[0]["params"][0] - before).abs().max().item())

    monkeypatch.setattr(torch.optim.AdamW, "step", observed)
    typed = [*SMALL, f"model.backbone={backbone}", f"paths.cache={cache / 'llm4rec'}"]
    bench.step_of(typed, 4, 2)()
    assert len(changes) == 3 and min(changes) > 0
    facts = bench.describe(typed)
    assert facts["rows"] > 0 and facts["source"] > facts["target"] > 1
