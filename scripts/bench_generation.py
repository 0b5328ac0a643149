"""How fast a T5 generates items under constraint, compared with transformers' `generate` on the same weights.

Transformers runs as in published evaluations: `generate(prefix_allowed_tokens_fn=…, renormalize_logits=True)`, with a
table from each prefix to the tokens that may follow. It stops at a code's last piece, so no forced end is decoded. Ours
is `models.shared.decoding`: `beam_search`, and `leaf_scores`, which ranks the whole catalogue, both on P5's encoder in
groups of similar length, as P5 calls it. Transformers takes the same sources in order of length, so that it pads
little, in the same precision. Contenders take turns in one run. Weights are random, which affects neither speed nor
agreement.

With `--semantic` the model, the sources and the number of beams are TIGER's, and a code is a semantic id: three random
levels and one that separates equal ones. Many ids are unique before their end. Such an id keeps one of transformers'
beams, and none of ours, so that ours may find likelier items.

FLOP are those of matrix products, counted by torch as they run. Shares are of this machine's measured rate in the same
precision. Peak memory is measured in a fresh process for each number of beams and length of sources.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_common import (
    DTYPES,
    Timing,
    Verdict,
    flops_per_unit,
    machine_description,
    memory_rows,
    number,
    option_parser,
    print_table,
    speed_rows,
    time_with_machine_rate,
)
from fresh_process import Measurement, measure_in_fresh_process
from numpy.typing import NDArray
from synthetic import MEAN, SHORTEST
from torch import Tensor

from llm4rec_cli.ids.item_ids import ItemIds
from llm4rec_cli.models.shared import decoding
from llm4rec_cli.models.shared.seq2seq import PackedT5, load_t5
from llm4rec_cli.models.shared.seq2seq import random_t5 as t5_of_shape
from llm4rec_cli.models.shared.t5_shapes import T5_SHAPES, T5Shape
from llm4rec_cli.models.shared.trie import START, Trie

REFERENCE, BEAM, EXACT = "transformers", "beam", "exact"
DESCRIPTIONS = {REFERENCE: "generate, prefix function", BEAM: "ours", EXACT: "ours, all items"}
TIE = {"fp32": 1e-3, "bf16": 0.1}  # scores closer than this are not resolved in this precision and count as tied
VOCABULARY = 32_128  # of the public T5
FIRST_DIGIT = 100  # token id of digit 0
BEAMS = 20  # items generated for a source
BATCH = 8  # sources per batch of the reference; ours takes groups of similar length
PROMPT, ITEM = 10, 6  # tokens of a source: around its history, and per item in it
TIGER = T5Shape(layers=4, width=128, heads=6, head_size=64, inner_size=1024)  # the paper's
TIGER_BEAMS, LEVELS, CODEBOOK, HISTORY, USERS = 50, 3, 256, 20, 2000
FASTER = 5.0  # times as many sequences a second as transformers, at least
MEMORY_BEAMS, MEMORY_LENGTHS, MEMORY_SOURCES = (10, 40), (64, 256), 8
PEAK = Path("/proc/self/clear_refs")  # Linux: writing 5 to it resets the process's peak memory
FLAT = 0.05  # the most that beams × length may add, as a share of a copy of keys and values per beam

Sources = list[NDArray[np.int64]]
TopItems = tuple[Tensor, Tensor]  # items (n, beams), best first, and their scores


@dataclass(frozen=True)
class Bench:
    """Model and data of all contenders.

    Attributes:
        t5: the model.
        codes: of each item.
        sources: token ids of each.
        beams: number of items generated per source.
    """

    t5: Any
    codes: list[list[int]]
    sources: Sources
    beams: int


def codes_of(n_items: int) -> list[list[int]]:
    """Return the item numbers 0..n_items-1 as digits, padded with zeros to equal length."""
    width = len(str(n_items - 1))
    return [[FIRST_DIGIT + int(digit) for digit in f"{item:0{width}}"] for item in range(n_items)]


def semantic_codes(n_items: int, seed: int = 0) -> list[list[int]]:
    """Return ids of random codes, and a last one that separates equal ones; each level has tokens of its own."""
    ids = ItemIds(np.random.default_rng(seed).integers(CODEBOOK, size=(n_items, LEVELS))).separated(seed)
    return (ids.codes + FIRST_DIGIT + CODEBOOK * np.arange(ids.codes.shape[1])).tolist()


def semantic_sources(codes: list[list[int]], n: int, seed: int = 0) -> Sources:
    """Draw the sources of TIGER: a user's token, and the codes of up to HISTORY items."""
    rng = np.random.default_rng(seed)
    items = np.minimum(SHORTEST - 2 + rng.geometric(1 / (MEAN - SHORTEST + 1), n), HISTORY)
    user = FIRST_DIGIT + CODEBOOK * len(codes[0])
    histories = [rng.integers(len(codes), size=k) for k in items]
    return [np.array([user + rng.integers(USERS), *np.ravel([codes[i] for i in h])]) for h in histories]


def tiger_t5(codes: list[list[int]], precision: str) -> Any:
    """Return a T5 of TIGER's shape with random weights."""
    torch.manual_seed(0)
    return t5_of_shape(TIGER, FIRST_DIGIT + CODEBOOK * len(codes[0]) + USERS, 0.0).eval().to(DTYPES[precision])


def random_sources(n: int, seed: int = 0) -> Sources:
    """Draw random tokens, as many as in prompts about the histories of `synthetic.interactions`."""
    rng = np.random.default_rng(seed)
    history = SHORTEST - 2 + rng.geometric(1 / (MEAN - SHORTEST + 1), n)
    return [rng.integers(FIRST_DIGIT, VOCABULARY, PROMPT + ITEM * items) for items in history]


def random_t5(size: str, precision: str) -> Any:
    """Return a T5 of this shape with random weights."""
    torch.manual_seed(0)
    return load_t5(size, VOCABULARY, 0.0).eval().to(DTYPES[precision])


def batches_of(sources: Sources, size: int) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
    """Yield sources in order of length, `size` at a time: their indices, padded tokens, and a mask of the tokens."""
    order = np.argsort([len(source) for source in sources], kind="stable")
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        lengths = np.array([len(sources[i]) for i in indices])
        is_token = np.arange(lengths.max()) < lengths[:, None]
        tokens = np.zeros(is_token.shape, dtype=np.int64)
        tokens[is_token] = np.concatenate([sources[i] for i in indices])
        yield indices, torch.from_numpy(tokens), torch.from_numpy(is_token)


def reference(bench: Bench) -> TopItems:
    """Generate with transformers."""
    follows: dict[tuple[int, ...], set[int]] = {}
    for code in bench.codes:
        for t, token in enumerate(code):
            follows.setdefault(tuple(code[:t]), set()).add(token)
    allowed = {prefix: sorted(tokens) for prefix, tokens in follows.items()}
    item_of = {tuple(code): item for item, code in enumerate(bench.codes)}
    items = torch.empty(len(bench.sources), bench.beams, dtype=torch.long)
    scores = torch.empty(len(bench.sources), bench.beams)
    for indices, tokens, is_token in batches_of(bench.sources, BATCH):
        output = bench.t5.generate(
            input_ids=tokens,
            attention_mask=is_token.long(),
            decoder_start_token_id=START,
            num_beams=bench.beams,
            num_return_sequences=bench.beams,
            max_new_tokens=len(bench.codes[0]),
            prefix_allowed_tokens_fn=lambda _, prefix: allowed[tuple(prefix[1:].tolist())],
            renormalize_logits=True,
            length_penalty=0.0,
            output_scores=True,
            return_dict_in_generate=True,
        )
        generated = [item_of[tuple(code)] for code in output.sequences[:, 1:].tolist()]
        items[indices] = torch.tensor(generated).view(len(indices), -1)
        scores[indices] = output.sequences_scores.float().view(len(indices), -1)
    return items, scores


def memories(bench: Bench) -> Iterator[tuple[Any, decoding.Memory]]:
    """Yield indices of sources and what the decoder reads of them, as in P5: in groups of similar length."""
    sources: list[decoding.Source] = [(source, np.zeros_like(source)) for source in bench.sources]
    t5 = PackedT5(bench.t5, whole_word=False).eval()
    for memory, indices in decoding.encode_sources(t5, sources, whole_word=False):
        yield torch.from_numpy(indices), memory


def beam(bench: Bench) -> TopItems:
    """Generate with our constrained beam search."""
    trie = Trie.from_codes(bench.codes)
    items = torch.empty(len(bench.sources), bench.beams, dtype=torch.long)
    scores = torch.empty(len(bench.sources), bench.beams)
    for indices, memory in memories(bench):
        items[indices], scores[indices] = decoding.beam_search(decoding.T5Decoder(bench.t5), memory, trie, bench.beams)
    return items, scores


def all_scores(bench: Bench) -> Tensor:
    """Return the (n, items) log-likelihoods of all items."""
    trie = Trie.from_codes(bench.codes)
    scores = torch.empty(len(bench.sources), len(bench.codes))
    for indices, memory in memories(bench):
        scores[indices] = decoding.leaf_scores(decoding.T5Decoder(bench.t5), memory, trie)
    return scores


def exact(bench: Bench) -> TopItems:
    """Rank by the scores of all items."""
    scores, items = all_scores(bench).topk(bench.beams)
    return items, scores


CONTENDERS: dict[str, Callable[[Bench], TopItems]] = {REFERENCE: reference, BEAM: beam, EXACT: exact}


def agreement(items: Tensor, theirs: Tensor, scores: Tensor, tie: float) -> dict[str, str]:
    """Compare two sets of top items for n sources.

    Args:
        items, theirs: (n, beams).
        scores: (n, all items) by which both are compared.
        tie: items whose scores differ by no more than this count as equal.
    """
    our_scores, their_scores = (scores.gather(1, x).sort(1, descending=True).values for x in (items, theirs))
    difference = (our_scores - their_scores).abs().max(1).values
    shared = (items[:, :, None] == theirs[:, None, :]).any(2).float().mean()
    best = scores.topk(items.shape[1]).indices
    recall = (best[:, :, None] == items[:, None, :]).any(2).float().mean()
    return {
        "same top items, ignoring ties": f"{int((difference <= tie).sum())} of {len(items)} sequences",
        "largest score difference": f"{float(difference.max()):.5f}",
        "items in common": f"{100 * float(shared):.1f} %",
        "recall of the best items": f"{100 * float(recall):.1f} %",
    }


def agreement_rows(top_items: dict[str, TopItems], scores: Tensor, tie: float) -> list[dict[str, str]]:
    """Return one row per contender, compared with the reference; `scores` and `tie` as in `agreement`."""
    theirs, _ = top_items[REFERENCE]
    return [{"generation": name, **agreement(items, theirs, scores, tie)} for name, (items, _) in top_items.items()]


def set_up_memory(contender: str, beams: int, length: int, size: str, codes: list[list[int]]) -> Callable[[], object]:
    """Return one contender, ready to run on sources of one length."""
    rng = np.random.default_rng(0)
    sources = list(rng.integers(FIRST_DIGIT, VOCABULARY, (MEMORY_SOURCES, length)))
    bench = Bench(random_t5(size, "fp32"), codes, sources, beams)
    if PEAK.exists():
        PEAK.write_text("5")  # without this, drawing the weights would set the peak
    return lambda: CONTENDERS[contender](bench)


Peaks = dict[tuple[str, int, int], Measurement]  # contender, beams, length


def beam_memory_verdict(peaks: Peaks, config: Any) -> Verdict:
    """Check that our beam's memory grows with beams and with length, but not with their product."""
    (few, many), (short, long) = MEMORY_BEAMS, MEMORY_LENGTHS
    added = {key: measurement.added_mb for key, measurement in peaks.items()}
    product_mb = added[BEAM, many, long] - added[BEAM, many, short] - added[BEAM, few, long] + added[BEAM, few, short]
    copied = MEMORY_SOURCES * (many - few) * (long - short)
    copied_mb = copied * config.num_decoder_layers * 2 * config.num_heads * config.d_kv * 4 / 2**20
    details = f"beams × source length adds {number(max(product_mb, 0))} MiB to the peak of beam search"
    aim = f"(at most {100 * FLAT:.0f} % of the {number(copied_mb)} MiB of keys and values copied for each beam)"
    return Verdict(product_mb <= FLAT * copied_mb, f"{details} {aim}")


def speed_verdict(timings: Mapping[str, Timing]) -> Verdict:
    """Check that our beam search is FASTER times as fast as transformers, which took turns with it."""
    ratio = timings[BEAM].median / timings[REFERENCE].median
    return Verdict(ratio >= FASTER, f"beam search is {ratio:.1f} times as fast as transformers (at least {FASTER:g})")


def bench_of(options: argparse.Namespace, precision: str) -> Bench:
    if options.semantic:
        codes = semantic_codes(options.items)
        return Bench(tiger_t5(codes, precision), codes, semantic_sources(codes, options.sequences), TIGER_BEAMS)
    return Bench(random_t5(options.size, precision), codes_of(options.items), random_sources(options.sequences), BEAMS)


def compare(options: argparse.Namespace, precision: str) -> Verdict:
    """Print speed and agreement in one precision; return whether ours is fast enough."""
    bench = bench_of(options, precision)
    t5, codes, sources = bench.t5, bench.codes, bench.sources
    top_items = {name: generate(bench) for name, generate in CONTENDERS.items()}
    scores = all_scores(replace(bench, t5=copy.deepcopy(t5).float()))

    def counting_sources(generate: Callable[[Bench], TopItems]) -> Callable[[], float]:
        return lambda: len(generate(bench)[0])

    work = {name: counting_sources(generate) for name, generate in CONTENDERS.items()}
    flops = {name: flops_per_unit(run) for name, run in work.items()}
    timings, rates = time_with_machine_rate(work, options.rounds, dict.fromkeys(work, precision))
    mean = number(float(np.mean([len(source) for source in sources])))
    name, pieces = ("TIGER's T5", "codes") if options.semantic else (options.size, "digits")
    title = f"{name}, {precision}, {options.items:,} items in {len(codes[0])} {pieces}"
    rows = speed_rows("generation", "sequence", timings, rates, flops, DESCRIPTIONS)
    print_table(f"{title}, beam {bench.beams}, sources of {mean} tokens on average", rows)
    print_table(f"{title}: agreement", agreement_rows(top_items, scores, TIE[precision]))
    return speed_verdict(timings)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = option_parser(
        __doc__,
        """\
  python scripts/bench_generation.py                                   needs no file; ten minutes on two cores
  python scripts/bench_generation.py --semantic                        TIGER's size, ids and beams; without memory
  python scripts/bench_generation.py --size tiny --items 500 --sequences 8 --rounds 1       a quick check""",
        rounds=2,
    )
    parser.add_argument("--size", choices=sorted(T5_SHAPES), default="small", help="of the T5 (default: t5-small's)")
    parser.add_argument("--items", type=int, default=12_101, help="items in the catalogue (default: Beauty's)")
    parser.add_argument("--sequences", type=int, default=32, help="sources per turn (default 32)")
    parser.add_argument("--semantic", action="store_true", help="semantic ids and TIGER's T5 instead of digits")
    options = parser.parse_args(arguments)
    print(machine_description())
    fast = [compare(options, precision) for precision in DTYPES]
    if options.semantic:
        print(*fast, sep="\n")
        return 0 if all(verdict.passed for verdict in fast) else 1
    codes = codes_of(options.items)
    peaks = {
        (contender, beams, length): measure_in_fresh_process(
            set_up_memory, contender, beams, length, options.size, codes
        )
        for contender in (REFERENCE, BEAM)
        for beams in MEMORY_BEAMS
        for length in MEMORY_LENGTHS
    }
    by_heading = {(contender, f"{beams} beams, {n} tokens"): m for (contender, beams, n), m in peaks.items()}
    print_table(f"{options.size}: memory, {MEMORY_SOURCES} sources", memory_rows(by_heading))
    verdict = beam_memory_verdict(peaks, random_t5(options.size, "fp32").config)
    print(verdict)
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
