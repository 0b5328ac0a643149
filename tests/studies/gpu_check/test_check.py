"""The check of a GPU finds what is wrong; here on a CPU, by stand-ins."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from llm4rec_cli import arithmetic
from llm4rec_studies.cost.rates import Rates
from llm4rec_studies.gpu_check import check, equality, sections, training
from llm4rec_studies.gpu_check.sections import FAIL, OK, SKIPPED, SLOW, Section

RATES = Rates("cpu", fp32=1e11, bf16=1e11, bytes=1e10, launch=1e-6, overlaps=False, source="by hand")
SPEC = training.trainings()["sasrec, a million items"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A function that trains a few small steps; the plain transformer is as fast as `plain` says."""

    def train(plain=1e-9):
        monkeypatch.setattr(training, "plain_rows", lambda *_: plain)
        return training.training("sasrec", SPEC, "cpu", RATES, True, tmp_path)

    return train


def test_a_training_that_is_as_it_should_be_is_ok(small):
    section = small()
    assert (section.state, section.why) == (OK, "")
    assert section.facts["waits"] == 0
    assert section.facts["launches"] > 50
    assert 0 < section.facts["loader share"] < training.LOADER_SHARE


@pytest.mark.parametrize("name", [name for name in training.trainings() if "LoRA" not in name])
def test_each_training_runs_beside_its_plain_transformer(tmp_path, name):
    # Not the one with LoRA, whose tokenizer takes half a minute to read.
    section = training.training(name, training.trainings()[name], "cpu", RATES, True, tmp_path)
    assert section.state != FAIL, section.why
    assert section.facts["of plain"] > 0


def test_a_wait_is_found(small, monkeypatch):
    from llm4rec_cli.models.baselines import sasrec

    forward = sasrec.SASRec.forward

    def waits(model, *args, **batch):
        result = forward(model, *args, **batch)
        result["loss"].item()
        return result

    monkeypatch.setattr(sasrec.SASRec, "forward", waits)
    section = small()
    assert section.state == FAIL
    assert "waits for the device 1 times" in section.why


def test_a_slow_loader_or_fewer_rows_than_the_plain_transformer_are_slow():
    facts = {"loader share": training.LOADER_SHARE, "of plain": training.RATIO}
    assert training.slow_rules(facts) == training.slow_rules(facts | {"of plain": training.OUT_OF_MEMORY}) == []
    assert training.slow_rules({"loader share": 0.2, "of plain": 0.5}) == [
        "batches take 20 % of the time",
        "0.50 of the plain transformer's rows a second",
    ]


def test_a_plain_transformer_that_does_not_fit_is_no_comparison(small, monkeypatch):
    section = small(plain=None)
    assert (section.state, section.facts["of plain"]) == (OK, training.OUT_OF_MEMORY)
    monkeypatch.undo()
    monkeypatch.setattr(nn.functional, "cross_entropy", raise_out_of_memory)
    assert training.plain_rows(SPEC["plain"], "cpu", True) is None


def raise_out_of_memory(*args, **kwargs):
    raise torch.OutOfMemoryError


def test_a_broken_kernel_is_found_by_what_it_computes(tmp_path, monkeypatch):
    assert equality.equality("sasrec", "cpu", tmp_path).state == OK
    gelu = nn.functional.gelu

    def broken(x, *args, **kwargs):
        right = gelu(x, *args, **kwargs)
        return right if arithmetic.CPU == "cpu" else right * 1.01

    monkeypatch.setattr(nn.functional, "gelu", broken)
    section = equality.equality("sasrec", "cpu", tmp_path)
    assert section.state == FAIL
    assert "gradients differs" in section.why


def test_the_best_items_may_tie_but_not_be_worse():
    expected = torch.tensor([[3.0, 3.0, 1.0, *[0.0] * 20]])
    swapped, worse = expected[:, [1, 0, *range(2, 23)]], expected.clone()
    worse[0, 22] = 9
    assert equality.difference_of_best(swapped, expected) == 0
    assert equality.difference_of_best(worse, expected) > equality.FP32


def test_nan_on_one_side_is_a_difference():
    assert not equality.difference(torch.tensor([1.0, torch.nan]), torch.ones(2)) <= equality.FP32


def test_sections_are_guarded_and_those_without_what_they_need_are_named(monkeypatch):
    def fails():
        raise ValueError("first line\nsecond")

    failed = sections.guarded("a", fails)
    assert (failed.state, failed.why) == (FAIL, "ValueError: first line")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    skipped = check.two_gpus("nowhere")
    assert (skipped.state, skipped.why) == (SKIPPED, "this machine has 1")


def test_scoring_counts_users_a_second(tmp_path):
    section = check.scoring(12_000, "cpu", True, tmp_path)
    assert section.state == OK
    assert section.facts["users/s"] > 0


def test_the_report_is_written_after_each_section(tmp_path, monkeypatch):
    found = [
        Section("card", OK, {"bf16 TFLOP/s": 2.0, "GB/s": 3.0}),
        Section("x", SLOW, why="slow"),
        Section("y", FAIL),
    ]
    monkeypatch.setattr(check, "check", lambda *_: iter(found))
    for n, _ in enumerate(check.run("small", tmp_path), start=1):
        files = sorted(path.name for path in tmp_path.glob("gpu-*"))
        assert files == ([] if n == 1 else ["gpu-cpu.json", "gpu-cpu.md"])
    content = json.loads((tmp_path / "gpu-cpu.json").read_text())
    assert [section["state"] for section in content["sections"]] == [OK, SLOW, FAIL]
    row = (tmp_path / "gpu-cpu.md").read_text()
    assert row.startswith("| cpu | ")
    assert "1 FAIL, 1 SLOW, 1 ok | x: slow; y: " in row
    assert dataclasses.asdict(found[1])["why"] == "slow"
