"""What a run costs, measured in a process of its own."""

import os

import pytest

from llm4rec_cli.errors import RunError
from llm4rec_studies.paper_tables import costs


def _killed(*_):
    os._exit(137)  # as the kernel does where memory is short


def test_a_measurement_whose_process_is_killed_is_an_error_of_this_project(monkeypatch):
    monkeypatch.setattr(costs, "_measure", _killed)
    with pytest.raises(RunError, match="its process was killed"):
        costs.measure("train", ["model=popularity"])
