"""Backbones, the pretrained encoders that a training starts from: their folder, tokenizer and limits.

Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.errors import UsageError
from llm4rec_cli.text.weights import BACKBONE, find_local_folder, locate_weights

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"


def problems_of_bert(backbone: str, max_length: int, model: str) -> Iterator[UsageError]:
    """Yield why a backbone is not a BERT that can read texts of `max_length` tokens.

    Raises:
        UsageError: the backbone does not exist.
    """
    folder = Path(locate_weights(backbone, BACKBONE)[0])
    settings = json.loads((folder / "config.json").read_text())
    if (model_type := settings.get("model_type")) != "bert":
        yield UsageError(
            f"model.backbone={backbone} is a {model_type}, and model '{model}' needs a BERT",
            "model.backbone=bert-base-uncased, or minilm",
        )
        return
    n_positions = settings["max_position_embeddings"]
    if max_length > n_positions:
        yield UsageError(
            f"model.max_length={max_length} exceeds the {n_positions} tokens that {backbone} can read",
            f"model.max_length={n_positions}",
        )
    n_words = load_tokenizer(folder).get_vocab_size(with_added_tokens=True)
    if n_words != settings["vocab_size"]:
        yield UsageError(
            f"model.backbone={backbone} has {settings['vocab_size']:,} embeddings for {n_words:,} tokens",
            "resize them: model.resize_token_embeddings(len(tokenizer)), and save the model",
        )


def load_tokenizer(folder: Path) -> Tokenizer:
    """Return a backbone's tokenizer, without truncation and padding."""
    from tokenizers import Tokenizer

    if (folder / TOKENIZER).exists():
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(folder), use_fast=True).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def backbone_folder(backbone: str) -> Path:
    """Return the folder of a backbone's files, which the checks before a run have verified.

    Raises:
        UsageError: the backbone does not exist.
    """
    return find_local_folder(backbone) or Path(locate_weights(backbone, BACKBONE)[0])
