"""How fast a causal language model on a CPU lists ten of a hundred titles: our decoder compared with transformers'.

The reference is transformers' `generate` with `prefix_allowed_tokens_fn`, which allows the tokens that continue a title
not yet named: one pass for each token, over prompts padded on the left. Ours is `llm.constrained.decode`, which reads
up to eight tokens without an alternative at once. Model, weights, precision and attention are the same.
Weights are random, which affects neither speed nor agreement.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from bench_common import (
    DTYPES,
    Timing,
    Verdict,
    machine_description,
    number,
    option_parser,
    print_table,
    time_in_turns,
)
from bench_llm_answers import random_prompts
from bench_llm_scoring import SHAPES, random_llama

from llm4rec_cli.llm.attention import use_fast_attention
from llm4rec_cli.llm.constrained import Answer, decode

REFERENCE, OURS = "a pass for each token", "ours"
SPEED_UP = 1.25  # aim
END = 1  # token after each title, and after the list
FIRST_TOKENS = 50  # with which titles begin, so that some begin alike

Codes = Sequence[Sequence[int]]


def random_titles(n: int, mean: float, vocabulary: int) -> list[list[int]]:
    """Return n different titles with geometric lengths of this mean, each with its end."""
    rng = np.random.default_rng(0)
    titles: dict[tuple[int, ...], None] = {}
    while len(titles) < n:
        length = int(rng.geometric(1 / (mean - 1)))
        first = int(rng.integers(3, 3 + min(FIRST_TOKENS, vocabulary - 3)))
        titles[first, *rng.integers(3, vocabulary, length).tolist(), END] = None
    return [list(title) for title in titles]


def listed_by_reference(model: Any, prompts: Codes, titles: Codes, n: int) -> list[list[int]]:
    """Return the n titles that transformers' `generate` names for each prompt."""
    longest = max(map(len, prompts))
    padded = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])

    def allowed(_: int, tokens: torch.Tensor) -> list[int]:
        named, path = named_by(tokens[longest:].tolist(), titles)
        left = [title for i, title in enumerate(titles) if i not in named and title[: len(path)] == path]
        return [END] if len(named) == n else sorted({title[len(path)] for title in left})

    output = model.generate(
        padded,
        attention_mask=mask,
        max_new_tokens=sum(sorted(map(len, titles), reverse=True)[:n]),
        prefix_allowed_tokens_fn=allowed,
        stopping_criteria=[lambda tokens, _: torch.tensor([is_done(row, titles, n) for row in tokens[:, longest:]])],
        do_sample=False,
        pad_token_id=END,
        eos_token_id=None,
        cache_implementation="static",
        disable_compile=True,
    )
    return [named_by(row.tolist(), titles)[0][:n] for row in output[:, longest:]]


def named_by(tokens: Sequence[int], titles: Codes) -> tuple[list[int], list[int]]:
    """Return the titles that tokens name, and the tokens of one that is begun."""
    number_of = {tuple(title): i for i, title in enumerate(titles)}
    named, path = [], []
    for token in tokens:
        path.append(token)
        if token == END and tuple(path) in number_of:
            named.append(number_of[tuple(path)])
            path = []
    return named, path


def is_done(tokens: torch.Tensor, titles: Codes, n: int) -> bool:
    return len(named_by(tokens.tolist(), titles)[0]) >= n


def listed_by_ours(model: Any, prompts: Codes, titles: Codes, n: int) -> list[list[int]]:
    """Return the n titles that our decoder names for each prompt."""
    answers = [Answer(titles, titles, n) for _ in prompts]
    decode(model, prompts, answers)
    return [answer.named for answer in answers]


CONTENDERS: dict[str, Callable[[Any, Codes, Codes, int], list[list[int]]]] = {
    REFERENCE: listed_by_reference,
    OURS: listed_by_ours,
}


def rows(read: Timing, timings: dict[str, Timing]) -> list[dict[str, str]]:
    """Return one row per contender.

    Args:
        read: lists of one title per second, by ours.
        timings: contender -> lists/s.
    """
    return [
        {
            "decoder": name,
            "lists/s: median (min–max)": str(timing),
            "of its time, prompts and one title": f"{100 * timing.median / read.median:.0f} %",
            "speed-up": number(timing.median / timings[REFERENCE].median),
        }
        for name, timing in timings.items()
    ]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = option_parser(
        __doc__,
        """\
  python scripts/bench_constrained.py                                   needs no file; some minutes on one core
  python scripts/bench_constrained.py --prompt 2600 --prompts 5 --title-tokens 25 --precisions bf16 --markdown
  python scripts/bench_constrained.py --size tiny --prompt 40 --rounds 1                    a quick check""",
        rounds=3,
    )
    parser.add_argument("--size", choices=sorted(SHAPES), default="smollm2", help="shape of the model")
    parser.add_argument("--prompt", type=int, default=1300, help="tokens of the longest prompt (default 1300)")
    parser.add_argument("--prompts", type=int, default=6, help="prompts in the batch (default 6)")
    parser.add_argument("--titles", type=int, default=100, help="titles to choose among (default 100)")
    parser.add_argument("--title-tokens", type=float, default=10, help="mean tokens of a title (default 10)")
    parser.add_argument("--listed", type=int, default=10, help="titles of a list (default 10)")
    parser.add_argument("--precisions", nargs="+", choices=sorted(DTYPES), default=list(DTYPES), help="default: both")
    return parser.parse_args(arguments)


def compare(options: argparse.Namespace, precision: str) -> Verdict:
    """Print speed in one precision, and whether ours reaches the speed-up and names the same titles."""
    model = random_llama(options.size, precision)
    use_fast_attention(model)
    lengths = [options.prompt - options.prompt // 20 * i // options.prompts for i in range(options.prompts)]
    tokens, mask = random_prompts(lengths, model.config.vocab_size)
    prompts = [row[own.bool()].tolist() for row, own in zip(tokens, mask, strict=True)]
    titles = random_titles(options.titles, options.title_tokens, model.config.vocab_size)

    def listing(name: str, n: int) -> Callable[[], float]:
        return lambda: len(CONTENDERS[name](model, prompts, titles, n))

    lists = [list_titles(model, prompts, titles, options.listed) for list_titles in CONTENDERS.values()]
    same = np.mean([theirs == ours for theirs, ours in zip(*lists, strict=True)])
    timings = time_in_turns({name: listing(name, options.listed) for name in CONTENDERS}, options.rounds)
    (read,) = time_in_turns({OURS: listing(OURS, 1)}, options.rounds).values()
    title = f"{options.size}, {precision}, {options.prompts} prompts of up to {options.prompt} tokens"
    chosen = f"{options.listed} of {options.titles} titles of {options.title_tokens:g} tokens on average"
    print_table(f"{title}, {chosen}", rows(read, timings), options.markdown)
    speed_up = timings[OURS].median / timings[REFERENCE].median
    least = 1.0 if precision == "fp32" else 0.0  # rounding of bf16 may decide between two titles
    verdict = Verdict(
        speed_up >= SPEED_UP and same >= least,
        f"speed-up {number(speed_up)} (at least {SPEED_UP:g}); {100 * same:.0f} % of the lists are the same",
    )
    print(verdict)
    return verdict


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    print(machine_description())
    verdicts = [compare(options, precision) for precision in options.precisions]
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
