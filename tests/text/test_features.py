"""Text features from a tiny BERT."""

from shutil import copytree

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, T5Config, T5EncoderModel

from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.errors import UsageError
from llm4rec_cli.text import features, weights
from tests.llm.tiny_llm import tiny_llm
from tests.models.tiny_bert import tiny_bert

pytestmark = pytest.mark.numeric

TEXTS = ["red nail polish", "hair brush", "", "soap", "red nail polish", "blue hair dryer brush soap bar", "soap"]
ATOL = 0.02  # of bf16, in which the encoder runs, where shapes differ


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("bert"), head=False)


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
    assert vectors.shape == (len(TEXTS), 32)
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
    T5EncoderModel(T5Config(vocab_size=200, **sizes)).save_pretrained(tmp_path / "t5")
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


def test_texts_are_cut_to_the_maximum_length(bert, tmp_path):
    long, short = "red red red red red", "red red"  # [CLS] r ##e [SEP] = 4 tokens
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


def test_permuted_texts_take_the_vectors_kept(bert, tmp_path, encodings):
    order = np.random.default_rng(0).permutation(len(TEXTS))
    vectors = encoded(bert, tmp_path)
    assert torch.equal(encoded(bert, tmp_path, [TEXTS[i] for i in order]), vectors[torch.from_numpy(order)])
    assert len(encodings) == 1


def with_other_weights(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"] = tensors["embeddings.word_embeddings.weight"] + 0.5
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def with_another_tokenizer(folder):
    tokenizer = folder / "tokenizer.json"
    assert '"lowercase": true' in tokenizer.read_text()
    tokenizer.write_text(tokenizer.read_text().replace('"lowercase": true', '"lowercase": false'))


def test_whatever_changes_vectors_has_them_recomputed(bert, tmp_path, encodings):
    cache = tmp_path / "cache"
    encoded(bert, cache)
    settings = {"pooling": Pooling.cls}, {"instruction": "blue"}, {"max_length": 8}, {"texts": [*TEXTS, "blue"]}
    for number, changed in enumerate(settings, start=2):
        encoded(bert, cache, **changed)
        assert len(encodings) == number, changed
    for change in (with_other_weights, with_another_tokenizer):
        folder = copytree(bert, tmp_path / change.__name__)
        change(folder)
        encoded(folder, cache)
    assert len(encodings) == 7


def test_other_components_of_the_same_vectors_are_not_encoded_again(bert, tmp_path, encodings):
    assert encoded(bert, tmp_path, dimension=2).shape == (len(TEXTS), 2)
    assert encoded(bert, tmp_path, whiten=True).shape == (len(TEXTS), 4)  # five texts span four directions
    assert len(encodings) == 1


def test_a_moved_folder_takes_the_vectors_kept(bert, tmp_path, encodings):
    vectors = encoded(bert, tmp_path / "cache")
    assert torch.equal(encoded(copytree(bert, tmp_path / "moved"), tmp_path / "cache"), vectors)
    assert len(encodings) == 1


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
