"""How fast a T5 names items under constraint, against transformers' `generate` with the same weights, in turns.

Transformers runs as published evaluations do: `generate(prefix_allowed_tokens_fn=…, renormalize_logits=True)`, over a
table from each prefix to what may follow. It stops at a code's last piece, so no forced end is decoded. Ours is
`models.shared.decoding`: `beam_search`, and `leaf_scores`, which ranks the whole catalogue, behind P5's encoder, in
groups of like length as P5 asks. Transformers takes the same sources in order of length, so that it pads little, in the
same arithmetic; weights are random, which matters neither for speed nor for agreement.

Operations are those of matrix products, counted by torch as they run; what is needed is counted without padding, and
for the reference it is what our beam needs. A share is of this machine's measured rate in the same arithmetic. Memory
is the peak of a process of its own for each number of beams and length of sources.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alone import Measured, alone
from machine import Timing, executed, in_turns, machine_in_words, measured_rate, number, report
from numpy.typing import NDArray
from synthetic import MEAN, SHORTEST
from torch import Tensor

from llm4rec_cli.models.shared import decoding
from llm4rec_cli.models.shared.seq2seq import PackedT5, load_t5
from llm4rec_cli.models.shared.t5_shapes import T5_SHAPES
from llm4rec_cli.models.shared.trie import START, Trie

REFERENCE, BEAM, EXACT = "transformers", "beam", "exact"
MEANING = {REFERENCE: "generate, prefix function", BEAM: "ours", EXACT: "ours, all items"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TIE = {"fp32": 1e-3, "bf16": 0.1}  # scores nearer than that, in what this arithmetic resolves, are as good
VOCABULARY = 32_128  # of the public T5
FIRST_PIECE = 100  # token id of piece 0
PROMPT, ITEM = 10, 6  # tokens of a source: around its history, and an item of it
MEMORY_BEAMS, MEMORY_LENGTHS, MEMORY_SOURCES = (10, 40), (64, 256), 8
PEAK = Path("/proc/self/clear_refs")  # Linux: 5 written to it resets the process's peak of memory
FLAT = 0.05  # of what keys and values a beam would take: the most that may be added with beams × length

Sources = list[NDArray[np.int64]]
Answer = tuple[Tensor, Tensor]  # items (n, beams), best first, and their scores


@dataclass(frozen=True)
class Bench:
    """What all contenders share.

    Attributes:
        t5: the weights.
        codes: of each item.
        beams: how many items each names.
        sources: token ids of each.
        batch: how many sources the reference takes at a time; ours takes them in groups of like length.
    """

    t5: Any
    codes: list[list[int]]
    beams: int
    sources: Sources
    batch: int


def codes_of(n_items: int, digits: int) -> list[list[int]]:
    """The item numbers 0..n_items-1, in pieces of so many digits, all with as many pieces as the last."""
    n_pieces = -(-len(str(n_items - 1)) // digits)
    return [
        [FIRST_PIECE + item // 10 ** (digits * place) % 10**digits for place in reversed(range(n_pieces))]
        for item in range(n_items)
    ]


def drawn_sources(n: int, seed: int = 0) -> Sources:
    """Random tokens, as long as prompts about the histories of `synthetic.interactions`."""
    rng = np.random.default_rng(seed)
    history = SHORTEST - 2 + rng.geometric(1 / (MEAN - SHORTEST + 1), n)
    return [rng.integers(FIRST_PIECE, VOCABULARY, PROMPT + ITEM * items) for items in history]


def model(size: str, precision: str) -> Any:
    """A T5 of this shape with random weights."""
    torch.manual_seed(0)
    return load_t5(size, VOCABULARY, 0.0).eval().to(DTYPES[precision])


def batches_of(sources: Sources, size: int) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
    """Sources in order of length, `size` at a time: which, their padded tokens and which of these are real."""
    order = np.argsort([len(source) for source in sources], kind="stable")
    for start in range(0, len(order), size):
        which = order[start : start + size]
        lengths = np.array([len(sources[i]) for i in which])
        real = np.arange(lengths.max()) < lengths[:, None]
        tokens = np.zeros(real.shape, dtype=np.int64)
        tokens[real] = np.concatenate([sources[i] for i in which])
        yield which, torch.from_numpy(tokens), torch.from_numpy(real)


def reference(bench: Bench) -> Answer:
    """By transformers."""
    follows: dict[tuple[int, ...], set[int]] = {}
    for code in bench.codes:
        for t, token in enumerate(code):
            follows.setdefault(tuple(code[:t]), set()).add(token)
    allowed = {prefix: sorted(tokens) for prefix, tokens in follows.items()}
    number_of = {tuple(code): item for item, code in enumerate(bench.codes)}
    items = torch.empty(len(bench.sources), bench.beams, dtype=torch.long)
    scores = torch.empty(len(bench.sources), bench.beams)
    for which, tokens, real in batches_of(bench.sources, bench.batch):
        made = bench.t5.generate(
            input_ids=tokens,
            attention_mask=real.long(),
            decoder_start_token_id=START,
            num_beams=bench.beams,
            num_return_sequences=bench.beams,
            max_new_tokens=len(bench.codes[0]),
            prefix_allowed_tokens_fn=lambda _, begun: allowed[tuple(begun[1:].tolist())],
            renormalize_logits=True,
            length_penalty=0.0,
            output_scores=True,
            return_dict_in_generate=True,
        )
        found = [number_of[tuple(code)] for code in made.sequences[:, 1:].tolist()]
        items[which] = torch.tensor(found).view(len(which), -1)
        scores[which] = made.sequences_scores.float().view(len(which), -1)
    return items, scores


def memories(bench: Bench) -> Iterator[tuple[Any, decoding.Memory]]:
    """Which sources, and what the decoder reads of them: as P5 makes it, in groups of like length."""
    sources = [(source, np.zeros_like(source)) for source in bench.sources]
    t5 = PackedT5(bench.t5, whole_word=False).eval()
    for memory, which in decoding.encode_sources(t5, sources, whole_word=False):
        yield torch.from_numpy(which), memory


def beam(bench: Bench) -> Answer:
    """By our constrained beam search."""
    trie = Trie.from_codes(bench.codes)
    items = torch.empty(len(bench.sources), bench.beams, dtype=torch.long)
    scores = torch.empty(len(bench.sources), bench.beams)
    for which, memory in memories(bench):
        items[which], scores[which] = decoding.beam_search(bench.t5, memory, trie, bench.beams)
    return items, scores


def all_scores(bench: Bench) -> Tensor:
    """(n, items) the log-likelihood of every item."""
    trie = Trie.from_codes(bench.codes)
    scores = torch.empty(len(bench.sources), len(bench.codes))
    for which, memory in memories(bench):
        scores[which] = decoding.leaf_scores(bench.t5, memory, trie)
    return scores


def exact(bench: Bench) -> Answer:
    """By scoring every item."""
    scores, items = all_scores(bench).topk(bench.beams)
    return items, scores


CONTENDERS: dict[str, Callable[[Bench], Answer]] = {REFERENCE: reference, BEAM: beam, EXACT: exact}


def agreement(items: Tensor, theirs: Tensor, scores: Tensor, tie: float) -> dict[str, str]:
    """How far two rankings of n sources name the same items.

    Args:
        items, theirs: (n, beams).
        scores: (n, all items) that judge both.
        tie: items whose scores are nearer than that are as good as one another.
    """
    ours_found, theirs_found = (scores.gather(1, x).sort(1, descending=True).values for x in (items, theirs))
    away = (ours_found - theirs_found).abs().max(1).values
    shared = (items[:, :, None] == theirs[:, None, :]).any(2).float().mean()
    best = scores.topk(items.shape[1]).indices
    found = (best[:, :, None] == items[:, None, :]).any(2).float().mean()
    return {
        "same top items, ties aside": f"{int((away <= tie).sum())} of {len(items)} sequences",
        "worst difference of a score": f"{float(away.max()):.5f}",
        "items in common": f"{100 * float(shared):.1f} %",
        "of the truly best items": f"{100 * float(found):.1f} %",
    }


def agreement_rows(answers: dict[str, Answer], scores: Tensor, tie: float) -> list[dict[str, str]]:
    """One row a contender, against the reference; `scores` as `agreement` has them."""
    theirs, _ = answers[REFERENCE]
    return [{"naming": name, **agreement(items, theirs, scores, tie)} for name, (items, _) in answers.items()]


def needed_flops(config: Any, lengths: NDArray[np.int64], nodes: int, alike: int, depth: float, tokens: int) -> float:
    """Floating-point operations in matrix products that a source needs on average, without padding.

    Args:
        config: of the T5, as transformers has it.
        lengths: (n,) tokens of each source.
        nodes: that are decoded a source.
        alike: nodes of these that all sources have: what the first layer does before it reads the source is done once.
        depth: how many nodes a node sees on average, itself included.
        tokens: different ones among the pieces, of which each node's likelihood is told.
    """
    d, inner = config.d_model, config.num_heads * config.d_kv
    n = lengths.astype(np.float64)
    within, across, feed_forward = 8 * d * inner, 4 * d * inner, 4 * d * config.d_ff  # projections of a token
    encoder = config.num_layers * (n * (within + feed_forward) + 4 * inner * n**2)
    memory = config.num_decoder_layers * across * n
    node = config.num_decoder_layers * (within + across + feed_forward + 4 * inner * (n + depth)) + 2 * d * tokens
    once = within + across / 2 + 4 * inner * depth
    return float((encoder + memory + nodes * node - alike * once).mean())


def needed_by(bench: Bench) -> dict[str, float]:
    """Operations a source, by contender."""
    trie, lengths = Trie.from_codes(bench.codes), np.array([len(source) for source in bench.sources])

    def needed(beams: int) -> float:
        level, kept = trie.n_narrow_levels(beams), np.minimum(trie.n_inner, beams)
        depth = float(np.average(np.arange(1, len(kept) + 1), weights=kept))
        nodes, alike = decoding.n_decoded(trie, beams), sum(trie.n_inner[:level])
        return needed_flops(bench.t5.config, lengths, nodes, alike, depth, len(trie.tokens))

    searched = needed(bench.beams)
    return {REFERENCE: searched, BEAM: searched, EXACT: needed(max(trie.n_inner))}


def speed_rows(
    timings: dict[str, Timing], flops: dict[str, float], needed: dict[str, float], rate: float
) -> list[dict[str, str]]:
    """The table.

    Args:
        flops: contender -> operations a source, as executed.
        needed: contender -> operations a source.
        rate: the machine's in this arithmetic, in GFLOP/s.
    """
    return [
        {
            "naming": name,
            "is": MEANING[name],
            "sequences/s: median (min–max)": str(timing),
            "times": number(timing.median / timings[REFERENCE].median),
            "GFLOP a sequence: executed": number(flops[name] / 1e9),
            "needed": number(needed[name] / 1e9),
            "GFLOP/s": number(timing.median * flops[name] / 1e9),
            "of the machine's": f"{100 * timing.median * flops[name] / 1e9 / rate:.0f} %",
        }
        for name, timing in timings.items()
    ]


def set_up_memory(contender: str, beams: int, length: int, size: str, codes: list[list[int]]) -> Callable[[], object]:
    """One contender on sources of one length, ready."""
    rng = np.random.default_rng(0)
    sources = list(rng.integers(FIRST_PIECE, VOCABULARY, (MEMORY_SOURCES, length)))
    bench = Bench(model(size, "fp32"), codes, beams, sources, MEMORY_SOURCES)
    if PEAK.exists():
        PEAK.write_text("5")  # forgets what drawing the weights held, which is more than the work adds
    return lambda: CONTENDERS[contender](bench)


Peaks = dict[tuple[str, int, int], Measured]  # by contender, beams and length


def memory_rows(peaks: Peaks) -> list[dict[str, str]]:
    """One row a contender; in MiB of what the work added to Python, torch and the model."""
    return [
        {
            "peak MiB, added": contender,
            **{
                f"{beams} beams, {length} tokens": number(m.peak_mb - m.before_mb)
                for (c, beams, length), m in peaks.items()
                if c == contender
            },
        }
        for contender in dict.fromkeys(contender for contender, _, _ in peaks)
    ]


def flat(peaks: Peaks, config: Any) -> tuple[bool, str]:
    """Whether our beam's memory grows with beams and with length, but not with their product; and the numbers in words.

    Args:
        config: of the T5.
    """
    (few, many), (short, long) = MEMORY_BEAMS, MEMORY_LENGTHS
    added = {key: m.peak_mb - m.before_mb for key, m in peaks.items()}
    with_both = added[BEAM, many, long] - added[BEAM, many, short] - added[BEAM, few, long] + added[BEAM, few, short]
    copied = MEMORY_SOURCES * (many - few) * (long - short)
    copied_mb = copied * config.num_decoder_layers * 2 * config.num_heads * config.d_kv * 4 / 2**20
    words = f"beams × source length add {number(max(with_both, 0))} MiB to the beam's peak"
    compared = f"(at most {100 * FLAT:.0f} % of the {number(copied_mb)} that a copy of keys and values a beam would)"
    return with_both <= FLAT * copied_mb, f"{words} {compared}"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python scripts/bench_generation.py                                   needs no file; ten minutes on two cores
  python scripts/bench_generation.py --digits 2 --precisions bf16 --no-memory --markdown
  python scripts/bench_generation.py --size tiny --items 500 --sequences 8 --rounds 1       whether it works
Run it on a quiet machine. OMP_NUM_THREADS sets the threads, of all contenders and of the measured rate alike.""",
    )
    parser.add_argument(
        "--size", choices=sorted(T5_SHAPES), default="small", help="shape of the T5 (default: t5-small's)"
    )
    parser.add_argument("--items", type=int, default=12_101, help="of the catalogue (default: Beauty's)")
    parser.add_argument(
        "--digits", nargs="+", type=int, choices=(1, 2, 3), default=[1, 2], help="of a piece of a code (default: 1 2)"
    )
    parser.add_argument("--beams", type=int, default=20, help="items that each names (default 20)")
    parser.add_argument("--sequences", type=int, default=64, help="sources a turn (default 64)")
    parser.add_argument("--batch", type=int, default=8, help="sources that transformers takes at a time (default 8)")
    parser.add_argument("--precisions", nargs="+", choices=sorted(DTYPES), default=list(DTYPES), help="default: both")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each, after one to warm up (default 3)")
    parser.add_argument("--no-memory", action="store_true", help="leave out peaks of memory")
    parser.add_argument("--markdown", action="store_true", help="print Markdown sections, for docs/benchmarks.md")
    return parser.parse_args(arguments)


def compared(asked: argparse.Namespace, digits: int, precision: str) -> None:
    """Prints speed and agreement for one kind of codes in one arithmetic."""
    sources = drawn_sources(asked.sequences)
    t5, codes = model(asked.size, precision), codes_of(asked.items, digits)
    bench = Bench(t5, codes, asked.beams, sources, asked.batch)
    answers = {name: work(bench) for name, work in CONTENDERS.items()}
    judge = all_scores(Bench(copy.deepcopy(t5).float(), codes, asked.beams, sources, asked.batch))

    def counted(work: Callable[[Bench], Answer]) -> Callable[[], float]:
        return lambda: len(work(bench)[0])

    work = {name: counted(answer) for name, answer in CONTENDERS.items()}
    flops = {name: executed(answer) for name, answer in work.items()}
    rate = measured_rate(DTYPES[precision])
    timings = in_turns(work, asked.rounds)
    rate = max(rate, measured_rate(DTYPES[precision]))
    print(f"machine: {number(rate)} GFLOP/s in {precision} (2048³ matrix product)")
    mean = number(float(np.mean([len(source) for source in sources])))
    title = f"{asked.size}, {precision}, {asked.items:,} items in {len(codes[0])} pieces of {digits} digits"
    report(
        f"{title}, beam {asked.beams}, sources of {mean} tokens on average",
        speed_rows(timings, flops, needed_by(bench), rate),
        asked.markdown,
    )
    report(f"{title}: agreement", agreement_rows(answers, judge, TIE[precision]), asked.markdown)


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parse(arguments)
    print(machine_in_words())
    for digits in asked.digits:
        for precision in asked.precisions:
            compared(asked, digits, precision)
    if asked.no_memory:
        return 0
    codes = codes_of(asked.items, asked.digits[0])
    peaks = {
        (contender, beams, length): alone(set_up_memory, contender, beams, length, asked.size, codes)
        for contender in (REFERENCE, BEAM)
        for beams in MEMORY_BEAMS
        for length in MEMORY_LENGTHS
    }
    report(f"{asked.size}: memory, {MEMORY_SOURCES} sources", memory_rows(peaks), asked.markdown)
    holds, words = flat(peaks, model(asked.size, "fp32").config)
    print(f"{'holds' if holds else 'DOES NOT HOLD'}: {words}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
