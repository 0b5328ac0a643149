"""The floor `frozen_text`: similarity of item texts to the user's history under a frozen encoder."""

from __future__ import annotations

from torch import Tensor

from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.frozen_text import FrozenText
from llm4rec_cli.text.features import encode_texts


def build(context: Context) -> FrozenText:
    def encode(texts: list[str]) -> Tensor:
        return encode_texts(texts, context.config.encoder, context.cache, context.device, context.split.dataset)

    return FrozenText(encode, context.split, context.config.centred, context.config.temperature)
