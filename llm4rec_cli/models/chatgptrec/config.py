"""Settings of ChatGPTRec."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import (
    Backend,
    Candidates,
    Config,
    LLMConfig,
    ModelConfig,
    ModelKind,
    PromptLogprobs,
    Question,
    TaskConfig,
    Traits,
    noted,
)
from llm4rec_cli.errors import Llm4RecError, UsageError
from llm4rec_cli.models.chatgptrec.columns import problems_of_columns
from llm4rec_cli.models.chatgptrec.prompt_schema import ORACLE_FIELDS, TASKS, Prompts, problems_in, template_fields
from llm4rec_cli.models.chatgptrec.settings import AnswerMethod
from llm4rec_cli.models.shared.config import problems_of_stars

CONTROL_EXAMPLES, CONTROL_EXAMPLES_OF_DEMO = 50, 10
# Titles of a catalogue that are possible answers for each user: each is scored, or kept with each stored answer.
MOST_SCORED, MOST_LISTED = 5_000, 20_000


@dataclass
class ChatGPTRecConfig(ModelConfig):
    """ChatGPTRec (arXiv 2304.10149): a prompted chat model, without training."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates", "rank_new_items", "rate", "write"}),
        ModelKind.paper,
        uses_llm=True,
        zero_ranks_high=True,
    )

    answer: AnswerMethod = noted(MISSING, generates=AnswerMethod.generate)
    threshold: float = ranges.number(above=0, at_most=100)  # least similarity of a match; 100 = equal but for case
    # examples answered again under controls; null = 50 for a local model (10 on the demo), none for an endpoint
    controls: int | None = ranges.number(None, at_least=0, role=Role.citation)
    prompts: Prompts = field(default_factory=Prompts)

    @property
    def results_version(self) -> int:
        """2 for answers among choices, whose decoder has changed."""
        return 2 if self.answer is AnswerMethod.constrained else 1

    def control_examples(self, config: Config) -> int:
        if self.controls is not None:
            return self.controls
        default = CONTROL_EXAMPLES if config.dataset.generator is None else CONTROL_EXAMPLES_OF_DEMO
        return 0 if config.llm.backend is Backend.openai else default

    def derived_settings(self, task: TaskConfig, llm: LLMConfig) -> Mapping[str, Any]:
        """`answer=auto` is PMI for rankings where the chat model returns likelihoods, and in one candidate order. A
        text has no choices to constrain it to."""
        if self.answer is AnswerMethod.constrained and task.question == Question.write:
            return {"answer": AnswerMethod.generate}
        if self.answer is not AnswerMethod.auto:
            return {}
        returned = llm.backend is not Backend.openai or llm.prompt_logprobs is not PromptLogprobs.none
        scores = returned and task.question == Question.rank and self.prompts.shuffles == 1
        return {"answer": AnswerMethod.pmi if scores else AnswerMethod.generate}

    @property
    def scores_choices(self) -> bool:
        """Whether all possible answers get a likelihood; otherwise the model writes one."""
        return self.answer in (AnswerMethod.likelihood, AnswerMethod.pmi)

    def facts(self, task: str = "", trained_on: str | None = None) -> Mapping[str, Any]:
        fields = template_fields(getattr(self.prompts, task).task) if task in TASKS else set()
        return {"fields": fields, "reads_oracle": bool(fields & ORACLE_FIELDS.get(task, set()))}

    def problems(self, config: Config) -> Iterator[Llm4RecError]:
        yield from super().problems(config)
        yield from problems_in(self.prompts)

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[Llm4RecError]:
        chooses_titles = self.answer is not AnswerMethod.generate and task.question == Question.rank
        most = MOST_SCORED if self.scores_choices else MOST_LISTED
        if chooses_titles and task.candidates is Candidates.full and dataset.n_items > most:
            yield UsageError(
                f"model.answer={self.answer.name} chooses among at most {most:,} titles, not {dataset.n_items:,}",
                "set task.candidates=uniform to choose among 100, or model.answer=generate to have a list generated",
            )
        if task.question == Question.rate:
            yield from problems_of_stars(self.name, dataset, 1.0, math.nextafter(5.0, 6.0))
        yield from problems_of_columns(task.name, getattr(self.prompts, task.name).task, dataset)
