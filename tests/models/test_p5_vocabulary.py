"""P5's vocabulary: words, and pieces of numbers that the tokenizer never sees."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from llm4rec_cli.errors import UsageError
from llm4rec_cli.models.p5.filler import Pieces
from llm4rec_cli.models.p5.vocabulary import END, PAD, UNKNOWN, Tokens, Vocabulary, load_tokenizer

CORPUS = ["the red lamp is bright , the red chair is not", "user_ item_ yes no 4.7"] * 5


@pytest.fixture
def vocabulary(tmp_path) -> Vocabulary:
    return Vocabulary(load_tokenizer("tiny", lambda: CORPUS, "corpus", 300, tmp_path), ["00", "01", "4", "01"])


def test_a_word_begins_at_its_mark_each_digit_is_a_token_and_numbers_have_pieces_of_their_own(vocabulary):
    tokenizer, known = vocabulary.tokenizer, vocabulary.tokenizer.get_vocab_size()
    assert [tokenizer.id_to_token(i) for i in (PAD, END, UNKNOWN)] == ["<pad>", "</s>", "<unk>"]  # as T5's
    assert vocabulary.encode_one("语")[0].tolist()[-1] == UNKNOWN
    tokens, starts = vocabulary.encode_one("red lamp, 4.7 ,")
    assert [tokenizer.id_to_token(t) for t in tokens] == ["▁red", "▁lamp", ",", "▁4", ".", "7", "▁,"]
    assert starts.tolist() == [True, True, False, True, False, False, True]
    assert vocabulary.encode_pieces(["01", "00"]).tolist() == [known + 1, known]
    assert vocabulary.encode_pieces(["4"])[0] == tokenizer.token_to_id("4")
    assert len(vocabulary) == known + 2
    assert vocabulary.encode_one("00 01 user_01")[0].max() < known, "no text becomes a piece of a number"
    tokens = [*vocabulary.encode_one("the red lamp")[0], *vocabulary.encode_pieces(["01"])]
    assert (vocabulary.decode(tokens), vocabulary.decode([])) == ("the red lamp 01", "")


TEXTS = ["the red lamp", "", "not bright", "yes"] * 300  # more than are tokenized at once


def same(vocabulary: Vocabulary, tokens: Tokens) -> bool:
    """Whether they are the tokens of TEXTS, each on its own."""
    each = np.split(tokens.flat, tokens.offsets[1:-1])
    return [ids.tolist() for ids in each] == [vocabulary.encode_one(text)[0].tolist() for text in TEXTS]


def test_many_texts_or_none_are_tokenized_as_one_by_one_and_mapped_from_a_file(vocabulary, tmp_path):
    tokens = vocabulary.tokens_in(tmp_path / "tokens", len(TEXTS), TEXTS.__getitem__)
    assert (tokens.flat.dtype, tokens.offsets.dtype) == (np.int32, np.int64)
    assert same(vocabulary, tokens)
    again = vocabulary.tokens_in(tmp_path / "tokens", len(TEXTS), None)  # reads no text
    assert same(vocabulary, again)
    assert not (again.flat.flags.writeable or again.flat.flags.owndata)
    for _ in range(2):
        none = vocabulary.tokens_in(tmp_path / "none", 0, lambda rows: [])
        assert (none.offsets.tolist(), none.flat.tolist()) == ([0], [])


def test_a_torn_file_or_one_of_other_tokens_is_written_anew(vocabulary, tmp_path):
    file = tmp_path / "tokens"
    vocabulary.tokens_in(file, len(TEXTS), TEXTS.__getitem__)
    whole = file.read_bytes()
    torn = [whole[:n_bytes] for n_bytes in (0, 5, 2000, 9608, 9612, -1, -4)]
    other = [content.tobytes() for content in (np.arange(10_000), np.zeros(20_000, dtype=np.int64))]
    for content in [*torn, *other]:
        file.write_bytes(content)
        assert same(vocabulary, vocabulary.tokens_in(file, len(TEXTS), TEXTS.__getitem__))
        assert file.read_bytes() == whole


def test_more_than_two_to_the_31_tokens_are_addressed(tmp_path):
    """The file is sparse: it takes no room on the disk."""
    offsets = np.array([0, 3, 2**31 + 5, 2**31 + 7])
    with (tmp_path / "tokens").open("wb") as file:
        offsets.tofile(file)
        file.seek(offsets.nbytes + 4 * (2**31 + 5))
        np.array([8, 9], dtype=np.int32).tofile(file)
    tokens = Tokens.mapped(tmp_path / "tokens", 3)
    assert tokens.flat[tokens.offsets[2] : tokens.offsets[3]].tolist() == [8, 9]
    begin, length = Pieces(tokens.flat, tokens.offsets, 2**32).at(np.array([2, 0]))
    assert (begin.tolist(), length.tolist()) == ([2**32 + 2**31 + 5, 2**32], [2, 3])


def test_a_tokenizer_is_trained_for_each_corpus_and_size_remembered_and_keeps_its_address(tmp_path):
    trained = load_tokenizer("tiny", lambda: CORPUS, "corpus", 300, tmp_path)
    assert load_tokenizer("tiny", None, "corpus", 300, tmp_path).to_str() == trained.to_str()
    hashed = "1 300\n" + "".join(f"{text}\n" for text in CORPUS)
    address = hashlib.sha256(hashed.encode()).hexdigest()[:24]
    assert [path.stem for path in (tmp_path / "tokenizers").glob("*.json")] == [address]
    for corpus, size in ((CORPUS, 40), (CORPUS[:-1], 300)):
        load_tokenizer("tiny", lambda corpus=corpus: corpus, f"{len(corpus)} texts", size, tmp_path)
    assert len([*(tmp_path / "tokenizers").glob("*.json")]) == 3


def test_a_published_tokenizer_is_read_from_its_folder(tmp_path):
    tiny = T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(tiny).save_pretrained(tmp_path / "published")
    ours: Tokenizer = load_tokenizer("tiny", lambda: CORPUS, "corpus", 300, tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=ours).save_pretrained(tmp_path / "published")
    published = load_tokenizer(str(tmp_path / "published"), list, "", 300, tmp_path)
    assert published.encode("the red lamp").ids == ours.encode("the red lamp").ids
    with pytest.raises(UsageError, match=r"model\.backbone"):
        load_tokenizer(str(tmp_path / "none"), list, "", 300, tmp_path)
