"""What the name of a text encoder stands for: weights, an endpoint, or neither. Imports no torch."""

from __future__ import annotations

import logging
from pathlib import Path

from llm4rec_cli.config.schema import ENDPOINT, RANDOM, TFIDF, EncoderConfig
from llm4rec_cli.text import weights
from llm4rec_cli.text.sentence import Recipe, recipe_of

log = logging.getLogger(__name__)


def find_encoder(config: EncoderConfig) -> None:
    """Find an encoder's weights, if it has any, without reading them, and log how texts become vectors.

    Raises:
        UsageError: they are not on this machine, and cannot be downloaded; or its folder contradicts the config.
    """
    if not _has_weights(config.name):
        return
    if _is_chat_model(config.name):
        weights.find_causal(config.name)
        recipe = Recipe()
    else:
        recipe = recipe_of(config, weights.find_weights(config.name))
    how = f"{config.pooling.name} pooling, at most {config.max_length} tokens, {recipe.after_pooling}"
    log.info("text encoder %s: %s", config.name, how)


def encoder_identity(config: EncoderConfig) -> str:
    """Return the hash of an encoder's weights and of what its folder does with their vectors; its name without any."""
    if not _has_weights(config.name):
        return config.name
    if _is_chat_model(config.name):
        return weights.locate_causal(config.name).identity
    folder, content = weights.locate_weights(config.name)
    return recipe_of(config, Path(folder)).identity(content)


def encoder_folder(name: str, cache: Path) -> tuple[str, str]:
    """Return the folder that transformers loads, and the hash of the weights. A GGUF file is converted once.

    Raises:
        UsageError: nothing has that name.
        DataError: packaged weights have another hash than expected.
    """
    if not _is_chat_model(name):
        return weights.locate_weights(name)
    located = weights.locate_causal(name)
    return str(weights.model_folder(located, cache)), located.identity


def _has_weights(name: str) -> bool:
    return name not in (TFIDF, RANDOM) and not name.startswith(ENDPOINT)


def _is_chat_model(name: str) -> bool:
    return name == weights.SMOLLM2 or name.endswith(".gguf")
