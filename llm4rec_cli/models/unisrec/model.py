"""Build UniSRec over a catalogue's text vectors, for fine-tuning or pre-training."""

from __future__ import annotations

from llm4rec_cli.models.base import Context
from llm4rec_cli.models.unisrec.config import UniSRecConfig
from llm4rec_cli.models.unisrec.network import UniSRec
from llm4rec_cli.models.unisrec.pretraining import PretrainedUniSRec, drop_words
from llm4rec_cli.text.features import encode_texts


def build(context: Context) -> UniSRec:
    config: UniSRecConfig = context.config
    dataset = context.split.dataset
    features = encode_texts(dataset.texts, config.encoder, context.cache, context.device, dataset)
    if config.pretraining is None:
        return UniSRec(config, features, context)
    shortened = drop_words(dataset.texts, config.pretraining.word_drop, dataset.seed)
    word_drop_features = encode_texts(shortened, config.encoder, context.cache, context.device, dataset)
    return PretrainedUniSRec(config, features, word_drop_features, context)
