"""What a P5 trained from scratch on the next item learns over its steps, and what it does not.

Every --every steps, on validation users:
- the loss of each token of the target, on training batches and held out;
- the same with the history of another user, and with the own history in random order: a model that uses the history
  loses by the first, one that uses its order by the second;
- HR@10 and NDCG@10 over the whole catalogue;
- attention from the decoder to the source, and within the encoder: its entropy as a share of the largest possible, and
  the standard deviation of its scores;
- of each group of weights the norm of the gradient, and how far the weights have moved, as a share of their first norm.

Only the prompts that name the next item are trained, with the rate of the trainer after its warm-up, constantly.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.models.p5.filler import FieldValues
from llm4rec_cli.models.p5.model import P5
from llm4rec_cli.models.shared.seq2seq import Groups, pack_batch
from llm4rec_cli.models.shared.sequences import IGNORED
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled

EXAMPLES = """examples:
  python scripts/diagnose_p5.py dataset=demo dataset.seed=1 model.index=collaborative model.rates=scaled
  python scripts/diagnose_p5.py --users 100 --steps 400 dataset=demo dataset.seed=1    whether it can overfit"""
SEQUENTIAL = [
    *("model=p5", "task=sequential", "split=valid", "trainer.precision=fp32", "model.samples.targets=every"),
    *("model.samples.sequential_item=8", "model.samples.sequential_candidates=0", "model.samples.sequential_yes_no=0"),
    *("model.index=sequential", "model.user_tokens=false", "model.history=oldest_first", "model.start=random"),
    "model.ask.sequential=2-3",
]


def token_losses(model: P5, batch: dict[str, Tensor]) -> tuple[Tensor, IntArray]:
    """Return (n,) the cross-entropy of each target token, and its position in its target."""
    groups = Groups.from_batch(batch["order"], batch["shapes"], batch["lengths"])
    states = model.packed.encode(batch["source"], batch["words"], groups)
    states = model.packed.decode(batch["decoder_inputs"], states, groups)
    real = torch.nonzero(batch["targets"] != IGNORED).squeeze(1)
    logits = model.packed.t5.lm_head(states[real]).float()
    position = np.concatenate([np.arange(length) for length in groups.target])
    return F.cross_entropy(logits, batch["targets"][real], reduction="none"), position


def by_position(losses: Tensor, position: IntArray) -> list[float]:
    """Return the mean loss at each position of a target."""
    return [losses[torch.from_numpy(position == k)].mean().item() for k in range(position.max() + 1)]


def histories(values: Sequence[FieldValues], change: str) -> list[IntArray]:
    """Return each user's `own` history, that of `another` user, or the own one `shuffled`."""
    own = [value.history for value in values if value.history is not None]
    rng = np.random.default_rng(0)
    if change == "another":
        return own[1:] + own[:1]
    return [rng.permutation(history) for history in own] if change == "shuffled" else own


@torch.no_grad()
def held_out(model: P5, examples: Examples, change: str = "own") -> tuple[Tensor, IntArray]:
    """Return the `token_losses` of held-out targets after a changed history."""
    values, name = model._field_values(examples), model.config.ask.sequential
    changed = [replace(v, history=h) for v, h in zip(values, histories(values, change), strict=True)]
    rows = [(*model.filler.source(name, value), model.filler.target(name, value, "")) for value in changed]
    return token_losses(model, pack_batch(rows))


@torch.no_grad()
def attention(model: P5, examples: Examples) -> dict[str, tuple[float, float]]:
    """Return of the decoder's attention to the source and of the encoder's, averaged over layers: its entropy as a
    share of the largest possible, and the standard deviation of its scores."""
    seen: dict[str, list[tuple[float, float]]] = {"cross": [], "encoder": []}
    attend = model.packed._attend

    def observe(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        scores = q @ k.transpose(-1, -2) if bias is None else q @ k.transpose(-1, -2) + bias
        weights, longest = scores.softmax(-1), k.shape[2]
        entropy = -(weights * weights.clamp_min(1e-12).log()).sum(-1).mean().item()
        kind = "cross" if q.shape[2] != longest else "encoder"
        if kind == "cross" or bias is None or not torch.isneginf(bias).any():  # not the decoder's own attention
            seen[kind].append((entropy / math.log(longest), scores[scores.isfinite()].std().item()))
        return attend(q, k, v, bias)

    model.packed._attend = observe  # type: ignore[method-assign]
    for i in range(min(len(examples), 32)):  # one at a time: nothing is padded
        held_out(model, examples[i : i + 1])
    model.packed._attend = attend  # type: ignore[method-assign]
    return {kind: tuple(np.mean(values, 0).round(2).tolist()) for kind, values in seen.items()}


def weight_groups(model: P5) -> dict[str, list[nn.Parameter]]:
    """Return the weights by their part of the T5."""
    groups: dict[str, list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        side = "encoder" if ".encoder." in name else "decoder"
        if "words" in name or "shared" in name:
            group = "whole words" if "words" in name else "tokens"
        elif "layer_norm" in name or "relative" in name:
            group = "norms and relative bias"
        elif "Attention" in name:
            kind = "cross" if "EncDec" in name else side
            group = f"{kind} attention, {'queries and keys' if name[-8:-7] in 'qk' else 'values and output'}"
        else:
            group = f"{side} feed-forward"
        groups.setdefault(group, []).append(weight)
    return groups


def norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(tensor.square().sum().item() for tensor in tensors))


def ranking(model: P5, examples: Examples) -> tuple[float, float]:
    """Return HR@10 and NDCG@10 over the whole catalogue, ties by expectation."""
    scores, target = model.score(examples), torch.from_numpy(examples.target).long()[:, None]
    own = scores.gather(1, target)
    better, tied = ((scores > own).sum(1).numpy(), (scores == own).sum(1).numpy())
    values = ranking_metrics(better, tied, np.full(len(scores), scores.shape[1]), [10])
    return float(values["hr@10"].mean()), float(values["ndcg@10"].mean())


def batches(model: P5, size: int, users: int | None) -> Iterator[dict[str, Tensor]]:
    """Yield training batches, epoch after epoch, of the first `users`."""
    rows = model.training_rows()
    if users:
        rows.pools = [replace(pool, units=pool.units[:users]) for pool in rows.pools]
        rows.pool_starts = np.cumsum([0, *(len(pool.units) * pool.repeats for pool in rows.pools)])
    rng, epoch = np.random.default_rng(0), 0
    while True:
        order = rng.permutation(len(rows))
        for start in range(0, len(order), size):
            yield rows.batch(epoch, order[start : start + size].tolist())
        epoch += 1


def show(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="as for llm4rec train")
    parser.add_argument("--steps", type=int, default=600, help="of training (default 600)")
    parser.add_argument("--every", type=int, default=150, help="steps between two reports (default 150)")
    parser.add_argument("--users", type=int, help="train on so many users only (default all)")
    parser.add_argument("--held-out", type=int, default=500, help="validation users (default 500)")
    options = parser.parse_intermixed_args()
    job = Job.unchecked(compose([*SEQUENTIAL, *options.overrides]), "train")
    split = stages.split_dataset(job, stages.load(job))
    model: Any = stages.build(settled(job), split)
    examples = split.examples(SplitName.valid)
    chosen = np.random.default_rng(0).permutation(len(examples))[: options.held_out]
    examples = examples[np.sort(chosen)]
    groups, trainer = weight_groups(model), job.config.trainer
    initial = {group: [weight.detach().clone() for weight in weights] for group, weights in groups.items()}
    optimizer = torch.optim.AdamW(
        [
            {"params": [weight], "lr": model.learning_rate_of(name, trainer.learning_rate)}
            for name, weight in model.named_parameters()
        ],
        weight_decay=trainer.weight_decay,
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    warm_up = max(1, int(trainer.warmup_ratio * options.steps))
    print(f"untrained: HR@10, NDCG@10 {show(ranking(model.eval(), examples))}", flush=True)
    for step, batch in enumerate(batches(model, trainer.batch_size, options.users), 1):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * min(1, step / warm_up)
        optimizer.zero_grad()
        losses, position = token_losses(model.train(), batch)
        losses.mean().backward()
        gradients = {name: norm([w.grad for w in weights if w.grad is not None]) for name, weights in groups.items()}
        nn.utils.clip_grad_norm_(model.parameters(), trainer.gradient_clip or math.inf)
        optimizer.step()
        if step % options.every == 0:
            model.eval()
            print(f"step {step}, {step * trainer.batch_size:,} prompts", flush=True)
            print(f"  loss by token     trained {show(by_position(losses.detach(), position))}")
            for change in ("own", "another", "shuffled"):
                print(f"  {change:>9} history {show(by_position(*held_out(model, examples, change)))}")
            print(f"  HR@10, NDCG@10    {show(ranking(model, examples))}")
            print(f"  attention         {attention(model, examples)}")
            for name, weights in groups.items():
                moved = norm([w.detach() - before for w, before in zip(weights, initial[name], strict=True)])
                print(f"  {name}: gradient {gradients[name]:.4f}, moved {moved / norm(initial[name]):.2f}")
        if step == options.steps:
            return


if __name__ == "__main__":
    main()
