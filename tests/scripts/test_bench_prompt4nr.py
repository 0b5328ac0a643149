"""The benchmark's contenders read the same tokens and find the same log-odds."""

import bench_prompt4nr as bench
import numpy as np
import pytest
import torch
from machine import Timing, executed

from tests.models.tiny_bert import tiny_bert
from tests.numeric import assert_close

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return str(tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def shared(backbone):
    return bench.made(titles=6, n=7, mean=4, batch=3, backbone=backbone)


def test_all_contenders_find_the_same_log_odds(shared):
    found = {name: score(shared) for name, score in bench.SCORERS.items()}
    theirs = found[bench.PUBLISHED]
    assert theirs.shape == (7,)
    assert theirs.std() > 0.1
    for name in (bench.DYNAMIC, bench.OURS):
        assert_close(found[name], theirs, rel=1e-3)
    torch.testing.assert_close(found[bench.OURS_BF16], theirs, atol=0.5, rtol=0)


def test_strings_are_tokenised_to_what_ours_lays_of_tokens(shared):
    ours, asked = shared.ours, shared.asked
    filled = ours.filler.fill(ours.filler.tokenize_histories(asked), np.arange(7), asked.candidates[:, 0])
    for i, ids in enumerate(shared.tokenizer(shared.sentences)["input_ids"]):
        assert filled.tokens.rows(np.array([i])).flat.tolist() == ids


def test_training_moves_no_weight_that_others_begin_with(shared):
    before = {name: weight.clone() for name, weight in shared.ours.state_dict().items()}
    theirs = {name: weight.clone() for name, weight in shared.theirs.state_dict().items()}
    for set_up in bench.TRAINERS.values():
        assert set_up(shared)() == 7
    assert all(torch.equal(before[name], weight) for name, weight in shared.ours.state_dict().items())
    assert all(torch.equal(theirs[name], weight) for name, weight in shared.theirs.state_dict().items())


def test_padding_less_and_reading_one_token_run_fewer_operations(shared):
    flops = [executed(set_up(shared)) for set_up in bench.TRAINERS.values()]
    assert flops[0] > 2 * flops[1] > 2 * flops[2]


def test_titles_and_histories_are_as_long_as_asked(shared):
    titles = bench.drawn_titles(shared.tokenizer)
    assert np.mean([len(title.split()) for title in titles]) == pytest.approx(11, abs=0.3)
    assert np.mean(bench.drawn_examples(4_000, 20).history_length) == pytest.approx(20, abs=1)


def test_rows_show_the_gain_by_algorithm_and_that_by_precision_apart():
    timings = {bench.PUBLISHED: Timing(2, 1, 3), bench.OURS: Timing(6, 5, 7), bench.OURS_BF16: Timing(18, 17, 19)}
    flops = {bench.PUBLISHED: 50e9, bench.OURS: 10e9, bench.OURS_BF16: 10e9}
    rates = {bench.PUBLISHED: 200, bench.OURS: 200, bench.OURS_BF16: 1_000}
    rows = bench.rows_of(timings, flops, rates)
    assert [row["times"] for row in rows] == ["1.00", "3.00", "9.00"]
    assert [row["times ours in fp32"] for row in rows] == ["0.333", "1.00", "3.00"]
    assert [row["of the machine's"] for row in rows] == ["50 %", "30 %", "18 %"]


def test_a_run_prints_each_contender_and_ends_by_its_verdict(capsys, monkeypatch, backbone):
    monkeypatch.setattr(bench, "measured_rate", lambda dtype: 50.0)
    small = ["--backbone", backbone, "--titles", "3", "--history", "3", "--examples", "4", "--batch", "2"]
    status = bench.main([*small, "--rounds", "1", "--markdown"])
    printed = capsys.readouterr().out
    for words in (*bench.MEANING.values(), "histories of at most 3 titles: training", "3 titles: agreement"):
        assert words in printed
    assert status == ("DOES NOT HOLD: " in printed)
