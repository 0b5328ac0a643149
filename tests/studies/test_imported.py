"""Weights of published code: after the import our models compute what the published ones do."""

import copy
import os
import pickle
import sys
from dataclasses import replace
from itertools import accumulate, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from transformers import BertForMaskedLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.schema import Index, SplitName
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.split import TEST
from llm4rec_cli.errors import DataError
from llm4rec_cli.models.base import Context, build, published_mapping
from llm4rec_cli.models.p5 import published as published_p5
from llm4rec_cli.models.p5.model import build as build_p5
from llm4rec_cli.models.p5.model import prompt_texts
from llm4rec_cli.models.p5.settings import WholeWord
from llm4rec_cli.models.p5.vocabulary import load_tokenizer
from llm4rec_cli.models.unisrec import model as unisrec
from llm4rec_cli.models.unisrec import published as published_unisrec
from llm4rec_studies.imported import LARGEST, read_weights
from tests.models import p5_data, prompt4nr_data
from tests.models.published_unisrec import PublishedUniSRec
from tests.models.test_unisrec import DATASET, SETTINGS, SPLIT, TEXT_SIZE
from tests.models.tiny_bert import tiny_bert

pytestmark = pytest.mark.numeric

SIZES = {"text": TEXT_SIZE, "hidden": 8, "inner": 12, "layers": 2, "heads": 2, "experts": 3, "length": 6}
FEATURES = torch.randn(DATASET.n_items, TEXT_SIZE, generator=torch.Generator().manual_seed(1))
CONFIG = config_class("unisrec")(name="unisrec", **SETTINGS)


def test_every_method_that_declares_published_weights_maps_them():
    declared = [name for name in model_names() if config_class(name).traits.published]
    assert declared == ["p5", "prompt4nr", "unisrec"]
    for name in declared:
        mapping = published_mapping(name)
        assert callable(mapping.shapes) and callable(mapping.imported_state) and mapping.LEFT_OUT


# ---- UniSRec


@pytest.fixture
def vectors(monkeypatch):
    monkeypatch.setattr(unisrec, "encode_texts", lambda *_: FEATURES)
    monkeypatch.setattr(published_unisrec, "vector_size", lambda _: TEXT_SIZE)


def test_imported_unisrec_scores_as_the_published_formulas(vectors, tmp_path):
    theirs = PublishedUniSRec(**SIZES)
    state = theirs.state_dict() | {"plm_embedding.weight": torch.ones(11, 5)}  # their text vectors, not ours
    torch.save({"epoch": 299, "state_dict": state, "optimizer": {}}, tmp_path / "file.pth")
    imported = read_weights(tmp_path / "file.pth", CONFIG)
    assert (imported.left_out, imported.n_tensors) == (["plm_embedding.weight"], len(state) - 1)
    ours = build(Context(CONFIG, SPLIT, 0, tmp_path, "cpu")).eval()
    ours.load_state_dict(imported.state)
    examples = SPLIT.examples(SplitName.test)
    flat, offsets = examples.histories(None)
    histories = [flat[a:b].tolist() for a, b in pairwise(offsets)]
    expected = torch.stack([theirs.scores(FEATURES, history) for history in histories])
    assert expected.std() > 0.1  # it has something to compare
    assert_close(ours.score(examples), expected, rel=1e-5)


def test_names_and_shapes_that_do_not_fit_are_all_named(vectors, tmp_path):
    state = PublishedUniSRec(**SIZES | {"experts": 2, "inner": 13}).state_dict()
    torch.save({"state_dict": state | {"item_embedding.weight": torch.ones(11, 8)}}, tmp_path / "file.pth")
    with pytest.raises(DataError) as raised:
        read_weights(tmp_path / "file.pth", CONFIG)
    problem = raised.value.problem
    assert "lacks moe_adaptor.experts.2.bias, moe_adaptor.experts.2.lin.weight;" in problem
    assert "also has item_embedding.weight;" in problem
    assert "moe_adaptor.w_gate (5, 2), not (5, 3)" in problem
    assert "feed_forward.dense_1.weight (13, 8), not (12, 8)" in problem


def of_module(monkeypatch, module, name):
    """A new class that pickles name as this one of a library that is not installed."""
    own = type(name, (), {"__module__": module})
    for parent in accumulate(module.split("."), "{}.{}".format):
        monkeypatch.setitem(sys.modules, parent, SimpleNamespace(**{name: own}))
    return own


def unisrec_state(**changes):
    return PublishedUniSRec(**SIZES).state_dict() | changes


def test_a_file_with_the_config_of_recbole_is_read(vectors, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kind = of_module(patch, "recbole.utils.enum_type", "ModelType")
        kind.__reduce__ = lambda _: (kind, (2,))  # as of an enum
        config = of_module(patch, "recbole.config.configurator", "Config")()
        config.model_class = of_module(patch, "unisrec", "UniSRec")
        config.yaml_loader = yaml.FullLoader
        config.final_config_dict = {"MODEL_TYPE": kind(), "device": torch.device("cpu"), "metrics": ["Recall"]}
        saved = {"config": config, "best_valid_score": np.float64(0.5), "state_dict": unisrec_state()}
        torch.save(saved, tmp_path / "file.pth")
    assert read_weights(tmp_path / "file.pth", CONFIG).n_tensors == len(unisrec_state())


class Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return eval, (f"open({str(self.target)!r}, 'w')",)


def refused(path, problem):
    with pytest.raises(DataError) as raised:
        read_weights(path, CONFIG)
    assert str(path) in raised.value.problem and problem in raised.value.problem
    assert raised.value.remedy


def test_a_foreign_class_is_refused_and_not_run(vectors, tmp_path):
    torch.save({"state_dict": unisrec_state(), "config": Attack(tmp_path / "run")}, tmp_path / "file.pth")
    refused(tmp_path / "file.pth", "contains eval")
    assert not (tmp_path / "run").exists()
    torch.load(tmp_path / "file.pth", weights_only=False)
    assert (tmp_path / "run").exists(), "the attack works elsewhere"


def test_truncated_other_and_too_large_files_are_refused(vectors, tmp_path):
    path = tmp_path / "file.pth"
    torch.save(unisrec_state(), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<html>quota exceeded</html>", pickle.dumps({"a": 1})):
        path.write_bytes(content)
        refused(path, "is not a file that torch.save wrote, or is damaged")
    os.truncate(path, LARGEST + 1)
    refused(path, "4,294,967,297 bytes")


def test_what_holds_no_weights_is_refused(vectors, tmp_path):
    path, name = tmp_path / "file.pth", "position_embedding.weight"
    position = unisrec_state()[name]
    for content, problem in (
        ([1], "has not only named tensors"),
        ({"state_dict": unisrec_state(epoch=3)}, "has not only named tensors"),
        (unisrec_state(**{name: position.long()}), f"{name} is of type torch.int64"),
        (unisrec_state(**{name: position / 0}), f"{name} has values that are not finite"),
    ):
        torch.save(content, path)
        refused(path, problem)


# ---- Prompt4NR


def test_imported_prompt4nr_answers_as_the_published_model(tmp_path):
    """Virtual tokens are in the order P, Q, M in the file, and M, Q, P in this template."""
    backbone = tiny_bert(tmp_path / "bert")
    settings = replace(prompt4nr_data.config("continuous_emotion"), backbone=str(backbone))
    settings.warm_up = replace(settings.warm_up, epochs=0)
    theirs = BertForMaskedLM.from_pretrained(backbone).eval()
    n_words = theirs.config.vocab_size
    theirs.resize_token_embeddings(n_words + 10, mean_resizing=False)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    state = {f"BERT.{name}": weight for name, weight in theirs.state_dict().items()}
    torch.save(state | {"BERT.bert.embeddings.position_ids": torch.arange(512)[None]}, tmp_path / "file.pt")
    ours = prompt4nr_data.model(tmp_path, settings)
    ours.load_state_dict(read_weights(tmp_path / "file.pt", settings).state)

    in_file = ["[NSEP]", *(f"[{group}{i}]" for group in "PQM" for i in (1, 2, 3))]
    shown = prompt4nr_data.log().impressions(TEST)
    filler = ours.filler
    filled = filler.fill(filler.tokenize_histories(shown), np.array([0, 1, 2]), np.array([3, 4, 5]))
    expected = []
    for i, position in enumerate(filled.mask_position):
        tokens = filled.tokens.rows(np.array([i])).flat.astype(np.int64)
        names = [filler.template.new_tokens[t - n_words] if t >= n_words else None for t in tokens]
        ids = [n_words + in_file.index(name) if name else int(t) for t, name in zip(tokens, names, strict=True)]
        with torch.no_grad():
            negative, positive = theirs(torch.tensor([ids])).logits[0, position, list(filler.template.answers)]
        expected.append(positive - negative)
    with torch.no_grad():
        assert_close(ours._log_odds(shown, np.array([0, 1, 2]), np.array([3, 4, 5])), torch.stack(expected), rel=1e-5)


def test_a_bert_whose_output_words_are_not_its_input_words_is_refused(tmp_path):
    backbone = tiny_bert(tmp_path / "bert")
    settings = replace(prompt4nr_data.config("discrete_utility"), backbone=str(backbone))
    bert = BertForMaskedLM.from_pretrained(backbone)
    bert.resize_token_embeddings(bert.config.vocab_size + 1, mean_resizing=False)
    state = {f"BERT.{name}": weight.clone() for name, weight in bert.state_dict().items()}
    state["BERT.cls.predictions.decoder.weight"] += 1
    torch.save(state, tmp_path / "file.pt")
    with pytest.raises(DataError, match=r"decoder\.weight is not a copy of .*word_embeddings"):
        read_weights(tmp_path / "file.pt", settings)


# ---- P5


def test_imported_p5_computes_as_the_published_model(tmp_path):
    """The published table has a row for each token; the backbone's has three more, which are cut."""
    tokenizer = load_tokenizer("tiny", lambda: prompt_texts(p5_data.config()), "prompts", 400, tmp_path)
    n_tokens = tokenizer.get_vocab_size()
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "tie_word_embeddings": True}
    backbone = T5ForConditionalGeneration(T5Config(vocab_size=n_tokens + 3, **sizes))
    backbone.save_pretrained(tmp_path / "t5")
    PreTrainedTokenizerFast(tokenizer_object=copy.deepcopy(tokenizer)).save_pretrained(tmp_path / "t5")
    theirs = T5ForConditionalGeneration(T5Config(vocab_size=n_tokens, **sizes)).eval()
    words = torch.randn(512, 16)
    state = theirs.state_dict() | {"encoder.whole_word_embeddings.weight": words}
    torch.save({f"module.{name}": weight for name, weight in state.items()}, tmp_path / "file.pth")

    settings = replace(
        p5_data.config(),
        backbone=str(tmp_path / "t5"),
        digits=1,
        index=Index.leaky_p5,
        whole_word=WholeWord.training,
        encoder=None,
    )
    ours = build_p5(Context(settings, p5_data.shop(), 0, tmp_path, "cpu", "rating")).eval()
    ours.load_state_dict(read_weights(tmp_path / "file.pth", settings).state)
    t5 = ours.packed.t5
    assert torch.equal(ours.packed.words.weight, words)
    source, target = torch.tensor([[5, 9, 7, 1]]), torch.tensor([[0, 6, 8]])
    with torch.no_grad():
        expected = theirs(input_ids=source, decoder_input_ids=target).logits
        assert_close(t5(input_ids=source, decoder_input_ids=target).logits, expected, rel=1e-5)
    assert published_p5.LEFT_OUT.isdisjoint(state)
