"""All contenders read the same tokens and compute the same log-odds."""

import bench_prompt4nr as bench
import numpy as np
import pytest
import torch
from bench_common import flops_per_unit

from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.models.prompt4nr.config import Attention
from tests.models.tiny_bert import tiny_bert

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return str(tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def shared(backbone):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "HISTORY", 4)
        return bench.set_up(titles=6, n=7, candidates=2, backbone=backbone)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(bench, "BATCH", 3)


def test_all_contenders_compute_the_same_log_odds(shared):
    log_odds = {name: score(shared) for name, score in bench.SCORERS.items()}
    theirs = log_odds[bench.PUBLISHED]
    assert theirs.shape == (14,)
    assert theirs.std() > 0.1
    for name in (bench.DYNAMIC, bench.OURS):
        assert_close(log_odds[name], theirs, rel=1e-3)
    torch.testing.assert_close(log_odds[bench.OURS_BF16], theirs, atol=0.5, rtol=0)
    torch.testing.assert_close(log_odds[bench.SHARED_BF16], log_odds[bench.SHARED], atol=0.5, rtol=0)
    assert (log_odds[bench.SHARED] - theirs).abs().max() > 0.1  # another model


def test_tokenised_strings_equal_the_tokens_that_ours_assembles(shared):
    ours, examples = shared.ours, shared.examples
    history = np.repeat(np.arange(7), 2)
    filled = ours.filler.fill(ours.filler.tokenize_histories(examples), history, examples.candidates.ravel())
    for i, ids in enumerate(shared.tokenizer(shared.sentences)["input_ids"]):
        assert filled.tokens.rows(np.array([i])).flat.tolist() == ids


def test_shared_histories_have_the_same_titles(shared):
    """Both cut nothing here, so that a history has the same tokens, once for its two candidates."""
    history = np.repeat(np.arange(7), 2)
    filled = {
        attention: model.filler.fill(
            model.filler.tokenize_histories(shared.examples), history, shared.examples.candidates.ravel()
        )
        for attention, model in shared.models.items()
    }
    full, apart = filled[Attention.full].tokens, filled[Attention.shared]
    lengths = apart.histories.tokens.lengths[history] + apart.tokens.lengths
    assert lengths.tolist() == full.lengths.tolist()


def test_training_changes_no_weight_that_others_start_from(shared):
    before = {name: weight.clone() for name, weight in shared.ours.state_dict().items()}
    theirs = {name: weight.clone() for name, weight in shared.theirs.state_dict().items()}
    for train in bench.TRAINERS.values():
        assert train(shared)() == 14
    assert all(torch.equal(before[name], weight) for name, weight in shared.ours.state_dict().items())
    assert all(torch.equal(theirs[name], weight) for name, weight in shared.theirs.state_dict().items())


def test_less_padding_and_a_single_output_token_take_fewer_flop(shared):
    flops = {name: flops_per_unit(train(shared)) for name, train in bench.TRAINERS.items()}
    assert flops[bench.PUBLISHED] > 2 * flops[bench.DYNAMIC] > 2 * flops[bench.OURS]
    assert flops[bench.OURS] > 1.15 * flops[bench.SHARED]


def test_titles_and_histories_have_the_requested_mean_length(shared):
    titles = bench.random_titles(shared.tokenizer)
    assert np.mean([len(title.split()) for title in titles]) == pytest.approx(11, abs=0.3)
    assert np.mean(bench.random_examples(4_000, 1).history_length) == pytest.approx(20, abs=1)


def test_a_run_prints_each_contender_and_exits_with_its_verdict(bench_prints, backbone):
    arguments = ["--backbone", backbone, "--titles", "3", "--examples", "4", "--rounds", "1"]
    words = (*bench.DESCRIPTIONS.values(), "histories of at most 3 titles, candidates each: 1: training")
    bench_prints(bench.main, arguments, *words)
