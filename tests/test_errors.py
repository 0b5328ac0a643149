"""A full disk and too little memory give the same error whichever library reports it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from llm4rec_cli.errors import RunError, as_environment_error, as_full_disk, closest

FULL = Path("/dev/full")


def text():
    with FULL.open("w") as file:
        file.write("x")


@pytest.mark.skipif(not FULL.is_char_device(), reason="needs /dev/full, a device that is always full")
@pytest.mark.parametrize(
    "write",
    [
        text,
        lambda: np.zeros(1_000_000).tofile(FULL),
        lambda: torch.save({"weights": torch.zeros(100_000)}, FULL),
    ],
    ids=["text", "numpy", "torch"],
)
def test_a_full_disk_is_reported_in_one_line_with_a_remedy(write):
    with pytest.raises((OSError, RuntimeError)) as caught:
        write()
    error = as_full_disk(caught.value)
    assert isinstance(error, RunError)
    assert error.problem.startswith("the disk is full: ")
    assert "same command again" in error.remedy


def test_safetensors_reports_it_by_number():
    assert as_full_disk(RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"))


def test_an_error_caused_by_a_full_disk_is_reported_as_one():
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError as cause:
            raise ValueError("could not save") from cause
    except ValueError as error:
        assert as_full_disk(error)


def test_other_errors_are_not():
    assert as_full_disk(OSError(2, "No such file or directory")) is None
    assert as_full_disk(None) is None


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: bytearray(2**62),
        lambda: np.zeros(2**62, dtype=np.uint8),
        lambda: torch.zeros(2**60, dtype=torch.uint8),
    ],
    ids=["python", "numpy", "torch"],
)
def test_too_little_memory_is_no_bug(allocate):
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        allocate()
    error = as_environment_error(caught.value)
    assert error.problem.startswith("out of memory: ")
    assert error.remedy.startswith("lower trainer.batch_size")


@pytest.mark.parametrize("raised", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_an_accelerator_without_memory_is_no_bug(raised):
    assert "out of memory" in as_environment_error(raised).problem


def test_other_errors_of_torch_are_not_about_memory():
    assert as_environment_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_one_name_is_meant_unless_several_contain_it_or_are_abbreviated_so():
    assert closest("sasrek", ["sasrec", "bsarec"]) == ["sasrec"]
    assert closest("rec", ["sasrec", "bsarec", "mf"]) == ["bsarec", "sasrec"]
    assert closest("lr", ["learning_rate", "layers"]) == ["learning_rate"]
    assert closest("layerz_n", ["layers_m", "layers_k"]) == closest("layerz_n", ["layers_m"]), (
        "the first of distant ones"
    )
