"""ChatGPTRec's settings, and the shape of its prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from string import Formatter
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli import ranges
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.schema import Candidates, ModelConfig, Question, TaskConfig

ASKED = ("rating", "sequential", "direct", "explanation", "review_summary")


class AnswerBy(Enum):
    """How an answer is taken from the model."""

    generate = "generate"  # it writes, and what it wrote is read (paper)
    likelihood = "likelihood"  # the log-likelihood of each possible answer
    pmi = "pmi"  # the same, less what it is without the user's history


@dataclass
class TaskPrompt:
    """The parts of one task's prompt, in their order. Fields stand in braces; a part whose fields are all empty is left
    out."""

    task: str = MISSING  # what is asked
    behaviour: str = MISSING  # what the user did
    candidates: str = MISSING  # among what to choose
    shots: str = MISSING  # what stands around worked examples of the user's own past
    shot: str = MISSING  # one of them
    answer: str = MISSING  # how a written answer shall look
    max_tokens: int = ranges.number(at_least=1)  # of a written answer, where llm.max_tokens allows more
    judged: str = MISSING  # the same where likelihoods of single answers are taken instead


@dataclass
class Prompts:
    """What a chat model is told."""

    system: str | None = None
    noun: str = MISSING  # what an item is called
    shots: int = ranges.number(at_least=0)  # worked examples of the user's training part; 0 = zero-shot
    shot_candidates: int = ranges.number(at_least=2)  # of a worked example with candidates
    shuffles: int = ranges.number(at_least=1)  # orders of the candidates that every example is asked in
    history_tokens: int = ranges.number(at_least=1)  # of the history: the latest items that fit
    review_tokens: int = ranges.number(at_least=1)  # of a review: its beginning
    listed: int = ranges.number(at_least=1)  # items of a written list
    rating: TaskPrompt = field(default_factory=TaskPrompt)
    sequential: TaskPrompt = field(default_factory=TaskPrompt)
    direct: TaskPrompt = field(default_factory=TaskPrompt)
    explanation: TaskPrompt = field(default_factory=TaskPrompt)
    review_summary: TaskPrompt = field(default_factory=TaskPrompt)


# What a part may tell, besides {noun} and {listed}: of the target, of the user, of a worked example.
OF_TARGET = {"title", "category", "stars", "review"}
FIELDS = {
    "task": OF_TARGET,
    "behaviour": {"history"},
    "candidates": {"candidates"},
    "shots": {"examples"},
    "shot": {*OF_TARGET, "number", "history", "candidates", "answer"},
    "answer": set(),
    "judged": set(),
}
ORACLE = {"explanation": {"stars", "review"}, "review_summary": {"stars"}, "rating": {"stars", "review"}}


@dataclass
class ChatGPTRecConfig(ModelConfig):
    """ChatGPTRec (arXiv 2304.10149): a chat model prompted, not tuned."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates", "rate", "write"})
    uses_llm: ClassVar[bool] = True
    substitutes: ClassVar[str] = "gpt-3.5-turbo"  # the paper's (unverified)

    answer: AnswerBy = MISSING
    threshold: float = ranges.number(above=0, at_most=100)  # how alike a written title is; 100 = equal but for case
    prompts: Prompts = field(default_factory=Prompts)

    def shown_as(self) -> str:
        """`chatgptrec` with how it answers, and with how many examples of the user's own."""
        shots = f"{self.prompts.shots}-shot" if self.prompts.shots else "zero-shot"
        return f"chatgptrec {self.answer.name}, {shots}"

    def labels(self, task: str) -> list[str]:
        found = []
        prompt = getattr(self.prompts, task, None)
        if prompt is not None and fields_of(prompt.task) & ORACLE.get(task, set()):
            found.append("oracle_input")
        return found

    def deviations(self) -> list[str]:
        found = ["prompts have the paper's parts in our wording; titles and lists are written as JSON"]
        if self.answer is not AnswerBy.generate:
            found.append(f"answers are judged by {self.answer.name}, not written; the paper's model writes")
        if self.prompts.shuffles > 1:
            found.append(f"every example is asked in {self.prompts.shuffles} orders of its candidates")
        found.append("an answer that cannot be read counts as a miss; the paper's evaluation seems to drop it")
        return found

    def problems(self) -> Iterator[UsageError]:
        for task in ASKED:
            prompt: TaskPrompt = getattr(self.prompts, task)
            for part, allowed in FIELDS.items():
                told = fields_of(getattr(prompt, part))
                for unknown in sorted(told - allowed - {"noun", "listed"}):
                    yield UsageError(
                        f"the prompt of {task} tells {{{unknown}}} in its part `{part}`, which has no such field",
                        f"it can tell {', '.join(sorted({*allowed, 'noun', 'listed'}))}",
                    )
        if self.prompts.shuffles > 1 and self.answer is not AnswerBy.generate:
            yield UsageError("likelihoods list no candidates, so their order cannot matter", "prompt.shuffles=1")

    def check_task(self, task: TaskConfig, dataset: Any = None) -> None:
        """Refuses a task that cannot be answered so, or a dataset without what its prompt tells.

        Raises:
            UsageError: the one.
            DataError: the other.
        """
        if task.name not in ASKED:
            raise UsageError(
                f"model 'chatgptrec' has no prompt for task '{task.name}'", f"tasks it is asked: {', '.join(ASKED)}"
            )
        if task.question is Question.write and self.answer is not AnswerBy.generate:
            raise UsageError(
                f"model.answer={self.answer.name} judges given answers, and task '{task.name}' asks for a new text",
                "model.answer=generate",
            )
        if task.question is Question.rate and self.answer is AnswerBy.pmi and not self.prompts.shots:
            raise UsageError("pmi takes off what is told without the user, and nothing else is told", "prompt.shots=3")
        if self.prompts.shuffles > 1 and task.candidates is Candidates.full:
            raise UsageError("prompt.shuffles orders candidates, and there are none", "task.candidates=uniform")
        if dataset is None:
            return
        ratings = dataset.interactions.get("rating")
        if task.question is Question.rate and ratings is not None and not ratings.dropna().between(1, 5).all():
            raise DataError(
                f"model 'chatgptrec' speaks of 1 to 5 stars, and dataset '{dataset.manifest['name']}' has ratings from "
                f"{ratings.min():g} to {ratings.max():g}",
                "bring them to that scale in your table",
            )
        needed = "review_text" if task.name == "review_summary" else "title"
        table = dataset.interactions if needed == "review_text" else dataset.items
        if needed not in table or not (table[needed].fillna("").str.strip() != "").any():
            raise DataError(
                f"model 'chatgptrec' speaks of items by their titles, and dataset '{dataset.manifest['name']}' has none"
                if needed == "title"
                else f"task 'review_summary' needs reviews, and dataset '{dataset.manifest['name']}' has none",
                "choose a dataset with titles (llm4rec list datasets); task=review_summary needs none",
            )


def fields_of(template: str | None) -> set[str]:
    """The fields that a template tells."""
    return {name for _, name, _, _ in Formatter().parse(template or "") if name}
