"""P5's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import (
    Candidates,
    Config,
    Deviations,
    EncoderConfig,
    Index,
    LLMConfig,
    ModelConfig,
    ModelKind,
    PublishedWeights,
    Question,
    TaskConfig,
    Traits,
    Weights,
    added,
    weights,
)
from llm4rec_cli.errors import Llm4RecError, problems_raised_by
from llm4rec_cli.models.p5 import prompts
from llm4rec_cli.models.p5.prompts import Answer, Field, Prompt
from llm4rec_cli.models.p5.settings import (
    AnswerLoss,
    EvaluationPrompts,
    Explained,
    Feature,
    HistoryOrder,
    Negatives,
    PerUnit,
    PromptConfig,
    PromptFamily,
    SamplesConfig,
    Start,
    Targets,
    WholeWord,
)
from llm4rec_cli.models.shared.config import problems_of_stars
from llm4rec_cli.models.shared.t5_shapes import T5_SHAPES

if TYPE_CHECKING:
    from llm4rec_cli.models.shared.usual_features import FeatureOwner

YES_NO = "likelihood of yes and no"


@dataclass
class P5Config(ModelConfig):
    """P5 (RecSys 2022): every task as text, one T5, one loss."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates", "rate", "write", "all"}),
        ModelKind.paper,
        trainable=True,
        needs_user=True,
        zero_ranks_high=True,
        task_bound=True,
        published=PublishedWeights("jeykigung/P5 @1fa28ba", "p5/paper"),
    )

    backbone: str = weights(Weights.backbone, random=T5_SHAPES)  # a T5, or one of T5_SHAPES with random weights
    vocabulary: int = ranges.number(at_least=300)  # size of the tokenizer trained for T5_SHAPES; a T5 has its own
    index: Index = MISSING
    digits: int = ranges.number(at_least=1, at_most=3)  # digits of a user or item number per token
    whole_word: WholeWord = MISSING
    dropout: float = ranges.number(at_least=0, below=1)
    history: HistoryOrder = added(HistoryOrder.oldest_first)
    start: Start = added(Start.random)  # statistics: no effect unless index=independent
    loss: AnswerLoss = added(AnswerLoss.by_length)
    max_source: int = ranges.number(at_least=16)  # tokens
    max_target: int = ranges.number(at_least=4)  # tokens
    user_tokens: bool = added(False)  # each user is one token of its own, as items are with index=independent
    prompts: dict[str, PromptConfig] = MISSING  # by number, from the files in conf/prompt/p5
    train_prompts: list[str] | None = added(None)  # the prompts to train with; null = all but those held out
    explained: Explained = added(Explained.by_all)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    ask: EvaluationPrompts = field(default_factory=EvaluationPrompts, metadata={"role": Role.question})
    feature: Feature = field(default=Feature.of_review, metadata={"role": Role.question, "added": True})
    # null = exact scores of the whole catalogue
    beams: int | None = ranges.number(None, role=Role.question, at_least=1)
    encoder: EncoderConfig | None = field(default_factory=EncoderConfig)  # of item texts; for index=semantic only

    @property
    def results_version(self) -> int:
        """3 where held-out losses, by which an epoch may be kept, are without the whole words of training."""
        return 3 if self.whole_word is WholeWord.training else 2

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[Llm4RecError]:
        """Yield prompts too long for the dataset's numbers, ratings that are not stars, and columns that the evaluation
        prompt lacks."""
        yield from prompts.problems_with_dataset(self, task, dataset)
        yield from problems_of_stars(self.name, dataset, 0.5, 5.5)
        if task.name in PromptFamily.__members__:
            yield from problems_raised_by(partial(prompts.evaluation_prompts, self, PromptFamily[task.name], dataset))

    def derived_settings(self, task: TaskConfig, llm: LLMConfig) -> Mapping[str, Any]:
        """Drop the encoder unless index=semantic, start=statistics for published weights and for items without a token
        of their own, and beams for candidates, which are scored exactly. They may be set with any index, backbone and
        task, so that sweeps over these work."""
        settings: dict[str, Any] = {} if self.index is Index.semantic else {"encoder": None}
        if task.question == Question.rank and task.candidates is not Candidates.full:
            settings["beams"] = None
        own_token = self.backbone in T5_SHAPES and self.index is Index.independent
        return settings if own_token or not self.start.is_statistics else settings | {"start": Start.random}

    def uses_item_text(self) -> bool:
        return self.index is Index.semantic

    def display_name(self) -> str:
        """Return `p5` with its backbone, item indexing and number of prompts, which are compared most."""
        prompts = "" if self.train_prompts is None else f", {len(self.train_prompts)} prompts"
        return f"p5 {Path(self.backbone).name}, {self.index.name} ids{prompts}"

    def paper_experiment(self, task: TaskConfig) -> str:
        return "p5/paper"

    def paper_method(self, task: str) -> Mapping[str, str]:
        """With the paper's names of prompts; stars read from the review are its task `review_preference`."""
        name, prompt = Path(self.backbone).name, getattr(self.ask, task, None)
        per = "" if self.samples.direct_per is PerUnit.user else " for each interaction"
        method = {
            "method": "p5 with fewer prompts"
            if self.train_prompts is not None or self.explained is Explained.by_feature
            else "p5",
            "size": "base" if name in ("t5-base", "base") else "small",
            "weights": f"{name}, from scratch" if self.backbone in T5_SHAPES else name,
            "ids": self.index.name,
            "whole-word embeddings in evaluation": "yes" if self.whole_word is WholeWord.always else "no",
            "decoding": self._decoding(task),
            "direct samples of a user": f"{self.samples.direct_candidates}{per}",
        }
        if prompt is not None:
            owner = self.shown_feature_owner(PromptFamily(task))
            method["prompt"] = f"{prompt} with the {owner}'s usual feature" if owner else prompt
            if task == "rating" and Field.review in prompts.parse(prompt, self.prompts[prompt]).fields:
                method["task"] = "review_preference"
        return method

    def shown_feature_owner(self, task: PromptFamily) -> FeatureOwner | None:
        """Return whose usual feature a task's evaluation prompts show, the user's or the item's; None for neither."""
        return self.feature.owner if prompts.shows_feature(self, task) else None

    def _decoding(self, task: str) -> str:
        """Return how a ranking is decoded, as `paper_method` and deviations name it."""
        if self.beams:
            return f"beam search of {self.beams}, item names"
        prompt = self._evaluated(task)
        yes_no = prompt is not None and prompt.answer is Answer.yes_no
        return YES_NO if yes_no else "likelihood of every item name"

    def _evaluated(self, task: str) -> Prompt | None:
        """Return the evaluation prompt of a task; None if it has several or none."""
        name = getattr(self.ask, task, "")
        return prompts.parse(name, self.prompts[name]) if name in self.prompts else None

    def labels(self, task: str) -> list[str]:
        labels = []
        if self.backbone in T5_SHAPES:
            labels.append("substitute-backbone")
        if self.index is Index.leaky_p5:
            labels.append("leaky")
        prompt = self._evaluated(task)
        if prompt and {*prompt.oracle_input} - ({Field.feature} if self.feature.owner else set()):
            labels.append("oracle_input")
        if prompt and prompt.answer is Answer.like:
            labels.append("like-only")  # its error in stars is meaningless
        return labels

    def deviations(self, task: TaskConfig, trained_on: str | None) -> Deviations:
        trained_here = trained_on is not None
        return {
            "own_numbers": not trained_here,
            "digits": not self.user_tokens or self.index.is_number,
            "user_tokens": self.user_tokens,
            "new_backbone": self.backbone in T5_SHAPES,
            "newest_first": self.history is HistoryOrder.newest_first,
            "statistics": trained_here and self.start.is_statistics and not self.user_tokens,
            "statistics_of_users": trained_here and self.start.is_statistics and self.user_tokens,
            "stars": trained_here and self.start is Start.statistics_and_stars,
            "item_tokens": self.index is Index.independent,
            "item_numbers": self.index not in (Index.independent, Index.leaky_p5),
            "whole_words": self.whole_word is WholeWord.always,
            "answer_loss": trained_here and self.loss is AnswerLoss.by_length,
            "wording": True,
            "long_sources": True,
            "optimizer": trained_here,
            **(self._deviations_of_examples(trained_on) if trained_on else {}),
            **(self._deviations_of_evaluation(task) if task.name in PromptFamily.__members__ else {}),
        }

    def _deviations_of_examples(self, task: str) -> Deviations:
        kinds, samples = prompts.trained_kinds(self, task), self.samples
        sequential, direct = (any(kind.startswith(family) for kind in kinds) for family in ("sequential", "direct"))
        has_negatives = any(kind.endswith(("_candidates", "_yes_no")) for kind in kinds)
        return {
            "negatives": has_negatives and samples.negatives is Negatives.known,
            "every_target": sequential and samples.targets is Targets.every,
            "by_feature": "explanation" in kinds and self.explained is Explained.by_feature,
            "fewer_prompts": self.train_prompts is not None and {"number": len(self.train_prompts)},
            "sequential_per": sequential and samples.sequential_per is PerUnit.interaction,
            "direct_per": direct and samples.direct_per is PerUnit.interaction,
            "direct_item": "direct_item" in kinds,
        }

    def _deviations_of_evaluation(self, task: TaskConfig) -> Deviations:
        family, ranks = PromptFamily[task.name], task.question == Question.rank
        names = prompts.evaluation_names(self, family) if ranks else []
        families = sorted({self.prompts[name].family.name for name in names if name in self.prompts} - {family.name})
        decoding, owner = self._decoding(family.name), self.shown_feature_owner(family)
        history = "with" if family is PromptFamily.direct else "without"
        return {
            "usual_feature": owner is not None and {"owner": owner},
            "mean_stars": task.question == Question.rate,
            "greedy_texts": task.question == Question.write,
            "several_prompts": len(names) > 1 and {"task": family.name, "number": len(names)},
            "other_family": [{"task": family.name, "family": other, "history": history} for other in families[:1]],
            "yes_no": ranks and decoding == YES_NO,
            "decoding": ranks and decoding != YES_NO and {"decoding": decoding},
            "shared_negatives": ranks and task.candidates is not Candidates.full,
        }

    def problems(self, config: Config) -> Iterator[Llm4RecError]:
        yield from prompts.problems(self)
        yield from prompts.problems_of_task(self, config.task)
