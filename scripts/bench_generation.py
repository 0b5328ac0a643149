"""How fast a T5 generates items under constraint, compared with transformers' `generate` on the same weights.

Transformers runs as in published evaluations: `generate(prefix_allowed_tokens_fn=…, renormalize_logits=True)`, with a
table from each prefix to the tokens that may follow. It stops at a code's last piece, so no forced end is decoded. Ours
is `models.shared.decoding`: `beam_search`, and `leaf_scores`, which ranks the whole catalogue, both on P5's encoder in
groups of similar length, as P5 calls it. Transformers takes the same sources in order of length, so that it pads
little, in the same precision. Contenders take turns in one run. Weights are random, which does not
affect speed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from bench_common import (
    MEAN,
    SHORTEST,
    machine_description,
    option_parser,
    print_table,
    speed_rows,
    time_in_turns,
)
from numpy.typing import NDArray
from torch import Tensor

from llm4rec_cli.models.shared import decoding
from llm4rec_cli.models.shared.seq2seq import PackedT5, load_t5
from llm4rec_cli.models.shared.t5_shapes import T5_SHAPES
from llm4rec_cli.models.shared.trie import START, Trie

REFERENCE, BEAM, EXACT = "transformers' generate", "ours", "ours, all items"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
VOCABULARY = 32_128  # of the public T5
FIRST_DIGIT = 100  # token id of digit 0
BEAMS = 20  # items generated for a source
BATCH = 8  # sources per batch of the reference; ours takes groups of similar length
PROMPT, ITEM = 10, 6  # tokens of a source: around its history, and per item in it
FASTER = 5.0  # times as many sequences a second as transformers, at least

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
    """Draw random tokens, as many as in prompts about the histories of `interactions`."""
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


def is_faster(options: argparse.Namespace, precision: str) -> bool:
    """Print the speed in one precision, and return whether beam search is FASTER times as fast as transformers."""
    t5, codes, sources = random_t5(options.size, precision), codes_of(options.items), random_sources(options.sequences)
    bench = Bench(t5, codes, sources, BEAMS)

    def counting_sources(generate: Callable[[Bench], Tensor]) -> Callable[[], float]:
        return lambda: len(generate(bench))

    work = {name: counting_sources(generate) for name, generate in CONTENDERS.items()}
    timings = time_in_turns(work, options.rounds)
    title = f"{options.size}, {precision}, {options.items:,} items in {len(codes[0])} digits, beam {BEAMS}"
    print_table(title, speed_rows("generation", "sequence", timings))
    ratio = timings[BEAM].median / timings[REFERENCE].median
    print(f"beam search is {ratio:.1f} times as fast as transformers (at least {FASTER:g})")
    return ratio >= FASTER


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
    passed = [is_faster(options, precision) for precision in DTYPES]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
