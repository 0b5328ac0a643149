"""P5's vocabulary: words, and pieces of numbers that the tokenizer never sees."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer

from llm4rec_cli.errors import UsageError
from llm4rec_cli.models.p5.vocabulary import END, PAD, UNKNOWN, Vocabulary, load_tokenizer
from tests.support.driver import python

CORPUS = ["the red lamp is bright , the red chair is not", "user_ item_ yes no 4.7"] * 5


@pytest.fixture
def vocabulary(tmp_path) -> Vocabulary:
    return Vocabulary(load_tokenizer("tiny", CORPUS, 300, tmp_path), ["00", "01", "4", "01"])


def test_padding_end_and_unknown_have_t5s_numbers(vocabulary):
    assert [vocabulary.tokenizer.id_to_token(i) for i in (PAD, END, UNKNOWN)] == ["<pad>", "</s>", "<unk>"]
    assert vocabulary.encode_one("语")[0].tolist()[-1] == UNKNOWN


def test_a_word_begins_at_its_mark_and_each_digit_is_a_token(vocabulary):
    tokens, starts = vocabulary.encode_one("red lamp, 4.7 ,")
    assert [vocabulary.tokenizer.id_to_token(t) for t in tokens] == ["▁red", "▁lamp", ",", "▁4", ".", "7", "▁,"]
    assert starts.tolist() == [True, True, False, True, False, False, True]


def test_pieces_of_numbers_are_their_own_or_the_tokenizers(vocabulary):
    known = vocabulary.tokenizer.get_vocab_size()
    assert vocabulary.encode_pieces(["01", "00"]).tolist() == [known + 1, known]
    assert vocabulary.encode_pieces(["4"])[0] == vocabulary.tokenizer.token_to_id("4")
    assert len(vocabulary) == known + 2


def test_no_text_becomes_a_piece_of_a_number(vocabulary):
    assert vocabulary.encode_one("00 01 user_01")[0].max() < vocabulary.tokenizer.get_vocab_size()


def test_many_texts_are_encoded_as_one_by_one(vocabulary):
    texts = ["the red lamp", "", "not bright", "yes"]
    tokens = vocabulary.encode(texts)
    for ids, text in zip(np.split(tokens.flat, tokens.offsets[1:-1]), texts, strict=True):
        assert ids.tolist() == vocabulary.encode_one(text)[0].tolist()
    assert len(vocabulary.encode([]).offsets) == 1


def test_tokens_are_decoded_to_text(vocabulary):
    tokens = [*vocabulary.encode_one("the red lamp")[0], *vocabulary.encode_pieces(["01"])]
    assert vocabulary.decode(tokens) == "the red lamp 01"
    assert vocabulary.decode([]) == ""


def test_one_corpus_gives_one_tokenizer_in_every_process(tmp_path):
    program = (
        "from pathlib import Path; from llm4rec_cli.models.p5.vocabulary import load_tokenizer;"
        f"print(load_tokenizer('tiny', {CORPUS!r}, 60, Path('.')).to_str())"
    )
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    first, second = (python(program, folder).stdout for folder in folders)
    assert first == second != ""


def test_another_corpus_or_size_trains_another_tokenizer(tmp_path):
    for corpus, size in ((CORPUS, 300), (CORPUS, 300), (CORPUS, 40), (CORPUS[:-1], 300)):
        load_tokenizer("tiny", corpus, size, tmp_path)
    assert len([*(tmp_path / "tokenizers").glob("*.json")]) == 3


def test_a_published_tokenizer_is_read_from_its_folder(tmp_path):
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    tiny = T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(tiny).save_pretrained(tmp_path / "published")
    ours: Tokenizer = load_tokenizer("tiny", CORPUS, 300, tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=ours).save_pretrained(tmp_path / "published")
    published = load_tokenizer(str(tmp_path / "published"), [], 300, tmp_path)
    assert published.encode("the red lamp").ids == ours.encode("the red lamp").ids


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"model\.backbone"):
        load_tokenizer(str(tmp_path / "none"), [], 300, tmp_path)
