"""How fast a causal language model scores many candidates after one prompt, compared with reading the prompt for each.

The reference reads prompt and candidate together for each candidate, several at a time, padded on the right, and takes
only the candidate's logits. "Copied" reads the prompt once, with transformers alone, and copies its cache for each
candidate. Ours is `llm.likelihood.log_likelihoods`. All run transformers' model with the same weights in the same
precision, in turns. Weights are random, which affects neither speed nor agreement.

The reference scores only the first candidates: the time is the same for each, and rates are candidates per second. FLOP
are those of matrix products, counted by torch as they run, including masked attention. Shares are of this machine's
measured rate in the same precision.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from bench_common import (
    DTYPES,
    Verdict,
    flops_per_unit,
    machine_description,
    number,
    option_parser,
    print_table,
    speed_rows,
    time_with_machine_rate,
)
from torch import Tensor

from llm4rec_cli.llm.likelihood import cache_argument, log_likelihoods

REFERENCE, COPIED, OURS = "re-read", "copied", "ours"
DESCRIPTIONS = {
    REFERENCE: "prompt for each candidate, logits of the candidate",
    COPIED: "prompt once, its cache copied",
    OURS: "prompt once, candidates packed after it",
}
WORST = {"fp32": 1e-3, "bf16": 1.0}  # the largest score difference that rounding explains
SPEED_UP = 5.0  # aim over the reference
BATCH = 8  # candidates per forward pass of all but ours
N_REFERENCE = 8  # candidates that the reference scores
SHAPES = {
    "smollm2": {
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1_536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "tiny": {
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
SHORTEST, MEAN = 3, 8.0  # tokens of a candidate


@dataclass(frozen=True)
class Bench:
    """Model and data of all contenders.

    Attributes:
        prompt: token ids.
        candidates: token ids of each.
        n_reference: how many candidates the reference scores, from the first.
    """

    model: Any
    prompt: list[int]
    candidates: list[list[int]]
    n_reference: int


def random_llama(size: str, precision: str) -> Any:
    """Return a Llama of this shape with random weights, and logits spread about as far as a trained one's."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape: dict[str, Any] = {"max_position_embeddings": 8_192, "tie_word_embeddings": True, **SHAPES[size]}
    return LlamaForCausalLM(LlamaConfig(initializer_range=0.05, **shape)).eval().to(DTYPES[precision])


def random_tokens(n_prompt: int, n_candidates: int, vocabulary: int) -> tuple[list[int], list[list[int]]]:
    """Return random tokens of a prompt, and of candidates with geometric lengths."""
    rng = np.random.default_rng(0)
    lengths = SHORTEST - 1 + rng.geometric(1 / (MEAN - SHORTEST + 1), n_candidates)
    prompt = rng.integers(3, vocabulary, n_prompt).tolist()
    return prompt, [rng.integers(3, vocabulary, length).tolist() for length in lengths]


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return (rows, longest) tokens, padded on the right, where no token attends to the padding."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)


def summed(logits: Tensor, candidates: Sequence[Sequence[int]]) -> Tensor:
    """Sum (n,) log-likelihoods, from logits (n, longest, vocabulary) at the position before each candidate token."""
    token_scores = logits.float().log_softmax(-1).gather(2, padded(candidates)[..., None]).squeeze(2)
    lengths = torch.tensor([len(tokens) for tokens in candidates])
    return token_scores.where(torch.arange(token_scores.shape[1]) < lengths[:, None], 0.0).sum(1)


@torch.inference_mode()
def reread(bench: Bench) -> Tensor:
    """Score by reading the prompt again with each candidate."""
    scores = []
    for start in range(0, bench.n_reference, BATCH):
        candidates = bench.candidates[start : min(start + BATCH, bench.n_reference)]
        longest = max(map(len, candidates))
        tokens = padded([[*bench.prompt, *candidate] for candidate in candidates])
        logits = bench.model(tokens, use_cache=False, logits_to_keep=longest + 1).logits
        scores.append(summed(logits[:, :-1], candidates))
    return torch.cat(scores)


@torch.inference_mode()
def copied(bench: Bench) -> Tensor:
    """Score with transformers alone, copying the prompt's cache for each candidate."""
    from transformers import DynamicCache

    argument, prompt_cache, scores = cache_argument(bench.model), DynamicCache(), []
    first = bench.model(torch.tensor([bench.prompt]), **{argument: prompt_cache}, logits_to_keep=1).logits
    for start in range(0, len(bench.candidates), BATCH):
        candidates = bench.candidates[start : start + BATCH]
        cache = copy.deepcopy(prompt_cache)
        cache.batch_repeat_interleave(len(candidates))
        further = bench.model(padded(candidates), **{argument: cache}).logits
        scores.append(summed(torch.cat([first.expand(len(candidates), -1, -1), further[:, :-1]], 1), candidates))
    return torch.cat(scores)


def ours(bench: Bench) -> Tensor:
    return log_likelihoods(bench.model, bench.prompt, bench.candidates)


CONTENDERS: dict[str, Callable[[Bench], Tensor]] = {REFERENCE: reread, COPIED: copied, OURS: ours}


def same_order(a: Tensor, b: Tensor) -> float:
    """Return the share of candidate pairs that two lists of scores order equally."""
    first, second = torch.triu_indices(len(a), len(a), 1)
    return float(((a[first] > a[second]) == (b[first] > b[second])).float().mean())


def compare(options: argparse.Namespace, precision: str) -> Verdict:
    """Print speed in one precision, and whether ours reaches the speed-up and agrees."""
    model = random_llama(options.size, precision)
    prompt, candidates = random_tokens(options.prompt, options.candidates, model.config.vocab_size)
    bench = Bench(model, prompt, candidates, min(N_REFERENCE, options.candidates))
    scores = {name: score(bench)[: bench.n_reference] for name, score in CONTENDERS.items()}

    def counting_candidates(score: Callable[[Bench], Tensor]) -> Callable[[], float]:
        return lambda: len(score(bench))

    work = {name: counting_candidates(score) for name, score in CONTENDERS.items()}
    flops = {name: flops_per_unit(run) for name, run in work.items()}
    timings, rates = time_with_machine_rate(work, options.rounds, dict.fromkeys(work, precision))
    title = f"{options.size}, {precision}, {options.candidates} candidates after {options.prompt} tokens"
    print_table(title, speed_rows("scoring", "candidate", timings, rates, flops, DESCRIPTIONS))
    speed_up = timings[OURS].median / timings[REFERENCE].median
    difference = float((scores[OURS] - scores[REFERENCE]).abs().max())
    verdict = Verdict(
        speed_up >= SPEED_UP and difference <= WORST[precision],
        f"speed-up {number(speed_up)} (at least {SPEED_UP:.0f}); scores differ by {difference:.5f} (at most "
        f"{WORST[precision]:g}); {100 * same_order(scores[OURS], scores[REFERENCE]):.1f} % of pairs in the same order",
    )
    print(verdict)
    return verdict


def main(arguments: Sequence[str] | None = None) -> int:
    parser = option_parser(
        __doc__,
        """\
  python scripts/bench_llm_scoring.py                                   needs no file; ten minutes on two cores
  python scripts/bench_llm_scoring.py --size tiny --prompt 50 --rounds 1                    a quick check""",
        rounds=2,
    )
    parser.add_argument("--size", choices=sorted(SHAPES), default="smollm2", help="shape of the model")
    parser.add_argument("--prompt", type=int, default=900, help="tokens of the prompt (default 900)")
    parser.add_argument("--candidates", type=int, default=100, help="candidates to score (default 100)")
    options = parser.parse_args(arguments)
    print(machine_description())
    verdicts = [compare(options, precision) for precision in DTYPES]
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
