"""Build the messages of a prompt from its templates and an example.

Titles, lists and reviews are written as JSON, so that quotes in the data cannot end a string. Of the target a prompt
contains only the fields that its template names; few-shot examples are from the user's training part.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from llm4rec_cli.config.schema import PromptTable, as_dataclass
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import UsageError
from llm4rec_cli.llm.requests import Message
from llm4rec_cli.models.chatgptrec.prompt_schema import TASKS, Prompts, TaskPrompt, template_fields

RANKING_TASKS = ("sequential", "direct")
WRITING_TASKS = {"explanation": "explanation", "review_summary": "review_title"}  # with the column of few-shot answers


class PromptBuilder:
    """Builds prompts; `count_tokens` counts a text's tokens for the chat model."""

    def __init__(self, prompts: Prompts, split: Split, seed: int, count_tokens: Callable[[str], int]) -> None:
        self.prompts, self.split, self.count_tokens = prompts, split, count_tokens
        self.seed = seed  # of the order of candidates
        self.titles = item_titles(split, prompts.noun)
        self.constants = {"noun": prompts.noun, "listed": str(prompts.listed)}
        self.title_tokens = lru_cache(maxsize=None)(self._title_tokens)  # the counts of titles that were needed
        self.ranking_budget = prompts.history_tokens // (1 + prompts.shots)  # equal for question and few-shot examples

    def messages(
        self, task: str, examples: Examples, i: int, order: Sequence[int] | None, scored: bool, with_user: bool = True
    ) -> tuple[Message, ...]:
        """Build the messages of a task's prompt for example i.

        Args:
            order: item numbers of the candidates in the order to list them; None = list none.
            scored: whether continuations are scored, instead of a text generated.
            with_user: whether the prompt contains the user's history and few-shot examples.
        """
        prompt: TaskPrompt = getattr(self.prompts, task)
        fields = self._interaction_fields(int(examples.row[i]), int(examples.target[i]), template_fields(prompt.task))
        parts = [self._fill(prompt.task, fields)]
        if with_user:
            history = examples.sequence[examples.start[i] : examples.end[i]]
            parts.append(self._fill(prompt.behaviour, {"history": self._history(history, self._budget(task))}))
            parts.append(self._fill(prompt.shots, {"examples": self._shots(task, examples, i)}))
        if order is not None:
            parts.append(self._fill(prompt.candidates, {"candidates": self._title_list(order)}))
        parts.append(self._fill(prompt.judged if scored else prompt.answer, {}))
        text = self._fill(self.prompts.system or "", {})
        system: list[Message] = [{"role": "system", "content": text}] if text else []
        return (*system, {"role": "user", "content": "\n".join(filter(None, parts))})

    def candidate_order(self, examples: Examples, i: int) -> IntArray:
        """Return the candidates of example i, shuffled by seed, example and turn; an example without a row only by
        seed and turn."""
        assert examples.candidates is not None
        turn = 0 if examples.turn is None else int(examples.turn[i])
        row = int(examples.row[i])
        rng = stream(self.seed, "chatgptrec candidates", *([row] if row >= 0 else []), turn)
        return rng.permutation(examples.candidates[i])

    def with_shown_histories(self, task: str, examples: Examples) -> Examples:
        """Return the examples with that part of each history which a task's prompt shows."""
        histories = (examples.sequence[start:end] for start, end in zip(examples.start, examples.end, strict=True))
        n = np.array([self._n_that_fit(history, self._budget(task)) for history in histories])
        return replace(examples, start=examples.end - n)

    def _budget(self, task: str) -> int:
        return self.ranking_budget if task in RANKING_TASKS else self.prompts.history_tokens

    def _fill(self, template: str, fields: dict[str, str]) -> str:
        """Fill in a template; return nothing if it has fields of the example and all of them are empty."""
        needed = template_fields(template) - self.constants.keys()
        if not template or (needed and not any(fields[name] for name in needed)):
            return ""
        return template.format(**self.constants, **fields)

    def _interaction_fields(self, row: int, item: int, names: set[str]) -> dict[str, str]:
        """Return the title and the named fields of an interaction. The rest are empty."""
        interactions, items = self.split.dataset.interactions, self.split.dataset.items
        fields = {"title": to_json(self.titles[item]), "category": "", "stars": "", "review": ""}
        if "category" in names and "categories" in items:
            category = _text(items["categories"], item)
            fields["category"] = to_json(category) if category else ""
        if "stars" in names and "rating" in interactions:
            fields["stars"] = f"{interactions['rating'].iloc[row]:g}"
        if "review" in names and "review_text" in interactions:
            fields["review"] = to_json(self._beginning(_text(interactions["review_text"], row)))
        return fields

    def _title_list(self, items: Sequence[int] | IntArray) -> str:
        return "[" + ", ".join(to_json(self.titles[item]) for item in items) + "]" if len(items) else ""

    def _history(self, history: IntArray, max_tokens: int) -> str:
        """Return the titles of the latest items that fit, oldest first."""
        n = self._n_that_fit(history, max_tokens)
        return self._title_list(history[len(history) - n :])

    def _n_that_fit(self, history: IntArray, max_tokens: int) -> int:
        """Return how many of the latest items have titles that fit, at least one."""
        n = 0
        for item in history[::-1].tolist():
            max_tokens -= self.title_tokens(item)
            if max_tokens < 0 and n:
                break
            n += 1
        return n

    def _title_tokens(self, item: int) -> int:
        return self.count_tokens(f" {to_json(self.titles[item])},")

    def _beginning(self, text: str) -> str:
        """Return as many of a text's first words as fit into `review_tokens`, at least one."""
        words = text.split()
        low, high = 1, len(words)
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.count_tokens(" ".join(words[:middle])) <= self.prompts.review_tokens
            low, high = (middle, high) if fits else (low, middle - 1)
        return " ".join(words[:low])

    def _shots(self, task: str, examples: Examples, i: int) -> str:
        """Return few-shot examples: the latest of the user's training interactions before example i, oldest first."""
        template: str = getattr(self.prompts, task).shot
        if not self.prompts.shots or not template:
            return ""
        rows = self._training_rows(examples, i)
        sequence = self.split.dataset.sequence
        if task in RANKING_TASKS:
            targets = range(max(1, len(rows) - self.prompts.shots), len(rows))
            shots = [self._ranking_shot(rows[:n], int(rows[n])) for n in targets]
        else:
            values = self.split.dataset.interactions[WRITING_TASKS.get(task, "rating")].iloc[rows]
            usable = rows[(values.notna() & (values.astype(str).str.strip() != "")).to_numpy()][-self.prompts.shots :]
            names = template_fields(template)
            shots = [
                self._interaction_fields(int(row), int(sequence[row]), names) | self._shot_answer(task, int(row))
                for row in usable
            ]
        return "\n".join(
            template.format(**self.constants, number=n, **fields) for n, fields in enumerate(shots, start=1)
        )

    def _training_rows(self, examples: Examples, i: int) -> IntArray:
        """Return the training interactions in the history of example i.

        Raises:
            UsageError: the history is not a slice of the dataset's interactions, so its training part is unknown.
        """
        start, end = int(examples.start[i]), int(examples.end[i])
        sequence = self.split.dataset.sequence
        if not np.array_equal(examples.sequence[start:end], sequence[start:end]):
            raise UsageError(
                "few-shot examples need a history from the dataset; this one was typed, changed by dataset.control, or "
                "is of other domains",
                "set prompt.shots=0",
            )
        rows = np.arange(start, end)
        rows = rows[self.split.assignment[rows] == TRAIN]
        assert (rows != examples.row[i]).all(), "a few-shot example is the target interaction"
        return rows

    def _ranking_shot(self, history_rows: IntArray, row: int) -> dict[str, str]:
        """Return the fields of a few-shot example: a history, candidates, and the item that the user chose."""
        sequence = self.split.dataset.sequence
        item = int(sequence[row])
        unseen = np.setdiff1d(np.arange(self.split.n_items), [*sequence[history_rows], item])
        rng = stream(self.seed, "chatgptrec shot", row)
        pool = np.append(rng.choice(unseen, min(self.prompts.shot_candidates - 1, len(unseen)), replace=False), item)
        return {
            "history": self._history(sequence[history_rows], self.ranking_budget),
            "candidates": self._title_list(rng.permutation(pool)),
            "answer": to_json(self.titles[item]),
        }

    def _shot_answer(self, task: str, row: int) -> dict[str, str]:
        """Return the user's own text about an interaction; nothing for a rating, which is a field already."""
        column = WRITING_TASKS.get(task)
        return {"answer": to_json(str(self.split.dataset.interactions[column].iloc[row]))} if column else {}


def item_titles(split: Split, noun: str) -> list[str]:
    """Return each item's title on one line, HTML entities resolved; `unknown NOUN` for an item without one."""
    if "title" not in split.dataset.items:
        return [f"unknown {noun}"] * split.n_items
    titles = split.dataset.items["title"].fillna("")
    return [" ".join(html.unescape(title).split()) or f"unknown {noun}" for title in titles]


def _text(column: pd.Series, row: int) -> str:
    return str(column.iloc[[row]].fillna("").item())


def to_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def prompt_table(node: Any) -> PromptTable:
    """Return what `llm4rec list prompts` shows of a composed file of prompts."""
    values = vars(as_dataclass(Prompts, node))
    settings = [["", name, str(value)] for name, value in values.items() if name not in TASKS]
    parts = [[task, part, str(text)] for task in TASKS for part, text in vars(values[task]).items() if text]
    return PromptTable(["task", "part", "text"], [*settings, *parts])
