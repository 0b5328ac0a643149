"""What the name of a text encoder stands for: weights, an endpoint, or neither. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from llm4rec_cli.config.schema import ENDPOINT, RANDOM, TFIDF
from llm4rec_cli.llm import weights as chat_weights
from llm4rec_cli.text import weights


def find_encoder(name: str) -> None:
    """Find an encoder's weights, if it has any, without reading them.

    Raises:
        UsageError: they are not on this machine, and cannot be downloaded.
    """
    if _is_chat_model(name):
        chat_weights.find(name)
    elif _has_weights(name):
        weights.find_weights(name)


def encoder_identity(name: str) -> str:
    """Return the hash of an encoder's weights; of one without weights its name."""
    if not _has_weights(name):
        return name
    return chat_weights.locate(name).identity if _is_chat_model(name) else weights.locate_weights(name)[1]


def encoder_folder(name: str, cache: Path) -> tuple[str, str]:
    """Return the folder that transformers loads, and the hash of the weights. A GGUF file is converted once.

    Raises:
        UsageError: nothing has that name.
        DataError: packaged weights have another hash than expected.
    """
    if not _is_chat_model(name):
        return weights.locate_weights(name)
    located = chat_weights.locate(name)
    return str(chat_weights.model_folder(located, cache)), located.identity


def _has_weights(name: str) -> bool:
    return name not in (TFIDF, RANDOM) and not name.startswith(ENDPOINT)


def _is_chat_model(name: str) -> bool:
    return name == chat_weights.SMOLLM2 or name.endswith(".gguf")
