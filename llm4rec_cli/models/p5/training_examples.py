"""P5's training examples: all tasks together; each example draws a new prompt every epoch."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.base import Batch
from llm4rec_cli.models.p5.config import P5Config
from llm4rec_cli.models.p5.filler import MIN_LIKED_STARS, FieldValues, PromptFiller, jitter_stars, round_stars
from llm4rec_cli.models.p5.prompts import N_CANDIDATES, Answer, Prompt, example_kind
from llm4rec_cli.models.p5.settings import Negatives, PerUnit, PromptFamily, SamplesConfig, Targets
from llm4rec_cli.models.shared.seq2seq import pack_batch

KINDS = tuple(f.name for f in fields(SamplesConfig) if f.type == "int")
RANKING_KINDS = tuple(kind for kind in KINDS if kind.startswith(("sequential", "direct")))
FIRST_AND_LAST = 3  # code: targets are among the last three training items, histories begin at one of the first three


@dataclass(frozen=True)
class ExamplePool:
    """The examples of one kind.

    Attributes:
        kind: a field of SamplesConfig.
        prompts: names of the prompts to draw from.
        units: (n,) the interactions or users that the examples are about; of rankings counted by interaction, places
            of targets in `TrainingExamples.flat`.
        repeats: examples per unit and epoch.
    """

    kind: str
    prompts: list[str]
    units: IntArray
    repeats: int


class TrainingExamples:
    """Examples for training, or about held-out interactions, as the trainer's rows.

    A training example draws its prompt, target, history, negatives and answer by (seed, epoch, row). A held-out
    interaction gives one example per kind of prompt, the same in every epoch.
    """

    def __init__(
        self,
        config: P5Config,
        split: Split,
        filler: PromptFiller,
        prompt_names: list[str],
        seed: int,
        held_out: Examples | None = None,
    ) -> None:
        self.config, self.split, self.filler, self.seed, self.held_out = config, split, filler, seed, held_out
        self.stream_name = "p5 rows" if held_out is None else "p5 held-out rows"
        self.flat, self.offsets = split.for_ranking().train_sequences()
        self.flat_user = np.repeat(np.arange(split.n_users), np.diff(self.offsets))
        self.user = split.dataset.interactions["user"].to_numpy()
        ratings = split.dataset.interactions.get("rating")
        self.star = None if ratings is None else round_stars(ratings.to_numpy())
        self.liked = None if ratings is None else ratings.to_numpy() >= MIN_LIKED_STARS
        self.negative_items = split.softmax_items()
        self.first_targets = {kind: self._first_targets(kind) for kind in RANKING_KINDS}
        self.has_value: dict[str, NDArray[np.bool_]] = {}  # columns -> which interactions have a value
        self.fillable: dict[str, NDArray[np.bool_]] = {}  # prompts about interactions -> which can fill them
        self.all_fillable: dict[str, NDArray[np.bool_]] = {}  # kinds -> which can fill all prompts of it
        names_by_kind: dict[str, list[str]] = {}
        for name in prompt_names:
            names_by_kind.setdefault(example_kind(filler.prompts[name]), []).append(name)
        pools = [self._pool(kind, names) for kind, names in names_by_kind.items()]
        self.pools = [pool for pool in pools if len(pool.units) and pool.repeats]
        filler.read_texts([name for pool in self.pools for name in pool.prompts])
        self.pool_starts = np.cumsum([0, *(len(pool.units) * pool.repeats for pool in self.pools)])

    def __len__(self) -> int:
        return int(self.pool_starts[-1])

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Return the fields of `pack_batch`, with each row's kind by place, `kind` (n,), and the array of how many rows
        each of KINDS has, `n_of_kind`."""
        rows = np.array(indices)
        pool = np.searchsorted(self.pool_starts, rows, side="right") - 1
        drawn = [
            self._example(
                self.pools[p], int(i - self.pool_starts[p]), stream(self.seed, self.stream_name, epoch, int(i))
            )
            for p, i in zip(pool, rows, strict=True)
        ]
        kind_by_pool = np.array([KINDS.index(each.kind) for each in self.pools])
        names, values, answers = zip(*drawn, strict=True)
        sources, targets = self.filler.sources(names, values), self.filler.targets(names, values, answers)
        packed = pack_batch([(*source, target) for source, target in zip(sources, targets, strict=True)])
        kind = kind_by_pool[pool]
        by_place = torch.from_numpy(kind[np.asarray(packed["order"])])
        return {**packed, "kind": by_place, "n_of_kind": np.bincount(kind, minlength=len(KINDS))}

    def _pool(self, kind: str, names: list[str]) -> ExamplePool:
        repeats = int(getattr(self.config.samples, kind))
        trained_on = np.flatnonzero(self.split.assignment == TRAIN)
        rows = trained_on if self.held_out is None else np.arange(len(self.held_out))
        if kind not in RANKING_KINDS:
            self.fillable |= {name: self._can_fill(name) for name in names}
            by_any = np.logical_or.reduce([self.fillable[name] for name in names])
            self.all_fillable[kind] = np.logical_and.reduce([self.fillable[name] for name in names])
            units = rows[by_any[rows if self.held_out is None else self.held_out.row]]
        elif self._counts_interactions(kind):
            place = np.arange(len(self.flat)) - self.offsets[self.flat_user]
            units = np.flatnonzero(place >= self.first_targets[kind][self.flat_user])
        elif self.held_out is None:
            n_items = np.diff(self.offsets)
            units = np.flatnonzero(n_items >= (2 if kind.startswith("sequential") else 1))
        else:
            units = rows[self.held_out.history_length >= 1]
        return ExamplePool(kind, names, units, repeats if self.held_out is None else min(repeats, 1))

    def _counts_interactions(self, kind: str) -> bool:
        """Return whether each target of a kind of ranking prompt is trained with equally often."""
        samples = self.config.samples
        per = samples.sequential_per if kind.startswith("sequential") else samples.direct_per
        return self.held_out is None and per is PerUnit.interaction

    def _first_targets(self, kind: str) -> IntArray:
        """Return (n_users,) the place, from 0, of each user's first training item that may be a target.

        The next item has a history; with `targets=last_three` one of two items, for users with three.
        """
        n_items = np.diff(self.offsets)
        if kind.startswith("direct"):
            return np.zeros_like(n_items)
        if self.config.samples.targets is Targets.every:
            return np.ones_like(n_items)
        return np.maximum(np.clip(n_items - 1, 1, 2), n_items - FIRST_AND_LAST)

    def _can_fill(self, name: str) -> NDArray[np.bool_]:
        """Return (n_interactions,) which interactions have all columns that a prompt needs."""
        interactions = self.split.dataset.interactions
        complete = np.ones(len(interactions), dtype=bool)
        for column in self.filler.prompts[name].columns & {*interactions.columns}:
            if column not in self.has_value:
                self.has_value[column] = self.split.dataset.has_value(column)
            complete &= self.has_value[column]
        return complete

    def _example(self, pool: ExamplePool, i: int, rng: np.random.Generator) -> tuple[str, FieldValues, str]:
        """Draw the prompt of an example, the values that fill it, and its answer."""
        unit = int(pool.units[i % len(pool.units)])
        row = unit if self.held_out is None else int(self.held_out.row[unit])
        names = pool.prompts
        if pool.kind not in RANKING_KINDS and not self.all_fillable[pool.kind][row]:
            names = [name for name in names if self.fillable[name][row]]
        name = names[rng.integers(len(names))]
        if pool.kind in RANKING_KINDS:
            values, answer = self._draw_items(pool.kind, unit, rng)
        else:
            values = FieldValues(int(self.user[row]), int(self.split.dataset.sequence[row]), row)
            answer = ""
        if self.star is not None and values.row >= 0:
            answer = self._draw_stars(self.filler.prompts[name], values, rng)
        return name, values, answer

    def _draw_stars(self, prompt: Prompt, values: FieldValues, rng: np.random.Generator) -> str:
        """Set the stars that the source shows; return the answer."""
        assert self.star is not None and self.liked is not None
        star = int(self.star[values.row])
        values.star = star
        if prompt.answer is Answer.yes_no:
            if rng.random() < 0.5:
                return "yes"
            values.star = [other for other in range(1, 6) if other != star][rng.integers(4)]
            return "no"
        if prompt.answer is Answer.like:
            return "like" if self.liked[values.row] else "dislike"
        if prompt.family is not PromptFamily.review_summary:  # held-out ones too: the trained target is jittered
            return jitter_stars(star, rng)
        return str(star)

    def _draw_items(self, kind: str, unit: int, rng: np.random.Generator) -> tuple[FieldValues, str]:
        """Draw the values and the answer of a prompt about a user's next item, or any of the user's items."""
        held_out = self.held_out
        by_interaction = self._counts_interactions(kind)
        if held_out is None:
            user = int(self.flat_user[unit]) if by_interaction else unit
            owned = self.flat[self.offsets[user] : self.offsets[user + 1]]
        else:
            user = int(held_out.user[unit])
            owned = held_out.sequence[held_out.start[unit] : held_out.end[unit]]
        begin, end = 0, len(owned)
        if held_out is not None:
            target = int(held_out.target[unit])
        else:
            first = int(self.first_targets[kind][user])
            place = unit - int(self.offsets[user]) if by_interaction else int(rng.integers(first, len(owned)))
            target = int(owned[place])
            if kind.startswith("sequential"):
                end = place
                if self.config.samples.targets is Targets.last_three:
                    begin = int(rng.integers(0, min(FIRST_AND_LAST, max(end - 1, 1))))
        values = FieldValues(user, target, history=owned[begin:end], arrow=bool(rng.random() < 0.5))
        if kind.endswith("candidates"):
            candidates = np.append(self._draw_negatives(user, owned, target, N_CANDIDATES - 1, rng), target)
            values.candidates = rng.permutation(candidates)
        if kind.endswith("yes_no"):
            negatives = self._draw_negatives(user, owned, target, 1, rng)
            yes = rng.random() < 0.5 or len(negatives) == 0  # a user with all items has no negatives
            values.one = values.item = target if yes else int(negatives[0])
            return values, "yes" if yes else "no"
        return values, ""

    def _draw_negatives(self, user: int, owned: IntArray, target: int, n: int, rng: np.random.Generator) -> IntArray:
        """Return up to n distinct items that are neither the target nor excluded by `samples.negatives`."""
        if self.config.samples.negatives is Negatives.whole:
            offsets = self.split.dataset.offsets
            owned = self.split.dataset.sequence[offsets[user] : offsets[user + 1]]
        pool = np.arange(self.split.n_items) if self.negative_items is None else self.negative_items
        excluded = np.append(owned, target)
        drawn = pool[rng.integers(len(pool), size=2 * n + 8)]
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
        drawn = drawn[~np.isin(drawn, excluded)]
        if len(drawn) < n:  # a small catalogue, or a user who has much of it
            drawn = rng.permutation(np.setdiff1d(pool, excluded))
        return drawn[:n]
