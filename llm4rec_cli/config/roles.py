"""What a setting is about: stated once, where it is declared, or for all of a dataclass.

Addresses, the runs that `eval` finds, pairing, claims and paths derive from it which settings they look at.
"""

from __future__ import annotations

from enum import Enum
from typing import Any


class Role(Enum):
    """What a setting is about, and so what depends on it."""

    data = "data"  # what the data are
    source = "source"  # where raw files lie and how they are read: the fingerprint holds what they are
    division = "division"  # which interactions are train, validation and test
    intervention = "intervention"  # what is held out or destroyed on purpose
    question = "question"  # what is asked
    extent = "extent"  # how much is asked, whatever the question
    model = "model"  # what the weights are, or how numbers come of them
    training = "training"  # how weights are fitted, and from which seed
    chat = "chat"  # how a chat model answers
    machine = "machine"  # where, how fast and at what cost: moves no number
    command = "command"  # which run is meant: moves no number
    citation = "citation"  # what is said, or set beside, of the numbers: moves none


OUTSIDE = frozenset({Role.source, Role.machine, Role.command, Role.citation})  # what is no part of a run's address


def role_of(holder: type[Any], metadata: Any, above: Role | None) -> Role | None:
    """The role of a setting: its own, or that which its dataclass states for all of its own, or that of what holds it.

    Args:
        holder: the dataclass that declares it.
        metadata: of its field.
        above: the role of the setting that holds `holder`.
    """
    own: Role | None = metadata.get("role") or getattr(holder, "role", None) or above
    return own
