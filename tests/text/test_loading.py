"""Published weights are loaded whole, or refused."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM

from llm4rec_cli.errors import UsageError
from llm4rec_cli.text.loading import load_pretrained
from tests.models.tiny_bert import tiny_bert


def rewrite(folder, change):
    """Change the weights of a folder: `change` maps (name, tensor) to a name, or to None to drop it."""
    file = folder / "model.safetensors"
    weights = {change(name): tensor.clone() for name, tensor in load_file(file).items() if change(name) is not None}
    save_file(weights, file, metadata={"format": "pt"})


def test_all_weights_are_those_of_the_folder(tmp_path):
    model = load_pretrained(BertForMaskedLM, str(tiny_bert(tmp_path)))
    weights = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in weights.items())


def test_legacy_names_are_mapped(tmp_path):
    folder = tiny_bert(tmp_path)
    before = load_pretrained(BertForMaskedLM, str(folder)).state_dict()
    legacy = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def rename(name):
        for new, old in legacy.items():
            name = name.replace(new, old)
        return name

    rewrite(folder, rename)
    assert any("gamma" in name for name in load_file(folder / "model.safetensors"))
    after = load_pretrained(BertForMaskedLM, str(folder)).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_missing_weights_are_refused_by_name(tmp_path):
    folder = tiny_bert(tmp_path)
    rewrite(folder, lambda name: None if "layer.1.output.dense" in name else name)
    with pytest.raises(UsageError, match=r"lacks 2 of the weights of BertForMaskedLM: .*layer\.1\.output\.dense\.bias"):
        load_pretrained(BertForMaskedLM, str(folder))


def test_a_head_that_training_makes_may_be_missing_and_is_logged(tmp_path, caplog):
    folder = tiny_bert(tmp_path, head=False)
    with pytest.raises(UsageError, match=r"cls\.predictions"):
        load_pretrained(BertForMaskedLM, str(folder))
    with caplog.at_level(logging.INFO, "llm4rec_cli"):
        load_pretrained(BertForMaskedLM, str(folder), ("cls.",))
    assert "weights are random, as they are not in the folder: cls.predictions.bias" in caplog.text


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path):
    folder = tiny_bert(tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"intermediate_size": 32}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"mismatch|size|shape"):
        load_pretrained(BertForMaskedLM, str(folder))
