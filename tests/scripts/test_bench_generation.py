"""All contenders generate the same items, and FLOP are counted correctly."""

from unittest import mock

import bench_generation as bench
import numpy as np
import pytest
import torch
from fresh_process import Measurement, measure

from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.models.shared.trie import Trie

pytestmark = pytest.mark.numeric

N_ITEMS, BEAMS = 130, 6


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(bench, "VOCABULARY", 300)
    monkeypatch.setattr(bench, "BATCH", 2)


def small_bench(precision="fp32"):
    return bench.Bench(bench.random_t5("tiny", precision), bench.codes_of(N_ITEMS), bench.random_sources(5), BEAMS)


def test_item_numbers_become_digits_of_one_length():
    assert bench.codes_of(12)[9:] == [[100, 109], [101, 100], [101, 101]]
    assert {len(code) for code in bench.codes_of(12_101)} == {5}
    assert Trie.from_codes(bench.codes_of(12_101)).n_inner == (1, 2, 13, 121, 1_210)  # 1210_ is a single item


def test_semantic_ids_of_which_ours_are_no_less_likely():
    codes = bench.semantic_codes(400)
    assert len({*map(tuple, codes)}) == 400
    sources = bench.semantic_sources(codes, 4)
    assert all(len(source) % len(codes[0]) == 1 for source in sources)
    assert max(map(len, sources)) <= 1 + bench.HISTORY * len(codes[0])
    small = bench.T5Shape(layers=1, width=16, heads=2, head_size=8, inner_size=16)
    with mock.patch.object(bench, "TIGER", small):
        of_ids = bench.Bench(bench.tiger_t5(codes, "fp32"), codes, sources, BEAMS)
    (theirs, their_scores), (ours, our_scores) = bench.reference(of_ids), bench.beam(of_ids)
    exact = bench.all_scores(of_ids)
    assert_close(exact.gather(1, ours), our_scores, rel=1e-4)
    assert_close(exact.gather(1, theirs), their_scores, rel=1e-4)
    assert (our_scores >= their_scores - 1e-4).all()  # a complete id keeps a beam of theirs, and none of ours


def test_five_times_the_speed_passes():
    timings = {bench.REFERENCE: bench.Timing(2, 1, 3), bench.BEAM: bench.Timing(10, 9, 11)}
    assert bench.speed_verdict(timings).passed
    assert not bench.speed_verdict({**timings, bench.BEAM: bench.Timing(9, 8, 10)}).passed


def test_sources_are_as_long_as_prompts_about_histories():
    lengths = [len(source) for source in bench.random_sources(4_000)]
    assert np.mean(lengths) == pytest.approx(10 + 6 * 7.9, abs=2)
    assert min(lengths) == 22


def test_batches_hold_each_source_once_in_order_of_length():
    sources = bench.random_sources(7)
    seen, longest = [], 0
    for indices, tokens, mask in bench.batches_of(sources, 3):
        for i, row, is_token in zip(indices, tokens, mask, strict=True):
            assert row[is_token].tolist() == sources[i].tolist()
            assert is_token[: len(sources[i])].all()
            assert len(sources[i]) >= longest
            longest = len(sources[i])
        seen += indices.tolist()
    assert sorted(seen) == list(range(7))


def test_all_contenders_generate_the_same_items_with_the_same_scores():
    shared = small_bench()
    theirs, their_scores = bench.reference(shared)
    ours, our_scores = bench.beam(shared)
    best, best_scores = bench.exact(shared)
    assert torch.equal(ours, theirs)
    assert_close(our_scores, their_scores, rel=1e-4)
    assert_close(bench.all_scores(shared).gather(1, ours), our_scores, rel=1e-4)
    assert (best_scores >= our_scores - 1e-4).all()
    assert len(best.unique()) > BEAMS  # sources differ


def test_contenders_agree_in_bf16_except_for_ties():
    shared = small_bench(precision="bf16")
    rows = bench.agreement_rows(
        {name: work(shared) for name, work in bench.CONTENDERS.items()},
        bench.all_scores(small_bench()),
        bench.TIE["bf16"],
    )
    assert {row["same top items, ignoring ties"] for row in rows[:2]} == {"5 of 5 sequences"}


def test_agreement_ignores_ties():
    scores = torch.tensor([[0.0, -1.0, -1.0005, -2.0], [0.0, -1.0, -1.5, -2.0]])
    items, theirs = torch.tensor([[0, 1], [0, 1]]), torch.tensor([[0, 2], [0, 2]])
    row = bench.agreement(items, theirs, scores, tie=1e-3)
    assert row["same top items, ignoring ties"] == "1 of 2 sequences"
    assert row["largest score difference"] == "0.50000"
    assert row["items in common"] == "50.0 %"
    assert row["recall of the best items"] == "100.0 %"


def peaks(product_mb):
    few, many = bench.MEMORY_BEAMS
    short, long = bench.MEMORY_LENGTHS
    added = {(few, short): 10, (many, short): 15, (few, long): 20, (many, long): 25 + product_mb}
    return {
        (contender, *key): Measurement(1, 300, 300 + mb)
        for contender in (bench.REFERENCE, bench.BEAM)
        for key, mb in added.items()
    }


def test_memory_may_grow_with_beams_and_with_length_but_not_with_both():
    config = bench.random_t5("tiny", "fp32").config
    copied = 8 * 30 * 192 * 2 * 2 * 128 * 4 / 2**20  # MiB
    assert bench.beam_memory_verdict(peaks(0), config).passed
    assert bench.beam_memory_verdict(peaks(0.04 * copied), config).passed
    verdict = bench.beam_memory_verdict(peaks(copied), config)
    assert not verdict.passed
    assert f"adds {copied:.1f} MiB" in verdict.details


@pytest.mark.parametrize("name", [bench.REFERENCE, bench.BEAM])
def test_a_contender_can_be_set_up_alone(name):
    items, _ = bench.set_up_memory(name, 4, 12, "tiny", bench.codes_of(30))()
    assert items.shape == (bench.MEMORY_SOURCES, 4)


def test_a_run_prints_each_contender_and_exits_with_its_verdict(bench_prints, monkeypatch):
    monkeypatch.setattr(bench, "measure_in_fresh_process", measure)
    monkeypatch.setattr(bench, "MEMORY_LENGTHS", (8, 12))
    monkeypatch.setattr(bench, "BEAMS", BEAMS)
    words = (*bench.DESCRIPTIONS.values(), "3 of 3 sequences", "### tiny, bf16, 130 items in 3 digits")
    bench_prints(bench.main, ["--size", "tiny", "--items", str(N_ITEMS), "--sequences", "3", "--rounds", "1"], *words)
