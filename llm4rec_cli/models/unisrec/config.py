"""Settings of UniSRec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import EncoderConfig, ModelKind, PublishedWeights, Traits, added, noted
from llm4rec_cli.models.shared.config import EncoderSizes
from llm4rec_cli.models.unisrec.settings import Adaptor, AdaptorDraw, Freeze, PretrainingConfig, Similarity

# Settings that weights fit.
SHAPES = (
    *("encoder.pooling", "encoder.max_length", "encoder.instruction", "encoder.dimension", "encoder.whiten"),
    *("adaptor", "experts"),
    *("hidden_size", "inner_size", "layers", "heads", "max_length"),
)


@dataclass
class UniSRecConfig(EncoderSizes):
    """Universal sequence representation learning (KDD 2022)."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates", "rank_new_items", "pretrain"}),
        ModelKind.paper,
        trainable=True,
        needs_text=True,
        bf16_scoring=True,
        published=PublishedWeights("RUCAIBox/UniSRec @05aa5cb", "unisrec/pretrain_paper"),
    )

    encoder: EncoderConfig = MISSING
    adaptor: Adaptor = MISSING
    experts: int = ranges.number(at_least=1)  # of adaptor=moe, as the next two
    adaptor_dropout: float = ranges.number(at_least=0, below=1)
    draw: AdaptorDraw = MISSING
    use_ids: bool = noted(MISSING, named=True)  # false = inductive (UniSRec_t), true = transductive (UniSRec_t+ID)
    temperature: float = ranges.number(above=0)  # that divides cosines
    similarity: Similarity = added(Similarity.cosine)
    # run that provides the initial weights
    init_from: str | None = noted(ranges.path(None), named=True, provenance=True, agrees_in=SHAPES)
    freeze: Freeze = noted(MISSING, named=True, provenance=True)
    pretraining: PretrainingConfig | None = noted(None, provenance=True)  # null unless task=pretrain
