"""UniSRec's settings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli import ranges
from llm4rec_cli.models.base import ONE_PASS_DEVIATIONS
from llm4rec_cli.schema import EncoderConfig, ModelConfig, Pooling


class Adaptor(Enum):
    """How text vectors become item vectors."""

    moe = "moe"  # parametric whitening, mixture of experts: the paper
    linear = "linear"  # one linear layer: the control


class Draw(Enum):
    """How often dropout and gate noise of the adaptor are drawn in training."""

    catalogue = "catalogue"  # once an item and step, shared by inputs and targets
    position = "position"  # anew at each input position, as the published code


@dataclass
class UniSRecConfig(ModelConfig):
    """Universal sequence representation learning (KDD 2022)."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    trainable: ClassVar[bool] = True
    needs_text: ClassVar[bool] = True

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

    def deviations(self) -> list[str]:
        found = [
            "from scratch: the paper's numbers are pre-trained on five other domains",
            *ONE_PASS_DEVIATIONS,
            "the text encoder runs in bf16",
        ]
        if self.draw == Draw.catalogue:
            found.append("one draw of adaptor dropout and gate noise an item and step, shared by inputs and targets")
        if self.adaptor == Adaptor.linear:
            found.append("a linear layer in place of parametric whitening and mixture of experts")
        if self.substitutes_encoder():
            found.append(f"text encoder {self.encoder.name} in place of bert-base-uncased with [CLS]")
        return found

    def labels(self) -> list[str]:
        return ["substitute-encoder"] if self.substitutes_encoder() else []

    def substitutes_encoder(self) -> bool:
        """Whether item vectors come from anything but the paper's BERT with [CLS]."""
        return Path(self.encoder.name).name != "bert-base-uncased" or self.encoder.pooling != Pooling.cls
