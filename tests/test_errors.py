"""A full disk gives the same error whichever library reports it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from llm4rec_cli.errors import RunError, as_full_disk

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
