"""P5's vocabulary: a SentencePiece-like tokenizer for text, and extra tokens for user and item numbers.

The tokenizer is published, or trained on the corpus. It never sees user and item numbers: these are written in pieces,
which are its own tokens where it has them (single digits) and extra tokens otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.errors import UsageError
from llm4rec_cli.files import write_once
from llm4rec_cli.models.shared.t5_shapes import T5_SHAPES
from llm4rec_cli.progress import track
from llm4rec_cli.text.weights import BACKBONE, REMEDIES, locate_weights

PAD, END, UNKNOWN = 0, 1, 2  # token ids of T5
WORD_START = "▁"
VERSION = 1  # raised when the same corpus would give another tokenizer
TEXTS_PER_BATCH = 1000
DIGIT_OR_MARK = rf"(?<=[^{WORD_START}])[^\p{{L}}{WORD_START}]"  # inside a word


@dataclass(frozen=True)
class Tokens:
    """n tokenized texts, concatenated.

    Attributes:
        flat: (total,) int32 token ids.
        offsets: (n + 1,) int64: text i is flat[offsets[i]:offsets[i + 1]].
    """

    flat: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def mapped(cls, path: Path, n_texts: int) -> Tokens | None:
        """Map a file of offsets, then tokens; None if it is missing, torn or of another number of texts."""
        begin = (n_texts + 1) * np.dtype(np.int64).itemsize
        if not path.exists() or path.stat().st_size < begin:
            return None
        content = np.asarray(np.memmap(path, np.uint8, "r"))
        offsets, flat = content[:begin].view(np.int64), content[begin:]
        return cls(flat.view(np.int32), offsets) if len(flat) == 4 * offsets[-1] else None


class Vocabulary:
    """A tokenizer, with extra tokens for the pieces of user numbers and item codes that it does not know."""

    def __init__(self, tokenizer: Tokenizer, pieces: Iterable[str]) -> None:
        self.tokenizer = tokenizer
        ids = tokenizer.get_vocab(with_added_tokens=True)
        self.starts_word = np.zeros(1 + max(ids.values()), dtype=bool)
        self.starts_word[[token_id for token, token_id in ids.items() if token.startswith(WORD_START)]] = True
        self.extra = [piece for piece in dict.fromkeys(pieces) if piece not in ids]
        self.ids = ids | {piece: len(self.starts_word) + i for i, piece in enumerate(self.extra)}

    def __len__(self) -> int:
        return len(self.starts_word) + len(self.extra)

    def tokens_in(self, path: Path, n_texts: int, texts: Callable[[slice], list[str]]) -> Tokens:
        """Return the tokens of texts, without end tokens, mapped from a file. It is written first if it is not whole.

        Args:
            texts: returns the texts at some places.
        """

        def write(aside: Path) -> None:
            offsets = np.zeros(n_texts + 1, dtype=np.int64)
            with aside.open("wb") as file:
                offsets.tofile(file)  # of lengths that are not known yet
                for start in track(range(0, n_texts, TEXTS_PER_BATCH), "tokenizing texts"):
                    some = texts(slice(start, start + TEXTS_PER_BATCH))
                    ids = [each.ids for each in self.tokenizer.encode_batch_fast(some, add_special_tokens=False)]
                    offsets[start + 1 : start + 1 + len(ids)] = list(map(len, ids))
                    np.fromiter(chain.from_iterable(ids), dtype=np.int32).tofile(file)
                file.seek(0)
                offsets.cumsum().tofile(file)

        write_once(path, write, lambda path: Tokens.mapped(path, n_texts) is not None)
        tokens = Tokens.mapped(path, n_texts)
        assert tokens is not None
        return tokens

    def encode_one(self, text: str) -> tuple[IntArray, NDArray[np.bool_]]:
        """Return the tokens of a text, and whether each begins a word."""
        ids = np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)
        return ids, self.starts_word[ids]

    def encode_pieces(self, code: Sequence[str]) -> IntArray:
        """Return (depth,) the tokens of a user number or item code."""
        return np.array([self.ids[piece] for piece in code], dtype=np.int64)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return tokens as text, extra tokens separated by spaces."""
        parts: list[str] = []
        words: list[int] = []
        for token in tokens:
            if token < len(self.starts_word):
                words.append(token)
                continue
            parts += [self.tokenizer.decode(words), self.extra[token - len(self.starts_word)]]
            words = []
        return " ".join(part for part in [*parts, self.tokenizer.decode(words)] if part).strip()

    @cached_property
    def digest(self) -> str:
        """A hash of the tokenizer."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        return str(self.tokenizer.to_str())


def load_tokenizer(backbone: str, corpus: Callable[[], list[str]], made_from: str, size: int, cache: Path) -> Tokenizer:
    """Return the published tokenizer of a backbone; for T5_SHAPES, one trained on a corpus and cached.

    Args:
        corpus: returns texts of the training part only.
        made_from: the address of what they are made from, under which their hash is remembered.
        size: maximum vocabulary size of a trained one.

    Raises:
        UsageError: the tokenizer of the backbone cannot be read.
    """
    if backbone not in T5_SHAPES:
        from transformers import AutoTokenizer

        folder, _ = locate_weights(backbone, BACKBONE)
        try:
            published: Any = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the tokenizer of model.backbone={backbone} cannot be read: {str(error).splitlines()[0]}",
                REMEDIES[BACKBONE],
            ) from error
        return published.backend_tokenizer
    note = cache / "tokenizers" / f"{made_from}-{size}-v{VERSION}.txt"
    write_once(note, lambda part: part.write_text(_address(corpus(), size)))
    path = note.with_name(f"{note.read_text()}.json")
    write_once(path, lambda part: _train_tokenizer(corpus(), size).save(str(part)))
    return Tokenizer.from_file(str(path))


def _address(corpus: list[str], size: int) -> str:
    digest = hashlib.sha256(f"{VERSION} {size}\n".encode())
    for text in corpus:
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()[:24]


def _train_tokenizer(corpus: list[str], size: int) -> Tokenizer:
    """Train byte-pair encoding within words. Each digit and mark is a token, so numbers are read digit by digit."""
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement=WORD_START, prepend_scheme="always"),
            pre_tokenizers.Split(Regex(DIGIT_OR_MARK), behavior="isolated"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement=WORD_START, prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=[WORD_START, *"0123456789"],
        limit_alphabet=500,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer
