"""What can be read of a rating from a P5's states: ridge regressions before and after training.

For the prompt 1-1, which names a user and an item, the states are those of the encoder at the tokens of the user and of
the item, and that of the decoder when it begins to answer. Each regression is fitted on training ratings and evaluated
on those of the split; the penalty is the best of five on the evaluated rows, so a number is a bound on what a linear
reading finds, not an estimate of it. If a regression is better than the model's own ratings, the answer is in the state
and the loss or the decoding misses it; if it is not, it is not there to be read.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from llm4rec_cli.config.compose import compose
from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.models.p5.filler import FieldValues
from llm4rec_cli.models.p5.model import P5
from llm4rec_cli.models.shared.seq2seq import Groups, pack_batch
from llm4rec_cli.results import tables
from llm4rec_cli.run import checkpoints, choose, stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from llm4rec_cli.tasks.modules import task_module

FloatArray = NDArray[np.floating[Any]]

EXAMPLES = """examples:
  python scripts/probe_p5.py model=p5 dataset.seed=1 split=valid"""
PROMPT, ROWS_AT_ONCE = "1-1", 256
PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4)


class Rated(NamedTuple):
    """n interactions: users, items and rows by number, and ratings; each (n,)."""

    user: IntArray
    item: IntArray
    row: IntArray
    rating: FloatArray

    @classmethod
    def of(cls, split: Split, row: IntArray) -> Rated:
        user, item, rating = (split.dataset.interactions[name].to_numpy()[row] for name in ("user", "item", "rating"))
        return cls(user, item, row, rating)


@torch.no_grad()
def states(model: P5, rated: Rated) -> dict[str, FloatArray]:
    """Return (n, d) the states at the tokens of the `user` and of the `item`, averaged, and the decoder's first."""
    parts: list[dict[str, FloatArray]] = []
    no_history = np.zeros(0, dtype=np.int64)
    for begin in range(0, len(rated.row), ROWS_AT_ONCE):
        numbers = zip(*(column[begin : begin + ROWS_AT_ONCE].tolist() for column in rated[:3]), strict=True)
        values = [FieldValues(user, item, row, 1, no_history) for user, item, row in numbers]
        answer = model.filler.short_text("3.0")[0]  # any: the first state depends on none
        batch = pack_batch([(*model.filler.source(PROMPT, value), answer) for value in values])
        groups = Groups.from_batch(batch["order"], batch["shapes"], batch["lengths"])
        encoded = model.packed.encode(batch["source"], batch["words"], groups)
        decoded = model.packed.decode(batch["decoder_inputs"], encoded, groups).numpy()
        tokens, state = batch["source"].numpy(), encoded.numpy()
        result: dict[str, FloatArray] = {
            name: np.zeros((len(values), state.shape[1])) for name in ("user", "item", "decoder")
        }
        number = source = target = 0
        for n_rows, source_length, target_length in groups.shapes:
            for _ in range(n_rows):
                place = groups.order[number]
                of_row = slice(source, source + source_length)
                codes = {
                    "user": model.filler.user_codes[values[place].user],
                    "item": model.filler.item_codes[values[place].item],
                }
                for name, code in codes.items():
                    result[name][place] = state[of_row][np.isin(tokens[of_row], code)].mean(0)
                result["decoder"][place] = decoded[target]
                number, source, target = number + 1, source + source_length, target + target_length
        parts.append(result)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def ridge_rmse(x: FloatArray, y: FloatArray, held_out_x: FloatArray, held_out_y: FloatArray) -> float:
    """Return the lowest RMSE on held-out rows of ridge regressions with one of PENALTIES, on standardised columns."""
    mean, deviation = x.mean(0), x.std(0) + 1e-9
    x, held_out_x = (x - mean) / deviation, (held_out_x - mean) / deviation
    errors = []
    for penalty in PENALTIES:
        weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (y - y.mean()))
        errors.append(np.sqrt(np.mean((y.mean() + held_out_x @ weights - held_out_y) ** 2)))
    return float(min(errors))


def probe(model: P5, train: Rated, held_out: Rated) -> dict[str, float]:
    """Return the RMSE on held-out ratings of each reading, fitted on training ratings."""
    of_train, of_held_out = states(model, train), states(model, held_out)
    for part in (of_train, of_held_out):
        part["user and item"] = np.hstack([part["user"], part["item"]])
    return {name: ridge_rmse(of_train[name], train.rating, of_held_out[name], held_out.rating) for name in of_train}


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=formatter)
    parser.add_argument("--rows", type=int, default=6000, help="training ratings that are read (default 6000)")
    parser.add_argument("overrides", nargs="+", help="of the trained run, as for llm4rec eval")
    options = parser.parse_args()
    job = settled(choose.evaluation(Job.unchecked(compose([*options.overrides, "task=rating"]), "eval")))
    split, trained = stages.split_dataset(job, stages.load(job)), job.evaluated
    assert trained is not None
    model: Any = stages.build(replace(job, evaluated=None), split)
    model.eval()
    examples = task_module(job.task).examples(split, job.config.split, job.config, job.cache)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(split.assignment == TRAIN))[: options.rows]
    train, held_out = Rated.of(split, chosen), Rated.of(split, examples.row)
    before = probe(model, train, held_out)
    checkpoints.load(model, trained.checkpoint)
    after = probe(model.eval(), train, held_out)
    own = float(np.sqrt(np.mean((model.rate(examples).value - held_out.rating) ** 2)))
    constant = float(np.sqrt(np.mean((train.rating.mean() - held_out.rating) ** 2)))
    lines = [[name, f"{before[name]:.4f}", f"{after[name]:.4f}"] for name in before]
    lines += [["the model's own ratings", "", f"{own:.4f}"], ["the mean of all ratings", "", f"{constant:.4f}"]]
    print(f"{len(chosen):,} training ratings, {len(examples):,} held out; {trained.folder}")
    tables.show(tables.Content("RMSE of readings", ["read from", "before training", "after"], lines, []))


if __name__ == "__main__":
    main()
