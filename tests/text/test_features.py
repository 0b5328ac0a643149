"""Text features from a BERT of one small layer, made here."""

import logging
import tracemalloc

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizer, T5Config, T5EncoderModel

from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.errors import UsageError
from llm4rec_cli.text import features, weights
from tests.llm.tiny_llm import tiny_llm

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


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    return tiny_llm(tmp_path_factory.mktemp("causal"))


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


def encoded(folder, cache, texts=TEXTS, pooling=Pooling.mean, max_length=16, dataset=None, **options):
    config = EncoderConfig(str(folder), pooling, max_length, Precision.bf16, **options)
    return features.encode_texts(list(texts), config, cache, "cpu", dataset)


def naive(folder, text, pooling, max_length=16):
    """One text alone, in fp32."""
    tokens = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=max_length, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0]
    return {Pooling.cls: states[0], Pooling.last: states[-1], Pooling.mean: states.mean(0)}[pooling]


@pytest.mark.parametrize("pooling", Pooling)
def test_vectors_are_those_of_each_text_alone(pooling, bert, tmp_path):
    vectors = encoded(bert, tmp_path, pooling=pooling)
    assert vectors.shape == (len(TEXTS), 16)
    assert vectors.dtype == torch.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        alone = naive(bert, text, pooling)
        assert torch.cosine_similarity(vector, alone, dim=0) > 0.999
        assert vector.norm().item() == pytest.approx(alone.norm().item(), rel=0.02)


def test_states_are_pooled_over_the_tokens_of_the_text():
    states = torch.tensor([[[1.0, 0], [3, 2], [5, 7]], [[2, 4], [9, 9], [9, 9]]])  # the second text has one token
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    expected = {Pooling.mean: [[3, 3], [2, 4]], Pooling.cls: [[1, 0], [2, 4]], Pooling.last: [[5, 7], [2, 4]]}
    assert {kind: features.pooled(states, mask, kind).tolist() for kind in Pooling} == expected


@pytest.mark.parametrize("pooling", [Pooling.mean, Pooling.last])
def test_a_causal_model_encodes_each_text_as_alone(pooling, causal, tmp_path):
    vectors = encoded(causal, tmp_path, pooling=pooling, max_length=64)
    for text, vector in zip(TEXTS, vectors, strict=True):
        if text:
            assert torch.cosine_similarity(vector, naive(causal, text, pooling, 64), dim=0) > 0.999
    assert vectors.isfinite().all(), "an empty text has no token of its own"


def test_of_an_encoder_and_a_decoder_the_first_encodes(bert, tmp_path):
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    T5EncoderModel(T5Config(vocab_size=5 + len(WORDS), **sizes)).save_pretrained(tmp_path / "t5")
    AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path / "t5")
    vectors = encoded(tmp_path / "t5", tmp_path)
    with torch.no_grad():
        tokens = AutoTokenizer.from_pretrained(bert)(TEXTS[0], return_tensors="pt").input_ids
        states = T5EncoderModel.from_pretrained(tmp_path / "t5").eval()(input_ids=tokens).last_hidden_state
    assert torch.cosine_similarity(vectors[0], states[0].mean(0), dim=0) > 0.99


def test_an_instruction_is_written_before_or_around_each_text(bert, tmp_path, encodings):
    before = encoded(bert, tmp_path, ["soap"], instruction="red")
    assert torch.equal(before, encoded(bert, tmp_path, ["red soap"]))
    encoded(bert, tmp_path, ["soap"], instruction="a {text} bar")
    assert encodings == [["red soap"], ["a soap bar"]]


@pytest.mark.parametrize("name", ["bert", "tfidf", "random"])
def test_vectors_of_other_texts_are_fitted_to_the_dataset(name, bert, tmp_path):
    dataset = tiny_dataset([[0, 1]], TEXTS)
    place, options = bert if name == "bert" else name, {"dimension": 3, "whiten": True, "dataset": dataset}
    vectors = encoded(place, tmp_path, **options)
    assert vectors.shape == (len(TEXTS), 3)
    assert_close(encoded(place, tmp_path, [TEXTS[5], TEXTS[1]], **options), vectors[[5, 1]], rel=1e-4)
    distinct = encoded(place, tmp_path, sorted(set(TEXTS)), **options)
    assert_close(distinct.T.cov(), torch.eye(3), rel=1e-4)


def test_random_vectors_follow_the_seed_of_the_dataset(tmp_path):
    datasets = [tiny_dataset([[0, 1]], TEXTS) for _ in range(2)]
    datasets[1].manifest["split"]["seed"] = 1
    first, second = (encoded("random", tmp_path, dataset=dataset) for dataset in datasets)
    assert first.shape == (len(TEXTS), features.DEFAULT_SIZE)
    assert not torch.equal(first, second)


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


def changed_instruction(bert, cache, tmp_path):
    encoded(bert, cache, instruction="blue")


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


CHANGES = [changed_pooling, changed_instruction, changed_length, changed_texts, changed_weights, changed_tokenizer]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_vectors_has_them_recomputed(change, bert, tmp_path, encodings):
    encoded(bert, tmp_path / "cache")
    change(bert, tmp_path / "cache", tmp_path)
    assert len(encodings) == 2


def test_other_components_of_the_same_vectors_are_not_encoded_again(bert, tmp_path, encodings):
    assert encoded(bert, tmp_path, dimension=2).shape == (len(TEXTS), 2)
    assert encoded(bert, tmp_path, whiten=True).shape == (len(TEXTS), 4)  # five texts span four directions
    assert len(encodings) == 1


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
