"""How fast a causal language model on a CPU answers a batch of prompts: our attention compared with transformers'.

Both call transformers' `generate` with a static cache, as `llm=local` does; only the attention differs. Prompts are
padded on the left to the longest. Weights are random, which affects neither speed nor agreement. The time to read the
prompts is the time to the first token; further tokens are the rest of an answer's time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

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
from bench_llm_scoring import SHAPES, random_llama
from torch import Tensor

from llm4rec_cli.llm import attention

REFERENCE, OURS = "sdpa", attention.NAME  # as registered in transformers
DESCRIPTIONS = {REFERENCE: "transformers' own", OURS: "each prompt without its padding, a token's query as one product"}
SPEED_UP = 1.25  # aim for whole answers
WORST = {"fp32": 1e-2, "bf16": 2.0}  # the largest logit difference that rounding explains


def random_prompts(lengths: Sequence[int], vocabulary: int) -> tuple[Tensor, Tensor]:
    """Return (prompts, longest) random tokens, and a mask that is 0 on padding."""
    longest = max(lengths)
    mask = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
    tokens = torch.randint(3, vocabulary, mask.shape, generator=torch.Generator().manual_seed(0))
    return tokens.where(mask, 0), mask.long()


@torch.inference_mode()
def first_logits(model: Any, name: str, tokens: Tensor, mask: Tensor, n: int) -> Tensor:
    """Generate n tokens per prompt and return the (prompts, vocabulary) logits of the first one."""
    model.set_attn_implementation(name)
    output = model.generate(
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
    return output.logits[0].float()


def rows(read: dict[str, Timing], whole: dict[str, Timing], n_prompts: int, n: int) -> list[dict[str, str]]:
    """Return one row per contender.

    Args:
        read: contender -> prompts/s until all answers have their first token.
        whole: contender -> answers/s.
        n: tokens per answer.
    """
    further = {name: n_prompts / whole[name].median - n_prompts / read[name].median for name in DESCRIPTIONS}
    return [
        {
            "attention": name,
            "description": description,
            "prompts read/s: median (min–max)": str(read[name]),
            "ms per further token of all": number(1e3 * further[name] / (n - 1)),
            "answers/s: median (min–max)": str(whole[name]),
            "speed-up": number(whole[name].median / whole[REFERENCE].median),
        }
        for name, description in DESCRIPTIONS.items()
    ]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = option_parser(
        __doc__,
        """\
  python scripts/bench_llm_answers.py                                   needs no file; a quarter of an hour on one core
  python scripts/bench_llm_answers.py --prompt 2600 --prompts 4 --precisions bf16 --markdown
  python scripts/bench_llm_answers.py --size tiny --prompt 40 --tokens 8 --rounds 1         a quick check""",
        rounds=3,
    )
    parser.add_argument("--size", choices=sorted(SHAPES), default="smollm2", help="shape of the model")
    parser.add_argument("--prompt", type=int, default=1300, help="tokens of the longest prompt (default 1300)")
    parser.add_argument("--prompts", type=int, default=6, help="prompts in the batch (default 6)")
    parser.add_argument("--tokens", type=int, default=128, help="tokens per answer (default 128)")
    parser.add_argument("--precisions", nargs="+", choices=sorted(DTYPES), default=list(DTYPES), help="default: both")
    return parser.parse_args(arguments)


def compare(options: argparse.Namespace, precision: str) -> Verdict:
    """Print speed in one precision, and whether ours reaches the speed-up and agrees."""
    model = random_llama(options.size, precision)
    lengths = [options.prompt - options.prompt // 20 * i // options.prompts for i in range(options.prompts)]
    tokens, mask = random_prompts(lengths, model.config.vocab_size)
    theirs, ours = (first_logits(model, name, tokens, mask, 1) for name in DESCRIPTIONS)
    difference = float((ours - theirs).abs().max())

    def generating(name: str, n: int) -> Callable[[], float]:
        return lambda: len(first_logits(model, name, tokens, mask, n))

    read, whole = (
        time_in_turns({name: generating(name, n) for name in DESCRIPTIONS}, options.rounds) for n in (1, options.tokens)
    )
    title = f"{options.size}, {precision}, {options.prompts} prompts of up to {options.prompt} tokens"
    table = rows(read, whole, len(lengths), options.tokens)
    print_table(f"{title}, answers of {options.tokens}", table, options.markdown)
    speed_up = whole[OURS].median / whole[REFERENCE].median
    verdict = Verdict(
        speed_up >= SPEED_UP and difference <= WORST[precision],
        f"speed-up {number(speed_up)} (at least {SPEED_UP:g}); "
        f"logits differ by {difference:.5f} (at most {WORST[precision]:g})",
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
