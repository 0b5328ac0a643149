"""How fast a T5 generates items under constraint, compared with transformers' `generate` on the same weights.

Transformers runs as in published evaluations: `generate(prefix_allowed_tokens_fn=…, renormalize_logits=True)`, with a
table from each prefix to the tokens that may follow. It stops at a code's last piece, so no forced end is decoded. Ours
is `models.shared.decoding`: `beam_search`, and `leaf_scores`, which ranks the whole catalogue, both on P5's encoder in
groups of similar length, as P5 calls it. Transformers takes the same sources in order of length, so that it pads
little, in the same precision. Contenders take turns in one run. Weights are random, which does not
affect speed.

Peak memory is measured in a fresh process for each number of beams and length of sources.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_common import (
    DTYPES,
    Timing,
    Verdict,
    machine_description,
    memory_rows,
    number,
    option_parser,
    print_table,
    speed_rows,
    time_in_turns,
)
from fresh_process import Measurement, measure_in_fresh_process
from numpy.typing import NDArray
from synthetic import MEAN, SHORTEST
from torch import Tensor

from llm4rec_cli.models.shared import decoding
from llm4rec_cli.models.shared.seq2seq import PackedT5, load_t5
from llm4rec_cli.models.shared.t5_shapes import T5_SHAPES
from llm4rec_cli.models.shared.trie import START, Trie

REFERENCE, BEAM, EXACT = "transformers", "beam", "exact"
DESCRIPTIONS = {REFERENCE: "generate, prefix function", BEAM: "ours", EXACT: "ours, all items"}
VOCABULARY = 32_128  # of the public T5
FIRST_DIGIT = 100  # token id of digit 0
BEAMS = 20  # items generated for a source
BATCH = 8  # sources per batch of the reference; ours takes groups of similar length
PROMPT, ITEM = 10, 6  # tokens of a source: around its history, and per item in it
FASTER = 5.0  # times as many sequences a second as transformers, at least
MEMORY_BEAMS, MEMORY_LENGTHS, MEMORY_SOURCES = (10, 40), (64, 256), 8
PEAK = Path("/proc/self/clear_refs")  # Linux: writing 5 to it resets the process's peak memory
FLAT = 0.05  # the most that beams × length may add, as a share of a copy of keys and values per beam

Sources = list[NDArray[np.int64]]


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


def reference(bench: Bench) -> Tensor:
    """Generate with transformers; return items (n, beams), best first."""
    follows: dict[tuple[int, ...], set[int]] = {}
    for code in bench.codes:
        for t, token in enumerate(code):
            follows.setdefault(tuple(code[:t]), set()).add(token)
    allowed = {prefix: sorted(tokens) for prefix, tokens in follows.items()}
    item_of = {tuple(code): item for item, code in enumerate(bench.codes)}
    items = torch.empty(len(bench.sources), bench.beams, dtype=torch.long)
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
        )
        generated = [item_of[tuple(code)] for code in output[:, 1:].tolist()]
        items[indices] = torch.tensor(generated).view(len(indices), -1)
    return items


def memories(bench: Bench) -> Iterator[tuple[Any, decoding.Memory]]:
    """Yield indices of sources and what the decoder reads of them, as in P5: in groups of similar length."""
    sources: list[decoding.Source] = [(source, np.zeros_like(source)) for source in bench.sources]
    t5 = PackedT5(bench.t5, whole_word=False).eval()
    for memory, indices in decoding.encode_sources(t5, sources, whole_word=False):
        yield torch.from_numpy(indices), memory


def beam(bench: Bench) -> Tensor:
    """Generate with our constrained beam search."""
    trie = Trie.from_codes(bench.codes)
    items = torch.empty(len(bench.sources), bench.beams, dtype=torch.long)
    for indices, memory in memories(bench):
        items[indices], _ = decoding.beam_search(decoding.T5Decoder(bench.t5), memory, trie, bench.beams)
    return items


def exact(bench: Bench) -> Tensor:
    """Rank by the log-likelihoods of all items."""
    trie = Trie.from_codes(bench.codes)
    items = torch.empty(len(bench.sources), bench.beams, dtype=torch.long)
    for indices, memory in memories(bench):
        scores = decoding.leaf_scores(decoding.T5Decoder(bench.t5), memory, trie)
        items[indices] = scores.topk(bench.beams).indices
    return items


CONTENDERS: dict[str, Callable[[Bench], Tensor]] = {REFERENCE: reference, BEAM: beam, EXACT: exact}


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


def compare(options: argparse.Namespace, precision: str) -> Verdict:
    """Print the speed in one precision; return whether ours is fast enough."""
    t5, codes, sources = random_t5(options.size, precision), codes_of(options.items), random_sources(options.sequences)
    bench = Bench(t5, codes, sources, BEAMS)

    def counting_sources(generate: Callable[[Bench], Tensor]) -> Callable[[], float]:
        return lambda: len(generate(bench))

    work = {name: counting_sources(generate) for name, generate in CONTENDERS.items()}
    timings = time_in_turns(work, options.rounds)
    mean = number(float(np.mean([len(source) for source in sources])))
    title = f"{options.size}, {precision}, {options.items:,} items in {len(codes[0])} digits"
    rows = speed_rows("generation", "sequence", timings, DESCRIPTIONS)
    print_table(f"{title}, beam {BEAMS}, sources of {mean} tokens on average", rows)
    return speed_verdict(timings)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = option_parser(
        __doc__,
        """\
  python scripts/bench_generation.py                                   needs no file; ten minutes on two cores
  python scripts/bench_generation.py --size tiny --items 500 --sequences 8 --rounds 1       a quick check""",
        rounds=2,
    )
    parser.add_argument("--size", choices=sorted(T5_SHAPES), default="small", help="of the T5 (default: t5-small's)")
    parser.add_argument("--items", type=int, default=12_101, help="items in the catalogue (default: Beauty's)")
    parser.add_argument("--sequences", type=int, default=32, help="sources per turn (default 32)")
    options = parser.parse_args(arguments)
    print(machine_description())
    verdicts = [compare(options, precision) for precision in DTYPES]
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
    verdicts.append(beam_memory_verdict(peaks, random_t5(options.size, "fp32").config))
    print(*verdicts, sep="\n")
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
