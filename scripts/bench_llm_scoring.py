"""How fast a causal language model judges many candidates behind one prompt, against reading the prompt anew, in turns.

The references read prompt and candidate as a whole for each candidate, several at a time, padded on their right: one
asks transformers for all logits, as a plain formulation does, the other for those of the candidate alone. A third
contender reads the prompt once, too, by transformers alone: its cache is copied for each candidate. Ours is
`llm.likelihood.log_likelihoods`. All run transformers' model with the same weights in the same arithmetic; weights are
random, which matters neither for speed nor for agreement.

A reference may judge fewer candidates than the others do: it takes the same time for each, and rates are candidates a
second. Operations are those of matrix products, counted by torch as they run, attention that is masked away included;
what is needed is counted with each token read once, and attention to what it sees alone. A share is of this machine's
measured rate in the same arithmetic.
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
from machine import Timing, executed, in_turns, machine_in_words, measured_rate, number, report
from torch import Tensor

from llm4rec_cli.llm.likelihood import cache_argument, log_likelihoods

ALL_LOGITS, REFERENCE, COPIED, OURS = "anew, all logits", "anew", "copied", "ours"
MEANING = {
    ALL_LOGITS: "prompt and candidate, plain",
    REFERENCE: "prompt and candidate, logits of the candidate",
    COPIED: "prompt once, its cache copied",
    OURS: "prompt once, candidates packed behind it",
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WORST = {"fp32": 1e-3, "bf16": 1.0}  # difference of two scores of the same candidate that rounding makes
TIMES = 5.0  # the reference's speed that ours should reach
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
    """What all contenders share.

    Attributes:
        model: the weights.
        prompt: token ids.
        candidates: token ids of each.
        anew: how many of them, the first ones, the references judge.
        batch: candidates that a forward takes, but ours.
    """

    model: Any
    prompt: list[int]
    candidates: list[list[int]]
    anew: int
    batch: int


def model(size: str, precision: str) -> Any:
    """A Llama of this shape with random weights, whose logits are about as far apart as a trained one's."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"max_position_embeddings": 8_192, "tie_word_embeddings": True, "initializer_range": 0.05, **SHAPES[size]}
    return LlamaForCausalLM(LlamaConfig(**shape)).eval().to(DTYPES[precision])


def drawn(n_prompt: int, n_candidates: int, vocabulary: int, seed: int = 0) -> tuple[list[int], list[list[int]]]:
    """Random tokens of a prompt, and of candidates whose lengths are geometric."""
    rng = np.random.default_rng(seed)
    lengths = SHORTEST - 1 + rng.geometric(1 / (MEAN - SHORTEST + 1), n_candidates)
    prompt = rng.integers(3, vocabulary, n_prompt).tolist()
    return prompt, [rng.integers(3, vocabulary, length).tolist() for length in lengths]


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """(rows, longest) tokens; what stands behind a row's end is seen by nothing in front of it."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)


def summed(logits: Tensor, candidates: Sequence[Sequence[int]]) -> Tensor:
    """(n,) log-likelihoods, of logits (n, longest, vocabulary) at the token before each of a candidate's."""
    told = logits.float().log_softmax(-1).gather(2, padded(candidates)[..., None]).squeeze(2)
    lengths = torch.tensor([len(tokens) for tokens in candidates])
    return told.where(torch.arange(told.shape[1]) < lengths[:, None], 0.0).sum(1)


@torch.inference_mode()
def anew(bench: Bench, all_logits: bool) -> Tensor:
    """By reading prompt and candidate as a whole."""
    scores = []
    for start in range(0, bench.anew, bench.batch):
        candidates = bench.candidates[start : min(start + bench.batch, bench.anew)]
        longest = max(map(len, candidates))
        tokens = padded([[*bench.prompt, *candidate] for candidate in candidates])
        logits = bench.model(tokens, use_cache=False, logits_to_keep=0 if all_logits else longest + 1).logits
        scores.append(summed(logits[:, -longest - 1 : -1], candidates))
    return torch.cat(scores)


@torch.inference_mode()
def copied(bench: Bench) -> Tensor:
    """By transformers alone, with the prompt's cache copied for each candidate."""
    from transformers import DynamicCache

    argument, kept, scores = cache_argument(bench.model), DynamicCache(), []
    first = bench.model(torch.tensor([bench.prompt]), **{argument: kept}, logits_to_keep=1).logits
    for start in range(0, len(bench.candidates), bench.batch):
        candidates = bench.candidates[start : start + bench.batch]
        cache = copy.deepcopy(kept)
        cache.batch_repeat_interleave(len(candidates))
        behind = bench.model(padded(candidates), **{argument: cache}).logits
        scores.append(summed(torch.cat([first.expand(len(candidates), -1, -1), behind[:, :-1]], 1), candidates))
    return torch.cat(scores)


def ours(bench: Bench) -> Tensor:
    return log_likelihoods(bench.model, bench.prompt, bench.candidates)


CONTENDERS: dict[str, Callable[[Bench], Tensor]] = {
    ALL_LOGITS: lambda bench: anew(bench, all_logits=True),
    REFERENCE: lambda bench: anew(bench, all_logits=False),
    COPIED: copied,
    OURS: ours,
}


def agreement_rows(scores: dict[str, Tensor], truth: Tensor) -> list[dict[str, str]]:
    """One row a contender, over the candidates that the references judge.

    Args:
        scores: contender -> log-likelihoods.
        truth: (n,) those by the reference in fp32.
    """
    theirs = scores[REFERENCE]
    return [
        {
            "judging": name,
            "worst difference from the reference": f"{worst(found, theirs):.6f}",
            "from it in fp32": f"{worst(found, truth):.6f}",
            "on average": f"{float((found[: len(truth)] - truth).abs().mean()):.6f}",
            "scores: mean ± sd": f"{float(truth.mean()):.2f} ± {float(truth.std()):.2f}",
            "same order of pairs": f"{100 * same_order(found[: len(truth)], truth):.1f} %",
        }
        for name, found in scores.items()
    ]


def worst(a: Tensor, b: Tensor) -> float:
    """The largest difference among the first that both have."""
    n = min(len(a), len(b))
    return float((a[:n] - b[:n]).abs().max())


def same_order(a: Tensor, b: Tensor) -> float:
    """The share of pairs of candidates that two lists of scores put in the same order."""
    first, second = torch.triu_indices(len(a), len(a), 1)
    return float(((a[first] > a[second]) == (b[first] > b[second])).float().mean())


def needed_flops(config: Any, n_prompt: int, lengths: Sequence[int]) -> float:
    """Floating-point operations in matrix products that a candidate needs on average.

    Args:
        config: of the model, as transformers has it.
        n_prompt: tokens of the prompt, read once.
        lengths: tokens of each candidate, of which the last is not read.
    """
    d, heads = config.hidden_size, config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    token = 2 * d * (2 * heads + 2 * keys + 3 * config.intermediate_size)
    read = n_prompt + sum(length - 1 for length in lengths)
    seen = n_prompt * (n_prompt + 1) / 2 + sum(n_prompt * (n - 1) + n * (n - 1) / 2 for n in lengths)
    judged = 1 + sum(length - 1 for length in lengths)  # the prompt's last token tells of all first ones
    layers = config.num_hidden_layers * (read * token + 4 * heads * seen)
    return float((layers + judged * 2 * d * config.vocab_size) / len(lengths))


def speed_rows(timings: dict[str, Timing], flops: dict[str, float], needed: float, rate: float) -> list[dict[str, str]]:
    """The table.

    Args:
        flops: contender -> operations a candidate, as executed.
        needed: operations a candidate.
        rate: the machine's in this arithmetic, in GFLOP/s.
    """
    return [
        {
            "judging": name,
            "is": MEANING[name],
            "candidates/s: median (min–max)": str(timing),
            "times": number(timing.median / timings[REFERENCE].median),
            "GFLOP a candidate: executed": number(flops[name] / 1e9),
            "needed": number(needed / 1e9),
            "GFLOP/s": number(timing.median * flops[name] / 1e9),
            "of the machine's": f"{100 * timing.median * flops[name] / 1e9 / rate:.0f} %",
        }
        for name, timing in timings.items()
    ]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python scripts/bench_llm_scoring.py                                   needs no file; ten minutes on two cores
  python scripts/bench_llm_scoring.py --anew 100 --precisions bf16 --markdown
  python scripts/bench_llm_scoring.py --size tiny --prompt 50 --rounds 1                    whether it works
Run it on a quiet machine. OMP_NUM_THREADS sets the threads, of all contenders and of the measured rate alike.""",
    )
    parser.add_argument("--size", choices=sorted(SHAPES), default="smollm2", help="shape of the model")
    parser.add_argument("--prompt", type=int, default=900, help="tokens of the prompt (default 900)")
    parser.add_argument("--candidates", type=int, default=100, help="that are judged (default 100)")
    parser.add_argument("--anew", type=int, default=16, help="of them that the references judge (default 16)")
    parser.add_argument("--batch", type=int, default=8, help="candidates that a forward takes, but ours (default 8)")
    parser.add_argument("--precisions", nargs="+", choices=sorted(DTYPES), default=list(DTYPES), help="default: both")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each, after one to warm up (default 3)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown sections, for docs/benchmarks.md")
    return parser.parse_args(arguments)


def compared(asked: argparse.Namespace, precision: str) -> bool:
    """Prints speed and agreement in one arithmetic, and whether ours is as fast as it should be, and agrees."""
    made = model(asked.size, precision)
    prompt, candidates = drawn(asked.prompt, asked.candidates, made.config.vocab_size)
    bench = Bench(made, prompt, candidates, min(asked.anew, asked.candidates), asked.batch)
    scores = {name: judge(bench) for name, judge in CONTENDERS.items()}
    truth = anew(Bench(copy.deepcopy(made).float(), prompt, candidates, bench.anew, asked.batch), all_logits=False)

    def counted(judge: Callable[[Bench], Tensor]) -> Callable[[], float]:
        return lambda: len(judge(bench))

    work = {name: counted(judge) for name, judge in CONTENDERS.items()}
    flops = {name: executed(judging) for name, judging in work.items()}
    rate = measured_rate(DTYPES[precision])
    timings = in_turns(work, asked.rounds)
    rate = max(rate, measured_rate(DTYPES[precision]))
    print(f"machine: {number(rate)} GFLOP/s in {precision} (2048³ matrix product)")
    lengths = [len(candidate) for candidate in candidates]
    title = f"{asked.size}, {precision}, {asked.candidates} candidates behind {asked.prompt} tokens"
    report(
        f"{title}, of {number(float(np.mean(lengths)))} tokens on average",
        speed_rows(timings, flops, needed_flops(made.config, asked.prompt, lengths), rate),
        asked.markdown,
    )
    report(f"{title}: agreement", agreement_rows(scores, truth), asked.markdown)
    times = timings[OURS].median / timings[REFERENCE].median
    differs = worst(scores[OURS], scores[REFERENCE])
    holds = times >= TIMES and differs <= WORST[precision]
    aim = f"(at least {TIMES:.0f}; at most {WORST[precision]:g})"
    print(f"{'holds' if holds else 'DOES NOT HOLD'}: {number(times)} times as fast, scores {differs:.5f} apart {aim}")
    return holds


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parse(arguments)
    print(machine_in_words())
    held = [compared(asked, precision) for precision in asked.precisions]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
