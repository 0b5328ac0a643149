"""Weights of P5's published code, a T5 of transformers with whole-word embeddings, as weights of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.models.p5.config import P5Config
from llm4rec_cli.models.p5.settings import WholeWord
from llm4rec_cli.models.p5.vocabulary import Vocabulary, load_tokenizer
from llm4rec_cli.models.shared.seq2seq import MAX_WORDS, PackedT5, load_t5
from llm4rec_cli.models.shared.t5_shapes import T5_SHAPES
from llm4rec_cli.text.weights import BACKBONE, locate_weights

# A table that T5's published weights have and no version of T5 reads.
LEFT_OUT = frozenset({"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"})
WORDS = "encoder.whole_word_embeddings.weight"


def problems(config: P5Config) -> Iterator[UsageError]:
    if config.backbone in T5_SHAPES:
        yield UsageError("published weights need a T5 with its tokenizer", "model.backbone=t5-small, or t5-base")
    if config.digits != 1 or not config.index.is_number or config.user_tokens:
        yield UsageError(
            "published weights have no tokens besides T5's, so numbers are written digit by digit",
            "model.digits=1 model.index=leaky_p5 model.user_tokens=false",
        )
    if config.whole_word is WholeWord.never:
        yield UsageError("published weights have whole-word embeddings", "model.whole_word=training, or always")


def shapes(config: P5Config) -> dict[str, tuple[int, ...]]:
    architecture = T5Config.from_pretrained(locate_weights(config.backbone, BACKBONE)[0], vocab_size=_n_tokens(config))
    with torch.device("meta"):
        t5 = T5ForConditionalGeneration(architecture)
    words = {WORDS: (MAX_WORDS, architecture.d_model)}
    return {name: tuple(weight.shape) for name, weight in t5.state_dict().items()} | words


def imported_state(config: P5Config, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    t5 = load_t5(config.backbone, _n_tokens(config), config.dropout)
    packed = PackedT5(t5, whole_word=True)
    assert packed.words is not None
    for names in packed.tied_names.items():
        copy, original = (name.removeprefix("t5.") for name in names)
        if not torch.equal(tensors[copy], tensors[original]):
            raise DataError(f"{copy} is not a copy of {original}", "name a file of the published code")
    with torch.no_grad():
        packed.words.weight.copy_(tensors[WORDS])
        for name, weight in t5.state_dict().items():
            weight.copy_(tensors[name])
    return {f"packed.{name}": weight for name, weight in packed.state_dict().items()}


def _n_tokens(config: P5Config) -> int:
    """Return the number of tokens, digits included."""
    return len(Vocabulary(load_tokenizer(config.backbone, list, "", config.vocabulary, Path()), "0123456789"))
