"""A BERT with two small layers and random weights."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (  # of templates and answers; other words are split into letters and digits
    *("related", "unrelated", "interesting", "boring", "yes", "no", "good", "bad"),
    *("the", "user", "feels", "about", "according", "to", "his", "area", "of", "interest", "news", "does", "click"),
    *("this", "is", "recommending", "a", "choice"),
)
CHARACTERS = string.ascii_lowercase + string.digits
CONTEXT = 512  # tokens
SETTINGS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,  # so that scores differ
}


def tiny_bert(folder: Path, head: bool = True) -> Path:
    """Write a BERT, perhaps without its head, and a WordPiece tokenizer to a folder; the same in each call."""
    folder.mkdir(parents=True, exist_ok=True)
    words = dict.fromkeys([*SPECIAL, *"?:'", *CHARACTERS, *WORDS, *(f"##{character}" for character in CHARACTERS)])
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertForMaskedLM(BertConfig(vocab_size=len(words), **SETTINGS))
        torch.nn.init.normal_(model.cls.predictions.bias)
    (model if head else model.bert).save_pretrained(folder)
    return folder
