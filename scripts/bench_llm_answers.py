"""How fast a causal language model on a CPU answers a batch of prompts with our attention, against transformers' own.

Both call transformers' `generate` with a static cache, as `llm=local` does; only the attention differs. The prompts are
padded on their left to the longest. Weights are random, which matters neither for speed nor for agreement. The time to
read the prompts is that to the first token; the time of further tokens is what an answer takes beyond it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from bench_llm_scoring import DTYPES, SHAPES, model
from machine import Timing, in_turns, machine_in_words, number, report
from torch import Tensor

from llm4rec_cli.llm import attention

REFERENCE, OURS = "sdpa", attention.NAME  # what transformers calls them
MEANING = {REFERENCE: "transformers' own", OURS: "each prompt without its padding, a token's query as one product"}
TIMES = 1.25  # the reference's speed that ours should reach, of whole answers
WORST = {"fp32": 1e-2, "bf16": 2.0}  # difference of two logits of the same token that rounding makes


def drawn(lengths: Sequence[int], vocabulary: int) -> tuple[Tensor, Tensor]:
    """(prompts, longest) random tokens, and a mask of what is no padding."""
    longest = max(lengths)
    mask = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
    tokens = torch.randint(3, vocabulary, mask.shape, generator=torch.Generator().manual_seed(0))
    return tokens.where(mask, 0), mask.long()


@torch.inference_mode()
def answered(made: Any, name: str, tokens: Tensor, mask: Tensor, n: int) -> Tensor:
    """(prompts, vocabulary) logits at the first of n tokens that are generated."""
    made.set_attn_implementation(name)
    told = made.generate(
        tokens,
        attention_mask=mask,
        max_new_tokens=n,
        min_new_tokens=n,
        do_sample=False,
        pad_token_id=0,
        cache_implementation="static",
        disable_compile=True,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return told.logits[0].float()


def rows(read: dict[str, Timing], whole: dict[str, Timing], n_prompts: int, n: int) -> list[dict[str, str]]:
    """The table: a row a contender.

    Args:
        read: contender -> prompts a second, until all answers have their first token.
        whole: contender -> answers a second.
        n: tokens of each answer.
    """
    further = {name: n_prompts / whole[name].median - n_prompts / read[name].median for name in MEANING}
    return [
        {
            "attention": name,
            "is": meaning,
            "prompts read/s: median (min–max)": str(read[name]),
            "ms for a further token of all": number(1e3 * further[name] / (n - 1)),
            "answers/s: median (min–max)": str(whole[name]),
            "times": number(whole[name].median / whole[REFERENCE].median),
        }
        for name, meaning in MEANING.items()
    ]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python scripts/bench_llm_answers.py                                   needs no file; a quarter of an hour on one core
  python scripts/bench_llm_answers.py --prompt 2600 --prompts 4 --precisions bf16 --markdown
  python scripts/bench_llm_answers.py --size tiny --prompt 40 --tokens 8 --rounds 1         whether it works
Run it on a quiet machine. OMP_NUM_THREADS sets the threads of both alike.""",
    )
    parser.add_argument("--size", choices=sorted(SHAPES), default="smollm2", help="shape of the model")
    parser.add_argument("--prompt", type=int, default=1300, help="tokens of the longest prompt (default 1300)")
    parser.add_argument("--prompts", type=int, default=6, help="answered together (default 6)")
    parser.add_argument("--tokens", type=int, default=128, help="of each answer (default 128)")
    parser.add_argument("--precisions", nargs="+", choices=sorted(DTYPES), default=list(DTYPES), help="default: both")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each, after one to warm up (default 3)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown sections, for docs/benchmarks.md")
    return parser.parse_args(arguments)


def compared(asked: argparse.Namespace, precision: str) -> bool:
    """Prints speed in one arithmetic, and whether ours is as fast as it should be, and agrees."""
    made = model(asked.size, precision)
    lengths = [asked.prompt - asked.prompt // 20 * i // asked.prompts for i in range(asked.prompts)]
    tokens, mask = drawn(lengths, made.config.vocab_size)
    theirs, ours = (answered(made, name, tokens, mask, 1) for name in MEANING)
    differs = float((ours - theirs).abs().max())

    def counted(name: str, n: int) -> Callable[[], float]:
        return lambda: len(answered(made, name, tokens, mask, n))

    read, whole = (in_turns({name: counted(name, n) for name in MEANING}, asked.rounds) for n in (1, asked.tokens))
    title = f"{asked.size}, {precision}, {asked.prompts} prompts of up to {asked.prompt} tokens"
    table = rows(read, whole, len(lengths), asked.tokens)
    report(f"{title}, answers of {asked.tokens}", table, asked.markdown)
    times = whole[OURS].median / whole[REFERENCE].median
    holds = times >= TIMES and differs <= WORST[precision]
    aim = f"(at least {TIMES:g}; at most {WORST[precision]:g})"
    print(f"{'holds' if holds else 'DOES NOT HOLD'}: {number(times)} times as fast, logits {differs:.5f} apart {aim}")
    return holds


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parse(arguments)
    print(machine_in_words())
    held = [compared(asked, precision) for precision in asked.precisions]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
