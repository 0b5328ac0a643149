"""ChatGPTRec's settings, and the shape of its prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from string import Formatter
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import Backend, Candidates, Config, LLMConfig, ModelConfig, Question, TaskConfig, Work
from llm4rec_cli.errors import DataError, Llm4RecError, UsageError

ASKED = ("rating", "sequential", "direct", "explanation", "review_summary")


class AnswerBy(Enum):
    """How an answer is taken from the model."""

    auto = "auto"  # pmi for rankings by a local model; otherwise generate
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
    history_tokens: int = ranges.number(at_least=1)  # of histories, those of worked choices too: the latest that fit
    review_tokens: int = ranges.number(at_least=1)  # of a review: its beginning
    listed: int = ranges.number(at_least=1)  # items of a written list
    rating: TaskPrompt = field(default_factory=TaskPrompt)
    sequential: TaskPrompt = field(default_factory=TaskPrompt)
    direct: TaskPrompt = field(default_factory=TaskPrompt)
    explanation: TaskPrompt = field(default_factory=TaskPrompt)
    review_summary: TaskPrompt = field(default_factory=TaskPrompt)


# What each task may tell of the very interaction that it asks about: a ranking nothing, as its target is the answer.
OF_TARGET = {
    "rating": {"title", "category"},
    "sequential": set[str](),
    "direct": set[str](),
    "explanation": {"title", "category", "stars", "review"},
    "review_summary": {"title", "category", "stars", "review"},
}
# What nobody has before the user has written it.
ORACLE = {"explanation": {"stars", "review"}, "review_summary": {"stars"}}
# What the other parts may tell: of the user, of a worked example.
FIELDS = {
    "behaviour": {"history"},
    "candidates": {"candidates"},
    "shots": {"examples"},
    "shot": {"title", "category", "stars", "review", "number", "history", "candidates", "answer"},
    "answer": set(),
    "judged": set(),
}
COLUMNS = {"stars": "rating", "review": "review_text", "category": "categories"}  # where a field is looked up
MOST_JUDGED = 5000  # titles of a catalogue: each is read once a user


@dataclass
class ChatGPTRecConfig(ModelConfig):
    """ChatGPTRec (arXiv 2304.10149): a chat model prompted, not tuned."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates", "rate", "write"})
    uses_llm: ClassVar[bool] = True

    answer: AnswerBy = MISSING
    threshold: float = ranges.number(above=0, at_most=100)  # how alike a written title is; 100 = equal but for case
    prompts: Prompts = field(default_factory=Prompts)

    def resolved(self, task: TaskConfig, llm: LLMConfig) -> Mapping[str, Any]:
        """`answer=auto` is PMI where titles can be judged, which no endpoint does, and no order of them is asked."""
        if self.answer is not AnswerBy.auto:
            return {}
        judges = task.question is Question.rank and llm.backend is not Backend.openai and self.prompts.shuffles == 1
        return {"answer": AnswerBy.pmi if judges else AnswerBy.generate}

    def chat_work(self) -> Work:
        return Work.answering if self.answer is AnswerBy.generate else Work.reading

    def shown_as(self) -> str:
        """`chatgptrec` with how it answers, and with how many examples of the user's own."""
        shots = f"{self.prompts.shots}-shot" if self.prompts.shots else "zero-shot"
        return f"chatgptrec {self.answer.name}, {shots}"

    def paper_method(self, task: str) -> Mapping[str, str]:
        return {
            "method": "chatgptrec",
            "shots": "few-shot" if self.prompts.shots else "zero-shot",
            "answers": "generated" if self.answer is AnswerBy.generate else f"chosen by {self.answer.name}",
        }

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

    def problems(self, config: Config) -> Iterator[UsageError]:
        if config.llm.backend is Backend.openai and self.answer not in (AnswerBy.auto, AnswerBy.generate):
            yield UsageError(
                f"model.answer={self.answer.name} needs likelihoods of given answers, which llm.backend=openai does "
                "not tell",
                "model.answer=generate, or llm=local",
            )
        for task in ASKED:
            prompt: TaskPrompt = getattr(self.prompts, task)
            for part, allowed in {"task": OF_TARGET[task], **FIELDS}.items():
                try:
                    told = fields_of(getattr(prompt, part))
                except ValueError:
                    yield UsageError(
                        f"the prompt of {task} has a brace without its other in its part `{part}`",
                        "a brace that is none of a field: {{ or }}",
                    )
                    continue
                for unknown in sorted(told - allowed - {"noun", "listed"}):
                    yield UsageError(
                        f"the prompt of {task} tells {{{unknown}}} in its part `{part}`, which has no such field",
                        f"it can tell {', '.join(sorted({*allowed, 'noun', 'listed'}))}",
                    )
        if self.prompts.shuffles > 1 and self.answer is not AnswerBy.generate:
            yield UsageError("likelihoods list no candidates, so their order cannot matter", "prompt.shuffles=1")
        yield from self._problems_of_task(config.task)

    def _problems_of_task(self, task: TaskConfig) -> Iterator[UsageError]:
        """A task that cannot be answered so."""
        if task.name not in ASKED:
            yield UsageError(
                f"model 'chatgptrec' has no prompt for task '{task.name}'", f"tasks it is asked: {', '.join(ASKED)}"
            )
        if task.question is Question.write and self.answer not in (AnswerBy.auto, AnswerBy.generate):
            yield UsageError(
                f"model.answer={self.answer.name} judges given answers, and task '{task.name}' asks for a new text",
                "model.answer=generate",
            )
        if task.question is Question.rate and self.answer is AnswerBy.pmi and not self.prompts.shots:
            yield UsageError("pmi takes off what is told without the user, and nothing else is told", "prompt.shots=3")
        if self.prompts.shuffles > 1 and (task.question is not Question.rank or task.candidates is Candidates.full):
            yield UsageError(
                "prompt.shuffles orders candidates, and there are none", "task=direct, or leave prompt.shuffles out"
            )

    def problems_of_data(self, task: TaskConfig, dataset: Any) -> Iterator[Llm4RecError]:
        """A dataset without what the prompt tells, or too large for what is judged."""
        judges_all = self.answer is not AnswerBy.generate and task.question is Question.rank
        if judges_all and task.candidates is Candidates.full and dataset.n_items > MOST_JUDGED:
            yield UsageError(
                f"model.answer={self.answer.name} would judge {dataset.n_items:,} titles for each user",
                "task.candidates=uniform judges 100; model.answer=generate has a list written",
            )
        if task.question is Question.rate:
            yield from self.problems_of_stars(dataset, 1.0, math.nextafter(5.0, 6.0))
        named = fields_of(getattr(self.prompts, task.name).task)
        name = dataset.manifest["name"]
        if task.name != "review_summary" and not _has(dataset.items, "title"):
            yield DataError(
                f"model 'chatgptrec' speaks of items by their titles, and dataset '{name}' has none",
                "choose a dataset with titles (llm4rec list datasets); task=review_summary needs none",
            )
        for field_name in sorted(named & COLUMNS.keys()):
            table = dataset.items if field_name == "category" else dataset.interactions
            column = COLUMNS[field_name]
            if not _has(table, column):
                yield DataError(
                    f"the prompt of {task.name} tells {{{field_name}}}, and dataset '{name}' has no '{column}'",
                    "choose another dataset, or another prompt: llm4rec list prompts",
                )


def _has(table: Any, column: str) -> bool:
    """Whether some row has something there: a number, or text that is not blank."""
    return column in table and bool((table[column].fillna("").astype(str).str.strip() != "").any())


def fields_of(template: str | None) -> set[str]:
    """The fields that a template tells; one without a name is an empty one.

    Raises:
        ValueError: a brace lacks its other.
    """
    return {name for _, name, _, _ in Formatter().parse(template or "") if name is not None}
