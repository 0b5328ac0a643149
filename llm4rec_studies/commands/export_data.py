"""`llm4rec export data`: a dataset as it is split, with histories and candidates.

llm4rec export data dataset=ml-100k                                      exports/ml-100k, in both formats
llm4rec export data dataset=ml-100k task=direct --out split --format parquet
llm4rec export data dataset=amazon2014-beauty dataset.raw_dir=PATH --format recbole

Training interactions, validation and test examples, their histories and candidates, item texts, and the numbers of
users and items: as Parquet, and as RecBole's benchmark files. README.md in the folder has the split, its fingerprint,
how to load it and how to bring lists back to `llm4rec score`. A folder that exists is refused.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llm4rec_cli.config.compose import Composed


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options that `export data` has besides overrides."""
    usage = "llm4rec export data [--out DIR] [--format NAME[,NAME…]] [overrides]"
    options = argparse.ArgumentParser("llm4rec export data", usage, add_help=False, allow_abbrev=False)
    options.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: exports/DATASET)")
    options.add_argument(
        "--format",
        type=lambda text: text.split(","),
        metavar="NAME",
        help="parquet, recbole (default: both)",
    )
    return options


def run(composed: Composed, options: argparse.Namespace) -> None:
    """Prepare the dataset, unless it is cached, and write its split."""
    from llm4rec_cli.run.job import Job
    from llm4rec_studies.export.data import README, export_data

    folder = export_data(Job.unchecked(composed, "prepare"), options.out, options.format)
    print(f"exported to {folder}: {README} says what is in it")
