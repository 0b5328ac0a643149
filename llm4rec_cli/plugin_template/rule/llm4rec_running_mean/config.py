"""Settings of running_mean; imported by every command, so without torch."""

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import ModelConfig, Traits


@dataclass
class RunningMeanConfig(ModelConfig):
    """The items that followed the latest ones most often in training, on average over these."""

    traits: ClassVar[Traits] = Traits(frozenset({"rank_catalogue", "rank_candidates"}), seeded=False)

    recent: int = ranges.number(at_least=1)
