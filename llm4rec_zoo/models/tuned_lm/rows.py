"""Training rows of tuned_lm: answered questions, and the tokens or items that carry loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch

from llm4rec_cli.data.likes import LabelledRows
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.base import Batch
from llm4rec_cli.models.shared.clicks import training_clicks
from llm4rec_zoo.models.tuned_lm.config import TunedLmConfig
from llm4rec_zoo.models.tuned_lm.packing import pack
from llm4rec_zoo.models.tuned_lm.questions import Answered, Questions
from llm4rec_zoo.models.tuned_lm.settings import Answer, LossOn, Targets


class Source(Protocol):
    def __len__(self) -> int: ...

    def answered(self, number: int, epoch: int) -> Iterator[Answered]:
        """Yield the answered questions of a training row."""
        ...


class Histories:
    """Training histories, in windows of one item and the next `titles`, which are answers: the windows overlap in one
    item. With `targets=last` each interaction is an answer after the `titles` items before it."""

    def __init__(self, config: TunedLmConfig, split: Split, questions: Questions) -> None:
        self.questions, self.every = questions, config.targets is Targets.every
        self.flat, offsets = split.train_sequences()
        n, self.windows = config.titles, []
        for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            ends = range(last, first + 1, -n if self.every else -1)
            self.windows += [(max(first, end - n - 1), end) for end in ends]

    def __len__(self) -> int:
        return len(self.windows)

    def answered(self, number: int, epoch: int) -> Iterator[Answered]:
        begin, end = self.windows[number]
        yield self.questions.next_answered(self.flat[begin:end], end - begin - 1 if self.every else 1)


class Clicks:
    """Training clicks, each with negatives that are drawn by (seed, epoch, click)."""

    def __init__(self, config: TunedLmConfig, split: Split, questions: Questions, seed: int) -> None:
        self.questions, self.negatives, self.seed = questions, config.negatives, seed
        self.clicks = training_clicks(split)

    def __len__(self) -> int:
        return len(self.clicks)

    def answered(self, number: int, epoch: int) -> Iterator[Answered]:
        items = self.clicks.with_negatives(number, self.negatives, self.seed, epoch)
        history, _ = self.clicks[number : number + 1].histories()
        for place, row in enumerate(self.questions.click(history, items)):
            yield self.questions.decided(row, yes=place == 0)


class LabelledLikes:
    """Labelled interactions, with the likes and dislikes before each."""

    def __init__(self, rows: LabelledRows, questions: Questions) -> None:
        self.rows, self.questions = rows, questions

    def __len__(self) -> int:
        return len(self.rows)

    def answered(self, number: int, epoch: int) -> Iterator[Answered]:
        (row,) = self.questions.likes(self.rows.examples[number : number + 1])
        yield self.questions.decided(row, yes=bool(self.rows.label[number]))


class TrainingRows:
    """`model.rows` of a source's rows, drawn by seed, or all."""

    def __init__(self, config: TunedLmConfig, source: Source, seed: int) -> None:
        self.source, self.config = source, config
        order = stream(seed, "tuned_lm rows").permutation(len(source))
        self.numbers = np.sort(order[: config.rows]).tolist()

    def __len__(self) -> int:
        return len(self.numbers)

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Return the packed tokens, the positions in them that are `read`, and what `targets` follow these: tokens, or
        items under `answer=item_head`."""
        asked = [each for index in indices for each in self.source.answered(self.numbers[index], epoch)]
        packed = pack([each.row for each in asked])
        read: list[int] = []
        targets: list[int] = []
        for number, (row, answers, items) in enumerate(asked):
            if self.config.answer is Answer.item_head:
                read += (packed.place(number, begin - 1) for begin, _ in answers)
                targets += items
                continue
            tokens = row.tokens
            for begin, end in [(1, len(tokens))] if self.config.loss_on is LossOn.all else answers:
                read += (packed.place(number, place) for place in range(begin - 1, end - 1))
                targets += tokens[begin:end]
        return {**packed.batch, "read": torch.tensor(read), "targets": torch.tensor(targets)}
