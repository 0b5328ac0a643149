"""UniSRec's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import Config, EncoderConfig, ModelConfig, Pooling, Precision, Question, TaskConfig
from llm4rec_cli.errors import UsageError
from llm4rec_cli.models.base import ONE_PASS_DEVIATIONS


class Adaptor(Enum):
    """How text vectors become item vectors."""

    moe = "moe"  # parametric whitening, mixture of experts: the paper
    linear = "linear"  # one linear layer: the control


class Draw(Enum):
    """How often dropout and gate noise of the adaptor are drawn in training."""

    catalogue = "catalogue"  # once an item and step, shared by inputs and targets
    position = "position"  # anew at each input position, as the published code


class Freeze(Enum):
    """Which weights training leaves as they begin. Text vectors are always frozen."""

    none = "none"
    encoder = "encoder"  # positions and Transformer layers: the paper's fine-tuning
    adaptor = "adaptor"


class Loss(Enum):
    """How pre-training contrasts a batch."""

    exact = "exact"  # records of one target are no negatives of one another
    paper_code = "paper_code"  # the published code, its faults included


@dataclass
class PretrainingConfig:
    """What only `task=pretrain` reads."""

    loss: Loss = MISSING
    sequence_weight: float = ranges.number(at_least=0)  # λ, of the sequence-sequence loss
    item_drop: float = ranges.number(at_least=0, at_most=1)  # probability that items are dropped; otherwise words are
    drop: float = ranges.number(at_least=0, below=1)  # probability that a position is augmented
    word_drop: float = ranges.number(at_least=0, below=1)  # of a word, in the second copy of the texts


@dataclass
class UniSRecConfig(ModelConfig):
    """Universal sequence representation learning (KDD 2022)."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates", "pretrain"})
    trainable: ClassVar[bool] = True
    needs_text: ClassVar[bool] = True

    initial: ClassVar[str | None] = "init_from"
    came_about: ClassVar[tuple[str, ...]] = ("init_from", "freeze", "pretraining")
    inherited: ClassVar[tuple[str, ...]] = (
        *("encoder.pooling", "encoder.max_length", "adaptor", "experts"),
        *("hidden_size", "inner_size", "layers", "heads", "max_length"),
    )

    encoder: EncoderConfig = MISSING
    adaptor: Adaptor = MISSING
    experts: int = ranges.number(at_least=1)
    adaptor_dropout: float = ranges.number(at_least=0, below=1)
    draw: Draw = MISSING
    use_ids: bool = MISSING  # false = inductive (UniSRec_t), true = transductive (UniSRec_t+ID)
    hidden_size: int = ranges.number(at_least=1, multiple_of="heads")
    inner_size: int = ranges.number(at_least=1)
    layers: int = ranges.number(at_least=1)
    heads: int = ranges.number(at_least=1)
    dropout: float = ranges.number(at_least=0, below=1)  # of hidden states
    attention_dropout: float = ranges.number(at_least=0, below=1)
    temperature: float = ranges.number(above=0)
    max_length: int = ranges.number(at_least=1)  # items of a history, the latest kept
    init_from: str | None = ranges.path(None)  # the run whose weights training begins with
    freeze: Freeze = MISSING
    pretraining: PretrainingConfig | None = None  # none but under task=pretrain

    def unread(self, task: TaskConfig) -> Mapping[str, str]:
        return {} if task.question is Question.pretrain else {"pretraining": "task=pretrain"}

    def problems(self, config: Config) -> Iterator[UsageError]:
        if config.task.question is not Question.pretrain:
            return
        if self.pretraining is None:
            yield UsageError("task=pretrain needs model.pretraining, which is null", "leave model.pretraining as it is")
        if self.use_ids:
            yield UsageError(
                "pre-training is on text alone: ids of other data's items would be of no use", "model.use_ids=false"
            )

    def shown_as(self) -> str:
        """`unisrec`, and in which way it is not the plain one: text alone, all weights trained from scratch."""
        ways = {
            "linear adaptor": self.adaptor == Adaptor.linear,
            "one expert": self.adaptor == Adaptor.moe and self.experts == 1,
            "pre-trained": self.init_from is not None,
            f"frozen {self.freeze.name}": self.freeze != Freeze.none,
        }
        name = f"{self.name} + ids" if self.use_ids else self.name
        return ", ".join([name, *(way for way, taken in ways.items() if taken)])

    def deviations(self) -> list[str]:
        found = [*ONE_PASS_DEVIATIONS]
        if self.encoder.precision is Precision.bf16:
            found.append("the text encoder runs in bf16")
        if self.pretraining is not None:
            found += [
                "in-batch negatives of the same user are left out, as a step takes whole sequences of users",
                "prefixes of one sequence share its augmentation",
            ]
            if self.pretraining.loss == Loss.paper_code:
                found.append("prefixes that end within a run of dropped items are not in the sequence-sequence loss")
            else:
                found += [
                    "records of the same target are no negatives of one another (the published code leaves exp(0))",
                    "dropped items are packed away, in a way chosen a sequence (the published code: a batch)",
                ]
        elif self.init_from is None:
            found.append("from scratch: the paper's numbers are pre-trained on five other domains")
        elif self.freeze != Freeze.encoder:
            found.append(f"fine-tuned with freeze={self.freeze.name} (the paper freezes the encoder)")
        if self.draw == Draw.catalogue:
            shared = "inputs and targets" if self.pretraining is None else "inputs, augmented inputs and targets"
            found.append(f"one draw of adaptor dropout and gate noise an item and step, shared by {shared}")
        if self.adaptor == Adaptor.linear:
            found.append("a linear layer in place of parametric whitening and mixture of experts")
        if self.substitutes_encoder():
            found.append(f"text encoder {self.encoder.name} in place of bert-base-uncased with [CLS]")
        return found

    def labels(self, task: str) -> list[str]:
        found = ["substitute-encoder"] if self.substitutes_encoder() else []
        if self.pretraining is not None and self.pretraining.loss == Loss.paper_code:
            found.append("paper-code-loss")
        return found

    def substitutes_encoder(self) -> bool:
        """Whether item vectors come from anything but the paper's BERT with [CLS]."""
        return Path(self.encoder.name).name != "bert-base-uncased" or self.encoder.pooling != Pooling.cls
