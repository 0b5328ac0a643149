"""Folders of sentence-transformers: what their files say is done, or refused with the override that agrees."""

import json
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import save_file

from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.errors import UsageError
from llm4rec_cli.run.identity import find_weights
from llm4rec_cli.text import features
from llm4rec_cli.text.encoders import encoder_identity, find_encoder
from llm4rec_cli.text.weights import locate_weights
from tests.models.tiny_bert import tiny_bert
from tests.support.driver import job_of

SIZE, TEXTS = 32, ["Red Nail polish", "hair brush", "soap"]
TORCH = "torch.nn.modules"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("bert"), head=False)


@pytest.fixture
def folder(bert, tmp_path):
    """The encoder of a folder with mean pooling, at most 12 tokens, and the vectors' own length."""
    copied = copytree(bert, tmp_path / "encoder")
    wrote(copied, modules=["Transformer", "Pooling"])
    wrote(copied / "1_Pooling", config={"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False})
    wrote(copied, sentence_bert_config={"max_seq_length": 12, "do_lower_case": False})
    return copied


def wrote(folder: Path, modules=(), **files):
    """Write JSON files, and `modules.json` with the modules of these types."""
    folder.mkdir(exist_ok=True)
    if modules:
        files["modules"] = [
            {
                "idx": i,
                "name": str(i),
                "path": f"{i}_{kind}" if i else "",
                "type": f"sentence_transformers.models.{kind}",
            }
            for i, kind in enumerate(modules)
        ]
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def dense(folder, activation="linear.Identity", bias=True):
    torch.manual_seed(0)
    weights = {"linear.weight": torch.randn(8, SIZE)} | ({"linear.bias": torch.randn(8)} if bias else {})
    name = f"{TORCH}.{activation}"
    wrote(folder, config={"in_features": SIZE, "out_features": 8, "bias": bias, "activation_function": name})
    save_file(weights, folder / "model.safetensors")
    return weights


def config_of(folder, pooling=Pooling.mean, max_length=12, **options):
    return EncoderConfig(str(folder), pooling, max_length, Precision.fp32, **options)


def encoded(folder, cache, **options):
    return features.encode_texts(TEXTS, config_of(folder, **options), cache, "cpu")


def test_a_folder_that_says_nothing_more_has_the_vectors_and_identity_of_a_plain_one(folder, bert, tmp_path):
    assert torch.equal(encoded(folder, tmp_path / "a"), encoded(bert, tmp_path / "b"))
    assert encoder_identity(config_of(folder)) == locate_weights(str(bert))[1]


def test_normalize_scales_vectors_to_length_1(folder, bert, tmp_path):
    wrote(folder, modules=["Transformer", "Pooling", "Normalize"])
    plain = encoded(bert, tmp_path)
    assert_close(encoded(folder, tmp_path), plain / plain.norm(dim=1, keepdim=True), rel=1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["activation.Tanh", "linear.Identity"])
def test_dense_layers_are_applied_in_the_order_of_the_modules(activation, bias, folder, bert, tmp_path):
    wrote(folder, modules=["Transformer", "Pooling", "Dense", "Normalize"])
    weights = dense(folder / "2_Dense", activation, bias)
    states = encoded(bert, tmp_path) @ weights["linear.weight"].T + weights.get("linear.bias", 0)
    states = states.tanh() if "Tanh" in activation else states
    assert_close(encoded(folder, tmp_path), states / states.norm(dim=1, keepdim=True), rel=1e-5)


def test_texts_are_lower_cased_where_the_folder_says_so(folder, tmp_path):
    for name, key in (("tokenizer", "lowercase"), ("tokenizer_config", "do_lower_case")):
        written = (folder / f"{name}.json").read_text()
        (folder / f"{name}.json").write_text(written.replace(f'"{key}": true', f'"{key}": false'))
    cased = encoded(folder, tmp_path)
    wrote(folder, sentence_bert_config={"max_seq_length": 12, "do_lower_case": True})
    lower = encoded(folder, tmp_path)
    assert_close(lower[1:], cased[1:], rel=1e-5)  # padded differently, beside a text of another length
    assert (lower[0] - cased[0]).abs().max() > 0.01


def test_identity_follows_whatever_the_folder_adds(folder):
    seen = {encoder_identity(config_of(folder))}
    wrote(folder, sentence_bert_config={"max_seq_length": 12, "do_lower_case": True})
    seen.add(encoder_identity(config_of(folder)))
    for modules in (["Dense"], ["Dense", "Normalize"], ["Normalize"]):
        dense(folder / "2_Dense")
        wrote(folder, modules=["Transformer", "Pooling", *modules])
        seen.add(encoder_identity(config_of(folder)))
    wrote(folder, modules=["Transformer", "Pooling", "Dense"])
    dense(folder / "2_Dense", bias=False)
    assert len({*seen, encoder_identity(config_of(folder))}) == 6


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, Pooling.cls),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, Pooling.last),
        ({"embedding_dimension": SIZE, "pooling_mode": "cls", "include_prompt": True}, Pooling.cls),
        ({"embedding_dimension": SIZE, "pooling_mode": "lasttoken"}, Pooling.last),
        ({"word_embedding_dimension": SIZE}, Pooling.mean),
    ],
)
def test_another_pooling_than_the_folders_is_refused_with_the_one_to_type(pooling, expected, folder, tmp_path):
    wrote(folder / "1_Pooling", config=pooling)
    for other in set(Pooling) - {expected}:
        with pytest.raises(UsageError) as caught:
            encoded(folder, tmp_path, pooling=other)
        assert caught.value.remedy == f"model.encoder.pooling={expected.name}"
    assert encoded(folder, tmp_path, pooling=expected).shape == (len(TEXTS), SIZE)


@pytest.mark.parametrize("newer", [False, True])
def test_more_tokens_than_the_folder_allows_are_refused(newer, folder, tmp_path):
    if newer:  # versions since 6 write the tokenizer's own setting
        wrote(folder, sentence_bert_config={"transformer_task": "feature-extraction"})
        wrote(
            folder,
            tokenizer_config=json.loads((folder / "tokenizer_config.json").read_text()) | {"model_max_length": 12},
        )
    with pytest.raises(UsageError, match="takes at most 12 tokens") as caught:
        encoded(folder, tmp_path, max_length=13)
    assert caught.value.remedy == "model.encoder.max_length=12"


def test_an_instruction_that_the_encoder_was_trained_with_is_asked_for(folder, tmp_path):
    wrote(folder, config_sentence_transformers={"default_prompt_name": "query", "prompts": {"query": "query: "}})
    for instruction in (None, "passage:"):
        with pytest.raises(UsageError) as caught:
            encoded(folder, tmp_path, instruction=instruction)
        assert caught.value.remedy == "'model.encoder.instruction=\"query: {text}\"'"
    written = encoded(folder, tmp_path, instruction="query: {text}")
    assert torch.equal(written, encoded(folder, tmp_path, instruction="query:"))


def test_prompts_without_a_default_leave_the_instruction_free(folder, tmp_path):
    wrote(folder, config_sentence_transformers={"default_prompt_name": None, "prompts": {"query": "query: "}})
    encoded(folder, tmp_path, instruction="anything")


@pytest.mark.parametrize(
    ("modules", "pooling", "activation", "words"),
    [
        (["Transformer", "Pooling", "LayerNorm"], {}, "", "Transformer then Pooling then LayerNorm"),
        (["Transformer", "Normalize"], {}, "", "Transformer then Normalize"),
        (["StaticEmbedding"], {}, "", "StaticEmbedding"),
        (["Transformer", "Pooling"], {"pooling_mode": "max"}, "", "max pooling"),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, "", "mean and max pooling"),
        (["Transformer", "Pooling"], {"pooling_mode": "mean", "include_prompt": False}, "", "include_prompt"),
        (["Transformer", "Pooling", "Dense"], {}, "activation.GELU", "the activation GELU"),
    ],
)
def test_what_would_be_read_wrongly_is_refused_by_name(modules, pooling, activation, words, folder, tmp_path):
    wrote(folder, modules=modules)
    wrote(folder / "1_Pooling", config=pooling)
    if activation:
        dense(folder / "2_Dense", activation)
    with pytest.raises(UsageError, match="is not supported") as caught:
        encoded(folder, tmp_path)
    assert words in caught.value.problem


def test_pickled_or_missing_parts_are_refused(folder, tmp_path):
    wrote(folder, modules=["Transformer", "Pooling", "Dense"])
    dense(folder / "2_Dense")
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"model\.safetensors does not exist"):
        encoded(folder, tmp_path)
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(UsageError, match=r"1_Pooling.config\.json cannot be read"):
        encoded(folder, tmp_path)


def test_the_packaged_encoder_keeps_the_length_of_its_vectors_and_any_pooling(caplog):
    """All results were made so; its folder has Normalize and mean pooling."""
    with caplog.at_level("INFO"):
        find_encoder(config_of("minilm", pooling=Pooling.cls, max_length=512))
    assert encoder_identity(config_of("minilm")) == locate_weights("minilm")[1]
    assert "text encoder minilm: cls pooling, at most 512 tokens, not normalised" in caplog.messages


def test_a_run_says_how_texts_become_vectors_before_it_starts(folder, caplog):
    wrote(folder, modules=["Transformer", "Pooling", "Dense", "Normalize"])
    dense(folder / "2_Dense")
    typed = ("model=frozen_text", f"model.encoder.name={folder}", "model.encoder.max_length=12")
    with caplog.at_level("INFO"):
        find_weights(job_of(*typed).config)
    how = "mean pooling, at most 12 tokens, through a linear layer, then scaled to length 1"
    assert f"text encoder {folder}: {how}" in caplog.messages
    with pytest.raises(UsageError, match="trained with mean pooling"):
        find_weights(job_of(*typed, "model.encoder.pooling=cls").config)
