"""What text becomes for P5: tokens of a SentencePiece-like tokenizer, and pieces of numbers that it never sees.

The tokenizer is a published one, or is trained on the corpus. Numbers of items and users are never given to it: they
are written in pieces, which are its own where it has them (single digits), and otherwise get rows of their own.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.errors import UsageError
from llm4rec_cli.files import write_once
from llm4rec_cli.models.p5.config import SHAPES
from llm4rec_cli.text.weights import BACKBONE, REMEDIES, locate_weights

log = logging.getLogger(__name__)

PAD, END, UNKNOWN = 0, 1, 2  # as T5 has them
WORD = "▁"  # begins a word
VERSION = 1  # raised when the same corpus would give another tokenizer
TEXTS_AT_ONCE = 1000
WITHIN_WORD = rf"(?<=[^{WORD}])[^\p{{L}}{WORD}]"  # a digit or a mark that begins no word


@dataclass(frozen=True)
class Tokens:
    """n texts as tokens, behind one another.

    Attributes:
        flat: (total,) int64 token numbers.
        starts: (total,) whether a token begins a word.
        offsets: (n + 1,) text i is flat[offsets[i]:offsets[i + 1]].
    """

    flat: IntArray
    starts: NDArray[np.bool_]
    offsets: IntArray

    def __getitem__(self, i: int) -> tuple[IntArray, NDArray[np.bool_]]:
        part = slice(self.offsets[i], self.offsets[i + 1])
        return self.flat[part], self.starts[part]


class Vocabulary:
    """A tokenizer, and the pieces beside it.

    Args:
        tokenizer: whose 0, 1, 2 are padding, end and unknown.
        pieces: what numbers and items' names are written in.
    """

    def __init__(self, tokenizer: Tokenizer, pieces: Iterable[str]) -> None:
        self.tokenizer = tokenizer
        words = tokenizer.get_vocab(with_added_tokens=True)
        self.starting = np.zeros(1 + max(words.values()), dtype=bool)
        self.starting[[number for word, number in words.items() if word.startswith(WORD)]] = True
        own = [piece for piece in dict.fromkeys(pieces) if piece not in words]
        self.number = words | {piece: len(self.starting) + i for i, piece in enumerate(own)}
        self.own = own

    def __len__(self) -> int:
        return len(self.starting) + len(self.own)

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Texts as tokens, without an end."""
        from datasets import Dataset, disable_progress_bars

        disable_progress_bars()

        def tokens(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
            return {"tokens": [e.ids for e in self.tokenizer.encode_batch(batch["text"], add_special_tokens=False)]}

        if not len(texts):
            return Tokens(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool), np.zeros(1, dtype=np.int64))
        table = Dataset.from_dict({"text": list(texts)}).map(
            tokens, batched=True, batch_size=TEXTS_AT_ONCE, remove_columns="text", keep_in_memory=True
        )
        lists = table.data.table["tokens"].combine_chunks()
        flat = lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
        offsets = lists.offsets.to_numpy().astype(np.int64)
        return Tokens(flat, self.starting[flat], offsets - offsets[0])

    def encode_one(self, text: str) -> tuple[IntArray, NDArray[np.bool_]]:
        """One text as tokens, and which of them begin a word."""
        ids = np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)
        return ids, self.starting[ids]

    def pieces(self, code: Sequence[str]) -> IntArray:
        """(depth,) the tokens that a number or an item's name is written in."""
        return np.array([self.number[piece] for piece in code], dtype=np.int64)

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text; pieces beside the tokenizer as they are."""
        found: list[str] = []
        words: list[int] = []
        for token in tokens:
            if token < len(self.starting):
                words.append(token)
                continue
            found += [self.tokenizer.decode(words), self.own[token - len(self.starting)]]
            words = []
        return " ".join(part for part in [*found, self.tokenizer.decode(words)] if part).strip()

    def to_json(self) -> str:
        """The tokenizer, in the format of the library `tokenizers`."""
        return str(self.tokenizer.to_str())


def tokenizer(backbone: str, corpus: list[str], size: int, cache: Path) -> Tokenizer:
    """The published tokenizer of a backbone, or one trained on a corpus, once.

    Args:
        corpus: texts of the training part alone.
        size: pieces at most; for SHAPES.

    Raises:
        UsageError: the backbone has no tokenizer here.
    """
    if backbone not in SHAPES:
        from transformers import AutoTokenizer

        folder, _ = locate_weights(backbone, BACKBONE)
        try:
            found: Any = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the tokenizer of model.backbone={backbone} cannot be read: {str(error).splitlines()[0]}",
                REMEDIES[BACKBONE],
            ) from error
        return found.backend_tokenizer
    digest = hashlib.sha256(f"{VERSION} {size}\n".encode())
    for text in corpus:
        digest.update(text.encode() + b"\n")
    path = cache / "tokenizers" / f"{digest.hexdigest()[:24]}.json"
    write_once(path, lambda aside: _trained(corpus, size).save(str(aside)))
    return Tokenizer.from_file(str(path))


def _trained(corpus: list[str], size: int) -> Tokenizer:
    """Byte-pair encoding within words; each digit and mark stands alone: every number is read by its digits."""
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

    found = Tokenizer(models.BPE(unk_token="<unk>"))
    found.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement=WORD, prepend_scheme="always"),
            pre_tokenizers.Split(Regex(WITHIN_WORD), behavior="isolated"),
        ]
    )
    found.decoder = decoders.Metaspace(replacement=WORD, prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=[WORD, *"0123456789"],
        limit_alphabet=500,
        show_progress=False,
    )
    found.train_from_iterator(corpus, trainer)
    return found
