"""Settings of running_mean; imported by every command, so without torch."""

from dataclasses import dataclass

from llm4rec_cli.config import ranges
from llm4rec_cli.models.shared.config import NextItemConfig


@dataclass
class RunningMeanConfig(NextItemConfig):
    """The mean of the latest items' vectors, mapped to what the next item's vector resembles."""

    embedding_size: int = ranges.number(at_least=1)
