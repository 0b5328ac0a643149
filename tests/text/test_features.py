"""Text features from a BERT of one small layer, made here."""

import logging
import tracemalloc

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizer

from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.errors import UsageError
from llm4rec_cli.text import features, weights

pytestmark = pytest.mark.numeric

WORDS = ["red", "blue", "nail", "polish", "hair", "brush", "dryer", "soap", "bar"]
TEXTS = ["red nail polish", "hair brush", "", "soap", "red nail polish", "blue hair dryer brush soap bar", "soap"]
ATOL = 0.02  # of bf16, in which the encoder runs, where shapes differ


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder with a tokenizer and random weights."""
    folder = tmp_path_factory.mktemp("bert")
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizer(vocab=str(vocabulary)).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5 + len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def encodings(monkeypatch):
    """The texts of each call of the encoder."""
    calls = []
    encode = features._encode

    def recorded(texts, *rest):
        calls.append(texts)
        return encode(texts, *rest)

    monkeypatch.setattr(features, "_encode", recorded)
    return calls


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # what the variable sets on import


def encoded(folder, cache, texts=TEXTS, pooling=Pooling.mean, max_length=16):
    return features.encode_texts(
        list(texts), EncoderConfig(str(folder), pooling, max_length, Precision.bf16), cache, "cpu"
    )


def naive(folder, text, pooling, max_length=16):
    """One text alone, in fp32."""
    tokens = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=max_length, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0]
    return states[0] if pooling == Pooling.cls else states.mean(0)


@pytest.mark.parametrize("pooling", Pooling)
def test_vectors_are_those_of_each_text_alone(pooling, bert, tmp_path):
    vectors = encoded(bert, tmp_path, pooling=pooling)
    assert vectors.shape == (len(TEXTS), 16)
    assert vectors.dtype == torch.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        alone = naive(bert, text, pooling)
        assert torch.cosine_similarity(vector, alone, dim=0) > 0.999
        assert vector.norm().item() == pytest.approx(alone.norm().item(), rel=0.02)


def test_poolings_differ(bert, tmp_path):
    mean, cls = encoded(bert, tmp_path), encoded(bert, tmp_path, pooling=Pooling.cls)
    assert torch.cosine_similarity(mean, cls).max() < 0.99


def test_texts_are_cut_to_the_maximum_length(bert, tmp_path):
    long, short = "red red red red red", "red red"  # [CLS] red red [SEP] = 4 tokens
    vectors = encoded(bert, tmp_path, [long, short], max_length=4)
    assert_close(vectors[0], vectors[1], rel=ATOL)


def test_vectors_do_not_depend_on_the_batches(bert, tmp_path, monkeypatch):
    whole = encoded(bert, tmp_path / "whole")
    monkeypatch.setattr(features, "TOKENS_PER_BATCH", {"cpu": 8})
    assert_close(encoded(bert, tmp_path / "small"), whole, rel=ATOL)


def test_equal_texts_share_a_vector_and_are_encoded_once(bert, tmp_path, encodings):
    vectors = encoded(bert, tmp_path)
    assert torch.equal(vectors[0], vectors[4])
    assert torch.equal(vectors[3], vectors[6])
    assert sorted(encodings[0]) == sorted(set(TEXTS))


def test_a_second_call_takes_the_vectors_kept(bert, tmp_path, encodings):
    assert torch.equal(encoded(bert, tmp_path), encoded(bert, tmp_path))
    assert len(encodings) == 1


def test_permuted_texts_take_the_vectors_kept(bert, tmp_path, encodings):
    order = np.random.default_rng(0).permutation(len(TEXTS))
    vectors = encoded(bert, tmp_path)
    assert torch.equal(encoded(bert, tmp_path, [TEXTS[i] for i in order]), vectors[torch.from_numpy(order)])
    assert len(encodings) == 1


def changed_pooling(bert, cache, tmp_path):
    encoded(bert, cache, pooling=Pooling.cls)


def changed_length(bert, cache, tmp_path):
    encoded(bert, cache, max_length=8)


def changed_texts(bert, cache, tmp_path):
    encoded(bert, cache, [*TEXTS, "blue"])


def changed_weights(bert, cache, tmp_path):
    folder = copied(bert, tmp_path / "other")
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"] + 0.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    encoded(folder, cache)


def changed_tokenizer(bert, cache, tmp_path):
    folder = copied(bert, tmp_path / "other")
    tokenizer = folder / "tokenizer.json"
    assert '"lowercase": true' in tokenizer.read_text()
    tokenizer.write_text(tokenizer.read_text().replace('"lowercase": true', '"lowercase": false'))
    encoded(folder, cache)


@pytest.mark.parametrize("change", [changed_pooling, changed_length, changed_texts, changed_weights, changed_tokenizer])
def test_whatever_changes_vectors_has_them_recomputed(change, bert, tmp_path, encodings):
    encoded(bert, tmp_path / "cache")
    change(bert, tmp_path / "cache", tmp_path)
    assert len(encodings) == 2


def test_a_moved_folder_takes_the_vectors_kept(bert, tmp_path, encodings):
    vectors = encoded(bert, tmp_path / "cache")
    assert torch.equal(encoded(copied(bert, tmp_path / "moved"), tmp_path / "cache"), vectors)
    assert len(encodings) == 1


def copied(folder, to):
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_the_log_says_how_much_is_encoded(bert, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("llm4rec_cli"), "propagate", True)  # the command line switches it off
    with caplog.at_level(logging.INFO, "llm4rec_cli"):
        encoded(bert, tmp_path, ["red", "red", "blue soap"])
    assert "encoding 2 distinct texts (7 tokens)" in caplog.text


def test_one_long_text_does_not_widen_all_others(bert, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_encode", lambda texts, *_: torch.zeros(len(texts), 1))
    texts = [f"red {i}" for i in range(2000)] + ["soap " * 2000]  # 80 MB as an array of equally wide strings
    tracemalloc.start()
    encoded(bert, tmp_path, texts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("name", ["no/such/folder/anywhere", "no-such-owner/no-such-model", "not a name"])
def test_an_encoder_that_is_nowhere_is_refused_with_what_would_do(name, tmp_path, offline):
    with pytest.raises(UsageError, match=r"cannot load model\.encoder\.name=") as caught:
        encoded(name, tmp_path)
    assert caught.value.remedy == weights.REMEDIES[weights.ENCODER]
    assert "\n" not in caught.value.problem


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UsageError, match=r"has no \*\.safetensors"):
        encoded(tmp_path, tmp_path / "cache")
