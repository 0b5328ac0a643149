"""The share of likes in the history, whatever the target: (likes + 1) / (items + 2)."""

from __future__ import annotations

from llm4rec_cli.capabilities import Likes
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.models.base import Context
from llm4rec_zoo.likes.counts import liked_share


class LikedShare:
    """Predicts the share of likes."""

    def like(self, examples: Examples) -> Likes:
        share = liked_share(examples)
        return Likes(share, share)


def build(context: Context) -> LikedShare:
    return LikedShare()
