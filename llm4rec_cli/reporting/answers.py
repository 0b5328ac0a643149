"""What the answers of finished runs are worth, example by example, and how sure the mean over several seeds is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.evaluation.crossed import metric_intervals

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.floating[Any]]
Metrics = Callable[[Mapping[str, FloatArray]], Mapping[str, FloatArray]]

EXAMPLE = ("impression_id", "user_id", "target")  # what tells one example from another, as far as it is there
N = "n"  # beside sums of values, of how many they are


@dataclass(frozen=True)
class Answers:
    """A run's answers, scored.

    Attributes:
        example: (n,) rows that tell which example each is.
        columns: (n,) values a name, whose sums over examples the metrics are made of.
        metrics: what makes them.
    """

    example: pd.DataFrame
    columns: Mapping[str, FloatArray]
    metrics: Metrics


def interval_over_seeds(folders: Sequence[Path], names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """A 95 % interval around each metric's mean over the runs of one variant, over users and seeds.

    Args:
        folders: of the runs, one a seed.
        names: of the metrics, as metrics.json has them.

    Returns:
        Lower and upper end of those that can be had from what the runs keep of their answers.
    """
    found = [scored(folder / "predictions.parquet", names) for folder in folders]
    answers = [each for each in found if each is not None]
    if len(answers) < len(found) or any(not each.example.equals(answers[0].example) for each in answers):
        return {}
    user = answers[0].example["user_id"].to_numpy()
    of_seeds = [each.columns for each in answers]
    found_for = metric_intervals(of_seeds, answers[0].metrics, user)
    return {name: found_for[name] for name in names if name in found_for}


def scored(predictions: Path, names: Sequence[str]) -> Answers | None:
    """The answers that a run's predictions hold, in an order that is the same for every seed; None where it has none.

    Args:
        names: the metrics asked for.
    """
    import pandas as pd

    if not predictions.exists():
        return None
    told = pd.read_parquet(predictions)
    example = [name for name in EXAMPLE if name in told]
    told = told.sort_values(example, kind="stable", ignore_index=True)
    columns, metrics = _scored({str(name): column.to_numpy() for name, column in told.items()}, names)
    return Answers(told[example], columns, metrics) if columns else None


def _scored(told: Mapping[str, Any], names: Sequence[str]) -> tuple[Mapping[str, FloatArray], Metrics]:
    """The columns to be summed and what makes metrics of the sums; no columns where nothing was answered."""
    from llm4rec_cli.evaluation.paper_text import paper_columns
    from llm4rec_cli.evaluation.ranking import ranking_metrics
    from llm4rec_cli.evaluation.rating import rating_columns, rating_metrics
    from llm4rec_cli.evaluation.text import bleu_counts, text_columns, text_metrics, text_values

    if "rating" in told:
        return rating_columns(told["rating"], told["prediction"], told.get("said")), rating_metrics
    if "reference" in told:
        values = text_values(told["prediction"], told["reference"], told.get("feature"))
        texts = told["prediction"], told["reference"]
        return text_columns(values, bleu_counts(*texts) | paper_columns(*texts)), text_metrics
    if "n_better" in told:
        cutoffs = sorted({int(name.partition("@")[2]) for name in names if name.partition("@")[2].isdigit()})
        values = ranking_metrics(told["n_better"], told["n_tied"], told["n_candidates"], cutoffs)
    else:
        values = {name: told[name] for name in names if name in told}  # of an impression: the values themselves
    shown = {name: values[name] for name in names if name in values}
    return (shown | {N: np.ones(len(next(iter(shown.values()))))} if shown else {}), _means


def _means(sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {name: total / sums[N] for name, total in sums.items() if name != N}
