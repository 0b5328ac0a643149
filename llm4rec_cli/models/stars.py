"""Models that speak of stars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm4rec_cli.errors import DataError


def problems_of_stars(model: str, dataset: Any, least: float, below: float) -> Iterator[DataError]:
    """Ratings that are no 1 to 5 stars: some outside least <= rating < below."""
    ratings = dataset.interactions.get("rating")
    if ratings is not None and not ratings.dropna().between(least, below, inclusive="left").all():
        yield DataError(
            f"model '{model}' speaks of 1 to 5 stars, and dataset '{dataset.manifest['name']}' has ratings from "
            f"{ratings.min():g} to {ratings.max():g}",
            "bring them to that scale in your table",
        )
