"""The role of a setting: what it affects. It is declared once, with the setting or its dataclass.

Run addresses, the runs that `eval` matches, pairing and path handling derive their sets of settings from roles.
"""

from __future__ import annotations

from enum import Enum
from typing import Any


class Role(Enum):
    """What a setting affects."""

    data = "data"  # the content of the dataset
    source = "source"  # where raw files are and how they are read; the fingerprint covers their content
    division = "division"  # which interactions are train, validation and test
    intervention = "intervention"  # data held out or destroyed on purpose
    question = "question"  # the evaluation task
    extent = "extent"  # how much is evaluated, for any task, and in which arithmetic
    model = "model"  # the weights, or how they produce numbers
    training = "training"  # how weights are fitted, and the seed
    chat = "chat"  # how a chat model answers
    machine = "machine"  # hardware, speed and cost: affects no number
    command = "command"  # what the command does, and with which run: affects no number
    citation = "citation"  # statements about the numbers and references for comparison: affects no number


NOT_HASHED = frozenset({Role.source, Role.machine, Role.command, Role.citation})  # excluded from a run's address

# The settings of a task that a training for all tasks applies to each of them.
FOR_EACH_TASK = (Role.extent, Role.citation)


def role_of(holder: type[Any], metadata: Any, above: Role | None) -> Role | None:
    """Return the role of a setting: its own, or of the dataclass `holder` that declares it, or `above`, of the setting
    that contains this dataclass."""
    return metadata.get("role") or getattr(holder, "role", None) or above
