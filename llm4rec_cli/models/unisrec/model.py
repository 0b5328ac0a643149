"""UniSRec as the commands build it: the network over a catalogue's text vectors, to be tuned or pre-trained."""

from __future__ import annotations

from llm4rec_cli.models.base import Context
from llm4rec_cli.models.unisrec.config import UniSRecConfig
from llm4rec_cli.models.unisrec.network import UniSRec
from llm4rec_cli.models.unisrec.pretraining import PretrainedUniSRec, drop_words
from llm4rec_cli.text.features import encode_texts


def build(context: Context) -> UniSRec:
    config: UniSRecConfig = context.config
    texts = context.split.dataset.texts
    features = encode_texts(texts, config.encoder, context.cache, context.device)
    if config.pretraining is None:
        return UniSRec(config, features, context)
    reworded = drop_words(texts, config.pretraining.word_drop, context.split.dataset.seed)
    return PretrainedUniSRec(
        config, features, encode_texts(reworded, config.encoder, context.cache, context.device), context
    )
