"""The benchmark's contenders name the same items, and its operations are counted right."""

import bench_generation as bench
import numpy as np
import pytest
import torch
from alone import Measured, measured
from machine import Timing, executed

from llm4rec_cli.models.shared.trie import Trie
from tests.numeric import assert_close

pytestmark = pytest.mark.numeric

N_ITEMS, BEAMS = 130, 6
SMALL = ["--size", "tiny", "--items", str(N_ITEMS), "--beams", str(BEAMS), "--sequences", "3", "--batch", "2"]


@pytest.fixture(autouse=True)
def few_tokens(monkeypatch):
    monkeypatch.setattr(bench, "VOCABULARY", 300)


def made(digits=1, n=5, size="tiny", precision="fp32", sources=None):
    sources = sources or bench.drawn_sources(n)
    return bench.Bench(bench.model(size, precision), bench.codes_of(N_ITEMS, digits), BEAMS, sources, 2)


def test_item_numbers_become_pieces_of_one_length():
    assert bench.codes_of(12, 1)[9:] == [[100, 109], [101, 100], [101, 101]]
    assert bench.codes_of(12_101, 2)[-1] == [101, 121, 100]
    assert {len(code) for code in bench.codes_of(12_101, 1)} == {5}
    assert Trie.from_codes(bench.codes_of(12_101, 1)).n_inner == (1, 2, 13, 121, 1_210)  # 1210_ is one item


def test_sources_are_as_long_as_prompts_about_histories():
    lengths = [len(source) for source in bench.drawn_sources(4_000)]
    assert np.mean(lengths) == pytest.approx(10 + 6 * 7.9, abs=2)
    assert min(lengths) == 22


def test_batches_hold_each_source_once_in_order_of_length():
    sources = bench.drawn_sources(7)
    seen, longest = [], 0
    for which, tokens, real in bench.batches_of(sources, 3):
        for i, row, kept in zip(which, tokens, real, strict=True):
            assert row[kept].tolist() == sources[i].tolist()
            assert kept[: len(sources[i])].all()
            assert len(sources[i]) >= longest
            longest = len(sources[i])
        seen += which.tolist()
    assert sorted(seen) == list(range(7))


@pytest.mark.parametrize("digits", [1, 2])
def test_all_contenders_name_the_same_items_with_the_same_scores(digits):
    shared = made(digits)
    theirs, their_scores = bench.reference(shared)
    ours, our_scores = bench.beam(shared)
    best, best_scores = bench.exact(shared)
    assert torch.equal(ours, theirs)
    assert_close(our_scores, their_scores, rel=1e-4)
    assert_close(bench.all_scores(shared).gather(1, ours), our_scores, rel=1e-4)
    assert (best_scores >= our_scores - 1e-4).all()
    assert len(best.unique()) > BEAMS  # sources differ


def test_contenders_agree_in_bf16_but_for_ties():
    shared = made(precision="bf16")
    rows = bench.agreement_rows(
        {name: work(shared) for name, work in bench.CONTENDERS.items()}, bench.all_scores(made()), bench.TIE["bf16"]
    )
    assert {row["same top items, ties aside"] for row in rows[:2]} == {"5 of 5 sequences"}


def test_agreement_sets_ties_aside():
    scores = torch.tensor([[0.0, -1.0, -1.0005, -2.0], [0.0, -1.0, -1.5, -2.0]])
    items, theirs = torch.tensor([[0, 1], [0, 1]]), torch.tensor([[0, 2], [0, 2]])
    found = bench.agreement(items, theirs, scores, tie=1e-3)
    assert found["same top items, ties aside"] == "1 of 2 sequences"
    assert found["worst difference of a score"] == "0.50000"
    assert found["items in common"] == "50.0 %"
    assert found["of the truly best items"] == "100.0 %"


@pytest.mark.parametrize("name", [bench.BEAM, bench.EXACT])
def test_needed_operations_are_those_that_run_where_nothing_is_padded(name):
    shared = made(sources=[np.full(60, 100 + i) for i in range(6)])
    found = executed(lambda: len(bench.CONTENDERS[name](shared)[0]))
    needed = bench.needed_by(shared)[name]
    # Nodes attend to all that are decoded with them, and only then to those above. And once for a batch of 2 or 3 is
    # not once for all.
    assert needed < found < 1.1 * needed


def test_rows_relate_speed_to_the_reference_and_the_machine():
    timings = {bench.REFERENCE: Timing(2, 1, 3), bench.BEAM: Timing(20, 19, 21)}
    flops = {bench.REFERENCE: 50e9, bench.BEAM: 5e9}
    rows = bench.speed_rows(timings, flops, dict.fromkeys(timings, 4e9), rate=200)
    assert [row["times"] for row in rows] == ["1.00", "10.0"]
    assert [row["GFLOP/s"] for row in rows] == ["100", "100"]
    assert [row["of the machine's"] for row in rows] == ["50 %", "50 %"]


def peaks(with_both):
    few, many = bench.MEMORY_BEAMS
    short, long = bench.MEMORY_LENGTHS
    added = {(few, short): 10, (many, short): 15, (few, long): 20, (many, long): 25 + with_both}
    return {
        (contender, *key): Measured(1, 300, 300 + mb)
        for contender in (bench.REFERENCE, bench.BEAM)
        for key, mb in added.items()
    }


def test_memory_may_grow_with_beams_and_with_length_but_not_with_both():
    config = bench.model("tiny", "fp32").config
    copied = 8 * 30 * 192 * 2 * 2 * 128 * 4 / 2**20  # MiB
    assert bench.flat(peaks(0), config)[0]
    assert bench.flat(peaks(0.04 * copied), config)[0]
    holds, words = bench.flat(peaks(copied), config)
    assert not holds
    assert f"add {copied:.1f} MiB" in words


def test_memory_rows_show_what_the_work_added():
    first, _ = bench.memory_rows(peaks(0))
    assert first["peak MiB, added"] == bench.REFERENCE
    assert first["40 beams, 64 tokens"] == "15.0"


@pytest.mark.parametrize("name", [bench.REFERENCE, bench.BEAM])
def test_a_contender_can_be_set_up_alone(name):
    items, _ = bench.set_up_memory(name, 4, 12, "tiny", bench.codes_of(30, 1))()
    assert items.shape == (bench.MEMORY_SOURCES, 4)


def test_a_run_prints_each_contender_and_ends_by_its_verdict(capsys, monkeypatch):
    monkeypatch.setattr(bench, "measured_rate", lambda dtype: 50.0)
    monkeypatch.setattr(bench, "alone", measured)
    monkeypatch.setattr(bench, "MEMORY_LENGTHS", (8, 12))
    status = bench.main([*SMALL, "--digits", "2", "--rounds", "1", "--markdown"])
    printed = capsys.readouterr().out
    for words in (*bench.MEANING.values(), "3 of 3 sequences", "### tiny, bf16, 130 items in 2 pieces of 2 digits"):
        assert words in printed
    assert status == ("DOES NOT HOLD: " in printed)
