"""Prompts filled in: a question about a user becomes messages.

Titles, lists and reviews are told as JSON, so that text of the data stays data: whatever a title says, its quotes do
not end. Nothing of the target is told but what the prompt names, and worked examples are of the user's training part.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence

import numpy as np

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import UsageError
from llm4rec_cli.llm.requests import Message
from llm4rec_cli.models.chatgptrec.config import Prompts, TaskPrompt, fields_of

RANKINGS = ("sequential", "direct")
WRITTEN = {"explanation": "explanation", "review_summary": "review_title"}  # task -> column of its worked examples


class Prompter:
    """Fills prompts in.

    Args:
        prompts: as composed.
        split: whose texts are told.
        seed: of the order of candidates.
        count_tokens: of a text, by the model that is asked.
    """

    def __init__(self, prompts: Prompts, split: Split, seed: int, count_tokens: Callable[[str], int]) -> None:
        self.prompts, self.split, self.seed, self.count_tokens = prompts, split, seed, count_tokens
        self.titles = told_titles(split, prompts.noun)
        self.fixed = {"noun": prompts.noun, "listed": str(prompts.listed)}
        self.tokens: dict[int, int] = {}  # of a title, as JSON
        self.room = prompts.history_tokens // (1 + prompts.shots)  # of the question and of each worked choice alike

    def messages(
        self, task: str, examples: Examples, i: int, order: Sequence[int] | None, judged: bool, of_user: bool = True
    ) -> tuple[Message, ...]:
        """What a task asks of example i.

        Args:
            order: its candidates' item numbers as they are told; None = none are told.
            judged: whether single answers are judged, instead of one being written.
            of_user: whether anything of the user is told.
        """
        prompt: TaskPrompt = getattr(self.prompts, task)
        told = self._of_interaction(int(examples.row[i]), int(examples.target[i]), fields_of(prompt.task))
        parts = [self._filled(prompt.task, told)]
        if of_user:
            history = examples.sequence[examples.start[i] : examples.end[i]]
            room = self.room if task in RANKINGS else self.prompts.history_tokens
            parts.append(self._filled(prompt.behaviour, {"history": self._history(history, room)}))
            parts.append(self._filled(prompt.shots, {"examples": self._shots(task, examples, i)}))
        if order is not None:
            parts.append(self._filled(prompt.candidates, {"candidates": self._list(order)}))
        parts.append(self._filled(prompt.judged if judged else prompt.answer, {}))
        system: list[Message] = [{"role": "system", "content": self.prompts.system}] if self.prompts.system else []
        return (*system, {"role": "user", "content": "\n".join(filter(None, parts))})

    def order(self, examples: Examples, i: int) -> IntArray:
        """The candidates of example i in the order that its turn tells them in."""
        assert examples.candidates is not None
        turn = 0 if examples.turn is None else int(examples.turn[i])
        return stream(self.seed, "chatgptrec candidates", int(examples.row[i]), turn).permutation(
            examples.candidates[i]
        )

    def _filled(self, template: str, told: dict[str, str]) -> str:
        """A part, or nothing where it tells fields of the question and none of them has anything."""
        needed = fields_of(template) - self.fixed.keys()
        if not template or (needed and not any(told[name] for name in needed)):
            return ""
        return template.format(**self.fixed, **told)

    def _of_interaction(self, row: int, item: int, named: set[str]) -> dict[str, str]:
        """What can be told of an interaction and its item, as far as it is named."""
        interactions, items = self.split.dataset.interactions, self.split.dataset.items
        told = {"title": quoted(self.titles[item]), "category": "", "stars": "", "review": ""}
        if "category" in named and "categories" in items:
            told["category"] = str(items["categories"].fillna("").iloc[item])
        if "stars" in named and "rating" in interactions:
            told["stars"] = f"{interactions['rating'].iloc[row]:g}"
        if "review" in named and "review_text" in interactions:
            told["review"] = quoted(self._beginning(str(interactions["review_text"].fillna("").iloc[row])))
        return told

    def _list(self, items: Sequence[int] | IntArray) -> str:
        return "[" + ", ".join(quoted(self.titles[item]) for item in items) + "]" if len(items) else ""

    def _history(self, history: IntArray, room: int) -> str:
        """The latest items that fit into so many tokens, one at least, oldest first."""
        kept = 0
        for item in history[::-1].tolist():
            if item not in self.tokens:
                self.tokens[item] = self.count_tokens(f" {quoted(self.titles[item])},")
            room -= self.tokens[item]
            if room < 0 and kept:
                break
            kept += 1
        return self._list(history[len(history) - kept :])

    def _beginning(self, text: str) -> str:
        """As many of a text's first words as fit into `review_tokens`, one at least."""
        words = text.split()
        low, high = 1, len(words)
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.count_tokens(" ".join(words[:middle])) <= self.prompts.review_tokens
            low, high = (middle, high) if fits else (low, middle - 1)
        return " ".join(words[:low])

    def _shots(self, task: str, examples: Examples, i: int) -> str:
        """Worked examples: the latest of the user's training interactions that precede the question, oldest first."""
        shot: str = getattr(self.prompts, task).shot
        if not self.prompts.shots or not shot:
            return ""
        rows = self._training_rows(examples, i)
        sequence = self.split.dataset.sequence
        if task in RANKINGS:
            shown = range(max(1, len(rows) - self.prompts.shots), len(rows))
            told = [self._choice(rows[:n], int(rows[n])) for n in shown]
        else:
            column = WRITTEN.get(task, "rating")
            known = self.split.dataset.interactions[column].iloc[rows]
            usable = rows[(known.notna() & (known.astype(str).str.strip() != "")).to_numpy()][-self.prompts.shots :]
            told = [
                self._of_interaction(int(row), int(sequence[row]), fields_of(shot)) | self._written(task, int(row))
                for row in usable
            ]
        return "\n".join(
            shot.format(**self.fixed, **{"number": str(n), "history": "", "candidates": ""} | fields)
            for n, fields in enumerate(told, start=1)
        )

    def _training_rows(self, examples: Examples, i: int) -> IntArray:
        """The training interactions in the history of example i.

        Raises:
            UsageError: its history is no stretch of interactions, so nobody can say which of it was trained on.
        """
        start, end = int(examples.start[i]), int(examples.end[i])
        sequence = self.split.dataset.sequence
        if not np.array_equal(examples.sequence[start:end], sequence[start:end]):
            raise UsageError(
                "worked examples are looked up in the data, and this history is not there: it was typed, moved by a "
                "control, or is of other domains",
                "prompt.shots=0",
            )
        rows = np.arange(start, end)
        rows = rows[self.split.assignment[rows] == TRAIN]
        assert (rows != examples.row[i]).all(), "a worked example is the question itself"
        return rows

    def _choice(self, before: IntArray, row: int) -> dict[str, str]:
        """A worked example of what the user chose after some interactions, and out of which candidates."""
        sequence = self.split.dataset.sequence
        item = int(sequence[row])
        others = np.setdiff1d(np.arange(self.split.n_items), [*sequence[before], item])
        rng = stream(self.seed, "chatgptrec shot", row)
        pool = np.append(rng.choice(others, min(self.prompts.shot_candidates - 1, len(others)), replace=False), item)
        return {
            "history": self._history(sequence[before], self.room),
            "candidates": self._list(rng.permutation(pool)),
            "answer": quoted(self.titles[item]),
        }

    def _written(self, task: str, row: int) -> dict[str, str]:
        """What the user said in an interaction."""
        column = WRITTEN.get(task)
        return {"answer": quoted(str(self.split.dataset.interactions[column].iloc[row])) if column else ""}


def told_titles(split: Split, noun: str) -> list[str]:
    """What each item is called: its title on one line, HTML entities resolved; `unknown …` for one without."""
    if "title" not in split.dataset.items:
        return [f"unknown {noun}"] * split.n_items
    titles = split.dataset.items["title"].fillna("")
    return [" ".join(html.unescape(title).split()) or f"unknown {noun}" for title in titles]


def quoted(text: str) -> str:
    """A text as JSON, letters of all languages as they are."""
    return json.dumps(text, ensure_ascii=False)
