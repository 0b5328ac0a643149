"""The Python API of studies: compare, inspect and export finished runs, with results as pandas DataFrames.

    from llm4rec_studies.api import compare, export_data, export_model, inspect

    table = compare("sasrec", "unisrec", seeds=True)   # differences on the same examples
    parts = inspect("unisrec").parts                   # what the gain over the strongest floor consists of
    export_data("dataset=demo", out="split")           # what `load_split` returns as files, also for other libraries

Overrides, errors and messages are as in `llm4rec_cli.api`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llm4rec_cli.api import messages, outputs_folder, typed_errors, with_settings
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.errors import UsageError
from llm4rec_cli.run.job import Job

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Inspection", "compare", "export_data", "export_model", "inspect"]


class Inspection(NamedTuple):
    """What `inspect` returns."""

    parts: pd.DataFrame  # of the gain, by slice
    conditions: pd.DataFrame  # of the word "beats"
    verdict: str


def compare(
    a: str | Path,
    *others: str | Path,
    metrics: Sequence[str] | None = None,
    seeds: bool = False,
    draws: bool = False,
    targets: str | None = None,
    margin: str | float | None = None,
    outputs: str | Path | None = None,
) -> pd.DataFrame:
    """Compare runs on the same examples, user by user, as `llm4rec compare` does.

    Args:
        a, others: run folders, or ends or beginnings of their paths that match one run; `a` is compared with each.
        metrics: names of metrics; None = those that all runs have and the command shows.
        seeds, draws: whether to compare over all seeds of these runs' variants, and over all draws of candidates.
        targets: `cold` for examples with held-out targets, `warm` for the others; None = all.
        margin: the largest difference that counts as equivalent: 0.005, or "5%" of A's mean; None = not tested.
        outputs: the folder of the runs; None = the commands' default.

    Returns:
        one row per pair and metric. Columns: `run_a`, `run_b`, the folders; `metric`; `a`, `b`, the means;
        `difference`, B − A, with the ends of its 95 % interval, `low` and `high`; `ratio`, B / A, with `ratio low` and
        `ratio high`; `p`, two-sided; `p_holm`, corrected for the whole table; `better`, `equal`, `worse`, numbers of
        examples; `n`, of all; `equivalent`, if there is a margin.

    Raises:
        RunError: no run or several runs match.
        UsageError: the runs are not on the same examples, or lack a metric.
    """
    from llm4rec_cli.evaluation.paired import Margin
    from llm4rec_cli.results.results import named_results
    from llm4rec_studies import comparison

    folder = outputs_folder(outputs)
    with typed_errors():
        try:
            limit = None if margin is None else Margin.parse(str(margin))
        except ValueError as error:
            raise UsageError(str(error), "margin=0.005, or margin='5%'") from error
        runs = named_results([str(a), *map(str, others)], folder)
        return comparison.frame(comparison.compare(runs, folder, metrics, seeds, draws, targets, limit, ratio=False))


def inspect(
    run: str | Path, over: str | None = None, metric: str | None = None, outputs: str | Path | None = None
) -> Inspection:
    """Return what a result's gain consists of and whether it may be called "beats", as `llm4rec inspect result` does.

    Args:
        run: a run folder, an end or beginning of its path that matches one run, or a file that was scored.
        over: the model that the gain is over: its name or a run; None = the strongest floor.
        metric: None = the task's selection metric.
        outputs: the folder of the runs; None = the commands' default.

    Returns:
        `parts`, one row per slice with `slice`, `n` (targets), `a`, `b` (means there), `gain` (its contribution to the
        mean of B − A over all targets), `low` and `high` (its 95 % interval over users and seeds) and `share`;
        `conditions`, with `condition`, `holds` (None = not known), `reason` and the `commands` that would show it; and
        `verdict`, a sentence.

    Raises:
        RunError, UsageError: the run does not exist, has no slices, or has nothing to be compared with.
    """
    from llm4rec_studies.inspection import audit

    with typed_errors():
        return Inspection(*audit.frames(audit.audit(str(run), outputs_folder(outputs), over, metric)))


def export_data(
    *overrides: str,
    out: str | Path | None = None,
    formats: Sequence[str] | None = None,
    progress: bool = False,
    **settings: object,
) -> Path:
    """Write a dataset as it is split to a folder, as `llm4rec export data` does, and return the folder.

    Args:
        overrides, settings: as for `load_split`.
        out: the folder; None = `exports/DATASET`.
        formats: such as `["parquet", "recbole"]`; None = all that can hold the data.
        progress: whether to show log lines and progress on stderr.

    Raises:
        UsageError: an override or a format is wrong, or the folder has other files.
        DataError: as for `load_split`; or ids hold what a format cannot.
    """
    from llm4rec_studies.export import data

    overrides = with_settings(overrides, settings)
    with typed_errors(), messages(progress):
        job = Job.unchecked(compose([hydra_override(override) for override in overrides]), "prepare")
        return data.export_data(job, None if out is None else Path(out), formats)


def export_model(run: str | Path, out: str | Path, outputs: str | Path | None = None) -> Path:
    """Write the weights of a finished run, its config and a model card to a folder, and return the folder.

    Args:
        run: a run folder, or an end or beginning of its path that matches one run.
        out: the folder.
        outputs: the folder of the runs; None = the commands' default.

    Raises:
        RunError, UsageError: there is no such run, it has no weights, or the folder has other files.
    """
    from llm4rec_studies.export import model

    with typed_errors():
        return model.export_model(str(run), Path(out), outputs_folder(outputs))
