"""The majority floor has no settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config.schema import ModelConfig


@dataclass
class MajorityConfig(ModelConfig):
    """The training part's commonest rating, for everyone and everything."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rate"})
    floor: ClassVar[bool] = True
