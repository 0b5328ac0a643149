"""P5's training examples: every task in one pool, each example with a prompt drawn anew each epoch."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.p5 import prompts
from llm4rec_cli.models.p5.config import Negatives, P5Config, SamplesConfig, Targets
from llm4rec_cli.models.p5.families import Family, PromptConfig
from llm4rec_cli.models.p5.prompts import N_CANDIDATES
from llm4rec_cli.models.p5.questions import LIKED, Prompter, Question, jittered, whole_stars
from llm4rec_cli.models.p5.t5 import grouped, padded
from llm4rec_cli.models.p5.vocabulary import PAD
from llm4rec_cli.models.shared.sequences import IGNORED

KINDS = tuple(f.name for f in fields(SamplesConfig) if f.type == "int")
FIRST_AND_LAST = 3  # code: targets are among the last three training items, histories begin at one of the first three


@dataclass(frozen=True)
class Pool:
    """Examples of one kind.

    Attributes:
        kind: a field of SamplesConfig.
        prompts: the names of those drawn from.
        units: (n,) the interactions' rows, or the users, that they are about; each counts `times` an epoch.
        times: how often.
    """

    kind: str
    prompts: list[str]
    units: IntArray
    times: int


def kind(config: P5Config, name: str) -> str:
    """Which field of SamplesConfig counts a prompt's examples."""
    prompt = config.prompts[name]
    family = prompt.family.value
    if prompt.family not in (Family.sequential, Family.direct):
        return family
    if "{candidates}" in prompt.source:
        return f"{family}_candidates"
    return f"{family}_yes_no" if "{yes_no}" in prompt.target else f"{family}_item"


class P5Rows:
    """Rows of training, or about held-out interactions.

    A row of training draws, from (seed, epoch, row): its prompt, its target and history, its negatives, and what is
    told. A held-out interaction is asked about once by each kind of prompt, alike in every epoch that is asked for.

    Args:
        usable: the prompts drawn from.
        held: the held-out interactions; None = training.
    """

    def __init__(
        self,
        config: P5Config,
        split: Split,
        prompter: Prompter,
        usable: list[str],
        seed: int,
        held: Examples | None = None,
    ) -> None:
        self.config, self.split, self.prompter, self.seed, self.held = config, split, prompter, seed, held
        self.flat, self.offsets = split.for_ranking().train_sequences()
        self.user = split.dataset.interactions["user"].to_numpy()
        ratings = split.dataset.interactions.get("rating")
        self.star = None if ratings is None else whole_stars(ratings.to_numpy())
        self.liked = None if ratings is None else ratings.to_numpy() >= LIKED
        self.among = split.softmax_items()
        self.fillable: dict[str, NDArray[np.bool_]] = {}  # of prompts about interactions
        by_kind: dict[str, list[str]] = {}
        for name in usable:
            by_kind.setdefault(kind(config, name), []).append(name)
        self.pools = [
            pool for found, names in by_kind.items() if len((pool := self._pool(found, names)).units) and pool.times
        ]
        self.begins = np.cumsum([0, *(len(pool.units) * pool.times for pool in self.pools)])

    def __len__(self) -> int:
        return int(self.begins[-1])

    def batch(self, epoch: int, indices: list[int]) -> dict[str, Tensor]:
        """The rows packed, as `P5.forward` takes them."""
        places = np.array(indices)
        pool = np.searchsorted(self.begins, places, side="right") - 1
        drawn = [
            self._row(self.pools[p], int(i - self.begins[p]), stream(self.seed, f"p5 {self.name}", epoch, int(i)))
            for p, i in zip(pool, places, strict=True)
        ]
        of_kind = np.array([KINDS.index(found.kind) for found in self.pools])
        return packed(drawn) | {"kind": torch.from_numpy(of_kind[pool])}

    @property
    def name(self) -> str:
        return "rows" if self.held is None else "held-out rows"

    def _pool(self, found: str, names: list[str]) -> Pool:
        times = int(getattr(self.config.samples, found))
        rows = np.flatnonzero(self.split.assignment == TRAIN) if self.held is None else np.arange(len(self.held))
        if not found.startswith(("sequential", "direct")):
            self.fillable |= {name: self._fillable(name) for name in names}
            some = np.logical_or.reduce([self.fillable[name] for name in names])
            units = rows[some[rows if self.held is None else self.held.row]]
        elif self.held is None:
            n_known = np.diff(self.offsets)
            units = np.flatnonzero(n_known >= (2 if found.startswith("sequential") else 1))
        else:
            units = rows[self.held.history_length >= 1]
        return Pool(found, names, units, times if self.held is None else min(times, 1))

    def _fillable(self, name: str) -> NDArray[np.bool_]:
        """(n_interactions,) which interactions have all that a prompt tells."""
        interactions = self.split.dataset.interactions
        needed = prompts.read(name, self.config.prompts[name]).columns & {*interactions.columns}
        there = np.ones(len(interactions), dtype=bool)
        for name in sorted(needed):
            there &= (interactions[name].notna() & (interactions[name] != "")).to_numpy(dtype=bool)
        return there

    def _row(self, pool: Pool, i: int, rng: np.random.Generator) -> tuple[IntArray, IntArray, IntArray]:
        """Source, its whole words, and target of one row."""
        unit = int(pool.units[i % len(pool.units)])
        row = unit if self.held is None else int(self.held.row[unit])
        able = [name for name in pool.prompts if name not in self.fillable or self.fillable[name][row]]
        name = able[rng.integers(len(able))]
        prompt = self.config.prompts[name]
        if pool.kind.startswith(("sequential", "direct")):
            question, told = self._of_user(pool.kind, unit, rng)
        else:
            question = Question(int(self.user[row]), int(self.split.dataset.sequence[row]), row)
            told = ""
        if self.star is not None and question.row >= 0:
            told = self._star_told(prompt, question, rng)
        source, words = self.prompter.source(name, question)
        return source, words, self.prompter.target(name, question, told)

    def _star_told(self, prompt: PromptConfig, question: Question, rng: np.random.Generator) -> str:
        """Sets the stars that the source tells; returns what is answered."""
        assert self.star is not None and self.liked is not None
        star = int(self.star[question.row])
        question.star = star
        if "{yes_no}" in prompt.target:
            if rng.random() < 0.5:
                return "yes"
            question.star = int(rng.choice([other for other in range(1, 6) if other != star]))
            return "no"
        if "{like}" in prompt.target:
            return "like" if self.liked[question.row] else "dislike"
        if prompt.family is not Family.review_summary:  # held out too, as it is the answer that is learned
            return jittered(star, rng)
        return str(star)

    def _of_user(self, found: str, unit: int, rng: np.random.Generator) -> tuple[Question, str]:
        """A question about a user's next item, or about any of theirs."""
        held = self.held
        if held is None:
            user = unit
            known = self.flat[self.offsets[user] : self.offsets[user + 1]]
        else:
            user = int(held.user[unit])
            known = held.sequence[held.start[unit] : held.end[unit]]
        begin, end = 0, len(known)
        if held is not None:
            target = int(held.target[unit])
        elif found.startswith("direct"):
            target = int(rng.choice(known))
        elif self.config.samples.targets is Targets.every:
            end = int(rng.integers(1, len(known)))
            target = int(known[end])
        else:
            end = int(rng.integers(max(min(2, len(known) - 1), len(known) - FIRST_AND_LAST), len(known)))
            begin = int(rng.integers(0, min(FIRST_AND_LAST, max(end - 1, 1))))
            target = int(known[end])
        question = Question(user, target, history=known[begin:end], arrow=bool(rng.random() < 0.5))
        if found.endswith("candidates"):
            candidates = np.append(self._negatives(user, known, target, N_CANDIDATES - 1, rng), target)
            question.candidates = rng.permutation(candidates)
        if found.endswith("yes_no"):
            others = self._negatives(user, known, target, 1, rng)
            yes = rng.random() < 0.5 or len(others) == 0  # a user who has everything
            question.one = question.item = target if yes else int(others[0])
            return question, "yes" if yes else "no"
        return question, ""

    def _negatives(self, user: int, known: IntArray, target: int, n: int, rng: np.random.Generator) -> IntArray:
        """Up to n distinct items that are neither the target nor, as the config has it, the user's."""
        if self.config.samples.negatives is Negatives.whole:
            offsets = self.split.dataset.offsets
            known = self.split.dataset.sequence[offsets[user] : offsets[user + 1]]
        pool = np.arange(self.split.n_items) if self.among is None else self.among
        barred = np.append(known, target)
        drawn = pool[rng.integers(len(pool), size=2 * n + 8)]
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
        drawn = drawn[~np.isin(drawn, barred)]
        if len(drawn) < n:  # a small catalogue, or a user who has much of it
            drawn = rng.permutation(np.setdiff1d(pool, barred))
        return drawn[:n]


def packed(rows: list[tuple[IntArray, IntArray, IntArray]]) -> dict[str, Tensor]:
    """Rows of (source, words, target) in groups of like length.

    Returns:
        `source`, `words` (total source,), `begun` (total target,) the decoder's input, `wanted` (total target,) what it
        shall answer, IGNORED at padding; `order` (n,), `shapes` (n_groups, 3), `lengths` (n, 2) of `t5.Groups`.
    """
    sources, words, targets = zip(*rows, strict=True)
    groups = grouped(np.array([len(s) for s in sources]), np.array([len(t) for t in targets]))
    begun = [np.append(PAD, target[:-1]) for target in targets]
    columns = {
        "source": padded(sources, groups, 1, PAD),
        "words": padded(words, groups, 1, 0),
        "begun": padded(begun, groups, 2, PAD),
        "wanted": padded(targets, groups, 2, IGNORED),
        "order": groups.order,
        "shapes": np.array(groups.shapes),
        "lengths": np.stack([groups.source, groups.target], axis=1),
    }
    return {name: torch.from_numpy(values.astype(np.int64)) for name, values in columns.items()}
