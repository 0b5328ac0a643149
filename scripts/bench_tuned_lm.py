"""How fast tuned_lm trains, compared with the usual loop of transformers and peft.

Both tune the packaged language model with the same adapters on the same rows of the demo. The reference pads the rows
of a batch to the longest, computes logits everywhere, and masks the labels that carry no loss. Ours packs rows without
padding, reads the beginning that rows share once, and computes logits only where there is a label. Rates are tokens of
the rows, without padding, per second; a token that rows share counts in each of them.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from bench_common import Verdict, machine_description, number, option_parser, print_table, run_job, time_in_turns
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llm4rec_cli.run import stages
from llm4rec_cli.run.precision import settled

PADDED, OURS = "padded", "ours"
DESCRIPTIONS = {PADDED: "transformers and peft, rows padded", OURS: "packed rows, shared beginnings"}
QUESTIONS = {  # what is trained -> overrides
    "next title": ["dataset=demo"],
    "click": ["dataset=demo_news"],
}
SPEED_UP = 1.5  # aim over the reference
WORST = 1e-3  # the largest relative difference of losses that rounding explains
IGNORED = -100  # label without loss


@dataclass(frozen=True)
class Bench:
    """A model with batches of its training rows, for both contenders.

    Attributes:
        packed: the inputs of our forward.
        padded: tokens, attention mask and labels of the reference.
        lengths: tokens of the rows of each batch.
    """

    model: Any
    packed: list[dict[str, Tensor]]
    padded: list[tuple[Tensor, Tensor, Tensor]]
    lengths: list[int]


def build(overrides: Sequence[str], batch_size: int, n_batches: int) -> Bench:
    job = settled(run_job("train", "demo", None, "model=tuned_lm", "model.lora.dropout=0", *overrides))
    model = stages.build(job, stages.split_dataset(job, stages.load(job)))
    rows = model.training_rows()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    batches = [order[start : start + batch_size] for start in range(0, batch_size * n_batches, batch_size)]
    padded = [_padded([a for i in batch for a in rows.source.answered(rows.numbers[i], 0)]) for batch in batches]
    lengths = [int(mask.sum()) for _, mask, _ in padded]
    return Bench(model, [rows.batch(0, batch) for batch in batches], padded, lengths)


def _padded(answered: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens, attention mask and labels (rows, longest) of answered questions."""
    rows = [torch.tensor(each.row.tokens) for each in answered]
    labels = [torch.full_like(row, IGNORED) for row in rows]
    for label, row, each in zip(labels, rows, answered, strict=True):
        for begin, end in each.answers:
            label[begin:end] = row[begin:end]
    mask = [torch.ones_like(row) for row in rows]
    return (
        pad_sequence(rows, batch_first=True),
        pad_sequence(mask, batch_first=True),
        pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    )


def padded_loss(bench: Bench, batch: int) -> Tensor:
    tokens, mask, labels = bench.padded[batch]
    loss: Tensor = bench.model.lm(input_ids=tokens, attention_mask=mask, labels=labels).loss
    return loss


def packed_loss(bench: Bench, batch: int) -> Tensor:
    loss: Tensor = bench.model(**bench.packed[batch])["loss"]
    return loss


LOSSES: dict[str, Callable[[Bench, int], Tensor]] = {PADDED: padded_loss, OURS: packed_loss}
ATTENTION = {PADDED: "sdpa", OURS: "packed_causal"}


def steps(bench: Bench, name: str) -> Iterator[int]:
    """Yield the tokens of each training step."""
    weights = [weight for weight in bench.model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=1e-4, fused=True)
    for batch in itertools.cycle(range(len(bench.lengths))):
        bench.model.lm.set_attn_implementation(ATTENTION[name])
        LOSSES[name](bench, batch).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        yield bench.lengths[batch]


def compare(options: argparse.Namespace, question: str) -> Verdict:
    """Print the speed of both on one question, and whether ours reaches the speed-up and has the same loss."""
    bench = build([*QUESTIONS[question], *options.overrides], options.batch, options.batches)
    bench.model.train()
    losses = {}
    for name, loss in LOSSES.items():
        bench.model.lm.set_attn_implementation(ATTENTION[name])
        with torch.no_grad():
            losses[name] = float(loss(bench, 0))

    def turn(name: str) -> Callable[[], float]:
        tokens = steps(bench, name)
        return lambda: sum(itertools.islice(tokens, options.batches))

    timings = time_in_turns({name: turn(name) for name in LOSSES}, options.rounds)
    rows = [
        {
            "training": name,
            "description": DESCRIPTIONS[name],
            "tokens/s: median (min–max)": str(timing),
            "speed-up": number(timing.median / timings[PADDED].median),
        }
        for name, timing in timings.items()
    ]
    print_table(f"{question}, {options.batch} rows a batch, {sum(bench.lengths)} tokens", rows)
    speed_up = timings[OURS].median / timings[PADDED].median
    difference = abs(losses[OURS] / losses[PADDED] - 1)
    verdict = Verdict(
        speed_up >= SPEED_UP and difference <= WORST,
        f"speed-up {number(speed_up)} (at least {SPEED_UP}); losses differ by {difference:.2g} (at most {WORST:g})",
    )
    print(verdict)
    return verdict


def main(arguments: Sequence[str] | None = None) -> int:
    parser = option_parser(
        __doc__,
        """\
  python scripts/bench_tuned_lm.py                            needs no file; ten minutes on one core
  python scripts/bench_tuned_lm.py model.lora.rank=4          other settings of both""",
        rounds=3,
    )
    parser.add_argument("--batch", type=int, default=8, help="rows of a batch (default 8)")
    parser.add_argument("--batches", type=int, default=3, help="steps of a turn (default 3)")
    parser.add_argument("--questions", nargs="*", default=list(QUESTIONS), choices=list(QUESTIONS), help="which")
    parser.add_argument("overrides", nargs="*", help="settings of the model")
    options = parser.parse_args(arguments)
    print(machine_description())
    verdicts = [compare(options, question) for question in options.questions]
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
